"""Show comparisons on one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from compare.differences import Comparison, Difference, Section
from compare.report.chart import chart
from compare.report.terminal import cases_by_reason, verdict_of, worst_by_name
from models.report.document import document

STYLE = """
.agrees { color: var(--good); } .differs { color: var(--bad); } .open { color: var(--open); }
.agrees, .differs, .open { font-weight: 600; white-space: nowrap; }
.parted { border-left: 4px solid var(--bad); background: var(--panel); padding: 10px 14px; }
.original { fill: none; stroke: var(--original); stroke-width: 6; stroke-linecap: round;
  stroke-linejoin: round; opacity: .75; }
.port { fill: none; stroke: var(--port); stroke-width: 1.6; stroke-linecap: round; }
.allowed { stroke: var(--bad); stroke-dasharray: 5 4; }
.fine { fill: var(--port); } .bad { fill: var(--bad); }
.key { display: inline-block; width: 26px; margin: 0 6px 0 14px; vertical-align: middle; }
"""
CLASSES = {"agrees": "agrees", "DIFFERS": "differs", "no verdict": "open"}


def page(comparisons: Sequence[Comparison]) -> str:
    """Show comparisons on one page.

    Parameters
    ----------
    comparisons : list of Comparison

    Returns
    -------
    str
        An HTML document that loads no other files.
    """
    return document("Port and original", STYLE, _body(comparisons))


def _body(comparisons: Sequence[Comparison]) -> Iterator[str]:
    n_differ = sum(not comparison.ok for comparison in comparisons)
    yield "<h1>Port and original</h1>"
    word, text = ("DIFFERS", f"{n_differ} differ") if n_differ else ("agrees", "all agree")
    yield f"<p>{_count(comparisons)} repeated; {_verdict(word, text)}</p>"
    yield (
        '<p class="soft">Upper plots:'
        '<span class="key" style="border-top: 6px solid var(--original)"></span>original'
        '<span class="key" style="border-top: 2px solid var(--port)"></span>port. Lower plots: '
        "relative difference (0 is drawn as 1e-17) and"
        '<span class="key" style="border-top: 2px dashed var(--bad)"></span>its limit.'
        "</p>"
    )
    if len(comparisons) > 1:
        yield from _contents(comparisons)
    for i, comparison in enumerate(comparisons):
        yield from _comparison(comparison, i)


def _contents(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield '<div class="scroll"><table><tr><th>recording</th><th class="left">verdict</th></tr>'
    for i, comparison in enumerate(comparisons):
        word = "agrees" if comparison.ok else "DIFFERS"
        yield (
            f'<tr><td><a href="#r{i}">{escape(comparison.path)}</a></td>'
            f'<td class="left">{_verdict(word)}</td></tr>'
        )
    yield "</table></div>"


def _comparison(comparison: Comparison, number: int) -> Iterator[str]:
    word = "agrees" if comparison.ok else "DIFFERS"
    yield f'<h2 id="r{number}">{escape(comparison.path)} {_verdict(word)}</h2>\n<dl>'
    for name, fact in comparison.facts.items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>"
    yield "</dl>"
    first = comparison.first()
    if first is not None:
        yield (
            f'<p class="parted">They part at <b>{escape(first.place)}</b>: original '
            f"{first.original:.12g}, port {first.port:.12g}, relative difference "
            f"{first.relative:.1e}, allowed {first.allowed:.1e}.</p>"
        )
    yield from _overview(comparison)
    by_update = [section for section in comparison.sections if section.by_update]
    if by_update:
        yield '<div class="curves">'
        yield from (chart(section.title, section.differences) for section in by_update)
        yield "</div>"
    for section in comparison.sections:
        yield from _details(section)


def _overview(comparison: Comparison) -> Iterator[str]:
    yield (
        '<div class="scroll"><table><tr><th>section</th><th class="left">verdict</th>'
        "<th>compared</th><th>relative</th><th>noise</th><th>allowed</th>"
        '<th class="left">furthest</th></tr>'
    )
    for section in comparison.sections:
        furthest = section.worst()
        assert furthest is not None  # sections are not empty
        yield (
            f'<tr><td>{escape(section.title)}</td><td class="left">'
            f"{_verdict(verdict_of(section))}</td><td>{len(section.differences)}</td>"
            f"<td>{furthest.relative:.1e}</td><td>{furthest.noise:.1e}</td>"
            f"<td>{_allowed(furthest)}</td>"
            f'<td class="left">{escape(furthest.place)}</td></tr>'
        )
    yield "</table></div>"
    for reason, cases in cases_by_reason(comparison.left_out).items():
        yield f'<p class="soft">Not repeated, {escape(reason)}: {escape(", ".join(cases))}</p>'


def _details(section: Section) -> Iterator[str]:
    shown = section.differences if section.by_update else worst_by_name(section)
    yield f"<details><summary>{escape(section.title)}: numbers</summary>"
    if section.note:
        yield f'<p class="soft">{escape(section.note)}</p>'
    yield from _channels(section)
    yield (
        '<div class="scroll"><table><tr><th>where</th><th>original</th><th>port</th>'
        "<th>absolute</th><th>relative</th><th>noise</th><th>allowed</th><th>ulp</th></tr>"
    )
    for d in shown:
        kind = "" if d.ok else ' class="differs"'
        ulps = "-" if d.ulps is None else str(d.ulps)
        yield (
            f"<tr><td{kind}>{escape(d.place)}</td><td>{d.original:.12g}</td><td>{d.port:.12g}</td>"
            f"<td>{d.absolute:.1e}</td><td>{d.relative:.1e}</td><td>{d.noise:.1e}</td>"
            f"<td>{_allowed(d)}</td><td>{ulps}</td></tr>"
        )
    yield "</table></div></details>"


def _channels(section: Section) -> Iterator[str]:
    """Draw a curve for each monitored channel."""
    if section.title != "monitored channels":
        return
    yield '<div class="curves">'
    yield from (chart(name, differences) for name, differences in section.by_name().items())
    yield "</div>"


def _count(comparisons: Sequence[Comparison]) -> str:
    return "1 recording" if len(comparisons) == 1 else f"{len(comparisons)} recordings"


def _allowed(difference: Difference) -> str:
    return "-" if difference.allowed is None else f"{difference.allowed:.1e}"


def _verdict(word: str, text: str = "") -> str:
    return f'<span class="{CLASSES[word]}">{escape(text or word)}</span>'
