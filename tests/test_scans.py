"""Rewritings of scans: the same numbers, and less inside."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import get_mode
from pytensor.graph.basic import Constant
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.scan.op import Scan
from pytensor.scan.utils import until
from pytensor.tensor.math import Dot
from pytensor.tensor.rewriting.shape import ShapeFeature

from cle_port.graph import compile_function, scans
from cle_port.graph.scans import HoistOutOfScans, is_transpose, time_steps
from cle_port.utils import sharedX

pytest.importorskip("jax")

STEPS, BATCH, DIM, WIDTH = 5, 2, 3, 4


@pytest.fixture(autouse=True)
def float64():
    with pytensor.config.change_flags(floatX="float64"):
        yield


def model(steps):
    """A recurrence with a layer that only reads the state: cost, parameters, inputs, values."""
    rng = np.random.default_rng(3)
    x = pt.tensor("x", dtype="float64", shape=(steps, BATCH, DIM))
    shapes = {"W": (DIM, WIDTH), "U": (WIDTH, WIDTH), "b": (WIDTH,), "V": (WIDTH, DIM)}
    params = {name: pytensor.shared(rng.normal(size=s), name) for name, s in shapes.items()}

    def step(x_t, h_tm1):
        h_t = pt.tanh(x_t @ params["W"] + h_tm1 @ params["U"] + params["b"])
        return h_t, pt.exp(h_tm1 @ params["V"])

    h, y = pytensor.scan(
        step,
        sequences=[x],
        outputs_info=[pt.zeros((BATCH, WIDTH), dtype="float64"), None],
        return_updates=False,
    )
    cost = (h**2).sum() + (y * x).sum()
    return x, params, cost


def by_hand(x, W, U, b, V):
    """The cost of `model` in a NumPy loop."""
    h, cost = np.zeros((BATCH, WIDTH)), 0.0
    for x_t in x:
        cost += (np.exp(h @ V) * x_t).sum()
        h = np.tanh(x_t @ W + h @ U + b)
        cost += (h**2).sum()
    return cost


@pytest.fixture(scope="module")
def compiled():
    with pytensor.config.change_flags(floatX="float64"):
        x, params, cost = model(STEPS)
        fn = compile_function([x], [cost, *pytensor.grad(cost, list(params.values()))], None, "jax")
    return fn, params


def scan_ops(fn):
    return [node.op for node in fn.maker.fgraph.toposort() if isinstance(node.op, Scan)]


def products(graph):
    return [node for node in graph.toposort() if isinstance(node.op, Dot)]


def test_numbers_are_those_of_a_numpy_loop(compiled):
    fn, params = compiled
    x = np.random.default_rng(4).normal(size=(STEPS, BATCH, DIM))
    values = {name: p.get_value() for name, p in params.items()}
    cost, *grads = map(np.asarray, fn(x))
    np.testing.assert_allclose(cost, by_hand(x, **values), rtol=1e-13)
    for name, grad in zip(values, grads):
        numeric = np.zeros_like(grad)
        for i in np.ndindex(grad.shape):
            ends = []
            for sign in (1, -1):
                moved = {**values, name: values[name].copy()}
                moved[name][i] += sign * 1e-6
                ends.append(by_hand(x, **moved))
            numeric[i] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-7, err_msg=name)


def test_only_the_recurrence_stays_inside(compiled):
    forward, backward = scan_ops(compiled[0])
    assert len(products(forward.fgraph)) == 1  # h U
    assert len(products(backward.fgraph)) == 1  # of the gradient with U transposed
    assert backward.info.n_untraced_sit_sot == 0  # sums over steps


def test_transposes_stay_inside(compiled):
    _, backward = scan_ops(compiled[0])
    (product,) = products(backward.fgraph)
    assert is_transpose(product.inputs[1].owner)
    assert product.inputs[1].owner.inputs[0] in backward.fgraph.inputs


def test_transposes_stay_outside_of_many_steps(monkeypatch):
    monkeypatch.setattr(scans, "FEW_STEPS", STEPS - 1)
    x, params, cost = model(STEPS)
    _, backward = scan_ops(
        compile_function([x], pytensor.grad(cost, list(params.values())), None, "jax")
    )
    (product,) = products(backward.fgraph)
    assert product.inputs[1] in backward.fgraph.inputs


def is_transpose_of(W, product):
    """Whether a product is one by the transpose of W."""
    node = product.inputs[1].owner
    return is_transpose(node) and node.inputs[0] is W


def test_gradients_are_reversed_after_products():
    """What goes back to the sequences' own layer is multiplied as the scan gives it."""
    x = pt.tensor("x", dtype="float64", shape=(STEPS, BATCH, DIM))
    A, W = (sharedX(np.ones((DIM, n)), name) for name, n in (("A", DIM), ("W", WIDTH)))
    h = pytensor.scan(
        lambda a_t, h_tm1: pt.tanh(a_t @ W + h_tm1),
        sequences=[pt.tanh(x @ A)],
        outputs_info=[pt.zeros((BATCH, WIDTH), dtype="float64")],
        return_updates=False,
    )
    fgraph = compile_function([x], pytensor.grad(h.sum(), A), None, "jax").maker.fgraph
    (read,) = (
        node.inputs[0].owner.inputs[0] for node in products(fgraph) if is_transpose_of(W, node)
    )
    gradients, steps = time_steps(fgraph, read)
    assert isinstance(gradients.owner.op, Scan)
    assert steps == tuple(range(STEPS))


def test_arithmetic_stays_inside(compiled):
    """The scan that goes back reads h itself, from the forward one, not 1 - h**2."""
    fgraph = compiled[0].maker.fgraph
    forward, backward = (n for n in fgraph.toposort() if isinstance(n.op, Scan))
    read = [time_steps(fgraph, v)[0] for v in backward.op.outer_seqs(backward.inputs)]
    assert any(v in forward.outputs for v in read)


def test_pytensor_alone_leaves_more_inside(compiled):
    x, params, cost = model(STEPS)
    mode = get_mode("JAX")
    grads = pytensor.grad(cost, list(params.values()))
    plain = pytensor.function([x], [cost, *grads], mode=mode)
    forward, backward = scan_ops(plain)
    assert len(products(forward.fgraph)) == 3
    assert len(products(backward.fgraph)) > 3
    x = np.random.default_rng(4).normal(size=(STEPS, BATCH, DIM))
    for name, p in params.items():
        p.set_value(compiled[1][name].get_value())
    for ours, theirs in zip(compiled[0](x), plain(x)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("cut", "which"),
    [
        (lambda v: v, (0, 1, 2, 3, 4)),
        (lambda v: v[::-1], (4, 3, 2, 1, 0)),
        (lambda v: v[:-1][::-1], (3, 2, 1, 0)),
        (lambda v: v[1:][1], ()),
        (lambda v: v[:, 0], ()),
    ],
)
def test_time_steps(cut, which):
    v = pt.tensor("v", dtype="float64", shape=(5, 2))
    base, found = time_steps(None, cut(v))
    assert found == which
    assert (base is v) == bool(which)


def x_and_values(steps=STEPS):
    x = pt.tensor("x", dtype="float64", shape=(steps, BATCH, DIM))
    return x, np.random.default_rng(5).normal(size=(steps, BATCH, DIM))


def run(inputs, outputs, *values):
    return [np.asarray(v) for v in compile_function(inputs, outputs, None, "jax")(*values)]


def test_a_state_that_is_also_read_outside():
    """Of h only the last value is kept, while y needs it at every step."""
    x, values = x_and_values()
    W = np.random.default_rng(6).normal(size=(DIM, DIM))

    def step(x_t, h_tm1):
        h_t = pt.tanh(h_tm1 @ pt.constant(W) + x_t)
        return h_t, pt.exp(h_t) * pt.sin(2 * x_t)

    h, y = pytensor.scan(
        step, [x], [pt.zeros((BATCH, DIM), dtype="float64"), None], return_updates=False
    )
    last, ys = run([x], [h[-1], y], values)
    h_t = np.zeros((BATCH, DIM))
    for x_t, y_t in zip(values, ys):
        h_t = np.tanh(h_t @ W + x_t)
        np.testing.assert_allclose(y_t, np.exp(h_t) * np.sin(2 * x_t), rtol=1e-13)
    np.testing.assert_allclose(last, h_t, rtol=1e-13)


def test_two_scans_forward_over_one_sequence():
    """The second is no way back, though it has the same products; its sequence is no plain cut."""
    u = pt.tensor("u", dtype="float64", shape=(STEPS, 2, BATCH, DIM))
    values = np.random.default_rng(7).normal(size=(STEPS, 2, BATCH, DIM))
    W, V = np.random.default_rng(8).normal(size=(2, DIM, DIM))
    products = [pytensor.shared(W), pytensor.shared(V)]

    def recurrence(f):
        def step(x_t, h_tm1, W, V):
            return f(pt.dot(x_t, W) - pt.dot(h_tm1, V))

        return step

    h = pt.zeros((BATCH, DIM), dtype="float64")
    for f in (pt.tanh, pt.sin):
        states = pytensor.scan(
            recurrence(f), [u[:, 0]], [h], non_sequences=products, return_updates=False
        )
        h = states[-1]
    (ours,) = run([u], [h], values)
    h_t = np.zeros((BATCH, DIM))
    for f in (np.tanh, np.sin):
        for x_t in values[:, 0]:
            h_t = f(x_t @ W - h_t @ V)
    np.testing.assert_allclose(ours, h_t, rtol=1e-12)


def test_a_sum_that_steps_look_at():
    x, values = x_and_values()

    def step(x_t, c_tm1):
        c_t = c_tm1 + (x_t**2).sum(axis=0)
        return c_t, x_t / c_t

    c, y = pytensor.scan(step, [x], [pt.ones((DIM,), dtype="float64"), None], return_updates=False)
    last, ys = run([x], [c[-1], y], values)
    cs = 1 + np.cumsum((values**2).sum(axis=1), axis=0)
    np.testing.assert_allclose(last, cs[-1], rtol=1e-13)
    np.testing.assert_allclose(ys, values / cs[:, None], rtol=1e-13)


@pytest.mark.parametrize("step", [lambda x, c: c + c, lambda x, c: c + x[0], lambda x, c: [c, c]])
def test_other_sums(step):
    x, values = x_and_values()
    begin = pt.ones((DIM,), dtype="float64")
    outputs = step(values[0], np.ones(DIM))
    info = [begin, None] if isinstance(outputs, list) else [begin]
    c = pytensor.scan(step, [x], info, return_updates=False)
    c = c if isinstance(c, list) else [c]
    ours = run([x], [v[-1] for v in c], values)
    state = np.ones(DIM)
    for x_t in values:
        outputs = step(x_t, state)
        last = outputs if isinstance(outputs, list) else [outputs]
        state = last[0]
    np.testing.assert_allclose(ours, last, rtol=1e-13)


@pytest.mark.parametrize(
    "invariant",
    [lambda b: pt.exp(b), lambda b: b, lambda b: pt.constant(np.arange(3.0)) + 0 * b],
    ids=["made of a parameter", "a parameter", "nearly a constant"],
)
def test_an_output_that_is_the_same_at_every_step(invariant):
    x, values = x_and_values()
    rng = np.random.default_rng(9)
    W, b = (pytensor.shared(rng.normal(size=n)) for n in ((DIM, DIM), DIM))

    def step(x_t, h_tm1, W, b):
        return pt.tanh(x_t @ W + h_tm1), invariant(b)

    begin = [pt.zeros((BATCH, DIM), dtype="float64"), None]
    h, same = pytensor.scan(step, [x], begin, non_sequences=[W, b], return_updates=False)
    hs, all_steps = run([x], [h, same], values)
    h_t = np.zeros((BATCH, DIM))
    for x_t, ours in zip(values, hs):
        h_t = np.tanh(x_t @ W.get_value() + h_t)
        np.testing.assert_allclose(ours, h_t, rtol=1e-13)
    once = invariant(pt.constant(b.get_value())).eval()
    np.testing.assert_allclose(all_steps, np.broadcast_to(once, (STEPS, DIM)), rtol=1e-13)


@pytest.mark.parametrize("end", ["unknown length", "condition"])
def test_scans_without_a_known_number_of_steps_are_left_alone(end, monkeypatch):
    x, values = x_and_values()
    if end == "unknown length":
        x = pt.tensor("x", dtype="float64", shape=(None, BATCH, DIM))
    closed = []
    monkeypatch.setattr(scans, "_close_scan", lambda *args: closed.append(args))

    def step(x_t, h_tm1):
        h_t = pt.tanh(pt.exp(x_t) + h_tm1)
        return (h_t, until(h_t.sum() > 4.0)) if end == "condition" else h_t

    begin = [pt.zeros((BATCH, DIM), dtype="float64")]
    h = pytensor.scan(step, [x], begin, return_updates=False)
    fgraph = FunctionGraph([x], [h], features=[ShapeFeature()], clone=False)
    rewrite_graph(fgraph, include=("canonicalize",))
    (scan,) = (node for node in fgraph.toposort() if isinstance(node.op, Scan))
    assert isinstance(scan.inputs[0], Constant) == (end == "condition")
    HoistOutOfScans().rewrite(fgraph)
    assert not closed
    h_t = np.zeros((BATCH, DIM))
    for x_t, ours in zip(values, h.eval({x: values})):
        h_t = np.tanh(np.exp(x_t) + h_t)
        np.testing.assert_allclose(ours, h_t, rtol=1e-13)


def test_a_scan_that_is_hoisted_whole_before_another():
    x, values = x_and_values()
    y = pytensor.scan(lambda x_t: pt.tanh(x_t), [x], [None], return_updates=False)
    h = pytensor.scan(
        lambda y_t, h_tm1: pt.tanh(y_t + h_tm1),
        [y],
        [pt.zeros((BATCH, DIM), dtype="float64")],
        return_updates=False,
    )
    ys, hs = run([x], [y, h], values)
    np.testing.assert_allclose(ys, np.tanh(values), rtol=1e-13)
    h_t = np.zeros((BATCH, DIM))
    for y_t, ours in zip(np.tanh(values), hs):
        h_t = np.tanh(y_t + h_t)
        np.testing.assert_allclose(ours, h_t, rtol=1e-13)
