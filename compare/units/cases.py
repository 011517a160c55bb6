"""The recorded cases of a file, and how a repetition of them is passed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from compare.recording import Arrays

# Names of cases, each with the arrays that the port computes or the reason for leaving it out.
RepeatedCases = Iterator[tuple[str, dict[str, NDArray] | str]]

NOT_PORTED = "the port does not have them"


def group_cases(recording: Arrays, depth: int = 2) -> dict[str, dict[str, NDArray]]:
    """Collect the arrays of each case.

    Parameters
    ----------
    recording : mapping of str to ndarray
    depth : int
        Number of parts in the name of a case.

    Returns
    -------
    dict of str to dict
        By case: its arrays by the rest of their names.
    """
    cases: dict[str, dict[str, NDArray]] = {}
    for key in recording:
        *case, rest = key.split("/", depth)
        if len(case) == depth and case[0] not in ("meta", "attempts"):
            cases.setdefault("/".join(case), {})[rest] = recording[key]
    return cases


def params(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Select the parameters of a layer, by name, among the inputs of a case."""
    return {name.removeprefix("p_"): p for name, p in inputs.items() if name.startswith("p_")}
