"""Repeat recorded calls of single functions, ``units_<section>_<floatX>.npz``, and compare them.

Each module repeats the cases of one section: from the name and the recorded arrays of a case it
computes the port's arrays, under the recorded names.

No counterpart in the original.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytensor
from numpy.typing import NDArray

from compare import tolerances
from compare.differences import Comparison, Difference, Section, compare
from compare.recording import Arrays, below, scalar
from compare.units.cases import NOT_PORTED, RepeatedCases, params
from compare.units.costs import cost_of, repeat_costs
from compare.units.data import repeat_data
from compare.units.helpers import keywords, repeat_utils
from compare.units.initial import INIT_CELLS, layer_of, repeat_init
from compare.units.layers import FULLY_CONNECTED, fully_connected, recurrent, repeat_layers
from compare.units.optimizers import (
    OPTIMIZED,
    clipping,
    epoch_count,
    repeat_optim,
    weight_norm,
)
from compare.units.sampling import repeat_random, samples
from compare.units.special_layers import least_scale

__all__ = [
    "FULLY_CONNECTED",
    "INIT_CELLS",
    "OPTIMIZED",
    "clipping",
    "compare_units",
    "cost_of",
    "epoch_count",
    "fully_connected",
    "keywords",
    "layer_of",
    "params",
    "recurrent",
    "samples",
    "weight_norm",
]

REPEAT: dict[str, Callable[[Arrays], RepeatedCases]] = {
    "costs": repeat_costs,
    "layers": repeat_layers,
    "init": repeat_init,
    "utils": repeat_utils,
    "data": repeat_data,
    "optim": repeat_optim,
    "random": repeat_random,
}


def compare_units(
    recording: Arrays, name: str, path: str = "", tolerance: float | None = None
) -> Comparison:
    """Repeat and compare all cases of a file that the port has.

    Parameters
    ----------
    recording : mapping of str to ndarray
    name : str
        Name of the file, ``units_<section>_<floatX>``.
    path : str
        Path of the recording, for the report.
    tolerance : float, optional
        Allowed relative difference; replaces the figures of `compare.tolerances`.

    Returns
    -------
    Comparison
        With a section for each function.
    """
    floatX = str(scalar(recording, "meta/floatX"))
    section = name.split("_")[1]
    sections: dict[str, Section] = {}
    left_out: dict[str, str] = {}
    with pytensor.config.change_flags(floatX=floatX), np.errstate(all="ignore"):
        for number, (case, ours) in enumerate(REPEAT[section](recording)):
            group = case.split("/")[0]
            if isinstance(ours, str):
                left_out[group if ours == NOT_PORTED and group != "optimizer" else case] = ours
                continue
            allowed = tolerances.of_unit(section, case, precision(case, floatX), tolerance)
            differences = sections.setdefault(group, Section(group)).differences
            differences += compare_case(recording, section, case, ours, allowed, number)
    facts = {
        "functions": section,
        "original": f"{floatX}; {scalar(recording, 'meta/versions')}",
        "port": f"{floatX}, interpreted",
    }
    for group in dict.fromkeys(key.split("/")[0] for key in recording):
        if group not in (*sections, *left_out, "meta", "attempts"):
            left_out[group] = NOT_PORTED
    return Comparison(path, facts, list(sections.values()), left_out)


def precision(case: str, floatX: str) -> str:
    """Return the dtype in the name of a case, such as a draw's, or else the recording's."""
    return next((part for part in case.split("/") if part in ("float32", "float64")), floatX)


def compare_case(
    recording: Arrays,
    section: str,
    case: str,
    ours: dict[str, NDArray],
    allowed: float,
    number: int,
) -> list[Difference]:
    """Compare the arrays of one case.

    Parameters
    ----------
    recording : mapping of str to ndarray
    section, case : str
        Section of the recording, and name of the case in it.
    ours : dict of str to ndarray
        The port's arrays, by the rest of their recorded names.
    allowed : float
        Allowed relative difference of floating point numbers; integers must be equal.
    number : int
        Position of the case in the recording.
    """
    differences = []
    arrays = below(recording, case)
    for i, (key, value) in enumerate(ours.items()):
        name = f"{case}/{key}"
        theirs = recording[name]
        differences.append(
            compare(
                name.partition("/")[2],
                *comparable(value, theirs),
                0.0 if theirs.dtype.kind in "Ui" else allowed,
                place=f"{section}: {name}",
                order=(number, i),
                least=least_scale(case, key, arrays),
            )
        )
    return differences


def comparable(ours: NDArray, theirs: NDArray) -> tuple[NDArray, NDArray]:
    """Convert text to numbers, and replace the original's NaN where the port is finite.

    The port avoids these NaNs on purpose: see *A pen probability of exactly 0 or 1* in
    docs/fidelity.md.
    """
    if theirs.dtype.kind == "U":
        return np.asarray(np.array_equal(ours, theirs), dtype=float), np.array(1.0)
    if ours.shape == theirs.shape and theirs.dtype.kind == "f":
        theirs = np.where(np.isnan(theirs) & np.isfinite(ours), ours, theirs)
    return ours, theirs
