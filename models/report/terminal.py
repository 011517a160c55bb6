"""Show runs as tables for the terminal, at most 120 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cle_port.errors import one_line
from models.report.summary import Group, different_settings, row

WIDTH = 120
LONGEST = 42  # characters of a run's name
LONGEST_VALUE = 24  # of a setting
HEADS = ("bound", "update", "epoch", "recon", "KL", "active", "parameters", "time", "state")


def tables(groups: Sequence[Group]) -> str:
    """Show a table for each group of runs, and below it the settings in which they differ.

    Parameters
    ----------
    groups : list of Group

    Returns
    -------
    str
        Lines of at most 120 columns.
    """
    return "\n".join(line.rstrip() for line in _lines(groups))


def _lines(groups: Sequence[Group]) -> Iterator[str]:
    n = 0
    for group in groups:
        if n:
            yield ""
        numbers = [str(n + i + 1) for i in range(len(group.runs))]
        names = [shortened(run.label, LONGEST) for run in group.runs]
        yield shortened(one_line(f"{group.title}: {group.unit}"), WIDTH)
        table = [("", "run", *HEADS), *zip(numbers, names, *zip(*map(row, group.runs)))]
        yield from _aligned(table, n_left=2)
        yield from _settings(group, numbers, names)
        n += len(group.runs)


def _settings(group: Group, numbers: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Show the settings that differ, in as many tables as the width needs."""
    differing = {
        key: [shortened(one_line(value), LONGEST_VALUE) for value in values]
        for key, values in different_settings(group.runs).items()
    }
    if not differing:
        return
    yield ""
    yield "settings that differ"
    left = [("", *numbers), ("run", *names)]
    start = sum(max(map(len, column)) + 2 for column in left)
    columns: list[tuple[str, ...]] = []
    width = start
    for key, values in differing.items():
        column = (shortened(one_line(key), LONGEST_VALUE), *values)
        size = max(map(len, column)) + 2
        if columns and width + size > WIDTH:
            yield from _aligned(list(zip(*left, *columns)), n_left=2)
            yield ""
            columns, width = [], start
        columns.append(column)
        width += size
    yield from _aligned(list(zip(*left, *columns)), n_left=2)


def _aligned(rows: Sequence[Sequence[str]], n_left: int) -> Iterator[str]:
    """Align columns: the first ones left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for cells in rows:
        yield "  ".join(
            cell.ljust(width) if i < n_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        )


def shortened(text: str, width: int) -> str:
    """Leave out the middle of a text that is too long."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}~{text[-tail:]}"
