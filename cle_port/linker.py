"""How PyTensor hands a graph to JAX: values updated in place, memory used again.

No counterpart in the original, whose compiler did both by itself.
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytensor.link.jax.linker import JAXLinker


class InPlaceJAXLinker(JAXLinker):
    """JAX, told to write new values of shared variables over the old ones.

    Without it every update allocates parameters and moments anew, beside the
    first ones, which PyTensor would keep.
    """

    def fgraph_convert(self, *args: Any, **kwargs: Any) -> Callable:
        """Make a Python function of the graph.

        PyTensor leaves the first values of all shared variables in it, a second
        copy of parameters and moments that nobody reads: they are removed.
        """
        fn = super().fgraph_convert(*args, **kwargs)
        for name in inspect.signature(fn).parameters:
            fn.__globals__.pop(name, None)
        return fn

    def jit_compile(self, fn: Callable) -> Callable:
        """Compile ``fn``, whose arguments are the graph's inputs in their order."""
        import jax

        if self.scalar_shape_inputs:  # no program has any: nothing is gained by more care
            return super().jit_compile(fn)
        return CompiledFirst(jax.jit(fn, donate_argnums=self.overwritten()))

    def overwritten(self) -> list[int]:
        """Indices of the inputs that an update gives new values."""
        fgraph: Any = self.fgraph
        return sorted((fgraph.update_mapping or {}).values())


class CompiledFirst:
    """A function of JAX that is careful with memory.

    What compiling took is returned before the function takes its own; what a
    call took as working memory, the next call gets: see `WorkingMemory`.

    Parameters
    ----------
    jitted : callable
        With a method ``lower``, as `jax.jit` returns it.
    on_one_device : bool
        Several compute in threads of their own, and nothing is kept.
    """

    def __init__(self, jitted: Any, on_one_device: bool = True) -> None:
        self.jitted = jitted
        self.on_one_device = on_one_device
        self.is_compiled = False
        self.size = 0  # bytes of working memory to keep
        self.returned = 0  # bytes of new arrays

    def __call__(self, *args: Any) -> Any:
        """Compute; compile before, if this is the first call."""
        if not self.is_compiled:
            self._compile(*args)
        elif WORKING_MEMORY.keeps(self.size):
            return self._call_with_kept_memory(*args)
        return self.jitted(*args)

    def _compile(self, *args: Any) -> None:
        import jax

        WORKING_MEMORY.give_back()
        needs = self.jitted.lower(*args).compile().memory_analysis()  # JAX remembers it
        if needs and self.on_one_device and jax.default_backend() == "cpu":
            self.size = needs.temp_size_in_bytes
            self.returned = needs.output_size_in_bytes - needs.alias_size_in_bytes
        return_memory()
        self.is_compiled = True

    def _call_with_kept_memory(self, *args: Any) -> Any:
        import jax

        # JAX's copies of a batch must not settle in the memory that is kept.
        args = jax.block_until_ready(jax.device_put(args))
        with WORKING_MEMORY.for_call(self.size, self.returned):
            outputs = self.jitted(*args)
        if not all(v.is_ready() for v in jax.tree.leaves(outputs)):
            # Another thread computes, and frees its memory some time later.
            self.size = 0
            WORKING_MEMORY.give_back()
        return outputs

    def lower(self, *args: Any) -> Any:
        """See JAX: the program before it is compiled, to look at."""
        return self.jitted.lower(*args)


class WorkingMemory:
    """Memory for what XLA computes on the way, kept from call to call; with glibc only.

    XLA asks for all of it in one piece and frees it at the end.  A piece of
    that size glibc takes from the system and returns to it, and the system
    hands out each page when it is first touched: half a million of them in an
    update of a large model, a fifth of its time.  Here the piece comes from a
    place on the heap, which is not returned, and which is taken between calls,
    so that nothing else settles there.

    This works if XLA has freed its piece when the call returns: see
    ``jax_cpu_enable_async_dispatch`` in `cle_port.backend`.

    While memory is kept, glibc is told for the whole process to return nothing
    that is free to the system, but to take pieces from 128 KiB on from it
    directly, except during calls.

    Attributes
    ----------
    size : int
        Bytes; the most that a call has asked for.
    slack : int
        Bytes of the place beyond that, for what settles there first: small
        things, and results, those of the last call beside them.
    """

    # Numbers of malloc.h, and with which values glibc starts.
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
    TRIM_THRESHOLD = MMAP_THRESHOLD = 128 * 2**10
    MMAP_MAX = 65536
    PATIENCE = 20  # milliseconds
    ENOUGH = 8  # places lost in a hundred calls: what is thought here is not so

    def __init__(self) -> None:
        self.size = 0
        self.slack = 2**20
        self.libc = glibc()
        self.held: int | None = None  # what glibc gave for the place
        self.place = range(0)  # addresses
        self.losses = 0.0
        self.lock = threading.Lock()

    def keeps(self, size: int) -> bool:
        """Tell whether working memory of ``size`` bytes would be kept."""
        is_large = size >= self.MMAP_THRESHOLD
        return self.libc is not None and is_large and self.losses < self.ENOUGH

    @contextmanager
    def for_call(self, size: int, others: int = 0) -> Iterator[None]:
        """Let a call that needs ``size`` bytes find them where the one before had them.

        ``others`` are the bytes of its results, which stay longer.
        """
        if not self.keeps(size):
            yield
            return
        assert self.libc is not None
        with self.lock:
            self._on_heap(True)
            room = self.size // 2
            if self.held is None or size > self.size:
                self._find_place(self.libc, size, others)
                room = self.size  # more, for what else a call puts on the heap
            end = self.libc.sbrk(0)
            self._free()
            try:
                yield
            finally:
                is_used = self.libc.sbrk(0) < end + room  # else XLA's piece lies behind it
                self._hold(self.libc, is_used)
                self._on_heap(False)

    def give_back(self) -> None:
        """Return the memory to the system; the next call takes it anew."""
        with self.lock:
            if self.held is not None:
                self._free()
                trim()

    def _on_heap(self, all_sizes: bool) -> None:
        """Have glibc keep what is freed; and large pieces on the heap, or else from the system."""
        assert self.libc is not None
        threshold = -1 if self.losses < self.ENOUGH else self.TRIM_THRESHOLD
        self.libc.mallopt(self.M_TRIM_THRESHOLD, threshold)
        self.libc.mallopt(self.M_MMAP_THRESHOLD, self.MMAP_THRESHOLD)
        self.libc.mallopt(self.M_MMAP_MAX, 0 if all_sizes else self.MMAP_MAX)

    def _find_place(self, libc: ctypes.CDLL, size: int, others: int) -> None:
        self._free()
        self.size = max(self.size, size)
        self.slack = max(self.slack, 2 * others + 2**20)
        place = self.size + self.slack
        self.held = libc.malloc(ctypes.c_size_t(place))
        self.place = range(self.held or 0, (self.held or 0) + place)

    def _hold(self, libc: ctypes.CDLL, is_used: bool) -> None:
        """Take the place, or what is left of it; give up one that the call did not use."""
        for _ in range(self.PATIENCE if is_used else 0):
            for halvings in range(8):
                size = self.size + (self.slack >> halvings)
                self.held = libc.malloc(ctypes.c_size_t(size))
                if self.held in self.place and self.held + size <= self.place.stop:
                    self.losses = max(0.0, self.losses - 0.01)
                    return
                self._free()
            time.sleep(0.001)  # until other threads let go of what they computed with
        self.slack = min(2 * self.slack, self.slack + self.size)
        self.losses += 1
        trim()

    def _free(self) -> None:
        assert self.libc is not None
        self.libc.free(ctypes.c_void_p(self.held))
        self.held = None


def glibc() -> ctypes.CDLL | None:
    """Load the C library if it is GNU's."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return None
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    return libc


def return_memory() -> None:
    """Give all memory that nobody uses back to the system, that of unused objects too."""
    gc.collect()  # takes half a second where graphs have been built
    trim()


def trim() -> None:
    """Give memory that is free, but kept for later, back to the system; with glibc only."""
    libc = glibc()
    if libc is not None:
        libc.malloc_trim(ctypes.c_size_t(0))


WORKING_MEMORY = WorkingMemory()  # of all functions: they take turns
