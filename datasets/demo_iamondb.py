"""A built-in corpus of handwriting, so that everything runs without a licence or a download.

IAM-OnDB is given out by registration only.  This module writes a few hundred
short lines of joined-up English words with a small model of a moving pen, and
stores them as `datasets.iamondb.IAMOnDB` reads them.  It is a stand-in for
trying the programs, not for results.

How a line is written here, in the order of the functions below::

    GLYPHS          letters as targets of the pen and the bends of the way there
        |
    draw_writer     a hand: size, slant, speed, spacing, its own letter shapes
        |
    plan_line       text -> what the pen does between touching down and lifting
        |           -> a list of `Trace`s
    move_pen        -> where the pen is every 10 ms
        |
    write_line      -> tremor, whole coordinates, pen bits

The movement is the sigma-lognormal model (Plamondon, Biological Cybernetics 72,
1995; O'Reilly and Plamondon, Pattern Recognition 42, 2009): each stroke from
target to target follows an arc, its speed rises and falls as a lognormal
density, and a stroke begins before the one before it has ended.  So corners
become round, and the pen is slow where its path bends: points lie close there.

To look at it::

    python -m datasets.demo_iamondb demo.svg --lines 12
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from scipy.special import ndtr

from cle_port.cache import cache_dir
from cle_port.command_line import Parser, check_ending, ended
from cle_port.errors import UserError
from cle_port.files import unwritable
from cle_port.progress import progress_bar
from datasets.iamondb_hdf5 import FILE_NAME, SPLITS, Line, LineWriter, read_lines
from datasets.iamondb_utils import write_svg

STAND_IN_NOTICE = (
    "Data: synthetic pen strokes, a stand-in for IAM-OnDB that shows the program at work, "
    "no results.\n"
    "Real handwriting: python -m datasets.iamondb build IAMONDB OUT, then add --data_path OUT."
)
VERSION = 1
N_LINES = {"train": 400, "valid": 60}
SEED = 0
MOST_LINES = 1000  # of a drawing
N_POINTS = range(80, 401)  # of a line; the longest of a batch decides how long the batch takes

SAMPLE_TIME = 0.01  # s between two points
STROKE_TIME = 0.062  # s, of a stroke as long as a small letter is high
SHAPE = 0.22  # of the lognormal; 0 would be a Gaussian speed profile

Array = NDArray[np.float64]


# ----------------------------------------------------------------------------------------
# Letters
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Glyph:
    """A letter, in units of the height of an x, above the line and from its left edge.

    Parameters
    ----------
    width : float
        Where the next letter begins.
    path : tuple of (x, y, bend)
        Targets of the pen, one after the other, and by how many degrees the
        way to each turns to the left.  The way to the first comes from the
        letter before.
    late : tuple of such paths
        What is added after the word: dots and bars, from their first target on.
    joined : bool
        Whether the pen stays on the paper before and after the letter.
    """

    width: float
    path: tuple[tuple[float, float, float], ...]
    late: tuple[tuple[tuple[float, float, float], ...], ...] = ()
    joined: bool = True


_LOOP = ((0.46, 1.55, 30.0), (0.32, 2.1, 90.0), (0.17, 1.5, 60.0))  # up, of b f h k l
_BOWL = ((0.60, 0.88, -35.0), (0.30, 1.0, 50.0), (0.03, 0.45, 80.0), (0.30, 0.0, 80.0))  # of a d o
_TAIL = ((0.40, -1.05, -90.0), (1.0, 0.2, -100.0))  # loop below the line, of g y
_ARCH = ((0.56, 1.0, -60.0), (0.74, 0.5, -45.0), (0.92, 0.0, 45.0))  # of h n


def _dot(x: float, y: float) -> tuple[tuple[float, float, float], ...]:
    return ((x, y, 0.0), (x + 0.07, y, 0.0))


GLYPHS: dict[str, Glyph] = {
    "a": Glyph(0.95, (*_BOWL, (0.68, 0.95, 50), (0.85, 0.0, 50))),
    "b": Glyph(0.95, (*_LOOP, (0.2, 0.35, 0), (0.42, 0, 70), (0.65, 0.5, 80), (0.45, 0.9, 70),
                      (0.9, 0.85, 70))),
    "c": Glyph(0.6, ((0.52, 0.9, -75), (0.02, 0.45, 75), (0.5, 0.02, 100))),
    "d": Glyph(1.0, (*_BOWL, (0.76, 2.0, 35), (0.88, 0.0, 35))),
    "e": Glyph(0.6, ((0.42, 0.5, 25), (0.28, 1.0, 140), (0.08, 0.45, 75), (0.45, 0.0, 95))),
    "f": Glyph(0.8, (*_LOOP, (0.2, -0.6, 0), (0.38, -1.0, 90), (0.42, -0.3, 80), (0.3, 0.05, 30),
                     (0.75, 0.1, 40))),
    "g": Glyph(1.0, (*_BOWL, (0.68, 0.95, 50), (0.66, -0.7, -15), *_TAIL)),
    "h": Glyph(1.0, (*_LOOP, (0.2, 0.0, 0), *_ARCH)),
    "i": Glyph(0.55, ((0.28, 1.0, 20), (0.42, 0.0, 55)), (_dot(0.33, 1.55),)),
    "j": Glyph(0.6, ((0.35, 1.0, 20), (0.3, -0.7, -15), (0.02, -1.05, -90), (0.6, 0.2, -100)),
               (_dot(0.4, 1.55),)),
    "k": Glyph(0.9, (*_LOOP, (0.2, 0.0, 0), (0.6, 0.95, -50), (0.25, 0.5, -120), (0.85, 0.0, 30))),
    "l": Glyph(0.55, (*_LOOP, (0.22, 0.4, 0), (0.48, 0.0, 70))),
    "m": Glyph(1.4, ((0.15, 0.95, -30), (0.2, 0.0, -10), (0.52, 1.0, -60), (0.6, 0.0, -35),
                     (0.96, 1.0, -60), (1.14, 0.5, -45), (1.32, 0.0, 45))),
    "n": Glyph(1.0, ((0.15, 0.95, -30), (0.22, 0.0, -10), *_ARCH)),
    "o": Glyph(0.9, (*_BOWL, (0.6, 0.5, 75), (0.38, 0.98, 80), (0.85, 0.82, 70))),
    "p": Glyph(0.9, ((0.2, 1.0, 15), (0.14, -1.0, 0), (0.2, 0.4, 0), (0.45, 0.98, -60),
                     (0.68, 0.5, -85), (0.35, 0.02, -85), (0.85, 0.05, 60))),
    "q": Glyph(1.05, (*_BOWL, (0.68, 0.95, 50), (0.66, -1.0, 0), (0.9, -0.7, 60), (1.0, 0.1, 20))),
    "r": Glyph(0.7, ((0.18, 1.05, 15), (0.45, 0.9, 50), (0.6, 0.0, 50))),
    "s": Glyph(0.65, ((0.38, 1.1, 15), (0.54, 0.4, -60), (0.12, 0.04, -90), (0.6, 0.05, 50))),
    "t": Glyph(0.55, ((0.35, 1.6, 15), (0.45, 0.0, 50)), (((0.05, 1.12, 0), (0.7, 1.2, 0)),)),
    "u": Glyph(1.05, ((0.28, 1.0, 20), (0.45, 0.0, 60), (0.78, 1.0, 20), (0.92, 0.0, 55))),
    "v": Glyph(0.9, ((0.15, 0.95, -30), (0.42, 0.0, 20), (0.68, 0.95, 20), (0.95, 0.85, 70))),
    "w": Glyph(1.25, ((0.2, 1.0, 15), (0.4, 0.0, 50), (0.65, 0.9, 20), (0.8, 0.0, 50),
                      (1.06, 0.95, 30), (1.3, 0.85, 70))),
    "x": Glyph(0.75, ((0.2, 0.95, -40), (0.62, 0.0, 10)), (((0.62, 0.95, 0), (0.1, 0.0, 0)),)),
    "y": Glyph(1.05, ((0.25, 1.0, 20), (0.42, 0.05, 60), (0.78, 1.0, 25), (0.7, -0.7, -15),
                      *_TAIL)),
    "z": Glyph(0.75, ((0.15, 0.95, -30), (0.6, 0.95, -20), (0.15, 0.02, 0), (0.7, 0.02, 30))),
    "A": Glyph(1.15, ((0.0, 0.0, 0), (0.5, 2.0, 10), (0.95, 0.0, 10)),
               (((0.15, 0.75, 0), (0.85, 0.8, 0)),), joined=False),
    "H": Glyph(1.15, ((0.1, 2.0, 0), (0.08, 0.0, 0)),
               (((0.85, 2.0, 0), (0.82, 0.0, 0)), ((0.1, 1.0, 0), (0.85, 1.05, 0))), joined=False),
    "I": Glyph(0.45, ((0.15, 2.0, 0), (0.12, 0.0, 0)), joined=False),
    "M": Glyph(1.35, ((0.0, 0.0, 0), (0.15, 2.0, 0), (0.55, 0.6, 20), (0.98, 2.0, 20),
                      (1.1, 0.0, 0)), joined=False),
    "N": Glyph(1.15, ((0.0, 0.0, 0), (0.1, 2.0, 0), (0.8, 0.0, 10), (0.9, 2.0, 10)), joined=False),
    "S": Glyph(1.0, ((0.85, 1.7, 0), (0.5, 2.05, 80), (0.15, 1.5, 80), (0.5, 1.05, 40),
                     (0.82, 0.5, -60), (0.4, 0.0, -80), (0.0, 0.3, -50)), joined=False),
    "T": Glyph(0.95, ((0.5, 2.0, 0), (0.45, 0.0, 0)),
               (((-0.05, 1.95, 0), (1.0, 2.05, -5)),), joined=False),
    "W": Glyph(1.4, ((0.0, 2.0, 0), (0.3, 0.0, 10), (0.62, 1.6, 10), (0.92, 0.0, 10),
                     (1.25, 2.0, 10)), joined=False),
    ".": Glyph(0.4, _dot(0.12, 0.05), joined=False),
    ",": Glyph(0.4, ((0.16, 0.1, 0), (0.05, -0.3, -40)), joined=False),
}  # fmt: skip

COMMON = (
    "a above after again all along also an and any are around as ask at away back be because been "
    "before began below better between big book both boy bring but by call came can city close "
    "cold come could country cross cut day deep did do does done down draw dry each early earth "
    "eat end enough even every eye face family far farm father feel few field find fire first five "
    "fly follow food for form found four from full game gave get girl give go gold good got great "
    "green grow had half hand hard has have he head hear help her here high him his hold home "
    "horse hour house how hundred if in inch into is it jump just keep kind king knew know land "
    "large last late laugh lead learn leave left less let letter life light like line list little "
    "live long look love low made make man many map mark may me mean men might mile mind money "
    "moon more most mother move much music must my name near need never new next night no north "
    "note nothing now of off often old on once one only open or order other our out over own page "
    "paper part pass people picture piece place plan plant play point power press quick quiet rain "
    "ran reach read ready real red rest right river road rock room round rule run said same saw "
    "say school sea second see seem self sentence set several ship short should show side simple "
    "since sing six size sleep slow small snow so some song soon sound south space spell stand "
    "star start state stay step still stop story street strong such sun sure table take talk tell "
    "ten than that the their them then there these they thing think this those thought three "
    "through time to together told too took top town travel tree true try turn two under until up "
    "upon us use very voice walk want war warm was watch water way we week well went were west "
    "what wheel when where which while white who why will wind with wonder wood word work world "
    "would write year yes yet you young zero"
)
WORDS = COMMON.split()
STARTS = ("A", "And", "He", "How", "I", "In", "Is", "It", "Many", "More", "My", "No", "Not", "Now",
          "She", "So", "Some", "That", "The", "Then", "This", "To", "We", "When")  # fmt: skip


# ----------------------------------------------------------------------------------------
# The hand
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """Somebody's hand.

    Parameters
    ----------
    size : float
        Height of an x, in units of the tablet.
    breadth : float
        Width of letters, relative to their height.
    slant : float
        How far a letter leans to the right, per height.
    tempo : float
        Speed, 1 on average.
    overlap : float
        How far a stroke lasts into its neighbours: standard deviation of its
        speed profile, relative to its duration.  More rounds the corners.
    spacing, word_space : float
        Added between letters, and between words, in heights of an x.
    lift : float
        Probability of a lifted pen between two letters.
    jitter, tremor : float
        Errors of the targets, and of the points, in heights of an x.
    slope : float
        Rise of the line, per length.
    habits : mapping of str to ndarray of shape (targets, 2)
        The hand's own shapes: displacements of each letter's targets.
    """

    size: float
    breadth: float
    slant: float
    tempo: float
    overlap: float
    spacing: float
    word_space: float
    lift: float
    jitter: float
    tremor: float
    slope: float
    habits: dict[str, Array] = field(repr=False)


def draw_writer(rng: Generator) -> Writer:
    """Make up a hand.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Writer
    """
    return Writer(
        size=float(np.exp(rng.normal(math.log(115), 0.17))),
        breadth=float(np.exp(rng.normal(math.log(0.9), 0.1))),
        slant=rng.normal(0.22, 0.16),
        tempo=float(np.exp(rng.normal(0.0, 0.12))),
        overlap=rng.uniform(0.26, 0.36),
        spacing=rng.uniform(-0.02, 0.18),
        word_space=rng.uniform(0.55, 1.0),
        lift=float(rng.choice([0.03, 0.12, 0.3], p=[0.5, 0.3, 0.2])),
        jitter=rng.uniform(0.025, 0.05),
        tremor=rng.uniform(0.004, 0.010),
        slope=rng.normal(0.0, 0.012),
        habits={
            letter: rng.normal(0.0, 0.05, (len(glyph.path), 2)) for letter, glyph in GLYPHS.items()
        },
    )


# ----------------------------------------------------------------------------------------
# From text to targets
# ----------------------------------------------------------------------------------------


@dataclass
class Trace:
    """What the pen does between touching the paper and leaving it.

    Parameters
    ----------
    targets : list of (x, y)
        In heights of an x; the pen starts at the first.
    bends : list of float
        By how many radians the way to each target turns to the left; that of
        the first means nothing.
    """

    targets: list[tuple[float, float]] = field(default_factory=list)
    bends: list[float] = field(default_factory=list)

    def add(self, x: float, y: float, bend: float) -> None:
        """Append a target."""
        self.targets.append((x, y))
        self.bends.append(math.radians(bend))


def plan_line(text: str, writer: Writer, rng: Generator) -> list[Trace]:
    """Lay out a text from the origin to the right.

    Parameters
    ----------
    text : str
        Characters of `GLYPHS`, and blanks.
    writer : Writer
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    list of Trace
        Words in order; within each, dots and bars come last.
    """
    traces: list[Trace] = []
    x = 0.0
    for word in text.split(" "):
        end, written = _plan_word(word, x, writer, rng)
        traces += written
        x = end + writer.word_space * rng.uniform(0.8, 1.25)
    return traces


def _plan_word(word: str, x: float, writer: Writer, rng: Generator) -> tuple[float, list[Trace]]:
    traces: list[Trace] = []
    late: list[Trace] = []
    lifted = True
    for letter in word:
        glyph = GLYPHS[letter]
        if lifted or not glyph.joined or rng.random() < writer.lift:
            traces.append(Trace())
            if glyph.joined:  # the stroke that would come from the letter before
                _add_target(traces[-1], x, (-0.05, rng.uniform(0.0, 0.3), 0.0), writer, rng)
        for target, habit in zip(glyph.path, writer.habits[letter]):
            moved = (target[0] + habit[0], target[1] + habit[1], target[2])
            _add_target(traces[-1], x, moved, writer, rng)
        for path in glyph.late:
            late.append(Trace())
            shift = rng.normal(0.03, 0.08)
            for target in path:
                _add_target(late[-1], x + shift * writer.breadth, target, writer, rng)
        lifted = not glyph.joined
        x += writer.breadth * glyph.width + writer.spacing * rng.uniform(0.5, 1.5)
    return x, traces + late


def _add_target(
    trace: Trace, x: float, target: tuple[float, float, float], writer: Writer, rng: Generator
) -> None:
    right, up, bend = target
    right, up = right + rng.normal(0.0, writer.jitter), up + rng.normal(0.0, writer.jitter)
    wide = x + writer.breadth * right + writer.slant * up
    trace.add(wide, up + writer.slope * wide, bend + rng.normal(0.0, 7.0))


# ----------------------------------------------------------------------------------------
# From targets to movement
# ----------------------------------------------------------------------------------------


def move_pen(trace: Trace, writer: Writer) -> Array:
    """Follow targets with overlapping strokes of lognormal speed.

    The pen's velocity is the sum over strokes; each stroke alone would lead
    along an arc of a circle from one target to the next, and the sum of all
    ends at the last target.  The pen touches down and leaves the paper moving,
    a few hundredths of the first and last stroke from their ends.

    Parameters
    ----------
    trace : Trace
        At least two targets.
    writer : Writer

    Returns
    -------
    ndarray, shape (points, 2)
        Position every 10 ms, in heights of an x.
    """
    targets = np.array(trace.targets)
    chord = np.diff(targets, axis=0)
    length = np.hypot(*chord.T)
    # Long strokes are faster, so that they do not last as much longer as they are longer.
    duration = STROKE_TIME / writer.tempo * (0.45 + 0.55 * np.sqrt(length))
    middle = np.cumsum(duration) - duration / 2
    deviation = writer.overlap * duration
    median = deviation / SHAPE
    times = np.arange(0.0, duration.sum() + SAMPLE_TIME, SAMPLE_TIME)[:, None]
    since = np.maximum(times - (middle - median), 1e-9)
    share = ndtr(np.log(since / median) / SHAPE)  # of the stroke that is done, (times, strokes)
    bend = np.array(trace.bends[1:])
    bend = np.where(np.abs(bend) < 1e-3, 1e-3, bend)
    start = np.arctan2(chord[:, 1], chord[:, 0]) - bend / 2
    radius = length / (2 * np.sin(bend / 2))
    angle = start + bend * share
    x = np.sum(radius * (np.sin(angle) - np.sin(start)), axis=1)
    y = np.sum(radius * (np.cos(start) - np.cos(angle)), axis=1)
    return targets[0] + np.stack([x, y], axis=1)


def write_line(text: str, writer: Writer, rng: Generator) -> Line:
    """Write a line.

    Parameters
    ----------
    text : str
        Characters of `GLYPHS`, and blanks.
    writer : Writer
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Line
        Whole coordinates, y pointing upwards.
    """
    origin = np.array([rng.uniform(800, 1400), -rng.uniform(1000, 3000)])
    parts = []
    for trace in plan_line(text, writer, rng):
        position = move_pen(trace, writer)
        noise = np.cumsum(rng.standard_normal(position.shape), axis=0)
        noise -= np.linspace(noise[0], noise[-1], len(noise))  # a hand does not drift away
        points = np.rint(origin + writer.size * (position + writer.tremor * noise)).astype(np.int64)
        moved = np.any(points[1:] != points[:-1], axis=1)
        points = points[np.concatenate([[True], moved])]  # a tablet reports movement only
        pen = np.zeros((len(points), 1), dtype=np.int64)
        pen[-1] = 1
        parts.append(np.concatenate([pen, points], axis=1))
    return Line(np.concatenate(parts), text)


# ----------------------------------------------------------------------------------------
# The corpus
# ----------------------------------------------------------------------------------------


def make_text(rng: Generator) -> str:
    """Make up a line of some ten letters."""
    n_letters = rng.integers(3, 12)
    words = [str(rng.choice(STARTS if rng.random() < 0.25 else WORDS))]
    while len(" ".join(words)) < n_letters:
        words.append(str(rng.choice(WORDS)))
        if rng.random() < 0.08:
            words[-1] += ","
    if rng.random() < 0.15:
        words[-1] = words[-1].rstrip(",") + "."
    return " ".join(words)


def write_lines(n_lines: int, seed: int = SEED, quiet: bool = True) -> list[Line]:
    """Write lines, each in a hand of its own.

    Parameters
    ----------
    n_lines : int
    seed : int
        Another seed gives other lines; more lines begin with the fewer.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    list of Line

    Notes
    -----
    All chance comes from ``Generator(PCG64(seed))``.  Machines may differ in
    the last bit of sin, cos and log, which rounding to whole coordinates hides
    but for very few points.
    """
    rng = Generator(PCG64(seed))
    lines: list[Line] = []
    with progress_bar(n_lines, "Writing the demo corpus", unit="line", quiet=quiet) as bar:
        while len(lines) < n_lines:
            line = write_line(make_text(rng), draw_writer(rng), rng)
            if len(line.points) in N_POINTS:
                lines.append(line)
                bar.update()
    return lines


def build(folder: str | Path, *, seed: int = SEED, quiet: bool = False) -> Path:
    """Write ``iamondb.h5`` with 400 lines for training and 60 for validation.

    Parameters
    ----------
    folder : str or Path
        Created if need be; a file of that name is replaced.
    seed : int
        See `write_lines`.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    with LineWriter(folder / FILE_NAME) as file:
        lines = iter(write_lines(sum(N_LINES.values()), seed, quiet))
        for split in SPLITS:
            for _ in range(N_LINES[split]):
                file.append(split, next(lines))
        file.finish()
        file.commit()
    return folder


def ensure(*, quiet: bool = False) -> Path:
    """Folder with the demo corpus, made on first use.

    Parameters
    ----------
    quiet : bool
        Show no progress bar.

    Returns
    -------
    Path
        Folder inside `cle_port.cache.cache_dir` with the file of `build`.  Its
        name changes with this module, so that a corpus made by other code is
        never taken for this one; a damaged file is made anew.

    Raises
    ------
    UserError
        If the cache folder cannot be written.

    Notes
    -----
    Two programs at once may both build; the files are the same, and each
    appears whole.
    """
    fingerprint = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    folder = cache_dir("demo_iamondb", f"v{VERSION}-{fingerprint}")
    if not _is_intact(folder / FILE_NAME):
        build(folder, quiet=quiet)
    return folder


def _is_intact(path: Path) -> bool:
    try:
        return all(len(read_lines(path, split)) == N_LINES[split] for split in SPLITS)
    except UserError:
        return False


# ----------------------------------------------------------------------------------------
# Command
# ----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m datasets.demo_iamondb",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Draw lines of synthetic handwriting into an SVG file, to see what the programs\n"
            "learn from when they are given no data. A model of a moving pen writes words: arcs\n"
            "from target to target that overlap in time, each line in a hand of its own.\n"
            "The corpus the programs use is made by itself on first use, this command is not\n"
            "needed for it; it begins with the same lines as seed 0."
        ),
        epilog=(
            "examples:\n"
            "  python -m datasets.demo_iamondb demo.svg\n"
            "  python -m datasets.demo_iamondb other.svg --lines 30 --seed 7\n\n"
            f"{STAND_IN_NOTICE}"
        ),
    )
    parser.add_argument(
        "out", metavar="OUT.svg", type=Path, help="file to write, replaced if there"
    )
    parser.add_argument(
        "--lines",
        type=int,
        default=12,
        metavar="N",
        help=f"how many, up to {MOST_LINES} (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=SEED,
        metavar="N",
        help="whole number, not negative; another gives other lines (default: %(default)s)",
    )
    return parser


def _draw(path: Path, n_lines: int, seed: int) -> None:
    if not 1 <= n_lines <= MOST_LINES:
        raise UserError(f"--lines must be 1 to {MOST_LINES}, not {n_lines}")
    if seed < 0:
        raise UserError(f"--seed must not be negative, not {seed}; take 0 or any positive number")
    check_ending("OUT", path, ".svg")
    lines = write_lines(n_lines, seed)
    write_svg(path, [line.points for line in lines], [line.text for line in lines])
    print(f"{path}: {n_lines} lines of synthetic handwriting, seed {seed}")


def main(args: Sequence[str] | None = None) -> int:
    """Run ``python -m datasets.demo_iamondb``.

    Parameters
    ----------
    args : sequence of str, optional
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0, or 2 after an error of the user's.
    """

    def command() -> int:
        options = _parser().parse_args(args)
        _draw(options.out, options.lines, options.seed)
        return 0

    return ended(command)


if __name__ == "__main__":
    sys.exit(main())
