"""Symbolic helpers against the original's."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.utils.op import logsumexp, not_finite
from compare.units import cost_of, samples
from tests.units import (
    FLOATS,
    Graph,
    case_names,
    check_case,
    compile_plainly,
    evaluate,
    recorded,
)

# Differences allowed in float32 are twice those that the recordings' README states.
RTOL = {"float64": 1e-13, "float32": 2e-6}


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", case_names("costs", "logsumexp"))
def test_logsumexp(case, floatX):
    arrays = recorded("costs", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(cost_of(case), arrays)
    check_case(graph(arrays), arrays, RTOL[floatX])


def test_logsumexp_of_everything():
    x = pt.dmatrix()
    array = np.array([[0.0, 1000.0], [999.0, -1000.0]])
    ours = evaluate(logsumexp(x), {x: array})
    assert ours.shape == ()
    np.testing.assert_allclose(ours, 1000 + np.log1p(np.exp(-1)), rtol=1e-15)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", case_names("random", "Gaussian_sample"))
def test_Gaussian_sample(case, floatX):
    """With the original's noise, its samples, to the last bit but one."""
    for num in ("num1", "numNone"):
        arrays = recorded("random", f"{case}/{num}", floatX)
        ours = samples("Gaussian_sample", arrays)
        assert set(ours) == {name for name in arrays if name.startswith("out/")}
        for name, value in ours.items():
            theirs = arrays[name]
            assert value.dtype == theirs.dtype == floatX
            rounding = np.abs(theirs).max() * np.finfo(floatX).eps
            np.testing.assert_allclose(value, theirs, rtol=0, atol=rounding)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0,), False),
        ((1.0, -2.0), False),
        ((np.nan,), True),
        ((1.0, np.inf), True),
        ((-np.inf, 0.0, 1.0), True),
    ],
)
def test_not_finite(values, expected):
    scalars = [pt.dscalar() for _ in values]
    assert compile_plainly(scalars, not_finite(*scalars))(*values) == expected
