"""Show a comparison as text for the terminal, at most 100 columns wide."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

from compare.differences import Comparison, Difference, Section, worst

WIDTH = 100
COLORS = {"agrees": "32", "DIFFERS": "31;1", "no verdict": "33"}


def wants_colors(stream: TextIO) -> bool:
    """Return whether a stream is a terminal with colors and NO_COLOR is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def report(comparison: Comparison, tables: bool, colors: bool = False) -> str:
    """Show the facts of a comparison, a verdict for each section, and where the programs part.

    Parameters
    ----------
    comparison : Comparison
    tables : bool
        Show every number, not only the verdicts.
    colors : bool
        Color the verdicts.

    Returns
    -------
    str
        Lines of at most 100 columns.
    """
    return "\n".join(_lines(comparison, tables, colors))


def _lines(comparison: Comparison, tables: bool, colors: bool) -> Iterator[str]:
    yield _clip(comparison.path)
    for name, fact in comparison.facts.items():
        yield _clip(f"  {name:<9} {fact}")
    if tables:
        for section in comparison.sections:
            yield ""
            yield from _table(section)
        yield ""
    columns = f"{'compared':>8}{'relative':>9}{'noise':>9}{'allowed':>9}  furthest"
    yield f"  {'':<11}{'section':<37}{columns}"
    for section in comparison.sections:
        yield _verdict(section, colors)
    for reason, cases in cases_by_reason(comparison.left_out).items():
        line = f"not repeated, {reason}: {', '.join(cases)}"
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")
    first = comparison.first()
    if first is not None:
        yield _colored(_clip(f"  They part at {first.place}"), "DIFFERS", colors)
        yield f"    original {first.original:.12g}, port {first.port:.12g}"
        yield (
            f"    relative {first.relative:.1e}, noise {first.noise:.1e}, "
            f"allowed {first.allowed:.1e}"
        )


def summary(comparisons: Sequence[Comparison], colors: bool = False) -> str:
    """Return one line that says whether all comparisons agree."""
    n = len(comparisons)
    n_differ = sum(not comparison.ok for comparison in comparisons)
    if n_differ:
        text = f"{n_differ} of {n} recordings: the port DIFFERS from the original"
        return _colored(text, "DIFFERS", colors)
    count = "1 recording" if n == 1 else f"{n} recordings"
    return _colored(f"{count}: the port agrees with the original", "agrees", colors)


def verdict_of(section: Section) -> str:
    """Return 'agrees', 'DIFFERS', or 'no verdict' if no difference of the section is judged."""
    if not section.ok:
        return "DIFFERS"
    return "agrees" if section.judged else "no verdict"


def worst_by_name(section: Section) -> list[Difference]:
    """Return the worst difference of each name, in the order in which the names first occur."""
    groups = section.by_name().values()
    return [difference for group in groups if (difference := worst(group)) is not None]


def cases_by_reason(left_out: dict[str, str]) -> dict[str, list[str]]:
    """Group the cases that were not repeated by reason."""
    groups: dict[str, list[str]] = {}
    for case, reason in left_out.items():
        groups.setdefault(reason, []).append(case)
    return groups


def _table(section: Section) -> Iterator[str]:
    yield _clip(f"  {section.title}" + (f" ({section.note})" if section.note else ""))
    first_column = "update" if section.by_update else "name"
    yield (
        f"  {first_column:<18} {'original':>18} {'port':>18} {'absolute':>8} {'relative':>8} "
        f"{'noise':>8} {'ulp':>8}"
    )
    for d in section.differences if section.by_update else worst_by_name(section):
        name = str(d.update) if section.by_update else d.name
        yield (
            f"  {_shortened(name, 18):<18} {d.original:>18.12g} {d.port:>18.12g} "
            f"{d.absolute:>8.1e} {d.relative:>8.1e} {d.noise:>8.1e} {_count(d.ulps):>8}"
            f"{'' if d.ok else ' !'}"
        )


def _verdict(section: Section, colors: bool) -> str:
    word = verdict_of(section)
    furthest = section.worst()
    assert furthest is not None  # sections are not empty
    allowed = "-" if furthest.allowed is None else f"{furthest.allowed:.1e}"
    name = f"update {furthest.update}" if section.by_update else furthest.name
    line = (
        f"{_shortened(section.title, 37):<37}{len(section.differences):>8}"
        f"{furthest.relative:>9.1e}{furthest.noise:>9.1e}{allowed:>9}  {_shortened(name, 13)}"
    )
    return "  " + _colored(f"{word:<11}", word, colors) + line


def _count(ulps: int | None) -> str:
    if ulps is None:
        return "-"
    return str(ulps) if ulps < 10**9 else f"{ulps:.1e}"


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 8] + "~" + name[-7:]


def _clip(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def _colored(text: str, word: str, colors: bool) -> str:
    return f"\033[{COLORS[word]}m{text}\033[0m" if colors else text
