"""Show runs on one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from html import escape

from models.report.charts import charts, dashes, outline, style
from models.report.document import document, scrolling, table
from models.report.logs import Run
from models.report.look import SCRIPT, STYLE
from models.report.samples import Samples
from models.report.summary import (
    NONE,
    Group,
    best_step,
    different_settings,
    digits,
    groups,
    row,
)
from models.report.svg import STAR, curve, mark

HEADS = {
    "run": "",
    "bound": "lowest validation bound: less is better",
    "update": "when it was reached",
    "epoch": "when it was reached",
    "recon": "reconstruction term of the bound then",
    "KL": "KL term of the bound then: what z carries",
    "active": "dimensions of z with a KL above 0.01 nats a frame then",
    "parameters": "numbers that are trained",
    "time": "of all updates so far, without monitoring",
    "state": "",
}
READING = """<details><summary>How to read this page</summary>
<p>The bound is the negative log-likelihood, or for a model with a latent variable z an upper bound
of it, on validation data: less is better, and it may be below 0 where densities are. It is the sum
of the reconstruction term and the KL term. The table shows the step where it was lowest; the step
before the first update does not count.</p>
<p>The KL term says how much z carries: near 0 the decoder does without it. A dimension of z is
active if its KL is above 0.01 nats a frame.</p>
<p>Marks and numbers at the ends of curves name the run. In charts of one curve a run, each run has
dashes of its own. ▲ and ▼ say how far curves go beyond the frame. Bands from min to max are drawn
for up to 4 runs. Long curves are thinned, but keep their highest and lowest points.</p>
</details>"""


def page(runs: Sequence[Run], warnings: Sequence[str] = (), refresh: int | None = None) -> str:
    """Show runs on one page.

    Parameters
    ----------
    runs : list of Run
    warnings : list of str
        What could not be read.
    refresh : int, optional
        Seconds after which the page loads itself anew.

    Returns
    -------
    str
        An HTML document that loads no other files.
    """
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        f"script-src 'sha256-{digest}'"
    )
    head = [
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<link rel="icon" href="data:,">',
    ]
    if refresh is not None:
        head.append(f'<meta http-equiv="refresh" content="{refresh}">')
    title = f"Run {runs[0].label}" if len(runs) == 1 else f"{len(runs)} runs"
    hiding = "".join(
        f"body:has(#show{n}:not(:checked)) .r{n} {{ display: none; }}\n"
        for n in range(1, len(runs) + 1)
    )
    return document(title, STYLE + hiding, _body(title, runs, warnings, refresh), head)


def _body(
    title: str, runs: Sequence[Run], warnings: Sequence[str], refresh: int | None
) -> Iterator[str]:
    yield f"<main><h1>{escape(title)}</h1>"
    renewed = "" if refresh is None else f" It renews itself every {refresh} seconds."
    yield f'<p class="soft">Written on {time.strftime("%Y-%m-%d at %H:%M:%S")}.{renewed}</p>'
    for warning in warnings:
        yield f'<p class="warning">{escape(warning)}</p>'
    samples = Samples()
    n = 0
    for group in groups(runs):
        numbered = [(n + i + 1, run) for i, run in enumerate(group.runs)]
        n += len(numbered)
        yield f"<section>\n<h2>{escape(group.title)}</h2>"
        yield from _summary(group, numbered)
        yield from _settings(numbered)
        yield from _charts(group, numbered)
        yield from _numbers(numbered)
        for _, run in numbered:
            yield from samples.of_run(run)
        yield "</section>"
    yield READING
    yield f"</main>\n<script>{SCRIPT}</script>"


def _named(number: int, run: Run) -> str:
    """A run's number and name, behind what its curves look like."""
    drawing = curve(f"curve {dashes(number)}", [(-21, 0), (21, 0)])
    drawing += mark("mark", outline(number), (0, 0))
    key = f'viewBox="-22 -7 44 14" aria-hidden="true">{drawing}</svg>'
    color = style(number).split()[-1]
    return f'<svg class="key {color}" {key}{number} {escape(run.label)}'


def _star() -> str:
    size = 'class="key narrow c0" viewBox="-9 -9 18 18"'
    drawing = mark("star", STAR, (0, 0))
    return f'<svg {size} role="img" aria-label="A star">{drawing}</svg>'


def _summary(group: Group, numbered: Sequence[tuple[int, Run]]) -> Iterator[str]:
    heads = {f"bound, {group.unit}" if k == "bound" else k: why for k, why in HEADS.items()}
    rows = [[_named(number, run), *map(escape, row(run))] for number, run in numbered]
    yield scrolling(f"Runs on {group.title}", table(heads, rows))


def _settings(numbered: Sequence[tuple[int, Run]]) -> Iterator[str]:
    runs = [run for _, run in numbered]
    differing = different_settings(runs)
    if differing:
        cells = zip(*differing.values())
        rows = [[_named(*pair), *map(escape, row)] for pair, row in zip(numbered, cells)]
        yield "<h3>Settings that differ</h3>"
        heads = {"run": "", **dict.fromkeys(differing, "")}
        yield f'<div class="settings">{scrolling("Settings that differ", table(heads, rows))}</div>'
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    if keys:
        values = {key: [run.settings.get(key, NONE) for run in runs] for key in keys}
        rows = [[escape(key), *map(escape, row)] for key, row in values.items()]
        yield "<details><summary>All settings</summary>"
        heads = {"setting": "", **{f"{number} {run.label}": "" for number, run in numbered}}
        yield scrolling("All settings", table(heads, rows)) + "</details>"


def _charts(group: Group, numbered: Sequence[tuple[int, Run]]) -> Iterator[str]:
    if not any(run.updates for _, run in numbered):
        yield '<p class="soft">There is no monitoring step yet.</p>'
        return
    yield "<h3>Curves</h3>"
    if len(numbered) > 1:
        items = [
            f'<li><label><input type="checkbox" id="show{number}" checked> '
            f"{_named(number, run)}</label></li>"
            for number, run in numbered
        ]
        yield f'<ul class="legend">{"".join(items)}</ul>'
    yield (
        '<p class="soft">Where a chart has both, solid is training and dashed validation. '
        f"{_star()} is the best step.</p>"
    )
    yield '<div class="curves">'
    yield from charts(numbered, group.unit)
    yield "</div>"


def _numbers(numbered: Sequence[tuple[int, Run]]) -> Iterator[str]:
    """Show every channel at the best step of each run."""
    shown = [(n, run, step) for n, run in numbered if (step := best_step(run)) is not None]
    if not shown:
        return
    heads = {"channel": "", **{f"{n} {run.label}": "" for n, run, _ in shown}}
    names = dict.fromkeys(name for _, run, _ in shown for name in run.channels)
    rows = [["update", *(str(run.updates[step]) for _, run, step in shown)]]
    for name in names:
        values = [
            run.channels[name][step] if name in run.channels else math.nan for _, run, step in shown
        ]
        rows.append([escape(name), *(digits(value, 6) for value in values)])
    yield "<details><summary>All channels at the best step</summary>"
    yield scrolling("All channels at the best step", table(heads, rows)) + "</details>"
