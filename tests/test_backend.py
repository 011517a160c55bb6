"""Backends: choosing one, the same numbers on each, and fewer nodes inside scans."""

import gc
import importlib.util
import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.fg import FunctionGraph
from pytensor.scan.op import Scan
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import CAReduce

from cle_port import backend
from cle_port.backend import MergeInsideScans, choose, compile_function, merged, padded_length
from cle_port.errors import UserError
from cle_port.linker import WorkingMemory, glibc
from cle_port.utils import sharedX
from cle_port.utils.nnet import softplus
from tests.units import FLOATS, compile_plainly

T, B, D = 4, 3, 2


@pytest.fixture
def installed(monkeypatch):
    """Pretend that this and only this is installed."""

    def pretend(jax, cxx):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if jax else None)
        monkeypatch.setattr(pytensor.config, "cxx", cxx)

    return pretend


@pytest.mark.parametrize(
    ("jax", "cxx", "expected"),
    [(True, "g++", "jax"), (True, "", "jax"), (False, "g++", "c"), (False, "", "numba")],
)
def test_auto(jax, cxx, expected, installed):
    installed(jax, cxx)
    choice = choose()
    assert choice.backend == expected
    assert ("pip install jax" in choice.reason) == (expected != "jax")


@pytest.mark.parametrize("name", ["jax", "c", "numba"])
def test_asked_for(name, installed):
    installed(True, "g++")
    assert choose(name) == (name, "asked for")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jax", r"^--backend jax needs JAX; install it with: pip install jax$"),
        ("c", r"^--backend c needs a C\+\+ compiler; install g\+\+, or use --backend jax$"),
        ("torch", "^unknown backend 'torch'; choose one of auto, jax, c, numba$"),
    ],
)
def test_refused(name, message, installed):
    installed(False, "")
    with pytest.raises(UserError, match=message):
        choose(name)
    with pytest.raises(UserError, match=message):
        compile_function([], pt.constant(1.0), None, name)


def test_numba_needs_nothing(installed):
    installed(False, "")
    assert choose("numba").backend == "numba"


WEIGHTS = np.array([[0.5, -0.25], [0.125, 0.75]])


def recurrence(W, floatX):
    """A scan that carries a sum over the batch: its inputs, a cost, and the gradient."""
    x = pt.tensor("x", shape=(T, B, D), dtype=floatX)

    def step(x_t, h, total):
        h = pt.tanh(pt.dot(x_t, W) + h)
        return h, total + pt.sum(h, axis=0)

    states, totals = pytensor.scan(
        step,
        sequences=[x],
        outputs_info=[pt.zeros((B, D), dtype=floatX), pt.zeros(D, dtype=floatX)],
        return_updates=False,
    )
    cost = pt.mean(states**2) + pt.sum(totals[-1])
    return x, cost, pytensor.grad(cost, W)


def by_numpy(x, W):
    """Cost and gradient of `recurrence`, the latter by differences, in double precision."""

    def cost(W):
        h = np.zeros((B, D))
        states, total = [], 0
        for x_t in x:
            h = np.tanh(x_t @ W + h)
            states.append(h)
            total += h.sum()
        return np.mean(np.square(states)) + total

    gradient = np.zeros_like(W)
    for i in np.ndindex(W.shape):
        e = np.zeros_like(W)
        e[i] = 1e-6
        gradient[i] = (cost(W + e) - cost(W - e)) / 2e-6
    return cost(W), gradient


X = np.random.default_rng(1).standard_normal((T, B, D))


@pytest.mark.parametrize("floatX", FLOATS)
def test_jax(floatX):
    """Both precisions in one process, sums inside a scan, updates, a float64 array for float32."""
    with pytensor.config.change_flags(floatX=floatX):
        W = sharedX(WEIGHTS, "W")
        x, cost, gradient = recurrence(W, floatX)
        fn = compile_function([x], [cost, gradient], {W: W - gradient}, "jax")
        first = [np.asarray(value) for value in fn(X)]
    expected = by_numpy(X, WEIGHTS)
    assert [value.dtype for value in first] == [floatX, floatX]
    rtol = {"float64": 1e-8, "float32": 1e-5}[floatX]  # float64: that of the differences
    for ours, theirs in zip(first, expected):
        np.testing.assert_allclose(ours, theirs, rtol=rtol)
    assert W.get_value().dtype == floatX
    np.testing.assert_allclose(W.get_value(), WEIGHTS - expected[1], rtol=rtol)


def test_softplus_is_computed_once():
    """PyTensor's own translation has three exponentials, for ranges of which one counts."""
    x = pt.tensor("x", dtype="float64", shape=(3,))
    fn = compile_function([x], [softplus(x)], None, "jax")
    assert fn.vm.jit_fn.lower(np.zeros(3)).as_text().count("stablehlo.exponential") == 1


@pytest.mark.skipif(not pytensor.config.cxx, reason="there is no C++ compiler")
@pytest.mark.system
def test_c():
    """One small graph: each operation takes the C++ compiler a second or more."""
    with pytensor.config.change_flags(floatX="float64"):
        x, total = pt.dvector("x"), sharedX(np.zeros(3), "total")
        fn = compile_function([x], 2 * x + 1, {total: total + x}, "c")
        np.testing.assert_array_equal(fn(np.arange(3.0)), [1, 3, 5])
        np.testing.assert_array_equal(total.get_value(), np.arange(3.0))


def test_unused_inputs_are_allowed():
    with pytensor.config.change_flags(floatX="float64"):
        x, y = pt.tensor("x", shape=(2,)), pt.dscalar("y")
        fn = compile_function([x, y], x + 1, None, "jax")
        np.testing.assert_array_equal(np.asarray(fn(np.zeros(2), 0.0)), [1, 1])


def inner_nodes(fn):
    """Numbers of nodes inside the scans of a function graph."""
    return [len(node.op.fgraph.apply_nodes) for node in fn.toposort() if isinstance(node.op, Scan)]


def test_MergeInsideScans_keeps_the_numbers_with_far_fewer_nodes():
    """The gradient of a scan holds a copy of the step for each of its outputs."""

    def step(x_t, h):
        outputs = []
        for _ in range(6):  # each from the one before
            h = pt.tanh(pt.dot(x_t, W) + h)
            outputs.append(h)
        return outputs

    with pytensor.config.change_flags(floatX="float64"):
        x, W = pt.tensor("x", shape=(T, B, D)), pt.tensor("W", shape=(D, D))
        info = [pt.zeros((B, D))] + [None] * 5
        states = pytensor.scan(step, sequences=[x], outputs_info=info, return_updates=False)
        cost = pt.add(*(pt.sum(h**2) for h in states))
        outputs = [cost, pytensor.grad(cost, W)]
        fgraph = FunctionGraph([x, W], outputs, clone=True)
        before = inner_nodes(fgraph)
        MergeInsideScans().rewrite(fgraph)
        after = inner_nodes(fgraph)
        ours = compile_plainly(fgraph.inputs, fgraph.outputs)(X, WEIGHTS)
        theirs = compile_plainly([x, W], outputs)(X, WEIGHTS)
    assert len(before) == len(after) == 2
    assert after[1] < before[1] / 2, (before, after)
    for value, expected in zip(ours, theirs):
        np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_merged_leaves_equal_things_once():
    x, y = pt.dscalars("x", "y")
    # Three times the same, each from copies of its own, constants included.
    outputs = [pt.exp(x + 1.0) * y for _ in range(3)] + [pt.exp(x + 2.0)]
    fgraph = FunctionGraph([x, y], outputs, clone=False)
    ours = merged(fgraph)
    assert len(fgraph.apply_nodes) == 11
    assert len(ours.apply_nodes) == 5
    assert [v.name for v in ours.inputs] == ["x", "y"]
    assert ours.outputs[0] is ours.outputs[1] is ours.outputs[2]
    values = compile_plainly(ours.inputs, ours.outputs)(0.5, 2.0)
    np.testing.assert_allclose(values, [2 * np.exp(1.5)] * 3 + [np.exp(2.5)], rtol=1e-15)


def test_merged_tells_constants_apart_by_type():
    x = pt.dscalar("x")
    one_f, one_i = pt.constant(1.0, dtype="float64"), pt.constant(1, dtype="int8")
    ours = merged(FunctionGraph([x], [x + one_f, x + one_i], clone=False))
    assert len(ours.apply_nodes) >= 2


def test_merged_tells_outputs_of_a_node_apart():
    x = pt.dvector("x")
    first, second = pt.split(x, [1, 1], n_splits=2)
    again = pt.split(x, [1, 1], n_splits=2)
    ours = merged(FunctionGraph([x], [first - second, again[0] - again[1]], clone=False))
    assert ours.outputs[0] is ours.outputs[1]
    np.testing.assert_array_equal(
        compile_plainly(ours.inputs, ours.outputs[0])(np.array([3.0, 1.0])), [2.0]
    )


def test_scans_are_merged_whenever_something_is_compiled(monkeypatch):
    """PyTensor's own modes are left as they are."""
    seen = []
    monkeypatch.setattr(MergeInsideScans, "apply", lambda self, fgraph: seen.append(fgraph))
    compile_function([], pt.constant(1.0) + 1.0, None, "jax")
    assert len(seen) == 1
    pytensor.function([], pt.constant(1.0) + 1.0, mode="JAX")
    assert len(seen) == 1


def test_no_large_array_of_one_value_is_written_out_while_rewriting():
    """A scan's gradient adds up a weight's from zeros for all its steps."""
    n, size = 400, 200
    with pytensor.config.change_flags(floatX="float64"):
        x, W = pt.tensor("x", shape=(n, 1, size)), sharedX(np.zeros((size, size)), "W")
        states = pytensor.scan(
            lambda x_t, h: pt.tanh(x_t + pt.dot(h, W)),
            sequences=[x],
            outputs_info=[pt.zeros((1, size))],
            return_updates=False,
        )
        gradient = pytensor.grad(states.sum(), W)
        tracemalloc.start()
        try:
            compile_function([x], gradient, None, "jax")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < n * size**2 * 8 / 2


def test_graphs_are_built_with_less_bookkeeping():
    """And all is as before afterwards, also after an error; who asks for details gets them."""
    before = gc.get_threshold(), pytensor.config.traceback__limit
    with backend.building():
        assert gc.get_threshold()[0] > before[0][0]
        assert not getattr(pt.dscalar().tag, "trace", None)
    with pytest.raises(UserError), backend.building():
        raise UserError("something")
    assert before == (gc.get_threshold(), pytensor.config.traceback__limit)
    with pytensor.config.change_flags(exception_verbosity="high"), backend.building():
        assert pytensor.config.traceback__limit == before[1]


def test_new_values_take_the_place_of_old_ones():
    """No copy is left: neither of the values before an update, nor of the first ones."""
    import jax

    W, x = sharedX(np.zeros((123, 45)), "W"), pt.tensor("x", shape=(400, 400))
    on_the_way = pt.tanh(x @ x) @ x
    fn = compile_function([x], [], {W: W + 1 + on_the_way[:123, :45]}, "jax")
    fn(np.zeros((400, 400)))
    (thunk,) = getattr(fn.vm, "thunks", [fn.vm])
    assert WorkingMemory().keeps(thunk.jit_fn.size) == (glibc() is not None)
    for _ in range(2):
        before = W.get_value(borrow=True)
        fn(np.zeros((400, 400)))
        assert before.is_deleted()  # written over
    np.testing.assert_array_equal(W.get_value(), np.full((123, 45), 3.0))
    del before
    gc.collect()
    assert len([array for array in jax.live_arrays() if array.shape == (123, 45)]) == 1


def test_jax_may_compute_in_double_precision():
    """PyTensor asks for it only if floatX is float64 when its dispatch is first imported."""
    import jax

    jax.config.update("jax_enable_x64", False)
    try:
        backend._set_up_jax.__wrapped__()
        assert jax.config.jax_enable_x64
    finally:
        jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize("chosen", [None, "elsewhere"])
def test_jax_keeps_compiled_code(chosen, monkeypatch, tmp_path):
    """In the cache folder, unless the user has chosen one, by JAX's variable or its setting."""
    import jax

    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("CLE_PORT_CACHE", str(tmp_path))
    try:
        jax.config.update("jax_compilation_cache_dir", chosen)
        backend._set_up_jax.__wrapped__()
        assert jax.config.jax_compilation_cache_dir == (chosen or str(tmp_path / "jax"))
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_jax_without_asynchronous_dispatch(monkeypatch):
    import jax

    def update(name, value):
        if name == "jax_cpu_enable_async_dispatch":
            raise AttributeError(f"Unrecognized config option: {name}")

    monkeypatch.setattr(jax.config, "update", update)
    backend._set_up_jax.__wrapped__()


@pytest.mark.parametrize("fails", [False, True])
def test_pytensor_is_left_as_it_was(fails, monkeypatch):
    """Folding of constants and the translation of sums change for a compilation only."""
    from pytensor.link.jax.dispatch import jax_funcify

    compile_function([], pt.constant(1.0), None, "jax")  # importing adds translations for good
    fold, sums = Alloc.do_constant_folding, jax_funcify.dispatch(CAReduce)
    seen = []

    def function(*args, **kwargs):
        seen.append((Alloc.do_constant_folding is fold, jax_funcify.dispatch(CAReduce) is sums))
        if fails:
            raise KeyboardInterrupt
        return compiled(*args, **kwargs)

    compiled = pytensor.function
    monkeypatch.setattr(pytensor, "function", function)
    x = pt.tensor("x", dtype="float32", shape=(3,))
    with pytest.raises(KeyboardInterrupt) if fails else nullcontext():
        compile_function([x], [x.sum()], None, "jax")
    assert seen == [(False, False)]
    assert Alloc.do_constant_folding is fold
    assert jax_funcify.dispatch(CAReduce) is sums


def test_padded_lengths_are_few_and_near():
    """At most half as long again, an eighth where frames are many; few functions are compiled."""
    padded = [padded_length(n) for n in range(1, 3001)]
    shortest = padded[0]
    for n, length in enumerate(padded, start=1):
        assert n <= length <= max(shortest, (1.5 if n <= 512 else 1.125) * n)
        assert padded_length(length) == length
    assert padded == sorted(padded)
    assert len(set(padded)) <= 40
    assert sorted(set(padded))[:10] == [16, 24, 32, 48, 64, 96, 128, 192, 256, 320]


def test_sequences_of_any_length():
    """Under JAX a function is compiled for a few lengths; padding is masked out."""
    with pytensor.config.change_flags(floatX="float64"):
        x, mask = pt.tensor("x", shape=(None, B, D)), pt.tensor("mask", shape=(None, B))
        w, seen = sharedX(2.0, "w"), sharedX(0.0, "seen")
        total = pt.sum(w * x**2 * mask[:, :, None])
        fn = compile_function([x, mask], [total], {seen: seen + mask.sum()}, "jax")
        rng = np.random.default_rng(1)
        lengths = (padded_length(1) - 1, padded_length(100), 3, padded_length(100) - 1)
        for length in lengths:
            array = rng.standard_normal((length, B, D))
            (ours,) = fn(array, np.ones((length, B)))
            np.testing.assert_allclose(np.asarray(ours), 2 * np.sum(array**2), rtol=1e-13)
        assert seen.get_value() == sum(lengths) * B
    assert set(fn.functions) == {padded_length(1), padded_length(100)}
    assert fn.n_frame - fn.n_padded == sum(lengths)


def test_one_output_comes_back_as_one():
    x = pt.tensor("x", dtype="float64", shape=(None, 2))
    value = compile_function([x], x.sum(), None, "jax")(np.ones((3, 2)))
    assert float(value) == 6
