"""Softmax and concatenation against the original's."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.utils.gpu_op import concatenate, softmax
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, in_python, recorded

# Differences allowed in float32 are twice those that the recordings' README states.
RTOL = {"float64": 1e-13, "float32": 2e-6}


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", case_names("costs", "gpu_op_softmax"))
def test_softmax(case, floatX):
    arrays = recorded("costs", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(lambda inputs: softmax(inputs["x"]), arrays)
    check_case(graph(arrays), arrays, RTOL[floatX])


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", case_names("costs", "gpu_op_concatenate"))
def test_concatenate(case, floatX):
    arrays = recorded("costs", case, floatX)
    axis = int(case[-1])
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(lambda inputs: concatenate([inputs["a"], inputs["b"]], axis=axis), arrays)
    check_case(graph(arrays), arrays, 0.0)


def test_all_recorded_cases_are_there():
    assert len(case_names("costs", "gpu_op_softmax")) == 2
    assert len(case_names("costs", "gpu_op_concatenate")) == 3


def test_softmax_does_not_overflow():
    x = pt.dmatrix()
    ours = evaluate(softmax(x), {x: np.array([[1e4, 0.0, 1e4], [-1e4, -1e4, -2e4]])})
    np.testing.assert_array_equal(ours, [[0.5, 0, 0.5], [0.5, 0.5, 0]])


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 2)])
def test_gradient_of_softmax(shape):
    """The gradient of a weighted sum by finite differences."""
    rng = np.random.default_rng(3)
    x, weight = rng.normal(size=(2, *shape))
    with in_python():
        pytensor.gradient.verify_grad(lambda X: pt.sum(softmax(X) * weight), [x], rng=rng)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("dtypes", [("int8", "int8"), ("float32", "int64"), ("float64", "float32")])
def test_concatenate_returns_floatX(dtypes, floatX):
    a, b = (pt.matrix(dtype=dtype) for dtype in dtypes)
    with pytensor.config.change_flags(floatX=floatX):
        out = concatenate([a, b], axis=-1)
    ours = evaluate(out, {a: np.ones((2, 1), dtypes[0]), b: np.zeros((2, 2), dtypes[1])})
    assert ours.dtype == floatX
    np.testing.assert_array_equal(ours, [[1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("tensors", "axis", "message"),
    [
        ([], 0, "give at least one tensor"),
        ([pt.matrix(), pt.tensor3()], 0, r"\[2, 3\] dimensions; give tensors of one number"),
        ([pt.matrix(), pt.matrix()], 2, "axis 2 is not one of the 2 axes"),
        ([pt.matrix(), pt.matrix()], -3, "axis -3 is not one of the 2 axes"),
    ],
)
def test_concatenate_refuses(tensors, axis, message):
    with pytest.raises(ValueError, match=message):
        concatenate(tensors, axis)
