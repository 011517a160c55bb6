"""Functions of JAX: precision, settings, and memory."""

import gc
from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.graph import Compiler, compile_function, jax_linker
from cle_port.graph.jax_linker import CompiledFirst, compiled_code_kept, start_jax
from cle_port.graph.working_memory import WorkingMemory
from cle_port.utils import sharedX
from tests.test_working_memory import Heap
from tests.units import FLOATS

jax = pytest.importorskip("jax")

SIZE = 64 * 2**20


@pytest.fixture
def memory(monkeypatch):
    """Working memory that is kept, on a heap of its own."""
    memory = WorkingMemory()
    memory.libc = Heap()
    memory.n_contexts = 1
    monkeypatch.setattr(jax_linker, "WORKING_MEMORY", memory)
    return memory


def test_new_values_take_the_place_of_old_ones():
    """No copy is left: neither of the values before an update, nor of the first ones."""
    W, x = sharedX(np.zeros((123, 45)), "W"), pt.tensor("x", shape=(400, 400))
    on_the_way = pt.tanh(x @ x) @ x
    fn = compile_function([x], [], {W: W + 1 + on_the_way[:123, :45]}, "jax")
    fn(np.zeros((400, 400)))
    (thunk,) = getattr(fn.vm, "thunks", [fn.vm])
    assert thunk.jit_fn.fn.size >= WorkingMemory.MMAP_THRESHOLD
    for _ in range(2):
        before = W.get_value(borrow=True)
        fn(np.zeros((400, 400)))
        assert before.is_deleted()  # written over
    np.testing.assert_array_equal(W.get_value(), np.full((123, 45), 3.0))
    del before
    gc.collect()
    assert len([array for array in jax.live_arrays() if array.shape == (123, 45)]) == 1


@pytest.fixture(params=[False, True], ids=["x64 off", "x64 on"])
def uses_double(request):
    """JAX's setting for the whole process, as a user has made it."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("how", ["fast", "plain"])
@pytest.mark.parametrize("floatX", FLOATS)
def test_precision_is_the_graph_s(floatX, how, uses_double):
    """Whatever JAX's settings are, which stay as they are."""
    x = pt.tensor("x", dtype=floatX, shape=(3,))
    values = np.array([0.1, 1e-3, 3.0])
    with pytensor.config.change_flags(floatX=floatX):
        W = sharedX(np.full(3, 0.1), "W")
        fn = Compiler("jax", graph=how).function([x], pt.exp(x) + W, {W: W + x})
    for _ in range(2):
        expected = np.exp(values.astype(floatX)) + np.asarray(W.get_value())
        ours = np.asarray(fn(values))
        assert ours.dtype == W.get_value().dtype == floatX
        np.testing.assert_allclose(ours, expected, rtol=4 * np.finfo(floatX).eps)
    assert jax.config.jax_enable_x64 == uses_double
    assert jax.numpy.ones(2).dtype == ("float64" if uses_double else "float32")


@pytest.mark.parametrize("chosen", [None, "elsewhere"])
def test_compiled_code_is_kept(chosen, monkeypatch, tmp_path):
    """In the cache folder, unless the user has chosen one, by JAX's variable or its setting."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("CLE_PORT_CACHE", str(tmp_path))
    try:
        jax.config.update("jax_compilation_cache_dir", chosen)
        with compiled_code_kept():
            assert jax.config.jax_compilation_cache_dir == (chosen or str(tmp_path / "jax"))
        assert jax.config.jax_compilation_cache_dir == chosen
        with pytest.raises(KeyboardInterrupt), compiled_code_kept():
            raise KeyboardInterrupt
        assert jax.config.jax_compilation_cache_dir == chosen
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize("is_async", [False, True])
def test_dispatch_is_synchronous_while_the_client_starts(is_async, monkeypatch):
    seen = []
    before = jax.config.read(jax_linker.ASYNC_DISPATCH)
    monkeypatch.setattr(
        jax, "devices", lambda: seen.append(jax.config.read(jax_linker.ASYNC_DISPATCH))
    )
    try:
        jax.config.update(jax_linker.ASYNC_DISPATCH, is_async)
        start_jax.__wrapped__()
        assert seen == []
        start_jax.__wrapped__(synchronous=True)
        assert seen == [False]
        assert jax.config.read(jax_linker.ASYNC_DISPATCH) == is_async
    finally:
        jax.config.update(jax_linker.ASYNC_DISPATCH, before)


def test_a_jax_without_asynchronous_dispatch(monkeypatch):
    def update(name, value):
        if name == jax_linker.ASYNC_DISPATCH:
            raise AttributeError(f"Unrecognized config option: {name}")

    monkeypatch.setattr(jax.config, "update", update)
    start_jax.__wrapped__(synchronous=True)


@pytest.mark.parametrize(("keep", "synchronous"), [("kept", [True]), ("plain", [])])
def test_memory_is_kept_only_where_it_is_asked_for(keep, synchronous, monkeypatch):
    """Else JAX's client starts as the user has set it."""
    seen = []
    monkeypatch.setattr(jax_linker, "start_jax", lambda synchronous=False: seen.append(synchronous))
    Compiler("jax", memory=keep).function([], pt.constant(1.0))
    assert seen == [*synchronous, False]


@pytest.mark.parametrize("is_ready", [True, False])
def test_nothing_is_kept_for_another_thread(is_ready, memory, monkeypatch):
    """It frees its memory after the call has returned."""
    needs = SimpleNamespace(temp_size_in_bytes=SIZE, output_size_in_bytes=5, alias_size_in_bytes=3)

    class Jitted:
        def lower(self, *args):
            return SimpleNamespace(compile=lambda: SimpleNamespace(memory_analysis=lambda: needs))

        def __call__(self, *args):
            return [SimpleNamespace(is_ready=lambda: is_ready)]

    fn = CompiledFirst(Jitted())
    fn()
    fn()
    assert fn.size == (SIZE if is_ready else 0)
    assert (memory.held is not None) == is_ready
    assert memory.slack == 2**20 + 2 * 2  # with room for two bytes of new results, twice
    fn()
    assert (memory.held is not None) == is_ready


@pytest.mark.parametrize(
    ("backend", "on_one_device"), [("cpu", True), ("gpu", True), ("cpu", False)]
)
def test_memory_is_kept_on_one_cpu_device(backend, on_one_device, memory, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    fn = CompiledFirst(jax.jit(lambda x: jax.numpy.tanh(x @ x) @ x), on_one_device)
    x = np.ones((400, 400), "float32")
    fn(x)
    assert fn.size == (x.nbytes if backend == "cpu" and on_one_device else 0)
    fn(x)
    assert fn.size or memory.held is None


def test_shapes_made_of_inputs():
    """JAX compiles such a function for each value; no array will do."""
    x, n = pt.tensor("x", dtype="float64", shape=(12,)), pt.lscalar("n")
    fn = compile_function([x, n], x.reshape((n, -1)), None, "jax")
    for rows in (2, 4):
        assert np.asarray(fn(np.zeros(12), rows)).shape == (rows, 12 // rows)
