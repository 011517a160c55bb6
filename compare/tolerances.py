"""The differences that are allowed between the port and the original.

Differences are relative to the largest entry of the recorded array.  In double precision 1e-12
is allowed: where numbers are well conditioned, both programs agree to about 1e-15.

Some numbers are badly conditioned.  A KL term of 1e-8 is a difference of numbers of size 1, and
Adam turns a gradient that is pure rounding error into a step of full length.  So each comparison
measures the noise of rounding: the port repeats the run, and before each update it moves weights,
frames and noise by one unit in the last place.  A multiple of the resulting change is allowed if
it exceeds the figure.

The figures for single precision are twice the difference between the original's float32 and
float64 on the same seeds, because each of two programs in single precision may be that far from
the truth.  A quantity without a figure gets no verdict in single precision: in runs from the
scripts' own small weights, many gradients are rounding noise.

No counterpart in the original.
"""

from __future__ import annotations

FLOAT64 = dict.fromkeys(
    ("noise", "cost", "kl", "forward", "grad", "grad_norm", "param", "state", "bound", "channel"),
    1e-12,
)
# Allowed multiple of the measured noise.  In double precision the two programs differed by at most
# 3.8 times the noise, in 63110 comparisons of 65 recorded runs.
MULTIPLE = 10.0
# The same before the first update, where the figures for single precision are most reliable.
MULTIPLE_BEFORE_UPDATES = {"float64": MULTIPLE, "float32": 4.0}
FLOAT32 = {
    "small": {
        "noise": 2 * 9e-7,
        "cost": 2 * 1.4e-7,
        "forward": 2 * 8e-7,
        "grad_norm": 2 * 5e-7,
        "bound": 2 * 1.4e-7,
    },
    "strong": {
        "noise": 2 * 6e-7,
        "cost": 2 * 8e-7,
        "kl": 2 * 3e-5,
        "forward": 2 * 3.4e-7,
        "grad": 2 * 2.3e-6,
        "grad_norm": 2 * 7e-6,
        "param": 2 * 1.5e-4,
        "state": 2 * 8e-6,
        "bound": 2 * 1e-6,
        "channel": 2 * 9.2e-6,
    },
    "clipped": {
        "noise": 2 * 6e-7,
        "cost": 2 * 4e-5,
        "kl": 2 * 4e-5,
        "forward": 2 * 3.6e-7,
        "grad": 2 * 2.5e-6,
        "grad_norm": 2 * 8e-5,
        "param": 2 * 1e-4,
        "state": 2 * 2.3e-5,
        "bound": 2 * 5e-6,
        "channel": 2 * 3.3e-5,
    },
}
KINDS = tuple(FLOAT32)
FLOAT32_UNITS = {
    "costs": 2 * 1e-6,
    "extreme": 2 * 4e-5,
    "layers": 2 * 1e-6,
    "optim": 2 * 5e-7,
    "random": 2.0**-22,
}
ALWAYS_DOUBLE = ("init", "utils", "data")  # NumPy functions, which ignore floatX


def of_run(kind: str, floatX: str, tolerance: float | None = None) -> dict[str, float]:
    """Look up the allowed differences of a repeated run.

    Parameters
    ----------
    kind : {'small', 'strong', 'clipped'}
        The run starts from the script's own weights, from larger ones, or from
        larger ones with gradients far above the clipping threshold.
    floatX : {'float64', 'float32'}
        The lower precision of the two programs.
    tolerance : float, optional
        Replaces all figures.

    Returns
    -------
    dict of str to float
        Allowed relative difference of each quantity.
    """
    table = FLOAT64 if floatX == "float64" else FLOAT32[kind]
    return dict.fromkeys(table, tolerance) if tolerance is not None else dict(table)


def of_unit(section: str, case: str, floatX: str, tolerance: float | None = None) -> float:
    """Look up the allowed difference of a single function.

    Parameters
    ----------
    section : str
        Section of the recording, such as 'costs'.
    case : str
        Recorded case.  Cases called extreme lose more digits.
    floatX : {'float64', 'float32'}
    tolerance : float, optional
        Replaces the figures.

    Returns
    -------
    float
        Allowed relative difference.
    """
    if tolerance is not None:
        return tolerance
    if floatX == "float64" or section in ALWAYS_DOUBLE:
        return 1e-12
    return FLOAT32_UNITS["extreme" if "extreme" in case else section]
