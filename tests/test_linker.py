"""Working memory: found again by the next call, never kept twice."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytensor.tensor as pt
import pytest

from cle_port import linker
from cle_port.backend import compile_function
from cle_port.linker import CompiledFirst, WorkingMemory, glibc

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64 * 2**20

needs_glibc = pytest.mark.skipif(glibc() is None, reason="the C library is not GNU's")

FAULTS = """
import resource, sys
import numpy as np, pytensor, pytensor.tensor as pt
from cle_port import linker
from cle_port.backend import compile_function
if sys.argv[1] == "plain":
    linker.WORKING_MEMORY.libc = None
x = pt.tensor("x", dtype="float32", shape=(50_000, 200))
W = pt.tensor("W", dtype="float32", shape=(200, 200))
cost = (pt.tanh(x @ W) ** 2).sum()
fn = compile_function([x, W], [cost, pytensor.grad(cost, W)], None, "jax")
values = np.ones((50_000, 200), "float32"), np.ones((200, 200), "float32")
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    float(fn(*values)[0])
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults[10:]), linker.WORKING_MEMORY.size, round(linker.WORKING_MEMORY.losses))
"""


@needs_glibc
@pytest.mark.parametrize("how", ["kept", "plain"])
def test_pages_are_touched_first_once(how):
    """The system hands out a page at its first touch: every time, if memory is not kept."""
    jax = pytest.importorskip("jax")
    command = [sys.executable, "-W", "ignore", "-c", FAULTS, how]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    faults, size, losses = map(int, result.stdout.split())
    pages = 50_000 * 200 * 4 / 4096  # of x, which JAX may copy, and of x W
    if losses >= WorkingMemory.ENOUGH and jax.__version_info__ < (0, 12):
        pytest.skip("this JAX computes in another thread, whatever it is told")
    if how == "kept":
        assert size > pages * 4096
        assert faults < 1.2 * pages
    else:
        assert faults > 1.8 * pages


class Heap:
    """glibc's heap as far as it matters here: pieces settle where they fit first."""

    def __init__(self):
        self.pieces = {}
        self.end = 0

    def malloc(self, size):
        address = 4096
        for start in sorted(self.pieces):
            if address + size.value <= start:
                break
            address = start + self.pieces[start]
        self.pieces[address] = size.value
        self.end = max(self.end, address + size.value)
        return address

    def free(self, address):
        if address.value is not None:
            del self.pieces[address.value]

    def sbrk(self, increment):
        return self.end

    def mallopt(self, number, value):
        self.takes_all_sizes = (number, value) == (WorkingMemory.M_MMAP_MAX, 0)
        if number == WorkingMemory.M_TRIM_THRESHOLD:
            self.returns_what_is_free = value >= 0


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setattr(WorkingMemory, "PATIENCE", 2)
    memory = WorkingMemory()
    memory.libc = Heap()
    return memory


def piece(memory, size=SIZE):
    """Address of what the heap gives."""
    return memory.libc.malloc(ctypes.c_size_t(size))


def free(memory, address):
    memory.libc.free(ctypes.c_void_p(address))


def test_a_call_finds_the_place_of_the_one_before(memory):
    found = []
    for size in (SIZE, SIZE // 2, SIZE):
        with memory.for_call(size):
            small, large = piece(memory, 1000), piece(memory, size)
            assert memory.libc.takes_all_sizes
            found.append(large)
            free(memory, large)
        assert not memory.libc.takes_all_sizes
        assert piece(memory) >= memory.held + size  # nothing else settles there
        free(memory, small)
    assert len(set(found)) == 1
    assert memory.losses == 0


def test_a_larger_call_finds_another_place(memory):
    for size in (SIZE, 3 * SIZE, SIZE, 3 * SIZE):
        with memory.for_call(size):
            large = piece(memory, size)
            assert large in memory.place
            free(memory, large)
    assert memory.size == 3 * SIZE
    assert memory.losses == 0


def test_what_a_call_returns_may_stay_in_the_place(memory):
    last, found = None, []
    for _ in range(6):
        with memory.for_call(SIZE, SIZE // 8):
            new, large = piece(memory, SIZE // 8), piece(memory)
            found.append(large)
            free(memory, large)
        free(memory, last)
        last = new
    assert memory.losses == 0
    assert all(large in memory.place for large in found)


def test_the_place_outlives_a_call_that_fails(memory):
    with pytest.raises(ZeroDivisionError), memory.for_call(SIZE):
        1 / 0  # noqa: B018
    assert memory.held in memory.place
    with memory.for_call(SIZE):
        pass


def test_a_place_that_stays_in_use_is_given_up(memory):
    slack = memory.slack
    with memory.for_call(SIZE):
        large = piece(memory)
    assert memory.held is None
    assert memory.slack > slack
    free(memory, large)
    with memory.for_call(SIZE):
        pass
    assert memory.held in memory.place


def lose(memory):
    """Have a call take its piece elsewhere."""
    with memory.for_call(SIZE):
        free(memory, piece(memory, memory.libc.end + 8 * SIZE))


def test_a_place_that_is_not_used_is_given_up(memory):
    lose(memory)
    assert memory.held is None


def test_places_are_not_lost_for_ever(memory):
    for _ in range(memory.ENOUGH):
        assert memory.keeps(SIZE)
        lose(memory)
    assert not memory.keeps(SIZE)
    assert memory.libc.returns_what_is_free
    slack = memory.slack
    with memory.for_call(SIZE):
        piece(memory)
    assert memory.held is None
    assert memory.slack == slack


def test_what_is_small_is_left_alone(memory):
    with memory.for_call(1000):
        pass
    assert memory.size == 0
    assert memory.held is None


def test_memory_is_given_back(memory):
    with memory.for_call(SIZE):
        pass
    assert memory.libc.pieces
    memory.give_back()
    assert not memory.libc.pieces


def test_without_glibc(monkeypatch):
    monkeypatch.setattr(linker.sys, "platform", "darwin")
    memory = WorkingMemory()
    with memory.for_call(SIZE):
        pass
    memory.give_back()
    linker.return_memory()
    assert memory.libc is None


@pytest.mark.parametrize("is_ready", [True, False])
def test_nothing_is_kept_for_another_thread(is_ready, memory, monkeypatch):
    """It frees its memory after the call has returned."""
    pytest.importorskip("jax")
    needs = SimpleNamespace(temp_size_in_bytes=SIZE, output_size_in_bytes=5, alias_size_in_bytes=3)
    monkeypatch.setattr(linker, "WORKING_MEMORY", memory)

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
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(linker, "WORKING_MEMORY", memory)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    fn = CompiledFirst(jax.jit(lambda x: jax.numpy.tanh(x @ x) @ x), on_one_device)
    x = np.ones((400, 400), "float32")
    fn(x)
    assert fn.size == (x.nbytes if backend == "cpu" and on_one_device else 0)
    fn(x)
    assert fn.size or memory.held is None


def test_shapes_made_of_inputs():
    """JAX compiles such a function for each value; no array will do."""
    pytest.importorskip("jax")
    x, n = pt.tensor("x", dtype="float64", shape=(12,)), pt.lscalar("n")
    fn = compile_function([x, n], x.reshape((n, -1)), None, "jax")
    for rows in (2, 4):
        assert np.asarray(fn(np.zeros(12), rows)).shape == (rows, 12 // rows)
