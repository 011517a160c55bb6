"""Run PyTensor's graphs on JAX, in both precisions, with updates in place.

No counterpart in the original: Theano updates values in place by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

from pytensor.link.jax.linker import JAXLinker

from cle_port.files.cache import cache_dir
from cle_port.graph.working_memory import WORKING_MEMORY, return_memory

ASYNC_DISPATCH = "jax_cpu_enable_async_dispatch"


@cache
def start_jax(synchronous: bool = False) -> None:
    """Import PyTensor's translations to JAX.

    PyTensor's module sets ``jax_enable_x64`` by ``floatX`` when it is imported
    for the first time.  A True of the user remains.  No other setting of JAX
    changes.

    Parameters
    ----------
    synchronous : bool
        Make JAX's CPU client run each call in the calling thread, unless the
        client exists already.  XLA then frees its memory before the call
        returns, and `cle_port.graph.working_memory` needs that.  Asynchronous
        calls would gain nothing, because every update waits for its cost.
    """
    import jax

    if synchronous:
        _start_synchronous_client()  # first: importing PyTensor's module may start a client
    uses_double = jax.config.jax_enable_x64
    import pytensor.link.jax.dispatch  # noqa: F401  # sets jax_enable_x64 by floatX

    if uses_double:
        jax.config.update("jax_enable_x64", True)


def _start_synchronous_client() -> None:
    import jax

    try:
        is_async = jax.config.read(ASYNC_DISPATCH)
        jax.config.update(ASYNC_DISPATCH, False)
    except AttributeError:  # some versions of JAX have no such setting
        return
    try:
        jax.devices()  # creates the client, which reads the setting only then
    finally:
        jax.config.update(ASYNC_DISPATCH, is_async)


def double_precision_allowed() -> AbstractContextManager[Any]:
    """Allow float64 in JAX, in this thread, while the context lasts.

    Otherwise JAX converts float64 to float32 unless ``jax_enable_x64`` is set,
    which applies to the whole process.
    """
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax import experimental

    before_0_8: Any = experimental  # JAX before 0.8 has it there
    return before_0_8.enable_x64()


@contextmanager
def compiled_code_kept() -> Iterator[None]:
    """Store compiled code in the cache folder during one compilation.

    If the user has set a cache folder for JAX, JAX uses that folder.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    if jax.config.jax_compilation_cache_dir:
        yield
        return
    compilation_cache.reset_cache()  # JAX remembers that it had no folder
    jax.config.update("jax_compilation_cache_dir", str(cache_dir("jax")))
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


class PlainJAXLinker(JAXLinker):
    """PyTensor's linker; its functions may use float64 whatever JAX's settings are."""

    def jit_compile(self, fn: Callable) -> Callable:
        """Compile ``fn``, which takes the graph's inputs in their order."""
        return InBothPrecisions(super().jit_compile(fn))


class InBothPrecisions:
    """A JAX function that may use float64 whatever JAX's settings are.

    Parameters
    ----------
    fn : callable
        Function of JAX arrays, compiled or not.
    """

    def __init__(self, fn: Any) -> None:
        self.fn = fn
        self.is_compiled = False

    def __call__(self, *args: Any) -> Any:
        """Call the function; JAX compiles it at the first call."""
        with (
            double_precision_allowed(),
            nullcontext() if self.is_compiled else compiled_code_kept(),
        ):
            outputs = self.fn(*args)
        self.is_compiled = True
        return outputs

    def lower(self, *args: Any) -> Any:
        """Return the program before compilation, see `jax.jit`."""
        with double_precision_allowed():
            return self.fn.lower(*args)


class InPlaceJAXLinker(JAXLinker):
    """A linker that makes JAX overwrite the old values of shared variables.

    PyTensor's own linker allocates new parameters and moments at every update,
    and keeps their first values as well.
    """

    def fgraph_convert(self, *args: Any, **kwargs: Any) -> Callable:
        """Convert the graph to a Python function.

        PyTensor stores the first values of all shared variables in the
        function's globals: a second copy of parameters and moments that nothing
        reads.  This removes them.
        """
        fn = super().fgraph_convert(*args, **kwargs)
        for name in inspect.signature(fn).parameters:
            fn.__globals__.pop(name, None)
        return fn

    def jit_compile(self, fn: Callable) -> Callable:
        """Compile ``fn``, which takes the graph's inputs in their order."""
        import jax

        if self.scalar_shape_inputs:  # JAX compiles again for each value of these inputs
            return InBothPrecisions(super().jit_compile(fn))
        jitted = jax.jit(fn, donate_argnums=self.overwritten())
        return InBothPrecisions(CompiledFirst(jitted))

    def overwritten(self) -> list[int]:
        """Return the indices of the inputs that have updates."""
        fgraph: Any = self.fgraph
        return sorted((fgraph.update_mapping or {}).values())


class CompiledFirst:
    """A JAX function that uses little memory.

    It returns the memory of compiling to the system before it allocates its own.
    Within `cle_port.graph.working_memory.kept_memory` it keeps its working memory
    from call to call.

    Parameters
    ----------
    jitted : callable
        Result of `jax.jit`.
    on_one_device : bool
        False keeps no memory: several devices compute in threads of their own.

    Attributes
    ----------
    size : int
        Working memory in bytes.
    returned : int
        Size of the new arrays that a call returns, in bytes.
    """

    def __init__(self, jitted: Any, on_one_device: bool = True) -> None:
        self.jitted = jitted
        self.on_one_device = on_one_device
        self.is_compiled = False
        self.size = 0
        self.returned = 0

    def __call__(self, *args: Any) -> Any:
        """Call the function; the first call compiles it."""
        if not self.is_compiled:
            self._compile(*args)
        elif WORKING_MEMORY.keeps(self.size):
            return self._call_with_kept_memory(*args)
        return self.jitted(*args)

    def _compile(self, *args: Any) -> None:
        import jax

        WORKING_MEMORY.give_back()
        compiled = self.jitted.lower(*args).compile()  # JAX caches the result for later calls
        needs = compiled.memory_analysis()
        if needs and self.on_one_device and jax.default_backend() == "cpu":
            self.size = needs.temp_size_in_bytes
            self.returned = needs.output_size_in_bytes - needs.alias_size_in_bytes
        return_memory()
        self.is_compiled = True

    def _call_with_kept_memory(self, *args: Any) -> Any:
        import jax

        # JAX would otherwise copy the batch into the kept memory.
        args = jax.block_until_ready(jax.device_put(args))
        with WORKING_MEMORY.for_call(self.size, self.returned):
            outputs = self.jitted(*args)
        if not all(v.is_ready() for v in jax.tree.leaves(outputs)):
            # Another thread is still computing and frees its memory later.
            self.size = 0
            WORKING_MEMORY.give_back()
        return outputs

    def lower(self, *args: Any) -> Any:
        """Return the program before compilation, see `jax.jit`."""
        return self.jitted.lower(*args)
