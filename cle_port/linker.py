"""How PyTensor hands a graph to JAX: values updated in place, no memory kept without use.

No counterpart in the original, whose compiler did both by itself.
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import sys
from collections.abc import Callable
from typing import Any

from pytensor.link.jax.linker import JAXLinker


class InPlaceJAXLinker(JAXLinker):
    """JAX, told to write new values of shared variables over the old ones.

    Without it every update allocates parameters and moments anew, beside the
    first ones, which PyTensor would keep.
    """

    def fgraph_convert(self, *args: Any, **kwargs: Any) -> Callable:
        """Make a Python function of the graph, without the values of its arguments."""
        fn = super().fgraph_convert(*args, **kwargs)
        for name in inspect.signature(fn).parameters:
            fn.__globals__.pop(name, None)
        return fn

    def jit_compile(self, fn: Callable) -> Callable:
        """Compile ``fn``, whose arguments are the graph's inputs in their order."""
        import jax

        donated = self.overwritten()
        static = self.scalar_shape_inputs
        return CompiledFirst(jax.jit(fn, static_argnums=static, donate_argnums=donated))

    def overwritten(self) -> list[int]:
        """Numbers of the inputs that an update gives new values."""
        fgraph: Any = self.fgraph
        updated = set((fgraph.update_mapping or {}).values())
        return sorted(updated - set(self.scalar_shape_inputs))


class CompiledFirst:
    """A function of JAX that returns the memory which compiling took before it takes its own.

    Parameters
    ----------
    jitted : callable
        With a method ``lower``, as `jax.jit` returns it.
    """

    def __init__(self, jitted: Any) -> None:
        self.jitted = jitted
        self.is_compiled = False

    def __call__(self, *args: Any) -> Any:
        """Compile, if this is the first call, and compute."""
        if not self.is_compiled:
            self.jitted.lower(*args).compile()  # JAX remembers it
            return_memory()
            self.is_compiled = True
        return self.jitted(*args)

    def lower(self, *args: Any) -> Any:
        """See JAX: the program before it is compiled, to look at."""
        return self.jitted.lower(*args)


def return_memory() -> None:
    """Give memory that is free, but kept for later, back to the system; on Linux only."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc, no other
        if trim is not None:
            trim(0)
