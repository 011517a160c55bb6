"""Symbolic helpers against the original's."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.utils.op import Gaussian_sample, logsumexp
from tests.recordings import below
from tests.units import FLOATS, Graph, case_names, check_case, compile_plainly, evaluate, recorded

# Differences allowed in float32 are twice those that the recordings' README states.
RTOL = {"float64": 1e-13, "float32": 2e-6}
AXES = {"axis0": 0, "axis1": 1, "large": 1}


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", case_names("costs", "logsumexp"))
def test_logsumexp(case, floatX):
    arrays = recorded("costs", case, floatX)
    axis = AXES[case.split("/")[1]]
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(lambda x: logsumexp(**x, axis=axis), arrays)
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
    symbols = [pt.matrix(name, dtype=floatX) for name in ("mu", "sig", "eps")]
    fn = compile_plainly(symbols, Gaussian_sample(*symbols))
    for num in ("num1", "numNone"):
        arrays = recorded("random", f"{case}/{num}", floatX)
        for call, eps in below(arrays, "eps").items():
            ours, theirs = fn(arrays["mu"], arrays["sig"], eps[:, 0]), arrays[f"out/{call}"]
            assert ours.dtype == theirs.dtype == floatX
            rounding = np.abs(theirs).max() * np.finfo(floatX).eps
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=rounding)
