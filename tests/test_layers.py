"""Layers: outputs and gradients against the original's."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.layers import NonlinCell, StemCell, first_columns
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import LSTM, RecurrentLayer, SimpleRecurrent
from compare.units import FULLY_CONNECTED as ARGUMENTS
from compare.units import fully_connected, params, recurrent
from tests.recordings import below
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, recorded

# Differences allowed in float32 are twice those that the recordings' README states for costs.
RTOL = {"float64": 1e-13, "float32": 2e-6}
N_STEP = 5

FULLY_CONNECTED = [
    case
    for case in case_names("layers", "FullyConnectedLayer")
    if "out" in recorded("layers", case)  # giving ndim fails in the original
]
RECURRENT = case_names("layers", "SimpleRecurrent", "LSTM")


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", FULLY_CONNECTED)
def test_FullyConnectedLayer(case, floatX):
    arrays = recorded("layers", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(fully_connected(case, arrays), arrays)
    check_case(graph(arrays), arrays, RTOL[floatX])


def test_all_recorded_cases_are_there():
    assert len(FULLY_CONNECTED) == 30
    named = {case.split("/")[1] for case in FULLY_CONNECTED}
    assert named == set(ARGUMENTS) - {"gpu_softmax_3d"}  # which the original cannot compute
    assert {ARGUMENTS[case]["unit"] for case in named} == set(NonlinCell.UNITS)
    assert len(RECURRENT) == 9


@pytest.mark.parametrize("case", ["one_row", "mixed_3d_2d", "wider_input_3d", "index_int32"])
def test_static_shapes(case):
    """The programs give PyTensor the shapes; the numbers are the same."""
    name = f"FullyConnectedLayer/{case}"
    arrays = recorded("layers", name)
    with pytensor.config.change_flags(floatX="float64"):
        graph = Graph(fully_connected(name, arrays), arrays, static=True)
    check_case(graph(arrays), arrays, 1e-13)


@pytest.mark.parametrize("name", ["linear_2d", "linear_3d"])
def test_ndim_may_be_given(name):
    """The original stops with an UnboundLocalError, of its own making."""
    arrays = recorded("layers", f"FullyConnectedLayer/{name}")
    layer = FullyConnectedLayer(name="h", parent="a", parent_dim=3, nout=4, unit="linear")
    with pytensor.config.change_flags(floatX="float64"):
        x = {k: pt.as_tensor(v) for k, v in below(arrays, "in").items()}
        given = layer.fprop([x["x_a"]], params(x), ndim=x["x_a"].ndim)
        ours = evaluate([given, layer.fprop([x["x_a"]], params(x))])
    np.testing.assert_array_equal(ours[0], ours[1])


def test_a_plane_repeats_over_time_where_ndim_says_so():
    layer = FullyConnectedLayer(name="h", parent="a", parent_dim=2, nout=2, unit="linear")
    tparams = {"W_a__h": pt.as_tensor(np.eye(2)), "b_h": pt.as_tensor(np.zeros(2))}
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(
        evaluate(layer.fprop([pt.as_tensor(x)], tparams, ndim=3)), x[None]
    )


@pytest.mark.parametrize(
    ("inputs", "ndim", "message"),
    [
        ([], None, "layer 'h' got 0 parent inputs, expected 1: a"),
        ([pt.dmatrix(), pt.dmatrix()], None, "got 2 parent inputs, expected 1: a"),
        ([pt.dtensor3()], 2, "an input of 3 axes for ndim=2"),
        ([pt.dtensor4()], None, "an input of 4 axes, at most 3 work"),
    ],
)
def test_FullyConnectedLayer_refuses(inputs, ndim, message):
    layer = FullyConnectedLayer(name="h", parent="a", parent_dim=3, nout=4, unit="tanh")
    tparams = {"W_a__h": pt.dmatrix(), "b_h": pt.dvector()}
    with pytest.raises(ValueError, match=message):
        layer.fprop(inputs, tparams, ndim)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", RECURRENT)
def test_recurrent(case, floatX):
    arrays = recorded("layers", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(recurrent(case, arrays), arrays)
    check_case(graph(arrays), arrays, RTOL[floatX])


@pytest.mark.parametrize("case", ["SimpleRecurrent/two_recurrent", "LSTM/two_recurrent"])
def test_recurrent_with_static_shapes(case):
    arrays = recorded("layers", case)
    with pytensor.config.change_flags(floatX="float64"):
        graph = Graph(recurrent(case, arrays), arrays, static=True)
    check_case(graph(arrays), arrays, 1e-13)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize(("kind", "state_dim"), [(SimpleRecurrent, 4), (LSTM, 8)])
def test_initial_state(kind, state_dim, floatX):
    layer = kind(name="r", parent="a", parent_dim=2, nout=4, unit="tanh")
    with pytensor.config.change_flags(floatX=floatX):
        state = layer.get_init_state(3)
    assert layer.state_dim == state_dim
    assert state.type.shape == (3, state_dim)
    assert state.dtype == floatX
    np.testing.assert_array_equal(evaluate(state), np.zeros((3, state_dim)))
    if kind is LSTM:
        theirs = recorded("layers", "get_init_state/LSTM", floatX)["out"]
        np.testing.assert_array_equal(evaluate(state), theirs)


@pytest.mark.parametrize(
    ("n_inputs", "n_states", "message"),
    [(0, 2, "0 parent inputs, expected 1: a"), (1, 1, "1 recurrent inputs, expected 2: r, other")],
)
@pytest.mark.parametrize("kind", [SimpleRecurrent, LSTM])
def test_recurrent_refuses(kind, n_inputs, n_states, message):
    layer = kind(
        name="r",
        parent="a",
        parent_dim=2,
        recurrent="other",
        recurrent_dim=3,
        nout=4,
        unit="tanh",
    )
    XH = [[pt.dmatrix()] * n_inputs, [pt.dmatrix()] * n_states]
    with pytest.raises(ValueError, match=f"layer 'r' got {message}"):
        layer.fprop(XH, {})


def test_own_state_may_be_left_out():
    layer = RecurrentLayer(
        name="r",
        parent="a",
        parent_dim=2,
        recurrent=["p", "q"],
        recurrent_dim=[3, 5],
        self_recurrent=0,
        nout=4,
        unit="tanh",
    )
    assert layer.recurrent == {"p": 3, "q": 5}


# Unit by unit: values at some points, by NumPy.
POINTS = np.array([[-800.0, -3.0, -1.0, -0.5, -0.2], [0.0, 0.1, 0.5, 2.0, 800.0]])


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(z):
    return np.where(z < 0, np.exp(np.minimum(z, 0)) / (1 + np.exp(-abs(z))), 1 / (1 + np.exp(-z)))


EXPECTED = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": sigmoid,
    "softmax": softmax,
    "gpu_softmax": softmax,
    "softplus": lambda z: np.logaddexp(0, z),
    "tanh": np.tanh,
    "steeper_sigmoid": lambda z: sigmoid(3.75 * z),
    "hard_tanh": lambda z: np.clip(z, -1, 1),
    "hard_sigmoid": lambda z: np.clip(z + 0.5, 0, 1),
}


@pytest.mark.parametrize("unit", NonlinCell.UNITS)
def test_units(unit):
    z = pt.dmatrix()
    with np.errstate(over="ignore", under="ignore"):
        ours = evaluate(NonlinCell(unit).nonlin(z), {z: POINTS})
        np.testing.assert_allclose(ours, EXPECTED[unit](POINTS), rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("unit", NonlinCell.UNITS)
def test_units_keep_single_precision(unit):
    with pytensor.config.change_flags(floatX="float32"):
        z = pt.fmatrix()
        assert NonlinCell(unit).nonlin(z).dtype == "float32"
        cell = StemCell(name="h", nout=2, unit=unit, cons=0.5)
        assert (cell.nonlin(z) + cell.cons).dtype == "float32"


def test_gradient_of_relu_at_zero_is_zero():
    z = pt.dvector()
    gradient = pytensor.grad(NonlinCell("relu").nonlin(z).sum(), z)
    np.testing.assert_array_equal(
        evaluate(gradient, {z: np.array([-1.0, 0.0, 1.0])}), [0.0, 0.0, 1.0]
    )


def test_unknown_unit():
    with pytest.raises(ValueError, match=r"unknown unit 'rellu'; choose one of linear, relu, "):
        NonlinCell("rellu")
    with pytest.raises(ValueError, match="unknown unit 'which_fn'"):
        NonlinCell("which_fn")
    assert not hasattr(NonlinCell(), "nonlin")


def test_a_subclass_may_add_units():
    class Cell(NonlinCell):
        def square(self, z):
            return z**2

    assert Cell("square").nonlin(3) == 9
    assert Cell("linear").nonlin(3) == 3
    with pytest.raises(ValueError, match="or define a method of this name in a subclass of Cell"):
        Cell("cube")


def test_StemCell_leaves_fprop_to_its_layers():
    with pytest.raises(NotImplementedError, match="StemCell does not implement fprop"):
        StemCell(name="h").fprop([])


@pytest.mark.parametrize(
    ("parent", "parent_dim", "expected"),
    [
        ("a", 3, {"a": 3}),
        ("ab", 3, {"ab": 3}),
        (["a", "c"], [3, 2], {"a": 3, "c": 2}),
        (("a", "c"), (), {"a": None, "c": None}),
        ((), (), {}),
    ],
)
def test_parents(parent, parent_dim, expected):
    assert StemCell(name="h", parent=parent, parent_dim=parent_dim).parent == expected


@pytest.mark.parametrize(("parent", "parent_dim"), [(["a", "c"], [3]), ("a", [3, 2])])
def test_parents_and_their_sizes_must_match(parent, parent_dim):
    with pytest.raises(ValueError, match=r"layer 'h' has \d names in parent but \d in parent_dim"):
        StemCell(name="h", parent=parent, parent_dim=parent_dim)


def test_first_columns():
    wide = pt.tensor("x", shape=(None, 5), dtype="float64")
    assert first_columns(wide, 5) is wide
    assert first_columns(wide, None) is wide
    array = np.arange(15.0).reshape(3, 5)
    np.testing.assert_array_equal(evaluate(first_columns(wide, 2), {wide: array}), array[:, :2])
