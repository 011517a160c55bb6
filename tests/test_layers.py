"""Fully connected and recurrent layers: against the original's, and NumPy loops."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.layers import NonlinCell, StemCell, first_columns
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import GFGRU, GFLSTM, GRU, GRU2, RecurrentLayer
from compare.units import FULLY_CONNECTED as ARGUMENTS
from compare.units import fully_connected, params, recurrent
from compare.units.layers import BUILDERS, REPEATERS
from compare.units.layers import RECURRENT as KINDS
from tests.recordings import below, read
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, in_python, recorded

# Differences allowed in float32 are twice those that the recordings' README states for costs.
RTOL = {"float64": 1e-13, "float32": 2e-6}

FULLY_CONNECTED = [
    case
    for case in case_names("layers", "FullyConnectedLayer")
    if "out" in recorded("layers", case)  # giving ndim fails in the original
]
RECURRENT = [
    case
    for case in case_names("layers", *KINDS)
    if "out" in recorded("layers", case)  # GRU/index_input fails in the original
]
GATED = [GRU, GRU2, GFGRU, GFLSTM]


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
    assert len(RECURRENT) == 26
    assert set(case_names("layers", *KINDS)) - set(RECURRENT) == {"GRU/index_input"}


def test_the_comparison_repeats_all_recorded_groups():
    """All but meta and attempts, which describe the recording itself."""
    groups = {key.split("/")[0] for key in read("units_layers_float64.npz")}
    assert groups - {"meta", "attempts"} == BUILDERS.keys() | REPEATERS.keys()
    assert not BUILDERS.keys() & REPEATERS.keys()


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


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_with_static_shapes(kind):
    case = f"{kind}/two_recurrent"
    arrays = recorded("layers", case)
    with pytensor.config.change_flags(floatX="float64"):
        graph = Graph(recurrent(case, arrays), arrays, static=True)
    check_case(graph(arrays), arrays, 1e-13)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_initial_state(kind, floatX):
    layer = KINDS[kind](name="r", parent="a", parent_dim=2, nout=4, unit="tanh")
    with pytensor.config.change_flags(floatX=floatX):
        state = layer.get_init_state(3)
    assert layer.state_dim == (8 if "LSTM" in kind else 4)
    assert state.type.shape == (3, layer.state_dim)
    assert state.dtype == floatX
    np.testing.assert_array_equal(evaluate(state), np.zeros((3, layer.state_dim)))
    if kind in ("LSTM", "GRU"):
        theirs = recorded("layers", f"get_init_state/{kind}", floatX)["out"]
        assert theirs.dtype == state.dtype
        np.testing.assert_array_equal(evaluate(state), theirs)


@pytest.mark.parametrize(
    ("n_inputs", "n_states", "message"),
    [(0, 2, "0 parent inputs, expected 1: a"), (1, 1, "1 recurrent inputs, expected 2: r, other")],
)
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_refuses(kind, n_inputs, n_states, message):
    layer = KINDS[kind](
        name="r",
        parent="a",
        parent_dim=2,
        recurrent="other",
        recurrent_dim=4,
        nout=4,
        unit="tanh",
    )
    inputs = [pt.dmatrix(), pt.dmatrix()]
    tparams = dict.fromkeys(("W_a__r", "U_r__r", "U_other__r"), pt.dmatrix())
    with pytest.raises(ValueError, match=f"layer 'r' got {message}"):
        layer.fprop([inputs[:n_inputs], inputs[:n_states]], tparams | {"b_r": pt.dvector()})


# Each step once more, in NumPy: W and U are lists, one for each input and each state.


def np_blocks(n_block, X, H, W, U, b, N):
    """Sums of x W + b by block, sums of h U by block, and what each column after them adds."""
    xW = sum(x @ w for x, w in zip(X, W)) + b
    hU = sum(h[:, : len(u)] @ u for h, u in zip(H, U))
    blocks = [slice(i * N, (i + 1) * N) for i in range(n_block)]
    rest = slice(n_block * N, None)
    return [xW[:, i] for i in blocks], [hU[:, i] for i in blocks], (xW + hU)[:, rest]


def np_gated(gates, H, U, N):
    """Sum over states of (gate h) U, for the first block."""
    return sum(
        (gate[:, None] * h[:, : len(u)]) @ u[:, :N] for gate, h, u in zip(sigmoid(gates).T, H, U)
    )


def np_gru(X, H, W, U, b, N):
    x, h, _ = np_blocks(3, X, H, W, U, b, N)
    r, u = sigmoid(x[1] + h[1]), sigmoid(x[2] + h[2])
    return u * H[0] + (1 - u) * np.tanh(x[0] + r * h[0])


def np_gru2(X, H, W, U, b, N):
    x, h, _ = np_blocks(3, X, H, W, U, b, N)
    r, u = sigmoid(x[1] + h[1]), sigmoid(x[2] + h[2])
    reset = sum((r * state) @ u[:, :N] for state, u in zip(H, U))
    return u * H[0] + (1 - u) * np.tanh(x[0] + reset)


def np_gfgru(X, H, W, U, b, N):
    x, h, gates = np_blocks(3, X, H, W, U, b, N)
    r, u = sigmoid(x[1] + h[1]), sigmoid(x[2] + h[2])
    return u * H[0] + (1 - u) * np.tanh(x[0] + r * np_gated(gates, H, U, N))


def np_gflstm(X, H, W, U, b, N):
    x, h, gates = np_blocks(4, X, H, W, U, b, N)
    i, f, o = (sigmoid(x[k] + h[k]) for k in (1, 2, 3))
    c = f * H[0][:, N:] + i * np.tanh(x[0] + np_gated(gates, H, U, N))
    return np.concatenate([o * np.tanh(c), c], axis=1)


NP_STEPS = {GRU: np_gru, GRU2: np_gru2, GFGRU: np_gfgru, GFLSTM: np_gflstm}


def two_layers(kind):
    """Layers p and q, of which each reads the other's state; GRU2 needs equal sizes."""
    sizes = {"p": 4, "q": 4 if kind is GRU2 else 3}
    return [
        kind(
            name=name,
            parent=parent,
            parent_dim=parent_dim,
            recurrent=other,
            recurrent_dim=sizes[other],
            nout=sizes[name],
            unit="tanh",
        )
        for name, other, parent, parent_dim in (
            ("p", "q", ["x"], [2]),
            ("q", "p", ["p", "x"], [4, 2]),
        )
    ]


def large_params(layers, rng):
    """Parameters of size 1; `initialize` makes U too narrow where q has fewer columns than p."""
    values = {}
    for layer in layers:
        shapes = {name: value.shape for name, value in layer.initialize().items()}
        (n_column,) = shapes[f"b_{layer.name}"]
        for name, (n_row, *columns) in shapes.items():
            values[name] = rng.normal(size=(n_row, n_column) if columns else n_row)
    return values


@pytest.mark.parametrize("kind", GATED)
def test_steps_under_scan(kind):
    """Six steps of two layers that read each other's state."""
    rng = np.random.default_rng(1)
    first, second = layers = two_layers(kind)
    values = large_params(layers, rng)
    x = rng.normal(size=(6, 3, 2))
    states = [rng.normal(size=(3, layer.state_dim)) for layer in layers]

    def step(x_t, p, q, *tparams):
        named = dict(zip(values, tparams))
        p_t = first.fprop([[x_t], [p, q]], named)
        return p_t, second.fprop([[p_t, x_t], [q, p]], named)

    with in_python():
        ours = pytensor.scan(
            step,
            sequences=pt.as_tensor(x),
            outputs_info=[pt.as_tensor(state) for state in states],
            non_sequences=[pt.as_tensor(value) for value in values.values()],
            return_updates=False,
        )
    p, q = states
    expected = []
    for x_t in x:
        W, U = [values["W_x__p"]], [values["U_p__p"], values["U_q__p"]]
        p_t = NP_STEPS[kind]([x_t], [p, q], W, U, values["b_p"], first.nout)
        W, U = [values["W_p__q"], values["W_x__q"]], [values["U_q__q"], values["U_p__q"]]
        X = [p_t[:, : first.nout], x_t]
        p, q = p_t, NP_STEPS[kind](X, [q, p], W, U, values["b_q"], second.nout)
        expected.append((p, q))
    for value, theirs in zip(evaluate(list(ours)), zip(*expected)):
        np.testing.assert_allclose(value, np.stack(theirs), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", GATED)
def test_gradients_of_a_step(kind):
    """Finite differences, of inputs, states and all parameters."""
    rng = np.random.default_rng(2)
    _, layer = two_layers(kind)
    values = large_params([layer], rng)
    sizes = [*layer.parent.values(), layer.state_dim, 4]
    given = [rng.normal(size=(3, size)) for size in sizes]

    def build(p, x, q, other, *tparams):
        return layer.fprop([[p, x], [q, other]], dict(zip(values, tparams)))

    with in_python():
        pytensor.gradient.verify_grad(build, [*given, *values.values()], rng=rng)


@pytest.mark.parametrize("kind", [GRU, GRU2, GFGRU])
@pytest.mark.parametrize(("bias", "kept"), [(20.0, True), (-800.0, False)])
def test_gates_saturate(kind, bias, kept):
    """A gate that is exactly 1 keeps the state, one that is exactly 0 forgets it."""
    layer = kind(name="r", parent="a", parent_dim=2, nout=3, unit="tanh")
    values = {name: np.zeros_like(value) for name, value in layer.initialize().items()}
    values["b_r"][6:9] = bias
    h = np.array([[1e-3, 1.0, 1e3]])
    tparams = {name: pt.as_tensor(value) for name, value in values.items()}
    ours = evaluate(layer.fprop([[pt.as_tensor(np.ones((1, 2)))], [pt.as_tensor(h)]], tparams))
    np.testing.assert_array_equal(ours, h if kept else np.zeros((1, 3)))


def test_GRU_does_not_use_its_unit():
    rng = np.random.default_rng(3)
    values = large_params([GRU(name="r", parent="a", parent_dim=2, nout=3)], rng)
    tparams = {name: pt.as_tensor(value) for name, value in values.items()}
    XH = [[pt.as_tensor(rng.normal(size=(4, 2)))], [pt.as_tensor(rng.normal(size=(4, 3)))]]
    a, b, c = evaluate(
        [
            GRU(name="r", parent="a", parent_dim=2, nout=3, unit=unit).fprop(XH, tparams)
            for unit in ("tanh", "relu", None)
        ]
    )
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)


def test_GRU_refuses_a_vector_from_a_wider_parent():
    """The original stops with a shape mismatch (GRU/index_input)."""
    layer = GRU(name="r", parent="a", parent_dim=7, nout=4)
    tparams = {"W_a__r": pt.dmatrix(), "U_r__r": pt.dmatrix(), "b_r": pt.dvector()}
    with pytest.raises(ValueError, match=r"from a parent of 7 columns; give .* x_as_index=1 if"):
        layer.fprop([[pt.lvector()], [pt.dmatrix()]], tparams)


def test_GRU2_refuses_recurrences_of_another_size():
    layer = GRU2(name="r", parent="a", parent_dim=2, recurrent="o", recurrent_dim=3, nout=4)
    with pytest.raises(ValueError, match=r"4 reset gates, but 'o' has 3 columns; .* take a GRU"):
        layer.fprop([[pt.dmatrix()], [pt.dmatrix(), pt.dmatrix()]], {})


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
