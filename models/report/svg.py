"""Draw parts of charts as SVG: scales, axes, curves, bands and marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Map numbers to positions, linearly or by their logarithm.

    Parameters
    ----------
    low, high : float
        Numbers at the two ends; above 0 if ``log``.
    start, end : float
        Positions of the two ends.
    log : bool
        Map the logarithm.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return a number's position; NaN for a number that is not finite.

        On a logarithmic scale what is not above 0 lies at the lower end.
        """
        if not math.isfinite(value):
            return math.nan
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self, n: int) -> list[float]:
        """Return about ``n`` round numbers on the scale."""
        if not self.log:
            return round_numbers(self.low, self.high, n)
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        if last > first:
            step = math.ceil((last - first + 1) / n)
            return [10.0**power for power in range(first, last + 1, step)]
        powers = range(first - 1, last + 2)
        candidates = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        inside = [tick for tick in candidates if self.low <= tick <= self.high]
        return inside if len(inside) > 1 else round_numbers(self.low, self.high, n)


def round_numbers(low: float, high: float, n: int) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten in a range, at most ``n + 1``."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / n))
    step = next(digit * power for digit in (1, 2, 5, 10) if (high - low) / (digit * power) <= n)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def opening(title: str, about: str, width: float, height: float, left: float) -> str:
    """Begin a chart: its ``<svg>`` tag, and its title from ``left`` on.

    Parameters
    ----------
    title : str
    about : str
        What the chart shows, for readers who do not see it.
    width, height : float
        In units of the drawing, which is as wide as there is room.
    left : float
    """
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}: {escape(about)}">\n'
        f'<text class="title" x="{left:g}" y="16">{escape(title)}</text>'
    )


def frame(left: float, top: float, width: float, height: float) -> str:
    """Draw the rectangle around a plot."""
    return f'<rect class="frame" x="{left}" y="{top}" width="{width}" height="{height}"/>'


def label(x: float, y: float, text: str, anchor: str = "end", kind: str = "tick") -> str:
    """Write a text; ``kind`` is its class."""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def line(kind: str, start: Point, end: Point) -> str:
    """Draw a straight line; ``kind`` is its class."""
    return (
        f'<line class="{kind}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" '
        f'x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
    )


def curve(kind: str, points: Sequence[Point], name: str = "") -> str:
    """Draw a line through the points, with a gap at points that are not finite.

    A point between two gaps is a line of no length, which round ends show as a dot.

    Parameters
    ----------
    kind : str
        Class of the element.
    points : list of (float, float)
    name : str
        What the curve shows, for a script that reads values off it.
    """
    path, pen_up = [], True
    for x, y in points:
        if math.isfinite(y):
            path.append(f"M{x:.1f} {y:.1f}h0" if pen_up else f"L{x:.1f} {y:.1f}")
        pen_up = not math.isfinite(y)
    data = f' data-name="{escape(name)}"' if name else ""
    return f'<path class="{kind}" d="{" ".join(path)}"{data}/>'


def band(kind: str, lower: Sequence[Point], upper: Sequence[Point]) -> str:
    """Fill what lies between two lines of the same length, except where one is not finite."""
    pieces: list[str] = []
    piece: list[tuple[Point, Point]] = []
    for pair in [*zip(lower, upper), ((0.0, math.nan), (0.0, math.nan))]:
        if all(math.isfinite(y) for _, y in pair):
            piece.append(pair)
            continue
        if piece:
            outline = [low for low, _ in piece] + [high for _, high in reversed(piece)]
            pieces.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in outline) + "Z")
        piece = []
    return f'<path class="{kind}" d="{" ".join(pieces)}"/>'


# Outlines around (0, 0), about 4 in size, so that curves differ without colour.
MARKS = (
    "M-3.2 0A3.2 3.2 0 1 0 3.2 0A3.2 3.2 0 1 0 -3.2 0Z",  # circle
    "M-2.9 -2.9H2.9V2.9H-2.9Z",  # square
    "M0 -3.8L3.6 2.6H-3.6Z",  # triangle
    "M0 -4.2L4.2 0L0 4.2L-4.2 0Z",  # diamond
    "M0 3.8L3.6 -2.6H-3.6Z",  # triangle that points down
    "M-4 -1.3H-1.3V-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4Z",  # cross
    "M-4 0L-1 -4H1L4 0L1 4H-1Z",  # hexagon
)
STAR = "M" + "L".join(
    f"{radius * math.sin(math.pi * i / 5):.1f} {-radius * math.cos(math.pi * i / 5):.1f}"
    for i, radius in enumerate([7.5, 3.0] * 5)
)


def mark(kind: str, outline: str, at: Point, hint: str = "") -> str:
    """Draw one of `MARKS`, or `STAR`, at a point; ``hint`` shows when the mouse rests on it."""
    place = f'transform="translate({at[0]:.1f} {at[1]:.1f})"'
    path = f'<path class="{kind}" {place} d="{outline}"'
    return f"{path}><title>{escape(hint)}</title></path>" if hint else f"{path}/>"


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart, so that labels there do not cover each other.

    Parameters
    ----------
    positions : list of float
    gap : float
        Smallest distance between two of them; less if the range is too small for it.
    low, high : float
        Range.

    Returns
    -------
    list of float
        In the order of ``positions``.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    gap = min(gap, (high - low) / max(len(order) - 1, 1))
    placed: list[float] = []
    for rank, i in enumerate(order):
        least = placed[-1] + gap if placed else low
        most = high - gap * (len(order) - 1 - rank)
        placed.append(min(max(positions[i], least), most))
    moved = [0.0] * len(positions)
    for i, position in zip(order, placed):
        moved[i] = position
    return moved


def x_axis(marks: Sequence[tuple[float, str]], y: float, middle: float, title: str) -> list[str]:
    """Label the x axis.

    Parameters
    ----------
    marks : list of (float, str)
        Positions and their labels.
    y : float
        Line of the labels; the title is below.
    middle : float
        Position of the title.
    title : str
    """
    labels = [label(x, y, text, "middle") for x, text in marks]
    return [*labels, label(round(middle), y + 15, title, "middle")]
