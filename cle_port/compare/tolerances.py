"""How far the port may be from the original.

Differences are relative to the largest entry of the recorded array.  In double precision 1e-12
is allowed: where numbers are well conditioned, both programs agree to some 1e-15.

Not all numbers are.  A KL term of 1e-8 is a difference of numbers of size 1, and a gradient that
is zero but for rounding becomes a step of full length in Adam.  So the noise of rounding is
measured in each comparison: the port repeats the run with weights, frames and noise moved by one
unit in the last place before each update.  A multiple of what that changes is allowed, where it is
more.

The figures for single precision are twice those of the original against itself, float32 against
float64, on the same seeds: two programs in single precision may each be as far from the truth as
that.  Without a figure, single precision says nothing: in runs from the scripts' own small
weights, many gradients are rounding noise.
"""

from __future__ import annotations

FLOAT64 = dict.fromkeys(
    ("noise", "cost", "kl", "forward", "grad", "grad_norm", "param", "state", "bound", "channel"),
    1e-12,
)
# How many times the measured noise is allowed.  In double precision the two programs' difference
# was at most 3.8 times the noise, in 63110 comparisons of 65 recorded runs.
MULTIPLE = 10.0
# In single precision, before any update: there the figures below say most.
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
ALWAYS_DOUBLE = ("init", "utils", "data")  # NumPy functions, whatever floatX is


def of_run(kind: str, floatX: str, tolerance: float | None = None) -> dict[str, float]:
    """Look up what is allowed of a repeated run.

    Parameters
    ----------
    kind : {'small', 'strong', 'clipped'}
        Whether the run starts from the scripts' own weights, from larger ones,
        or from such with gradients far above the clipping threshold.
    floatX : {'float64', 'float32'}
        The lower of both precisions.
    tolerance : float, optional
        Put in the place of all figures.

    Returns
    -------
    dict of str to float
        Relative difference allowed, by quantity.
    """
    table = FLOAT64 if floatX == "float64" else FLOAT32[kind]
    return dict.fromkeys(table, tolerance) if tolerance is not None else dict(table)


def of_unit(section: str, case: str, floatX: str, tolerance: float | None = None) -> float:
    """Look up what is allowed of a single function.

    Parameters
    ----------
    section : str
        Such as 'costs'.
    case : str
        Recorded case; those called extreme lose more digits.
    floatX : {'float64', 'float32'}
    tolerance : float, optional
        Put in the place of the figures.

    Returns
    -------
    float
        Relative difference allowed.
    """
    if tolerance is not None:
        return tolerance
    if floatX == "float64" or section in ALWAYS_DOUBLE:
        return 1e-12
    return FLOAT32_UNITS["extreme" if "extreme" in case else section]
