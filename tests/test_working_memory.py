"""Working memory: the next call finds it again, and a context returns it at its end."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from cle_port.graph import working_memory
from cle_port.graph.working_memory import WorkingMemory, glibc, kept_memory, return_memory

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64 * 2**20

needs_glibc = pytest.mark.skipif(glibc() is None, reason="the C library is not GNU's")

FAULTS = """
import resource, sys
import numpy as np, pytensor, pytensor.tensor as pt
from cle_port.graph import Compiler
from cle_port.graph.working_memory import WORKING_MEMORY, kept_memory
x = pt.tensor("x", dtype="float32", shape=(50_000, 200))
W = pt.tensor("W", dtype="float32", shape=(200, 200))
cost = (pt.tanh(x @ W) ** 2).sum()
fn = Compiler("jax").function([x, W], [cost, pytensor.grad(cost, W)])
values = np.ones((50_000, 200), "float32"), np.ones((200, 200), "float32")
faults = []
with kept_memory(sys.argv[1] == "kept"):
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        float(fn(*values)[0])
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults[10:]), WORKING_MEMORY.size, round(WORKING_MEMORY.losses))
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
        self.values = {}

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
        self.values[number] = value
        self.takes_all_sizes = (number, value) == (WorkingMemory.M_MMAP_MAX, 0)
        if number == WorkingMemory.M_TRIM_THRESHOLD:
            self.returns_what_is_free = value >= 0


@pytest.fixture
def memory(monkeypatch):
    """Working memory on a heap of its own, within one context that keeps it."""
    monkeypatch.setattr(WorkingMemory, "PATIENCE", 2)
    memory = WorkingMemory()
    memory.libc = Heap()
    memory.n_contexts = 1
    monkeypatch.setattr(working_memory, "WORKING_MEMORY", memory)
    monkeypatch.setattr(working_memory, "trim", lambda: None)
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
    monkeypatch.setattr(working_memory.sys, "platform", "darwin")
    memory = WorkingMemory()
    with memory.for_call(SIZE):
        pass
    memory.give_back()
    return_memory()
    assert memory.libc is None


# --- contexts ----------------------------------------------------------------------------------

# What glibc's own adjustment comes to.
ADJUSTED = {
    WorkingMemory.M_TRIM_THRESHOLD: 64 * 2**20,
    WorkingMemory.M_MMAP_THRESHOLD: 32 * 2**20,
    WorkingMemory.M_MMAP_MAX: 65536,
}


@pytest.fixture
def outside(memory):
    """Working memory outside of all contexts; its heap has been told nothing yet."""
    memory.n_contexts = 0
    return memory


def call(memory):
    with memory.for_call(SIZE):
        free(memory, piece(memory))


def test_outside_of_a_context_nothing_is_kept(outside):
    assert not outside.keeps(SIZE)
    call(outside)
    assert (outside.held, outside.libc.values) == (None, {})


def test_a_context_returns_the_memory_and_glibc_is_as_by_default(outside):
    with kept_memory():
        assert outside.keeps(SIZE)
        call(outside)
        assert outside.held is not None
        assert outside.libc.values[WorkingMemory.M_TRIM_THRESHOLD] == -1
        assert outside.libc.values[WorkingMemory.M_MMAP_THRESHOLD] == 128 * 2**10
    assert outside.held is None
    assert outside.libc.pieces == {}
    assert outside.libc.values == ADJUSTED
    call(outside)
    assert (outside.held, outside.libc.values) == (None, ADJUSTED)


def test_a_context_is_left_by_an_error(outside):
    def fail():
        with kept_memory():
            call(outside)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not outside.keeps(SIZE)
    assert outside.libc.pieces == {}
    assert outside.libc.values == ADJUSTED


def test_a_context_without_calls_changes_nothing(outside):
    with kept_memory():
        pass
    assert outside.libc.values == {}


def test_a_context_inside_another(outside):
    with kept_memory():
        with kept_memory():
            call(outside)
        assert outside.keeps(SIZE)
        assert outside.held is not None
        assert outside.libc.values != ADJUSTED
    assert not outside.keeps(SIZE)
    assert outside.libc.pieces == {}
    assert outside.libc.values == ADJUSTED


def test_one_context_after_another(outside):
    for _ in range(2):
        with kept_memory():
            call(outside)
            assert outside.held is not None
        assert outside.libc.pieces == {}
        assert outside.libc.values == ADJUSTED


def test_a_context_that_is_off(outside):
    with kept_memory(False):
        assert not outside.keeps(SIZE)
        call(outside)
    assert (outside.held, outside.libc.values) == (None, {})
    with kept_memory():
        call(outside)
        with kept_memory(False):
            assert outside.keeps(SIZE)
        assert outside.held is not None
