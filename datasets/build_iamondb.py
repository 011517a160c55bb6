"""The command ``python -m datasets.iamondb build``: from IAM-OnDB to training data."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cle_port.command_line import Parser
from cle_port.errors import UserError
from cle_port.progress import progress_bar
from datasets.building import run
from datasets.iamondb_hdf5 import FILE_NAME, SPLITS, Line, LineWriter, read_lines
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

HELP = """\
Make the training data of the IAM-OnDB programs from the database.

SOURCE holds what https://fki.tic.heia-fr.ch/databases gives out after
registration, unpacked, and two lists of forms:
  lineStrokes/a01/a01-000/a01-000u-01.xml ...   from lineStrokes-all.tar.gz
  ascii/a01/a01-000/a01-000u.txt ...            from ascii-all.tar.gz
  train.txt, valid.txt                          names such as a01-000u, one a line
The lists of the paper are in datasets/iamondb_text of the original programs
(github.com/jych/nips2015_vrnn); without lists, --valid_share makes a split.
If SOURCE holds the caches of the original programs (train_npy_x.npy,
train_npy_y.npy, valid_npy_x.npy, valid_npy_y.npy), these are taken instead.

Forms and lines that cannot be used are skipped and reported, each with the
reason: a transcript that is missing, has no CSR: section or does not fit the
lines; broken or dangerous XML; a line with less than two points or with
coordinates that are no sensible whole numbers.

OUT/iamondb.h5 appears once everything is done, and nothing before.
"""

EXAMPLE = """\
example:
  python -m datasets.iamondb build ~/iamondb ~/data/iamondb
  python models/vrnn_gmm.py --dataset iamondb --data_path ~/data/iamondb
"""


@dataclass
class Summary:
    """What `build` did.

    Attributes
    ----------
    path : pathlib.Path
        File written.
    forms, lines : dict of str to int
        Used for ``'train'`` and ``'valid'``.
    skipped : list of (str, str)
        Forms and lines left out, each with the reason.
    points, longest : int
        Points of all lines, and of the longest.
    characters : set of str
        All that occur in transcripts.
    mean, std : float
        Statistics of the training offsets, as `datasets.iamondb.IAMOnDB`
        computes them.
    """

    path: Path
    forms: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    lines: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    skipped: list[tuple[str, str]] = field(default_factory=list)
    points: int = 0
    longest: int = 0
    characters: set[str] = field(default_factory=set)
    mean: float = 0
    std: float = 0

    def add(self, split: str, line: Line) -> None:
        """Count a line."""
        self.lines[split] += 1
        self.points += len(line.points)
        self.longest = max(self.longest, len(line.points))
        self.characters.update(line.text)

    def skipped_lines(self) -> list[str]:
        """Return a line for each form or line left out, with its reason."""
        return [f"skipped  {name}: {reason}" for name, reason in self.skipped]

    def __str__(self) -> str:
        n_known = len(self.characters & set(CHARSET))
        forms = ", ".join(f"{count} {split}" for split, count in self.forms.items())
        lines = ", ".join(f"{count} {split}" for split, count in self.lines.items())
        text = [
            *([f"forms    {forms}"] if any(self.forms.values()) else []),
            f"lines    {lines}, {len(self.skipped)} times something skipped",
            *self.skipped_lines(),
            f"points   {self.points}, longest line {self.longest}",
            f"letters  {len(self.characters)} different characters, "
            f"{n_known} of them among the {N_LABELS - 1} with a label of their own",
            f"mean     {self.mean}",
            f"std      {self.std:.4f}",
            f"wrote    {self.path}",
        ]
        return "\n".join(text)


def fetch_iamondb(data_path: str | os.PathLike[str], split: str) -> list[Line]:
    """Read the lines of one data set, from whatever a folder has.

    Parameters
    ----------
    data_path : path-like
        Folder with ``iamondb.h5``, else with the original's caches, else with
        the database's layout, from which `build` then makes ``iamondb.h5``.
    split : {'train', 'valid'}

    Returns
    -------
    list of Line

    Raises
    ------
    UserError
        If there is nothing usable.

    Notes
    -----
    Counterpart: ``datasets/iamondb_utils.py``, ``fetch_iamondb``, which keeps
    its caches as pickles.
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
) -> Summary:
    """Make ``iamondb.h5`` from the database's layout or from the original's caches.

    Memory stays bounded: lines are written as they are read.  Interrupted or
    failing, it leaves nothing behind.

    Parameters
    ----------
    source : path-like
        Folder with ``lineStrokes``, ``ascii``, ``train.txt`` and ``valid.txt``,
        or with the four caches.
    out : path-like
        Folder for the file, created if need be.
    valid_share : float, optional
        If there are no lists: share of the forms that are for validation,
        drawn at random, always the same.
    quiet : bool
        Show no progress bar.
    strict : bool
        Fail at the first form or line that cannot be used, instead of skipping
        it.
    force : bool
        Replace a file of an earlier run.

    Returns
    -------
    Summary

    Raises
    ------
    UserError
        If there is no source, nothing usable in it, or the file exists already
        or cannot be written.

    Notes
    -----
    Counterpart: ``fetch_iamondb``.
    """
    source, out = Path(source), Path(out)
    summary = Summary(out / FILE_NAME)
    if valid_share is not None and not 0 < valid_share < 1:
        raise UserError(f"--valid_share must lie between 0 and 1, not {valid_share:g}")
    if not os.path.isdir(source):
        raise UserError(f"no folder {source}; check the path of SOURCE")
    reader = (
        _cached_lines(source) if has_caches(source) else _form_lines(source, valid_share, quiet)
    )
    _prepare(summary.path, force)
    # Closed before an error is shown, since it holds the progress bar.
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
                f"the offsets in {source} have the deviation {summary.std}, so that nothing can "
                "be normalised; use more and other handwriting"
            )
        writer.finish()
        writer.commit()
    return summary


@dataclass(frozen=True)
class Skipped:
    """A form or line left out, and why."""

    name: str
    reason: str


# What the readers yield: a line of a data set, the data set of a form just read, or a loss.
Item = tuple[str, Line] | str | Skipped


def _prepare(path: Path, force: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create {path.parent} ({error.strerror}); choose another folder for OUT"
        ) from error
    if os.path.exists(path) and not force:
        raise UserError(f"{path} exists; use --force to replace it, or another folder for OUT")


def _skip(summary: Summary, item: Skipped, strict: bool) -> None:
    if strict:
        raise UserError(
            f"{item.name} {item.reason}; mend it, take it off the list, or leave out --strict"
        )
    summary.skipped.append((item.name, item.reason))


def _check_lines(summary: Summary, source: Path) -> None:
    for split, count in summary.lines.items():
        if count == 0:
            first = f", the first: {' '.join(summary.skipped[0])}" if summary.skipped else ""
            raise UserError(
                f"no usable line for {split} in {source} "
                f"({len(summary.skipped)} times something skipped{first}); check SOURCE"
            )


def _cached_lines(source: Path) -> Generator[Item, None, None]:
    for split in SPLITS:
        for line in read_caches(source, split):
            yield split, line


def _form_lines(
    source: Path, valid_share: float | None, quiet: bool
) -> Generator[Item, None, None]:
    """Read the forms of both lists, in their order."""
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
        "(see python -m datasets.iamondb build --help)"
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
    """Names of a list, in order, without the blanks around them."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(LARGEST_TEXT + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"cannot read {path} ({reason}); write a form's name a line") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names or len(text) > LARGEST_TEXT:
        problem = "too long" if names else "empty"
        raise UserError(f"{path} is {problem}; write a form's name, such as a01-000u, a line")
    return names


def _split(ascii_path: Path, valid_share: float) -> dict[str, list[str]]:
    names = sorted(path.stem for path in ascii_path.glob("*/*/*.txt"))
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(names))
    n_valid = max(1, round(valid_share * len(names)))
    shuffled = [names[index] for index in order]
    return {"train": sorted(shuffled[n_valid:]), "valid": sorted(shuffled[:n_valid])}


def _check_name(name: str, seen: Iterable[str]) -> None:
    if not FORM.fullmatch(name):  # among others, names that lead out of the folder
        raise Unusable("is no name of a form, such as a01-000u")
    if name in seen:
        raise Unusable("is listed already")
    if name in KNOWN_BAD:
        raise Unusable(KNOWN_BAD[name])


def _read_form(
    split: str, name: str, strokes_path: Path, ascii_path: Path
) -> Generator[Item, None, None]:
    """Read the lines of one form; raises `Unusable` before the first, or never."""
    texts = read_transcript(construct_ascii_path(ascii_path, name))
    paths = construct_stroke_paths(strokes_path, name)
    indices = pair(paths, texts)
    for index in sorted(set(range(len(texts))) - set(indices.values())):
        yield Skipped(f"{name} line {index + 1}", "has no file of strokes")
    for number, path in paths.items():
        try:
            yield split, Line(read_strokes(path), texts[indices[number]])
        except Unusable as error:
            yield Skipped(path.name, str(error))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, by default those of the process.

    Returns
    -------
    int
        0, or 2 after bad input, or 130 after an interruption.
    """
    return run(_parser(), build, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m datasets.iamondb", description="Commands for the IAM-OnDB data."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "build",
        help="make the training data from IAM-OnDB",
        description=HELP,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("SOURCE", help="folder of the database, or of the original's caches")
    command.add_argument("OUT", help="folder for the result, created if need be")
    command.add_argument(
        "--valid_share",
        type=float,
        metavar="P",
        help="without lists: share of the forms for validation, such as 0.1",
    )
    command.add_argument("--strict", action="store_true", help="fail if anything is unusable")
    command.add_argument("--force", action="store_true", help="replace an earlier result")
    command.add_argument("--quiet", action="store_true", help="print nothing but what was skipped")
    return parser
