"""Drawings of handwriting: one layout, written as SVG and as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from models.sampling.png import CONTINUED, FAINT, INK, PRIME, png

WIDTH = 1000  # pixels of a drawing
MARGIN = 20  # pixels around a line
CAPTION = 20  # pixels above a line for its caption
MARK = 30  # pixels up and down from the end of a prime, where a dashed line marks it
LEGEND = 24  # pixels above all lines
HIGHEST = (500, 110)  # pixels: a drawing may be as high as the first, and the second for each line
LARGEST = 10_000  # pixels, and never higher than this
COLUMNS = 4  # most columns, so that captions have room
ROWS = 80  # lines below each other; more lines than these need more columns
THIN, THICK = 1.3, 2.2  # a prime and what continues it differ without colour, too


class Stroke(NamedTuple):
    """A stroke of the pen.

    Attributes
    ----------
    points : ndarray, shape (points, 2)
        Pixels from the left and from the top.
    continued : bool
        It was generated behind a prime.
    """

    points: NDArray
    continued: bool


class PlacedLine(NamedTuple):
    """A line of handwriting in a drawing.

    Attributes
    ----------
    caption : str
    left, top : float
        Pixels; the caption stands above ``top``.
    strokes : list of Stroke
    boundary : ndarray, shape (2,), or None
        Point where the continuation of a prime begins.
    """

    caption: str
    left: float
    top: float
    strokes: list[Stroke]
    boundary: NDArray | None


class Layout(NamedTuple):
    """Places of all lines of a drawing.

    Attributes
    ----------
    height : int
        Pixels.
    scale : float
        Pixels to a unit of the pen, the same for all lines.
    lines : list of PlacedLine
    """

    height: int
    scale: float
    lines: list[PlacedLine]

    @property
    def primed(self) -> bool:
        """Whether the drawing needs a legend."""
        return any(line.boundary is not None for line in self.lines)


def lay_out(
    lines: Sequence[NDArray],
    captions: Sequence[str],
    boundaries: Sequence[int | None] | None = None,
    most_columns: int | None = None,
) -> Layout:
    """Place lines of handwriting below each other, in one scale and wholly.

    Lines that climb would make a drawing absurdly high.  They are drawn smaller,
    then, in as many columns as make the scale largest.

    Parameters
    ----------
    lines : sequence of ndarray, each (points, 3)
        From `models.sampling.files.as_points`: pen-up bit, x, and y upwards.
    captions : sequence of str
        Text above each line.
    boundaries : sequence of int, optional
        Index of the last point of each line's prime, None for a line without one.
    most_columns : int, optional
        1 keeps the lines below each other.
    """
    boundaries = boundaries or [None] * len(lines)
    legend = LEGEND if any(boundary is not None for boundary in boundaries) else 0
    extents = np.array([np.ptp(line[:, 1:], axis=0) for line in lines])
    most = most_columns or min(max(COLUMNS, math.ceil(len(lines) / ROWS)), len(lines))
    n_column, scale = _columns_and_scale(extents, legend, most)
    placed, top = [], float(MARGIN + legend)
    for start in range(0, len(lines), n_column):
        row = range(start, min(start + n_column, len(lines)))
        top += CAPTION
        bottom = top + scale * float(extents[row, 1].max())
        for column, i in enumerate(row):
            left = MARGIN + column * (WIDTH - MARGIN) / n_column
            placed.append(_place(lines[i], captions[i], boundaries[i], scale, (left, top)))
        top = bottom + MARGIN
    return Layout(math.ceil(top), scale, placed)


def _columns_and_scale(extents: NDArray, legend: int, most_columns: int) -> tuple[int, float]:
    """Number of columns that allows the largest scale, and that scale.

    Parameters
    ----------
    extents : ndarray, shape (lines, 2)
        Widths and heights.
    legend : int
        Pixels of the legend.
    most_columns : int
    """
    n = len(extents)
    highest = min(HIGHEST[0] + HIGHEST[1] * n, LARGEST)
    widest = max(float(extents[:, 0].max()), 1.0)

    def scale(n_column: int) -> float:
        rows = np.split(extents[:, 1], range(n_column, n, n_column))
        room = highest - MARGIN - legend - len(rows) * (CAPTION + MARGIN)
        across = (WIDTH - MARGIN) / n_column - MARGIN
        return min(across / widest, room / max(sum(row.max() for row in rows), 1e-9))

    best = max(range(1, most_columns + 1), key=scale)
    return best, max(scale(best), 1e-3)


def _place(
    line: NDArray,
    caption: str,
    boundary: int | None,
    scale: float,
    place: tuple[float, float],
) -> PlacedLine:
    """Turn a line's points into strokes, in pixels."""
    left, top = place
    corner = np.array([line[:, 1].min(), line[:, 2].max()])
    drawn = (line[:, 1:] - corner) * [scale, -scale] + [left, top]
    strokes = [
        Stroke(drawn[first:last], boundary is not None and first >= boundary)
        for first, last in stroke_ranges(line[:, 0], boundary)
    ]
    at = None if boundary is None else drawn[boundary]
    return PlacedLine(caption, left, top, strokes, at)


def stroke_ranges(pen: NDArray, boundary: int | None = None) -> list[tuple[int, int]]:
    """First point, and one past the last point, of each stroke.

    Parameters
    ----------
    pen : ndarray, shape (points,)
        1 where the pen goes up after the point.
    boundary : int, optional
        Index of the last point of a prime.  A stroke that goes on there is cut in
        two, which share that point.
    """
    ends = [int(i) + 1 for i in np.flatnonzero(pen > 0.5)]
    cuts = [0, *ends] if ends and ends[-1] == len(pen) else [0, *ends, len(pen)]
    ranges = list(pairwise(cuts))
    if boundary is None:
        return ranges
    return [
        part
        for first, last in ranges
        for part in (
            [(first, boundary + 1), (boundary, last)]
            if first <= boundary < last - 1
            else [(first, last)]
        )
    ]


def pen_svg(layout: Layout) -> str:
    """Draw a layout as an SVG document."""
    content = _svg_legend() if layout.primed else []
    for line in layout.lines:
        content.append(
            f'<text x="{line.left:.1f}" y="{line.top - 8:.1f}">{escape(line.caption)}</text>'
        )
        if line.boundary is not None:
            x, y = line.boundary
            content += [
                f'<line x1="{x:.1f}" y1="{y - MARK:.1f}" x2="{x:.1f}" y2="{y + MARK:.1f}" '
                f'stroke="{FAINT}" stroke-dasharray="5 4"/>',
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="{CONTINUED}"/>',
            ]
        content += [_svg_stroke(stroke, layout.primed) for stroke in line.strokes]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{layout.height}" '
        'font-family="sans-serif" font-size="11" fill="#666">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(content) + "\n</svg>\n"
    )


def _svg_stroke(stroke: Stroke, primed: bool) -> str:
    color, width = _look(stroke, primed)
    moves = " ".join(f"{x:.1f},{y:.1f}" for x, y in stroke.points)
    if len(stroke.points) == 1:
        moves += " " + moves  # a dot: the round ends make a line of length 0 visible
    return (
        f'<polyline points="{moves}" fill="none" stroke="{color}" stroke-width="{width}" '
        'stroke-linecap="round" stroke-linejoin="round"/>'
    )


def _look(stroke: Stroke, primed: bool) -> tuple[str, float]:
    """Colour and width of a stroke."""
    if not primed:
        return INK, THIN
    return (CONTINUED, THICK) if stroke.continued else (PRIME, THIN)


def _legend_entries() -> list[tuple[float, str, Stroke]]:
    """Place, text and line of each entry of the legend; the boundary's follows them."""
    entries = []
    for left, text, continued in ((20, "real prime", False), (140, "generated", True)):
        points = np.array([[left, 22.0], [left + 28.0, 22.0]])
        entries.append((left + 36.0, text, Stroke(points, continued)))
    return entries


def _svg_legend() -> list[str]:
    content = []
    for x, text, stroke in _legend_entries():
        content += [_svg_stroke(stroke, True), f'<text x="{x:.0f}" y="26">{text}</text>']
    return [
        *content,
        f'<circle cx="274" cy="22" r="5" fill="none" stroke="{CONTINUED}"/>',
        '<text x="288" y="26">where the prime ends</text>',
    ]


def pen_png(layout: Layout) -> bytes:
    """Draw a layout as a PNG."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 100, layout.height / 100))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, WIDTH)
    ax.set_ylim(layout.height, 0)
    ax.set_axis_off()
    strokes = [stroke for line in layout.lines for stroke in line.strokes]
    if layout.primed:
        for x, text, stroke in _legend_entries():
            strokes.append(stroke)
            ax.text(x, 26, text, fontsize=8, color="#666666")
        ax.plot(274, 22, "o", markersize=7, markerfacecolor="none", color=CONTINUED)
        ax.text(288, 26, "where the prime ends", fontsize=8, color="#666666")
    looks = [_look(stroke, layout.primed) for stroke in strokes]
    ax.add_collection(
        LineCollection(
            # A dot becomes a line of length 0, which the round ends make visible.
            [np.vstack([stroke.points, stroke.points[-1:]]) for stroke in strokes],
            colors=[color for color, _ in looks],
            linewidths=[0.72 * width for _, width in looks],  # points, where SVG has pixels
            capstyle="round",
        )
    )
    for line in layout.lines:
        ax.text(line.left, line.top - 8, line.caption, fontsize=8, color="#666666")
        if line.boundary is not None:
            x, y = line.boundary
            ax.vlines(x, y - MARK, y + MARK, color=FAINT, linewidth=0.8, linestyle="--")
            ax.plot(x, y, "o", markersize=7, markerfacecolor="none", color=CONTINUED)
    return png(figure)
