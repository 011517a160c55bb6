"""Builder of the IAM-OnDB training data (``python -m datasets.build iamondb``)."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cle_port.console.progress import progress_bar
from cle_port.errors import UserError
from datasets.build.output import BuildSummary, prepare_output
from datasets.hdf5.lines import FILE_NAME, SPLITS, Line, LineWriter, read_lines
from datasets.iamondb_utils import (
    CHARSET,
    FORM,
    KNOWN_BAD,
    LARGEST_TEXT,
    N_LABELS,
    Unusable,
    construct_ascii_path,
    construct_stroke_paths,
    has_caches,
    pair,
    read_caches,
    read_strokes,
    read_transcript,
)

logger = logging.getLogger(__name__)

FOLDERS = ("lineStrokes", "ascii")


@dataclass
class IAMOnDBSummary(BuildSummary):
    """Report of `build`.

    Attributes
    ----------
    path : pathlib.Path
        Output file.
    forms, lines : dict of str to int
        Number of forms and lines in ``'train'`` and ``'valid'``; `skipped` lists
        the others.
    points, longest : int
        Number of points in all lines and in the longest line.
    characters : set of str
        Characters that occur in the transcripts.
    mean, std : float
        Statistics of the training offsets, as `datasets.iamondb.IAMOnDB`
        computes them.
    """

    path: Path
    forms: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    lines: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    points: int = 0
    longest: int = 0
    characters: set[str] = field(default_factory=set)
    mean: float = 0
    std: float = 0

    def add(self, split: str, line: Line) -> None:
        """Add a line to the counts."""
        self.lines[split] += 1
        self.points += len(line.points)
        self.longest = max(self.longest, len(line.points))
        self.characters.update(line.text)

    def __str__(self) -> str:
        n_known = len(self.characters & set(CHARSET))
        forms = ", ".join(f"{count} {split}" for split, count in self.forms.items())
        lines = ", ".join(f"{count} {split}" for split, count in self.lines.items())
        text = [
            *([f"forms    {forms}"] if any(self.forms.values()) else []),
            f"lines    {lines}, {len(self.skipped)} forms or lines skipped",
            *self.skipped_lines(),
            f"points   {self.points}, longest line {self.longest}",
            f"letters  {len(self.characters)} different characters, "
            f"{n_known} of them among the {N_LABELS - 1} with their own label",
            f"mean     {self.mean}",
            f"std      {self.std:.4f}",
            f"wrote    {self.path}",
        ]
        return "\n".join(text)


def fetch_iamondb(data_path: str | os.PathLike[str], split: str) -> list[Line]:
    """Read the lines of the training or the validation set in any supported layout.

    Parameters
    ----------
    data_path : path-like
        Folder with ``iamondb.h5``, or with the original's caches, or with the
        published layout, in this order.  In the last case `build` first creates
        ``iamondb.h5`` in the folder.
    split : {'train', 'valid'}

    Returns
    -------
    list of Line

    Raises
    ------
    UserError
        If the folder holds none of these, or unusable data.

    Notes
    -----
    Counterpart: ``datasets/iamondb_utils.py``, ``fetch_iamondb``, which caches
    the lines as pickles.
    """
    folder = Path(data_path)
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder; give the one with the IAM-OnDB data")
    if os.path.exists(folder / FILE_NAME):
        return read_lines(folder / FILE_NAME, split)
    if has_caches(folder):
        return read_caches(folder, split)
    summary = build(folder, folder)
    logger.warning("%s", summary)
    return read_lines(folder / FILE_NAME, split)


def build(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    valid_share: float | None = None,
    quiet: bool = False,
    strict: bool = False,
    force: bool = False,
) -> IAMOnDBSummary:
    """Build ``iamondb.h5`` from the published layout or from the original's caches.

    The function writes lines as it reads them, so memory use stays bounded.
    After an error or an interruption it leaves no files behind.

    Parameters
    ----------
    source : path-like
        Folder with ``lineStrokes``, ``ascii``, ``train.txt`` and ``valid.txt``,
        or with the four caches.
    out : path-like
        Folder for the file; the function creates it if necessary.
    valid_share : float, optional
        Share of the forms for validation, between 0 and 1, if there are no
        lists.  The function draws them at random with a fixed seed.
    quiet : bool
        Show no progress bar.
    strict : bool
        Raise an error at the first unusable form or line instead of skipping it.
    force : bool
        Replace an existing file.

    Returns
    -------
    IAMOnDBSummary

    Raises
    ------
    UserError
        If the source is missing or unusable, or the file exists already or
        cannot be written.

    Notes
    -----
    Counterpart: ``fetch_iamondb``.
    """
    source, out = Path(source), Path(out)
    summary = IAMOnDBSummary(out / FILE_NAME)
    if valid_share is not None and not 0 < valid_share < 1:
        raise UserError(f"--valid_share must lie between 0 and 1, not {valid_share:g}")
    if not os.path.isdir(source):
        raise UserError(f"no folder {source}; check the path of SOURCE")
    reader = (
        _cached_lines(source) if has_caches(source) else _form_lines(source, valid_share, quiet)
    )
    prepare_output(summary.path, force=force)
    # The reader holds the progress bar, so close it before an error message appears.
    with LineWriter(summary.path) as writer, contextlib.closing(reader):
        for item in reader:
            if isinstance(item, Skipped):
                _skip(summary, item, strict)
            elif isinstance(item, str):
                summary.forms[item] += 1
            else:
                writer.append(*item)
                summary.add(*item)
        _check_lines(summary, source)
        summary.mean, summary.std = writer.moments["train"].mean, writer.moments["train"].std
        if not summary.std > 0:  # also NaN
            raise UserError(
                f"the offsets in {source} have the deviation {summary.std} and cannot be "
                "normalised; use more or different handwriting"
            )
        writer.finish()
        writer.commit()
    return summary


@dataclass(frozen=True)
class Skipped:
    """An unusable form or line, and the reason."""

    name: str
    reason: str


# Readers yield a line with its data set, the data set of a form after its lines, or a loss.
Item = tuple[str, Line] | str | Skipped


def _skip(summary: IAMOnDBSummary, item: Skipped, strict: bool) -> None:
    if strict:
        raise UserError(
            f"{item.name} {item.reason}; repair it, remove it from the list, "
            "or run without --strict"
        )
    summary.skipped.append((item.name, item.reason))


def _check_lines(summary: IAMOnDBSummary, source: Path) -> None:
    for split, count in summary.lines.items():
        if count == 0:
            first = ", the first: {} {}".format(*summary.skipped[0]) if summary.skipped else ""
            raise UserError(
                f"no usable line for {split} in {source} "
                f"({len(summary.skipped)} forms or lines skipped{first}); check SOURCE"
            )


def _cached_lines(source: Path) -> Generator[Item, None, None]:
    for split in SPLITS:
        for line in read_caches(source, split):
            yield split, line


def _form_lines(
    source: Path, valid_share: float | None, quiet: bool
) -> Generator[Item, None, None]:
    """Read the forms of both lists in order."""
    strokes_path, ascii_path = (_find_folder(source, name) for name in FOLDERS)
    lists = _lists(source, ascii_path, valid_share)
    seen: set[str] = set()
    with progress_bar(sum(map(len, lists.values())), "reading", "form", quiet) as bar:
        for split, names in lists.items():
            for name in names:
                try:
                    _check_name(name, seen)
                    yield from _read_form(split, name, strokes_path, ascii_path)
                    yield split
                except Unusable as error:
                    yield Skipped(f"{name} ({split})", str(error))
                seen.add(name)
                bar.update()


def _find_folder(source: Path, name: str) -> Path:
    for folder in (source / name, source / f"{name}-all" / name):
        if os.path.isdir(folder):
            return folder
    raise UserError(
        f"no folder {name} in {source}; unpack {name}-all.tar.gz of IAM-OnDB there "
        "(see python -m datasets.build iamondb --help)"
    )


def _lists(source: Path, ascii_path: Path, valid_share: float | None) -> dict[str, list[str]]:
    paths = {split: source / f"{split}.txt" for split in SPLITS}
    missing = [path.name for path in paths.values() if not os.path.isfile(path)]
    if not missing:
        return {split: _read_list(path) for split, path in paths.items()}
    if valid_share is None or len(missing) < len(paths):
        raise UserError(
            f"no {' and no '.join(missing)} in {source}; put the lists of forms there, or remove "
            "both and use --valid_share 0.1"
        )
    return _split(ascii_path, valid_share)


def _read_list(path: Path) -> list[str]:
    """Read the names in a list, stripped and in order."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(LARGEST_TEXT + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"cannot read {path} ({reason}); write one form name per line") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names or len(text) > LARGEST_TEXT:
        problem = "too long" if names else "empty"
        raise UserError(f"{path} is {problem}; write one form name per line, such as a01-000u")
    return names


def _split(ascii_path: Path, valid_share: float) -> dict[str, list[str]]:
    names = sorted(path.stem for path in ascii_path.glob("*/*/*.txt"))
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(names))
    n_valid = max(1, round(valid_share * len(names)))
    shuffled = [names[index] for index in order]
    return {"train": sorted(shuffled[n_valid:]), "valid": sorted(shuffled[:n_valid])}


def _check_name(name: str, seen: Iterable[str]) -> None:
    if not FORM.fullmatch(name):  # a name with a path in it could leave the folder
        raise Unusable("is no form name, such as a01-000u")
    if name in seen:
        raise Unusable("is listed already")
    if name in KNOWN_BAD:
        raise Unusable(KNOWN_BAD[name])


def _read_form(
    split: str, name: str, strokes_path: Path, ascii_path: Path
) -> Generator[Item, None, None]:
    """Read the lines of one form; raise `Unusable` before the first line or not at all."""
    texts = read_transcript(construct_ascii_path(ascii_path, name))
    paths = construct_stroke_paths(strokes_path, name)
    indices = pair(paths, texts)
    for index in sorted(set(range(len(texts))) - set(indices.values())):
        yield Skipped(f"{name} line {index + 1}", "has no stroke file")
    for number, path in paths.items():
        try:
            yield split, Line(read_strokes(path), texts[indices[number]])
        except Unusable as error:
            yield Skipped(path.name, str(error))
