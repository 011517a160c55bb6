"""Keep XLA's working memory from call to call; glibc only.

XLA allocates one block for the intermediate results of a call and frees it at
the end.  For a block of that size glibc asks the system for memory and returns
it afterwards.  The system then maps each page again at its first use: half a
million pages in one update of a large model, a fifth of its time.
`kept_memory` keeps the block between calls; ``--memory plain`` switches this
off.  benchmarks/README.md has the gain.

No counterpart in the original: Theano keeps its buffers itself.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_memory(on: bool = True) -> Iterator[None]:
    """Keep working memory between calls while the context lasts.

    At the end of the outermost context, the memory returns to the system and
    glibc treats large blocks as it does by default.

    Parameters
    ----------
    on : bool
        False changes nothing.
    """
    if not on:
        yield
        return
    WORKING_MEMORY.n_contexts += 1
    try:
        yield
    finally:
        WORKING_MEMORY.n_contexts -= 1
        if not WORKING_MEMORY.n_contexts:
            WORKING_MEMORY.end()


class WorkingMemory:
    """A place on glibc's heap, reserved for XLA's block.

    Between calls this object holds the place, so that glibc puts nothing else
    there.  During a call the place is free and XLA's block goes there.  While
    `kept_memory` lasts, glibc returns no free memory to the system.  Between calls
    it allocates blocks of 128 KiB or more outside of the heap.

    This works only if XLA frees its block before the call returns, see
    `cle_port.graph.jax_linker.start_jax`.

    Attributes
    ----------
    n_contexts : int
        Number of open contexts of `kept_memory`.
    size : int
        Largest working memory of a call so far, in bytes.
    slack : int
        Further bytes of the place, for blocks that glibc puts there before XLA's:
        small ones, the results of the call and those of the call before.
    """

    # Constants of malloc.h, and glibc's initial values.
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
    TRIM_THRESHOLD = MMAP_THRESHOLD = 128 * 2**10
    MMAP_MAX = 65536
    # Calling mallopt ends glibc's dynamic adjustment of these thresholds until the process ends.
    # These are the values that the adjustment reaches in a process that frees large arrays.
    ADJUSTED_TRIM_THRESHOLD, ADJUSTED_MMAP_THRESHOLD = 64 * 2**20, 32 * 2**20
    PATIENCE = 20  # tries, a millisecond apart, to take the place again after a call
    ENOUGH = 8  # places lost in a hundred calls after which the memory is kept no longer

    def __init__(self) -> None:
        self.n_contexts = 0
        self.is_changed = False  # whether mallopt has been called
        self.size = 0
        self.slack = 2**20
        self.libc = glibc()
        self.held: int | None = None  # address of the block that reserves the place
        self.place = range(0)  # addresses of the place
        self.losses = 0.0
        self.lock = threading.Lock()

    def keeps(self, size: int) -> bool:
        """Return whether a call with working memory of ``size`` bytes keeps it now."""
        is_on = self.n_contexts > 0 and self.libc is not None
        return is_on and size >= self.MMAP_THRESHOLD and self.losses < self.ENOUGH

    @contextmanager
    def for_call(self, size: int, others: int = 0) -> Iterator[None]:
        """Free the place during a call and take it again afterwards.

        Parameters
        ----------
        size : int
            Working memory of the call in bytes.
        others : int
            Size of its results in bytes.
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
                room = self.size  # the first call may allocate more beside its block
            end = self.libc.sbrk(0)
            self._free()
            try:
                yield
            finally:
                is_used = self.libc.sbrk(0) < end + room  # otherwise XLA's block is after it
                self._hold(self.libc, is_used)
                self._on_heap(False)

    def give_back(self) -> None:
        """Return the memory to the system; the next call reserves it again."""
        with self.lock:
            if self.held is not None:
                self._free()
                trim()

    def end(self) -> None:
        """Return the memory and let glibc treat large blocks as it does by default."""
        self.give_back()
        if self.libc is not None and self.is_changed:
            self.libc.mallopt(self.M_TRIM_THRESHOLD, self.ADJUSTED_TRIM_THRESHOLD)
            self.libc.mallopt(self.M_MMAP_THRESHOLD, self.ADJUSTED_MMAP_THRESHOLD)
            self.libc.mallopt(self.M_MMAP_MAX, self.MMAP_MAX)
            self.is_changed = False

    def _on_heap(self, all_sizes: bool) -> None:
        """Make glibc keep freed memory, and put large blocks on the heap or outside of it."""
        assert self.libc is not None
        self.is_changed = True
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
        """Take as much of the place as is free; give it up if the call did not use it."""
        for _ in range(self.PATIENCE if is_used else 0):
            for halvings in range(8):
                size = self.size + (self.slack >> halvings)
                self.held = libc.malloc(ctypes.c_size_t(size))
                if self.held in self.place and self.held + size <= self.place.stop:
                    self.losses = max(0.0, self.losses - 0.01)
                    return
                self._free()
            time.sleep(0.001)  # other threads may still free their memory
        self.slack = min(2 * self.slack, self.slack + self.size)
        self.losses += 1
        trim()

    def _free(self) -> None:
        assert self.libc is not None
        self.libc.free(ctypes.c_void_p(self.held))
        self.held = None


def glibc() -> ctypes.CDLL | None:
    """Load the C library; return None unless it is GNU's."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return None
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    return libc


def return_memory() -> None:
    """Collect garbage and return all free memory to the system."""
    gc.collect()  # takes half a second after graphs have been built
    trim()


def trim() -> None:
    """Return the free memory of glibc's heap to the system."""
    libc = glibc()
    if libc is not None:
        libc.malloc_trim(ctypes.c_size_t(0))


WORKING_MEMORY = WorkingMemory()  # all functions share it, one call at a time
