"""Draw the curves of the original and the port in one SVG plot, with their difference below."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compare.differences import Difference
from models.report.svg import Scale, curve, frame, label, line, opening, x_axis

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
    x_of = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    values = [value for d in differences for value in (d.original, d.port) if math.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    y_of = Scale(low - margin, high + margin, TOP + UPPER, TOP)
    parts = [
        opening(title, "original and port, and their difference", WIDTH, HEIGHT, LEFT),
        *(label(LEFT - 6, y_of(value) + 4, f"{value:.5g}") for value in _ends(low, high)),
        _frame(TOP, UPPER),
        curve("original", [(x_of(x), y_of(d.original)) for x, d in zip(xs, differences)]),
        curve("port", [(x_of(x), y_of(d.port)) for x, d in zip(xs, differences)]),
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
    y_of = Scale(low, high, top + LOWER, top)
    marks = [math.ceil(low), math.floor(high)]
    parts = [label(LEFT - 6, y_of(mark) + 4, f"1e{mark}") for mark in marks]
    parts.append(_frame(top, LOWER))
    if limits:
        y = y_of(max(limits))
        parts.append(line("allowed", (LEFT, y), (WIDTH - RIGHT, y)))
    for d, x, log in zip(differences, positions, shown):
        kind = "fine" if d.ok else "bad"
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y_of(log):.1f}" r="2.4"/>')
    return parts


def _log(value: float) -> float:
    """Return a logarithm that can be drawn, also for 0, NaN and infinity."""
    if not math.isfinite(value):
        return 2.0
    return math.log10(max(value, SMALLEST))


def _ends(low: float, high: float) -> list[float]:
    return [low, high] if high > low else [low]


def _frame(top: float, height: float) -> str:
    return frame(LEFT, top, WIDTH - RIGHT - LEFT, height)


def _x_axis(xs: Sequence[float], x_of: Scale) -> list[str]:
    step = math.ceil(len(xs) / MAX_LABELS)
    marks = [(x_of(x), f"{x:g}") for x in xs[::step]]
    return x_axis(marks, HEIGHT - BOTTOM + 14, (LEFT + WIDTH - RIGHT) / 2, "update")
