"""Draw channels of several runs over each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.channels import ACTIVE
from models.report.logs import Run
from models.report.summary import best_step, digits, seconds_per_update
from models.report.svg import (
    MARKS,
    STAR,
    Scale,
    band,
    curve,
    frame,
    label,
    line,
    mark,
    opening,
    spread,
    x_axis,
)

WIDTH, LEFT, RIGHT = 440, 58, 34
TOP, PLOT, BOTTOM = 28, 190, 38
EDGE = 7  # inside of the frame, so that marks at its sides are whole
HEIGHT, INNER = TOP + PLOT + BOTTOM, WIDTH - LEFT - RIGHT
N_COLORS = 6  # --c0, ... of models.report.document
N_DASHES = 6
MAX_PIECES = 100  # of a curve; each keeps its first, last, lowest and highest point
WIDE = 30.0  # ratio of numbers from which on a chart may be logarithmic
POWERS = 1e4  # largest ratio of numbers on a logarithmic scale; smaller ones lie below the chart
MAX_BANDS = 4  # more of them hide each other


@dataclass(frozen=True)
class Curve:
    """A curve of a chart.

    Attributes
    ----------
    number : int
        Number of the run, from 1.
    name : str
        What it is, for instance ``vrnn_gmm_1, validation``.
    kind : {'train', 'valid', 'only'}
        How it is drawn: solid, dashed, or in the run's own dashes.
    xs, ys : list of float
    lower, upper : list of float
        Ends of a band around it; empty for none.
    best : int or None
        Index of the point that gets a star.
    """

    number: int
    name: str
    kind: str
    xs: Sequence[float]
    ys: Sequence[float]
    lower: Sequence[float] = ()
    upper: Sequence[float] = ()
    best: int | None = None


def charts(runs: Sequence[tuple[int, Run]], unit: str) -> Iterator[str]:
    """Draw all charts of runs whose bounds can be compared.

    Parameters
    ----------
    runs : list of (int, Run)
        Runs with their numbers.
    unit : str
        Of the bound.

    Yields
    ------
    str
        An ``<svg>`` element for each group of channels that any run has.
    """
    names = {
        f"Bound, {unit}": (("nll_upper_bound", "nll"), False),
        f"Reconstruction term, {unit}": (("recon_term",), False),
        f"KL term, {unit}": (("kl_term",), True),
    }
    for title, (channels, log) in names.items():
        yield from chart(title, train_and_valid(runs, *channels), log)
    yield from chart("Active dimensions of z", active_dimensions(runs))
    title = "KL of each dimension of z, nats a frame"
    spectra = kl_spectra(runs)
    yield from chart(title, spectra, True, "dimension, largest first", (ACTIVE, "active above"))
    for name, what in SIGMAS.items():
        yield from chart(f"{what}: mean, min to max", sigmas(runs, name), True)
    yield from chart("Gradient norm before clipping", of_run(runs, "grad_norm"), True)
    yield from chart("Learning rate", of_run(runs, "learning_rate"), True)
    speeds = [
        Curve(number, run.label, "only", run.updates, seconds_per_update(run))
        for number, run in runs
    ]
    yield from chart("Seconds per update", speeds)


SIGMAS = {
    "phi_sig": "Posterior's σ (phi_sig)",
    "prior_sig": "Prior's σ (prior_sig)",
    "theta_sig": "Decoder's σ (theta_sig)",
}


def train_and_valid(runs: Sequence[tuple[int, Run]], *names: str) -> list[Curve]:
    """Return the curves of a channel, of training and validation data.

    Where training data are not monitored, as on IAM-OnDB, the means over the batches
    since the last step stand for them.
    """
    curves: list[Curve] = []
    for number, run in runs:
        for data in ("train", "valid"):
            ys = run.channel(*(f"{data}_{name}" for name in names))
            what = {"train": "training", "valid": "validation"}[data]
            if not ys and data == "train":
                ys = run.channel(*(f"this_batch_{name}" for name in names))
                what = "training batches"
            if ys:
                best = best_step(run) if data == "valid" else None
                curves.append(
                    Curve(number, f"{run.label}, {what}", data, run.updates, ys, best=best)
                )
    return curves


def active_dimensions(runs: Sequence[tuple[int, Run]]) -> list[Curve]:
    """Return the number of active dimensions of z at each step."""
    curves = []
    for number, run in runs:
        counts = [run.active(step) for step in range(len(run.updates))]
        ys = [math.nan if count is None else float(count) for count in counts]
        curves.append(Curve(number, run.label, "only", run.updates, ys, best=best_step(run)))
    return curves


def kl_spectra(runs: Sequence[tuple[int, Run]]) -> list[Curve]:
    """Return the KL of each dimension of z at the best step, the largest first."""
    curves = []
    for number, run in runs:
        vectors = run.vectors.get("valid_kl_by_dim") or run.vectors.get("train_kl_by_dim")
        best = best_step(run)
        if vectors and best is not None:
            ys = sorted(filter(math.isfinite, vectors[best]), reverse=True)
            xs = [float(i + 1) for i in range(len(ys))]
            curves.append(Curve(number, run.label, "only", xs, ys))
    return curves


def sigmas(runs: Sequence[tuple[int, Run]], name: str) -> list[Curve]:
    """Return the mean of a standard deviation over the data, its ends as a band."""
    curves = []
    for number, run in runs:
        mean, low, high = (run.channel(f"valid_{end}_{name}") for end in ("mean", "min", "max"))
        if mean and low and high:
            best = best_step(run)
            curves.append(Curve(number, run.label, "only", run.updates, mean, low, high, best))
    return curves


def of_run(runs: Sequence[tuple[int, Run]], name: str) -> list[Curve]:
    """Return the curves of a number of the run itself."""
    return [
        Curve(number, run.label, "only", run.updates, run.channel(name), best=best_step(run))
        for number, run in runs
        if run.channel(name)
    ]


# --- one chart --------------------------------------------------------------------------------


def chart(
    title: str,
    curves: Sequence[Curve],
    log: bool = False,
    x_title: str = "update",
    level: tuple[float, str] | None = None,
) -> Iterator[str]:
    """Draw curves over each other, if there are any.

    Parameters
    ----------
    title : str
    curves : list of Curve
    log : bool
        Take a logarithmic scale if the numbers need one.
    x_title : str
    level : (float, str), optional
        A horizontal line and its name.

    Yields
    ------
    str
        An ``<svg>`` element, or nothing.
    """
    curves = [c for c in curves if any(map(math.isfinite, c.ys))]
    if not curves:
        return
    y_of = y_scale(curves, log, None if level is None else level[0])
    x_last = max(max(c.xs) for c in curves)
    x_of = Scale(min(min(c.xs) for c in curves), x_last, EDGE, INNER - EDGE)
    yield opening(title, described(curves), WIDTH, HEIGHT, LEFT)
    yield from outside(curves, y_of)
    for tick in y_of.ticks(5):
        y = TOP + y_of(tick)
        yield label(LEFT - 6, y + 4, f"{tick:.6g}")
        yield line("grid", (LEFT, y), (WIDTH - RIGHT, y))
    yield frame(LEFT, TOP, INNER, PLOT)
    marks = [(LEFT + x_of(tick), f"{tick:,.0f}") for tick in x_ticks(x_of)]
    yield "\n".join(x_axis(marks, HEIGHT - BOTTOM + 14, LEFT + INNER / 2, x_title))
    ends = f'data-x="{x_of.low:g} {x_of.high:g}" data-y="{y_of.low:.9g} {y_of.high:.9g}"'
    yield (
        f'<svg class="plot" x="{LEFT}" y="{TOP}" width="{INNER}" height="{PLOT}" '
        f'viewBox="0 0 {INNER} {PLOT}" {ends} data-edge="{EDGE}" data-log="{int(y_of.log)}" '
        f'data-title="{x_title}">'
    )
    if level is not None:
        y = y_of(level[0])
        yield line("level", (0, y), (INNER, y)) + label(4, y - 4, level[1], "start")
    for c in curves:
        yield from drawn(c, x_of, y_of, has_band=len(curves) <= MAX_BANDS)
    yield "</svg>"
    yield from end_labels(curves, y_of)
    yield "</svg>"


def y_scale(curves: Sequence[Curve], log: bool, level: float | None) -> Scale:
    """Choose the scale of a chart from all numbers in it.

    A linear scale leaves out what is far beyond nearly all numbers, such as the bound
    before the first update, a logarithmic one what is near 0; the curves then leave the
    frame, and `outside` says how far.
    """
    values = [v for c in curves for part in (c.ys, c.lower, c.upper) for v in part]
    values = sorted(filter(math.isfinite, values))
    if level is not None:
        values = sorted([*values, level])
    positive = [v for v in values if v > 0]
    if log and values[0] >= 0 and positive and positive[-1] > WIDE * positive[0]:
        low = max(positive[0], positive[-1] / POWERS)
        return Scale(low / 1.3, positive[-1] * 1.3, PLOT, 0, log=True)
    low, high = values[0], values[-1]
    usual_low, usual_high = values[len(values) // 20], values[-1 - len(values) // 20]
    span = usual_high - usual_low
    if span > 0:
        low = low if low > usual_low - 2 * span else usual_low - 0.3 * span
        high = high if high < usual_high + 2 * span else usual_high + 0.3 * span
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low - margin, high + margin, PLOT, 0)


def outside(curves: Sequence[Curve], y_of: Scale) -> Iterator[str]:
    """Say how far curves leave the frame."""
    values = [v for c in curves for part in (c.ys, c.lower, c.upper) for v in part]
    finite = [v for v in values if math.isfinite(v)]
    parts = []
    if max(finite) > y_of.high:
        parts.append(f"▲ to {digits(max(finite), 2)}")
    if min(finite) < y_of.low:
        parts.append(f"▼ to {digits(min(finite), 2)}")
    if parts:
        yield label(WIDTH - RIGHT, HEIGHT - BOTTOM + 29, "  ".join(parts))


def x_ticks(x_of: Scale) -> list[float]:
    """Return whole numbers along the x axis."""
    return [tick for tick in x_of.ticks(5) if tick == round(tick)]


def described(curves: Sequence[Curve]) -> str:
    """Describe a chart in words, for readers who do not see it."""
    texts = []
    for c in curves[:8]:
        finite = [y for y in c.ys if math.isfinite(y)]
        texts.append(f"{c.name} from {digits(finite[0])} to {digits(finite[-1])}")
    more = f", and {len(curves) - 8} more curves" if len(curves) > 8 else ""
    return "; ".join(texts) + more


def drawn(c: Curve, x_of: Scale, y_of: Scale, has_band: bool) -> Iterator[str]:
    """Draw a curve with its band, some marks on it, and a star at the best step."""
    has_band = has_band and bool(c.lower)
    kept = thinned([c.ys, c.lower, c.upper] if has_band else [c.ys])
    points = [(x_of(c.xs[i]), y_of(c.ys[i])) for i in kept]
    yield f'<g class="{style(c.number)}">'
    if has_band:
        sides = [[(x_of(c.xs[i]), y_of(side[i])) for i in kept] for side in (c.lower, c.upper)]
        yield band("band", *sides)
    kind = dashes(c.number) if c.kind == "only" else c.kind
    yield curve(f"curve {kind}", points, c.name)
    finite = [point for point in points if math.isfinite(point[1])]
    step = max(math.ceil(len(finite) / 5), 1)
    for point in finite[(c.number - 1) % step :: step]:
        yield mark("mark", outline(c.number), point)
    if c.best is not None and math.isfinite(c.ys[c.best]):
        at = x_of(c.xs[c.best]), y_of(c.ys[c.best])
        hint = f"{c.name}, best step: update {c.xs[c.best]}, {digits(c.ys[c.best], 6)}"
        yield mark("star", STAR, at, hint)
    yield "</g>"


def style(number: int) -> str:
    """Return the classes of what belongs to a run: its own, and its colour."""
    return f"r{number} c{(number - 1) % N_COLORS}"


def dashes(number: int) -> str:
    """Return the class of a run's curve in charts of one curve a run."""
    return f"d{(number - 1) % N_DASHES}"


def outline(number: int) -> str:
    """Return the outline of a run's marks."""
    return MARKS[(number - 1) % len(MARKS)]


def thinned(parts: Sequence[Sequence[float]]) -> list[int]:
    """Choose points that keep the look of long curves.

    Parameters
    ----------
    parts : list of lists of float
        Curves of the same length.

    Returns
    -------
    list of int
        Indices: of each piece the first, the last, the lowest and the highest, and
        one that is not finite.
    """
    n = len(parts[0])
    size = math.ceil(n / MAX_PIECES)
    if size < 5:
        return list(range(n))
    kept: set[int] = set()
    for start in range(0, n, size):
        piece = range(start, min(start + size, n))
        kept |= {piece[0], piece[-1]}
        for ys in parts:
            finite = [i for i in piece if math.isfinite(ys[i])]
            gaps = [i for i in piece if not math.isfinite(ys[i])]
            if finite:
                kept |= {min(finite, key=ys.__getitem__), max(finite, key=ys.__getitem__)}
            if gaps:
                kept.add(gaps[0])
    return sorted(kept)


def end_labels(curves: Sequence[Curve], y_of: Scale) -> Iterator[str]:
    """Write the number of each run where its last curve ends."""
    ends: dict[int, float] = {}
    for c in curves:
        last = next(y for y in reversed(c.ys) if math.isfinite(y))
        ends[c.number] = min(max(y_of(last), 0), PLOT)
    for number, y in zip(ends, spread(list(ends.values()), 11, 4, PLOT - 4)):
        x = WIDTH - RIGHT + 7
        text = label(x + 7, TOP + y + 4, str(number), "start", "end")
        yield f'<g class="{style(number)}">{mark("mark", outline(number), (x, TOP + y))}{text}</g>'
