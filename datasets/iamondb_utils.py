"""Readers for the files of IAM-OnDB and for the original's caches, and drawings of lines.

Files of the form ``a01-000u`` and its first line in the published layout::

    lineStrokes/a01/a01-000/a01-000u-01.xml    strokes, one file a line
    ascii/a01/a01-000/a01-000u.txt             transcript: the lines after "CSR:"
    train.txt, valid.txt                       names of forms, one a line

Counterpart: ``datasets/iamondb_utils.py``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cle_port.errors import UserError, one_line
from cle_port.files import open_file, write
from cle_port.files.unpickle import check_unshared, load_pickled_arrays
from datasets.hdf5.lines import LARGEST, SPLITS, Line, check_lines

# Labels 1 to 56; every other character has label 0.
CHARSET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz ',."
N_LABELS = 1 + len(CHARSET)
UNKNOWN = "\N{REPLACEMENT CHARACTER}"

FORM = re.compile(r"[A-Za-z0-9]+-[A-Za-z0-9]+")
KNOWN_BAD = {"z01-000z": "is a known bad form, without a transcript of its lines"}

LARGEST_XML = 2**24  # bytes; files of IAM-OnDB have about 50 kB
LARGEST_TEXT = 2**20  # bytes
MOST_POINTS = 100_000  # per line
DEEPEST = 16  # levels of nested elements; IAM-OnDB has 4
MARGIN = 20  # pixels around each line of a drawing
CAPTION = 11  # pixels, height of the text above a line
COORDINATE = re.compile(r"[+-]?[0-9]{1,9}")


class Unusable(Exception):
    """A form or line cannot be used; the message is a reason of one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(one_line(reason))


# ----------------------------------------------------------------------------------------
# Labels
# ----------------------------------------------------------------------------------------


def tokenize(text: str) -> NDArray[np.int64]:
    """Return the label of each character.

    Parameters
    ----------
    text : str

    Returns
    -------
    ndarray of int64, shape (characters,)
        1 to 56 for A-Z, a-z, space, apostrophe, comma and period, otherwise 0.

    Notes
    -----
    Counterpart: ``tokenize_ind`` in ``fetch_iamondb``.
    """
    return np.array([CHARSET.find(character) + 1 for character in text], dtype=np.int64)


def one_hot(text: str) -> NDArray[np.int16]:
    """Return the labels of a text as one-hot vectors: int16, shape (characters, 57).

    Counterpart: ``y`` in ``fetch_iamondb``.
    """
    labels = tokenize(text)
    vectors = np.zeros((len(labels), N_LABELS), dtype=np.int16)
    vectors[np.arange(len(labels)), labels] = 1
    return vectors


def detokenize(labels: ArrayLike) -> str:
    """Return the text of labels 0 to 56, with U+FFFD for label 0."""
    return "".join((UNKNOWN + CHARSET)[label] for label in np.asarray(labels, dtype=np.int64))


# ----------------------------------------------------------------------------------------
# The published layout
# ----------------------------------------------------------------------------------------


def construct_ascii_path(ascii_path: Path, form: str) -> Path:
    """Return the path of a form's transcript, such as ``a01/a01-000/a01-000u.txt``."""
    return _folder_of(ascii_path, form) / f"{form}.txt"


def construct_stroke_paths(strokes_path: Path, form: str) -> dict[int, Path]:
    """Find the stroke files of a form.

    Parameters
    ----------
    strokes_path : pathlib.Path
        Folder ``lineStrokes``.
    form : str
        Name of the form, such as ``'a01-000u'``.

    Returns
    -------
    dict of int to pathlib.Path
        Files by the line number in their name, in ascending order.

    Raises
    ------
    Unusable
        If there are none.

    Notes
    -----
    Counterpart: ``construct_stroke_paths`` in ``fetch_iamondb``, which fails on a
    file name without a number; this function ignores such files.
    """
    folder = _folder_of(strokes_path, form)
    name = re.compile(re.escape(form) + r"-([0-9]{1,9})\.xml")
    try:
        found = [(name.fullmatch(path.name), path) for path in sorted(folder.iterdir())]
    except OSError as error:
        raise Unusable(f"has no folder {folder} ({error.strerror})") from error
    paths = {int(match[1]): path for match, path in found if match}
    if not paths:
        raise Unusable(f"has no {form}-*.xml in {folder}")
    return dict(sorted(paths.items()))


def _folder_of(top: Path, form: str) -> Path:
    without_letter = form[:-1] if form[-1].isalpha() else form
    return top / form.split("-")[0] / without_letter


def read_transcript(path: Path) -> list[str]:
    """Read the lines of a form's transcript.

    Parameters
    ----------
    path : pathlib.Path
        Text in UTF-8 or Latin-1 with a section after the line ``CSR:``.

    Returns
    -------
    list of str
        Lines of that section, stripped, without blank lines.  Two or more ``%``
        in a row also separate lines; IAM-OnDB uses them so.

    Raises
    ------
    Unusable
        If the file is missing or too long, or the section is missing or empty.

    Notes
    -----
    Counterpart: ``fetch_iamondb``, which fails at any ``%`` because it does not
    import ``re`` (its expression would also split at single ones), and takes a
    line of several blanks as an empty transcript.
    """
    content = _read_file(path, LARGEST_TEXT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    stripped = [line.strip() for line in re.split(r"\r\n|\r|\n", text.replace("\0", UNKNOWN))]
    if "CSR:" not in stripped:
        raise Unusable(f"has no line 'CSR:' in its transcript {path}")
    section = stripped[stripped.index("CSR:") + 1 :]
    pieces = [piece.strip() for line in section for piece in re.split(r"%%+", line)]
    lines = [piece for piece in pieces if piece]
    if not lines:
        raise Unusable(f"has nothing after 'CSR:' in its transcript {path}")
    return lines


def pair(paths: dict[int, Path], texts: Sequence[str]) -> dict[int, int]:
    """Match stroke files with the lines of a transcript.

    Parameters
    ----------
    paths : dict of int to pathlib.Path
        Stroke files by the number in their name.
    texts : sequence of str
        Lines of the transcript.

    Returns
    -------
    dict of int to int
        Index of the transcript line for each number.  If there are as many files
        as lines, they match in order.  If the largest number is the number of
        lines, files are missing in between and they match by number.

    Raises
    ------
    Unusable
        In every other case, because the files could match in several ways.

    Notes
    -----
    Counterpart: ``fetch_iamondb``, which fails unless the counts agree.
    """
    if len(paths) == len(texts):
        return {number: index for index, number in enumerate(paths)}
    if min(paths) >= 1 and max(paths) == len(texts):
        return {number: number - 1 for number in paths}
    raise Unusable(
        f"has {len(paths)} stroke files but {len(texts)} transcript lines, "
        "and it is not clear which belong together"
    )


def read_strokes(path: Path) -> NDArray[np.int64]:
    """Read the points of a line from a stroke file.

    Parameters
    ----------
    path : pathlib.Path
        XML file.  The root holds ``StrokeSet`` elements, these hold ``Stroke``
        elements, and these hold ``Point`` elements with integer attributes `x`
        and `y`, y pointing down.

    Returns
    -------
    ndarray of int64, shape (points, 3)
        Pen bit (1 at the last point of a stroke, else 0), x, and y pointing up.

    Raises
    ------
    Unusable
        If the file is missing, too long or no XML, declares a document type
        (which could define an XML bomb), has less than two points or too many,
        or has a point with unusable coordinates.

    Notes
    -----
    Counterpart: ``fetch_iamondb``, which uses lxml.  It joins several stroke
    sets of one stroke each into one stroke; this function keeps them apart.
    """
    reader = _StrokeReader()
    content = _read_file(path, LARGEST_XML)
    try:
        reader.parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise Unusable(f"is broken XML ({' '.join(str(error).split())})") from error
    if len(reader.points) < 2:
        raise Unusable("has no strokes" if not reader.points else "has only one point")
    return np.array(reader.points, dtype=np.int64)


class _StrokeReader:
    """Collects points while expat parses a file."""

    def __init__(self) -> None:
        self.points: list[list[int]] = []
        self.within: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _doctype(self, *_: Any) -> None:
        raise Unusable("declares a document type, which could hide an XML bomb")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.within.append(name)
        if len(self.within) > DEEPEST:
            raise Unusable(f"has more than {DEEPEST} nested elements")
        if self.within[1:] == ["StrokeSet", "Stroke", "Point"]:
            x, y = (_coordinate(attributes, axis) for axis in ("x", "y"))
            self.points.append([0, x, -y])
            if len(self.points) > MOST_POINTS:
                raise Unusable(f"has more than {MOST_POINTS} points")

    def _end(self, name: str) -> None:
        if self.within[1:] == ["StrokeSet", "Stroke"] and self.points:
            self.points[-1][0] = 1
        self.within.pop()


def _coordinate(attributes: dict[str, str], axis: str) -> int:
    text = attributes.get(axis)
    if text is None:
        raise Unusable(f"has a point without {axis}")
    if not COORDINATE.fullmatch(text.strip()):
        raise Unusable(f"has a point with {axis}={text[:30]!r}, which is no whole number")
    if abs(int(text)) > LARGEST:
        raise Unusable(f"has a point with {axis}={text}, beyond {LARGEST}")
    return int(text)


def _read_file(path: Path, largest: int) -> bytes:
    try:
        with open_file(path) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise Unusable(f"cannot be read: {path} ({error.strerror})") from error
    if len(content) > largest:
        raise Unusable(f"{path} is longer than {largest} bytes")
    return content


# ----------------------------------------------------------------------------------------
# The original's caches
# ----------------------------------------------------------------------------------------


def cache_paths(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return the original's cache files of each data set: strokes and labels."""
    return {
        split: (folder / f"{split}_npy_x.npy", folder / f"{split}_npy_y.npy") for split in SPLITS
    }


def has_caches(folder: Path) -> bool:
    """Tell whether a folder holds all four caches of the original."""
    return all(os.path.isfile(path) for paths in cache_paths(folder).values() for path in paths)


def read_caches(folder: Path, split: str) -> list[Line]:
    """Read the lines that the original's ``fetch_iamondb`` cached.

    Parameters
    ----------
    folder : pathlib.Path
    split : {'train', 'valid'}

    Returns
    -------
    list of Line
        U+FFFD stands for every character with label 0.

    Raises
    ------
    UserError
        If a cache cannot be read or does not hold lines.

    Notes
    -----
    Counterpart: the end of ``fetch_iamondb``.  Despite their names the files are
    pickles.  The reader executes nothing in them.
    """
    x_path, y_path = cache_paths(folder)[split]
    x, y = load_pickled_arrays(x_path), load_pickled_arrays(y_path)
    try:
        if not all(isinstance(value, list | np.ndarray) for value in (x, y)) or len(x) != len(y):
            raise ValueError("they are no lists of the same length")
        for path, items in ((x_path, x), (y_path, y)):
            check_unshared(path, items)
        lines = [Line(points, _text_of(labels)) for points, labels in zip(x, y)]
        check_lines(lines)
    except ValueError as error:
        raise UserError(
            f"cannot use {x_path} and {y_path.name} ({error}); remove them and build again with "
            "`python -m datasets.build iamondb` from lineStrokes and ascii"
        ) from error
    return lines


def _text_of(labels: Any) -> str:
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.shape[1] != N_LABELS:
        raise ValueError(f"labels are no one-hot vectors of {N_LABELS}")
    if labels.dtype.kind not in "iub" or ((labels != 0).sum(axis=1) != 1).any():
        raise ValueError("labels are not one-hot")
    return detokenize(labels.argmax(axis=1))


# ----------------------------------------------------------------------------------------
# Drawings
# ----------------------------------------------------------------------------------------


def draw_svg(
    lines: Sequence[NDArray], captions: Sequence[str] | None = None, width: int = 1000
) -> str:
    """Draw lines of handwriting below each other at the same scale.

    Parameters
    ----------
    lines : sequence of ndarray, each (points, 3)
        Pen bit (above 0.5: the pen goes up after the point), x, and y pointing
        up.  All finite.
    captions : sequence of str, optional
        Text above each line.
    width : int
        Width of the drawing, in pixels.

    Returns
    -------
    str
        An SVG document.

    Notes
    -----
    Counterpart: ``plot_lines_iamondb_example``, which draws with matplotlib
    and joins some strokes.
    """
    points = [np.asarray(line, dtype=np.float64) for line in lines]
    extents = [np.ptp(line[:, 1:], axis=0) for line in points]
    widest = max((extent[0] for extent in extents), default=0.0)
    scale = (width - 2 * MARGIN) / max(widest, 1.0)
    content, top = [], float(MARGIN)
    for index, line in enumerate(points):
        if captions is not None:
            top += CAPTION
            content.append(f'<text x="{MARGIN}" y="{top:.1f}">{escape(captions[index])}</text>')
            top += MARGIN / 2
        corner = np.array([line[:, 1].min(), line[:, 2].max()])
        drawn = (line[:, 1:] - corner) * [scale, -scale] + [MARGIN, top]
        ends = np.flatnonzero(line[:, 0] > 0.5) + 1
        content += [_svg_stroke(part) for part in np.split(drawn, ends) if len(part)]
        top += extents[index][1] * scale + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{math.ceil(top)}" '
        'font-family="sans-serif" font-size="11" fill="#888">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(content) + "\n</svg>\n"
    )


def _svg_stroke(points: NDArray[np.float64]) -> str:
    moves = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if len(points) == 1:
        moves += " " + moves  # a dot: the round ends make a line of length 0 visible
    return (
        f'<polyline points="{moves}" fill="none" stroke="#123" stroke-width="1.6" '
        'stroke-linecap="round" stroke-linejoin="round"/>'
    )


def write_svg(
    path: str | os.PathLike[str], lines: Sequence[NDArray], captions: Sequence[str] | None = None
) -> None:
    """Write the drawing of `draw_svg` into a file.

    Parameters
    ----------
    path : path-like
        SVG file.  If writing fails, an older file stays as it is.
    lines, captions
        See `draw_svg`.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    write(Path(path), draw_svg(lines, captions).encode())
