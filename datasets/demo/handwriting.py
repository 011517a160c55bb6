"""Synthetic handwriting: a small model of a moving pen that writes joined-up letters.

Stages of writing a line, in the order of the functions below::

    GLYPHS          letters: targets of the pen, and the bend of the path to each
        |
    draw_writer     a hand: size, slant, speed, spacing, its own letter shapes
        |
    plan_line       text -> a list of `Trace`s, the path of the pen from
        |           touching down to lifting
    move_pen        -> position of the pen every 10 ms
        |
    write_line      -> tremor, lost points, integer coordinates, pen bits

The movement follows the sigma-lognormal model (Plamondon, Biological Cybernetics
72, 1995; O'Reilly and Plamondon, Pattern Recognition 42, 2009).  Each stroke
follows an arc from target to target, its speed is a lognormal function of time,
and it starts before the previous stroke has ended.  The overlap rounds the
corners and slows the pen down in bends, so points are dense there.

No counterpart in the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtr

from datasets.hdf5.lines import Line

SAMPLE_TIME = 0.01  # s between two points
LOST = 0.4  # share of points that the tablet does not report
STROKE_TIME = 0.062  # s, duration of a stroke as long as a small letter is high
SHAPE = 0.22  # shape parameter of the lognormal; its limit 0 is a Gaussian speed profile

Array = NDArray[np.float64]


# ----------------------------------------------------------------------------------------
# Letters
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Glyph:
    """A letter, in units of the height of an x; the origin is its left edge on the line.

    Parameters
    ----------
    width : float
        Distance to the next letter.
    path : tuple of (x, y, bend)
        Targets of the pen in order, and the left turn of the path to each target
        in degrees.  The path to the first target starts at the previous letter.
    late : tuple of such paths
        Dots and bars, which the pen adds after the word.
    joined : bool
        Whether the pen stays on the paper before and after the letter.
    """

    width: float
    path: tuple[tuple[float, float, float], ...]
    late: tuple[tuple[tuple[float, float, float], ...], ...] = ()
    joined: bool = True


_LOOP = ((0.46, 1.55, 30.0), (0.32, 2.1, 90.0), (0.17, 1.5, 60.0))  # ascender of b f h k l
_BOWL = ((0.60, 0.88, -35.0), (0.30, 1.0, 50.0), (0.03, 0.45, 80.0), (0.30, 0.0, 80.0))  # a d g o q
_TAIL = ((0.40, -1.05, -90.0), (1.0, 0.2, -100.0))  # loop below the line of g y
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


# ----------------------------------------------------------------------------------------
# Handwriting styles
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """The handwriting style of one person.

    Parameters
    ----------
    size : float
        Height of an x, in units of the tablet.
    breadth : float
        Width of letters, relative to their height.
    slant : float
        Lean of a letter to the right, relative to its height.
    tempo : float
        Speed, 1 on average.
    overlap : float
        Standard deviation of a stroke's speed profile, relative to the stroke's
        duration.  Larger values make strokes overlap more and corners rounder.
    spacing, word_space : float
        Additional space between letters and between words, in heights of an x.
    lift : float
        Probability that the pen lifts between two letters.
    jitter, tremor : float
        Size of the errors of targets and of points, in heights of an x.
    slope : float
        Rise of the line, relative to its length.
    habits : mapping of str to ndarray of shape (targets, 2)
        Displacement of each letter's targets, in heights of an x.
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
    """Invent a handwriting style.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.

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
    """Path of the pen from touching the paper to leaving it.

    Parameters
    ----------
    targets : list of (x, y)
        Targets in heights of an x; the pen starts at the first.
    bends : list of float
        Left turn of the path to each target, in radians; the first is unused.
    """

    targets: list[tuple[float, float]] = field(default_factory=list)
    bends: list[float] = field(default_factory=list)

    def add(self, x: float, y: float, bend: float) -> None:
        """Append a target; `bend` is in degrees."""
        self.targets.append((x, y))
        self.bends.append(math.radians(bend))


def plan_line(text: str, writer: Writer, rng: Generator) -> list[Trace]:
    """Plan the path of the pen for a text that starts at the origin.

    Parameters
    ----------
    text : str
        Characters of `GLYPHS`, and blanks.
    writer : Writer
    rng : numpy.random.Generator
        Random number generator.

    Returns
    -------
    list of Trace
        Words in order; within a word, dots and bars come last.
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
            if glyph.joined:  # start of the stroke that would come from the previous letter
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
    """Move the pen along targets with overlapping strokes of lognormal speed.

    The velocity of the pen is the sum over the strokes.  Each single stroke
    follows a circular arc from one target to the next, and the sum of all ends
    at the last target.  The pen is already moving when it touches the paper and
    still moving when it leaves it.

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
    # Longer strokes are faster, so the duration grows less than the length.
    duration = STROKE_TIME / writer.tempo * (0.45 + 0.55 * np.sqrt(length))
    middle = np.cumsum(duration) - duration / 2
    deviation = writer.overlap * duration
    median = deviation / SHAPE
    times = np.arange(0.0, duration.sum() + SAMPLE_TIME, SAMPLE_TIME)[:, None]
    since = np.maximum(times - (middle - median), 1e-9)
    share = ndtr(np.log(since / median) / SHAPE)  # finished part of each stroke, (times, strokes)
    bend = np.array(trace.bends[1:])
    bend = np.where(np.abs(bend) < 1e-3, 1e-3, bend)
    start = np.arctan2(chord[:, 1], chord[:, 0]) - bend / 2
    radius = length / (2 * np.sin(bend / 2))
    angle = start + bend * share
    x = np.sum(radius * (np.sin(angle) - np.sin(start)), axis=1)
    y = np.sum(radius * (np.cos(start) - np.cos(angle)), axis=1)
    return targets[0] + np.stack([x, y], axis=1)


def _reported(n: int, rng: Generator) -> NDArray[np.bool_]:
    """Which points of a trace the tablet reports: its first and last, and a part of the others.

    So the next point is one step of the pen away, or two, or three: several modes, which
    one Gaussian cannot follow.
    """
    reported = rng.random(n) >= LOST
    reported[[0, -1]] = True
    return reported


def write_line(text: str, writer: Writer, rng: Generator) -> Line:
    """Write a line.

    Parameters
    ----------
    text : str
        Characters of `GLYPHS`, and blanks.
    writer : Writer
    rng : numpy.random.Generator
        Random number generator.

    Returns
    -------
    Line
        Integer coordinates, y pointing up.
    """
    origin = np.array([rng.uniform(800, 1400), -rng.uniform(1000, 3000)])
    parts = []
    for trace in plan_line(text, writer, rng):
        position = move_pen(trace, writer)
        noise = np.cumsum(rng.standard_normal(position.shape), axis=0)
        noise -= np.linspace(noise[0], noise[-1], len(noise))  # a hand does not drift
        points = np.rint(origin + writer.size * (position + writer.tremor * noise)).astype(np.int64)
        moved = np.any(points[1:] != points[:-1], axis=1)
        points = points[np.concatenate([[True], moved])]  # a tablet reports only movement
        points = points[_reported(len(points), rng)]
        pen = np.zeros((len(points), 1), dtype=np.int64)
        pen[-1] = 1
        parts.append(np.concatenate([pen, points], axis=1))
    return Line(np.concatenate(parts), text)
