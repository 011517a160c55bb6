"""Curves of original and port laid over each other, their difference below, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from compare.differences import Difference

WIDTH, LEFT, RIGHT = 460, 78, 10
TOP, UPPER, GAP, LOWER, BOTTOM = 26, 130, 16, 76, 34
HEIGHT = TOP + UPPER + GAP + LOWER + BOTTOM
SMALLEST = 1e-17  # relative differences below are drawn as if they were 0
N_LABELS = 6  # along the x axis, at most


def chart(title: str, differences: Sequence[Difference], x_label: str = "update") -> str:
    """Draw one quantity over the updates.

    Parameters
    ----------
    title : str
    differences : list of Difference
        At least one, in order.
    x_label : str
        What the x axis counts.

    Returns
    -------
    str
        An ``<svg>`` element.  Above, the original as a broad band with the
        port as a thin line on it; below, the relative difference with what is
        allowed, on a logarithmic scale.
    """
    xs = [float(d.at) for d in differences]
    x_of = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    values = [v for d in differences for v in (d.original, d.port) if math.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    y_of = _scale(low - margin, high + margin, TOP + UPPER, TOP)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: original and port, and their difference">',
        f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>',
        *(_label(LEFT - 6, y_of(v) + 4, f"{v:.5g}") for v in _ends(low, high)),
        _frame(TOP, UPPER),
        _curve("original", [(x_of(x), y_of(d.original)) for x, d in zip(xs, differences)]),
        _curve("port", [(x_of(x), y_of(d.port)) for x, d in zip(xs, differences)]),
        *_difference(differences, [x_of(x) for x in xs]),
        *_x_axis(xs, x_of, x_label),
        "</svg>",
    ]
    return "\n".join(parts)


def _difference(differences: Sequence[Difference], positions: Sequence[float]) -> list[str]:
    """Lower plot: relative difference and what is allowed, logarithmic."""
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
    """Logarithm that can be drawn: of 0 the smallest, of what is not finite the largest."""
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
    """Line through the points; where one is not finite, there is a gap."""
    path, pen_up = [], True
    for x, y in points:
        if math.isfinite(y):
            path.append(f"{'M' if pen_up else 'L'}{x:.1f} {y:.1f}")
        pen_up = not math.isfinite(y)
    return f'<path class="{kind}" d="{" ".join(path)}"/>'


def _x_axis(xs: Sequence[float], x_of: Callable[[float], float], x_label: str) -> list[str]:
    y = HEIGHT - BOTTOM + 14
    step = math.ceil(len(xs) / N_LABELS)
    labels = [
        f'<text class="tick" x="{x_of(x):.1f}" y="{y}" text-anchor="middle">{x:g}</text>'
        for x in xs[::step]
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    name = escape(x_label)
    labels.append(
        f'<text class="tick" x="{middle:.0f}" y="{y + 15}" text-anchor="middle">{name}</text>'
    )
    return labels
