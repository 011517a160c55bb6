"""Working memory: found again by the next call, never kept twice."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cle_port import linker
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
    pytest.importorskip("jax")
    command = [sys.executable, "-W", "ignore", "-c", FAULTS, how]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    faults, size, losses = map(int, result.stdout.split())
    pages = 50_000 * 200 * 4 / 4096  # of x, which JAX may copy, and of x W
    if losses == WorkingMemory.ENOUGH:
        pytest.skip("this JAX computes in another thread, whatever it is told")
    if how == "kept":
        assert size > pages * 4096
        assert faults < 1.2 * pages
    else:
        assert faults > 1.8 * pages


@pytest.fixture
def memory():
    memory = WorkingMemory()
    yield memory
    memory.give_back()


def piece(memory, size=SIZE):
    """Address of what glibc gives."""
    return memory.libc.malloc(ctypes.c_size_t(size))


def free(memory, address):
    memory.libc.free(ctypes.c_void_p(address))


@needs_glibc
def test_a_call_finds_the_place_of_the_one_before(memory):
    for size in (SIZE, SIZE // 2, SIZE, 2 * SIZE, SIZE):
        with memory.for_call(size):
            small, large = piece(memory, 1000), piece(memory, size)
            assert large in memory.place
            free(memory, large)
        assert memory.held in memory.place
        other = piece(memory, size)
        assert other not in memory.place
        free(memory, other)
        free(memory, small)
    assert memory.size == 2 * SIZE
    assert memory.losses == 0


@needs_glibc
def test_the_place_outlives_a_call_that_fails(memory):
    with pytest.raises(ZeroDivisionError), memory.for_call(SIZE):
        1 / 0  # noqa: B018
    assert memory.held in memory.place
    with memory.for_call(SIZE):
        pass


@needs_glibc
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


@needs_glibc
def test_a_place_that_is_too_small_is_given_up(memory):
    with memory.for_call(SIZE):
        free(memory, piece(memory, 3 * SIZE))
    assert memory.held is None


@needs_glibc
def test_places_are_not_lost_for_ever(memory):
    for _ in range(memory.ENOUGH):
        with memory.for_call(SIZE):
            free(memory, piece(memory, 8 * SIZE))
    slack = memory.slack
    with memory.for_call(SIZE):
        large = piece(memory)
    free(memory, large)
    assert memory.held is None
    assert memory.slack == slack


@needs_glibc
def test_what_is_small_is_left_alone(memory):
    with memory.for_call(1000):
        pass
    assert memory.size == 0
    assert memory.held is None


def test_without_glibc(monkeypatch):
    monkeypatch.setattr(linker.sys, "platform", "darwin")
    memory = WorkingMemory()
    with memory.for_call(SIZE):
        pass
    memory.give_back()
    linker.return_memory()
    assert memory.libc is None


@pytest.mark.parametrize("is_ready", [True, False])
def test_nothing_is_kept_for_another_thread_or_a_gpu(is_ready):
    """They free their memory after the call has returned."""
    pytest.importorskip("jax")
    needs = SimpleNamespace(temp_size_in_bytes=7, output_size_in_bytes=5, alias_size_in_bytes=3)

    class Jitted:
        def lower(self, *args):
            return SimpleNamespace(compile=lambda: SimpleNamespace(memory_analysis=lambda: needs))

        def __call__(self, *args):
            return [SimpleNamespace(is_ready=lambda: is_ready)]

    fn = CompiledFirst(Jitted())
    fn()
    fn()
    assert fn.size == (7 if is_ready else 0)
