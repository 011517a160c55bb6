"""Draw the curves of the original and the port in one SVG plot, with their difference below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from compare.differences import Difference

WIDTH, LEFT, RIGHT = 460, 78, 10
TOP, UPPER, GAP, LOWER, BOTTOM = 26, 130, 16, 76, 34
HEIGHT = TOP + UPPER + GAP + LOWER + BOTTOM
SMALLEST = 1e-17  # smaller relative differences, and 0, are drawn as this
MAX_LABELS = 6  # along the x axis


def chart(title: str, differences: Sequence[Difference]) -> str:
    """Draw one quantity over the updates.

    Parameters
    ----------
    title : str
    differences : list of Difference
        At least one, in the order of updates.

    Returns
    -------
    str
        An ``<svg>`` element.  The upper plot shows the original as a broad band
        with the port as a thin line on it.  The lower plot shows the relative
        difference and its limit on a logarithmic scale.
    """
    xs = [float(d.update) for d in differences]
    x_of = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    values = [value for d in differences for value in (d.original, d.port) if math.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    y_of = _scale(low - margin, high + margin, TOP + UPPER, TOP)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: original and port, and their difference">',
        f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>',
        *(_label(LEFT - 6, y_of(value) + 4, f"{value:.5g}") for value in _ends(low, high)),
        _frame(TOP, UPPER),
        _curve("original", [(x_of(x), y_of(d.original)) for x, d in zip(xs, differences)]),
        _curve("port", [(x_of(x), y_of(d.port)) for x, d in zip(xs, differences)]),
        *_difference(differences, [x_of(x) for x in xs]),
        *_x_axis(xs, x_of),
        "</svg>",
    ]
    return "\n".join(parts)


def _difference(differences: Sequence[Difference], positions: Sequence[float]) -> list[str]:
    """Draw the relative difference and its limit on a logarithmic scale."""
    top = TOP + UPPER + GAP
    shown = [_log(d.relative) for d in differences]
    limits = [_log(d.allowed) for d in differences if d.allowed is not None]
    low = math.floor(min([*shown, *limits])) - 0.5
    high = math.ceil(max([*shown, *limits])) + 0.5
    y_of = _scale(low, high, top + LOWER, top)
    marks = [math.ceil(low), math.floor(high)]
    parts = [_label(LEFT - 6, y_of(mark) + 4, f"1e{mark}") for mark in marks]
    parts.append(_frame(top, LOWER))
    if limits:
        y = y_of(max(limits))
        parts.append(
            f'<line class="allowed" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        )
    for d, x, log in zip(differences, positions, shown):
        kind = "fine" if d.ok else "bad"
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y_of(log):.1f}" r="2.4"/>')
    return parts


def _log(value: float) -> float:
    """Return a logarithm that can be drawn, also for 0, NaN and infinity."""
    if not math.isfinite(value):
        return 2.0
    return math.log10(max(value, SMALLEST))


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _ends(low: float, high: float) -> list[float]:
    return [low, high] if high > low else [low]


def _frame(top: float, height: float) -> str:
    width = WIDTH - RIGHT - LEFT
    return f'<rect class="frame" x="{LEFT}" y="{top}" width="{width}" height="{height}"/>'


def _label(x: float, y: float, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="end">{escape(text)}</text>'


def _curve(kind: str, points: Sequence[tuple[float, float]]) -> str:
    """Draw a line through the points, with a gap at points that are not finite."""
    path, pen_up = [], True
    for x, y in points:
        if math.isfinite(y):
            path.append(f"{'M' if pen_up else 'L'}{x:.1f} {y:.1f}")
        pen_up = not math.isfinite(y)
    return f'<path class="{kind}" d="{" ".join(path)}"/>'


def _x_axis(xs: Sequence[float], x_of: Callable[[float], float]) -> list[str]:
    y = HEIGHT - BOTTOM + 14
    step = math.ceil(len(xs) / MAX_LABELS)
    labels = [
        f'<text class="tick" x="{x_of(x):.1f}" y="{y}" text-anchor="middle">{x:g}</text>'
        for x in xs[::step]
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    labels.append(
        f'<text class="tick" x="{middle:.0f}" y="{y + 15}" text-anchor="middle">update</text>'
    )
    return labels
