"""Compile graphs with PyTensor.

======================  ==========================================================
`backend`               choose the compiler
`merging`, `scans`      our rewritings: merge equal work, hoist work out of scans
`lengths`               functions of sequences of any length
`jax_linker`            run graphs on JAX: both precisions, updates in place
`working_memory`        keep memory from call to call
`devices`               split a batch over several devices or machines
`blas`                  find the BLAS of the C backend
======================  ==========================================================

Counterpart: ``cle/graph/__init__.py``, ``TheanoMixin.build_theano_graph``.
"""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytensor
from pytensor.compile.mode import Mode, get_mode
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import in2out
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import CAReduce
from pytensor.tensor.rewriting.math import local_batched_matmul_to_core_matmul_with_reshape

from cle_port.errors import UserError
from cle_port.graph import blas, jax_linker
from cle_port.graph.backend import choose
from cle_port.graph.devices import sharded
from cle_port.graph.lengths import PerLength
from cle_port.graph.merging import MergeInsideScans
from cle_port.graph.scans import HoistOutOfScans

PYTENSOR_MODES = {"jax": "JAX", "c": "CVM", "numba": "NUMBA"}
GRAPHS = ("fast", "plain")
MEMORY = ("kept", "plain")

# `HoistOutOfScans` replaces these PyTensor rewritings.  It finds the forward step in the step of
# the gradient only if they have not taken it apart.
REPLACED = ("scan_push_out_seq", "scan_push_out_add", "scan_push_out_dot1")
# These PyTensor rewritings search for diagonal, symmetric and selection matrices.  The models have
# none, and the search takes a tenth of the rewriting time.
WITHOUT_USE = ("dot_diag_to_elemwise", "selection_dot_to_indexing", "useless_symmetric_transpose")

# Largest number of entries that constant folding may write out.  Shapes and biases are smaller, and
# PyTensor should know their values; the weights of a layer are larger.
LARGEST_FOLDED = 10_000

COMPILING = threading.RLock()  # `zeros_unfolded` and `sums_in_acc_dtype` change PyTensor meanwhile


@dataclass(frozen=True)
class Compiler:
    """How a program's graphs are compiled.

    Parameters
    ----------
    backend : {'auto', 'jax', 'c', 'numba'}
        See `cle_port.graph.backend`.
    devices : int
        Number of devices that the graphs are written for, see `cle_port.graph.devices`.
    graph : {'fast', 'plain'}
        'plain' uses PyTensor's rewritings only, without ours.  The numbers are the same up
        to rounding.
    memory : {'kept', 'plain'}
        'kept' keeps the working memory of a training run on JAX between updates, see
        `cle_port.graph.working_memory`.
    """

    backend: str = "auto"
    devices: int = 1
    graph: str = "fast"
    memory: str = "kept"

    def function(
        self,
        inputs: Sequence[Variable],
        outputs: Variable | Sequence[Variable],
        updates: Mapping[Any, Variable] | None = None,
    ) -> Callable:
        """Compile a graph; see `compile_function` for arguments, result and errors."""
        keeps_memory = self.memory == "kept" and self.graph == "fast" and self.devices == 1
        if keeps_memory and choose(self.backend).backend == "jax":
            jax_linker.start_jax(synchronous=True)
        return compile_function(inputs, outputs, updates, self.backend, self.devices, self.graph)


def compile_function(
    inputs: Sequence[Variable],
    outputs: Variable | Sequence[Variable],
    updates: Mapping[Any, Variable] | None = None,
    backend: str = "auto",
    devices: int = 1,
    graph: str = "fast",
) -> Callable:
    """Compile a graph with the chosen backend.

    Parameters
    ----------
    inputs : list of variables
        Arguments of the function.
    outputs : variable or list of variables
        Results of the function.
    updates : mapping of shared variable to variable, optional
        New values that each call leaves in the shared variables.
    backend, devices, graph
        See `Compiler`.

    Returns
    -------
    callable
        Takes arrays in the order of ``inputs``; accepts a float64 array for a
        float32 input.  Returns arrays of the backend: pass them to
        `numpy.asarray`.  Under JAX it pads inputs without a static length, see
        `cle_port.graph.lengths.PerLength`.

    Raises
    ------
    UserError
        If the backend is unknown or not installed, see
        `cle_port.graph.backend.choose`, or the graph is neither 'fast' nor 'plain'.

    Notes
    -----
    Counterpart: ``theano.function``, as ``TheanoMixin.build_theano_graph`` calls it.
    """
    if graph not in GRAPHS:
        raise UserError(f"unknown graph {graph!r}; choose one of {', '.join(GRAPHS)}")
    name = choose(backend).backend
    compile_ = partial(_compile, name=name, devices=devices, graph=graph)
    if name == "jax":
        jax_linker.start_jax()
        if any(variable.type.shape[:1] == (None,) for variable in inputs):
            return PerLength(inputs, outputs, updates or {}, compile_)
    return compile_(inputs, outputs, updates or {})


def _compile(
    inputs: Sequence[Any], outputs: Any, updates: Mapping, *, name: str, devices: int, graph: str
) -> Callable:
    mode = _mode(name, graph)
    with ExitStack() as stack:
        stack.enter_context(COMPILING)
        stack.enter_context(building())
        if name == "c":
            stack.enter_context(blas.linked())
        if name == "jax":
            stack.enter_context(sums_in_acc_dtype())
            stack.enter_context(jax_linker.double_precision_allowed())
        if graph == "fast":
            stack.enter_context(zeros_unfolded())
        return pytensor.function(
            list(inputs),
            outputs,
            updates=list(updates.items()),
            mode=mode if devices == 1 else sharded(mode, devices),
            on_unused_input="ignore",
            allow_input_downcast=True,
        )


def _mode(name: str, graph: str) -> Mode:
    """Return PyTensor's mode; a 'fast' graph adds our rewritings (docs/performance.md)."""
    mode = get_mode(PYTENSOR_MODES[name])
    if graph == "plain":
        linker = jax_linker.PlainJAXLinker() if name == "jax" else mode.linker
        return Mode(linker, mode.provided_optimizer)
    mode = mode.register((MergeInsideScans(), -1))
    if name != "jax":
        return mode
    mode = mode.excluding(*REPLACED, *WITHOUT_USE)
    # The products of all steps become one matrix product.  This runs before PyTensor places the
    # reversals: later it would reverse the inputs of the products (gradients of the LSTM's gates)
    # and not their smaller outputs.
    mode = mode.register(
        (HoistOutOfScans(), 1.7), (in2out(local_batched_matmul_to_core_matmul_with_reshape), 1.8)
    )
    return Mode(jax_linker.InPlaceJAXLinker(), mode.provided_optimizer)


@contextmanager
def building() -> Iterator[None]:
    """Make PyTensor faster while it derives and rewrites graphs.

    Python collects garbage after every few hundred new objects; a graph has
    hundreds of thousands of objects, all in use.  PyTensor records the line of
    the program that made each variable; here it is always the same line.  The
    flag ``exception_verbosity=high`` keeps these records.
    """
    thresholds = gc.get_threshold()
    is_verbose = pytensor.config.exception_verbosity == "high"
    limit = pytensor.config.traceback__limit if is_verbose else 0
    gc.set_threshold(100_000, *thresholds[1:])
    try:
        with pytensor.config.change_flags(traceback__limit=limit):
            yield
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def zeros_unfolded() -> Iterator[None]:
    """Stop constant folding of large arrays of one value during one compilation.

    The gradient of a scan sums each weight's gradient into zeros for all steps;
    a later rewriting keeps one step of these zeros.  Constant folding runs first
    and would write out gigabytes of them for the paper's handwriting model.
    """
    # PyTensor asks only this method: no setting controls it.
    fold = Alloc.do_constant_folding

    def do_constant_folding(self: Alloc, fgraph: FunctionGraph, node: Apply) -> bool:
        size = math.prod(n or 1 for n in node.outputs[0].type.shape)
        return size <= LARGEST_FOLDED and fold(self, fgraph, node)

    Alloc.do_constant_folding = do_constant_folding  # type: ignore[method-assign]
    try:
        yield
    finally:
        Alloc.do_constant_folding = fold  # type: ignore[method-assign]


@contextmanager
def sums_in_acc_dtype() -> Iterator[None]:
    """Translate sums to JAX in the dtypes of the graph during one compilation.

    PyTensor's graph sums float32 in float64 and returns float32.  Its translation
    to JAX sums in float32 and returns float64.  JAX then rejects every scan that
    carries such a sum.
    """
    from pytensor.link.jax.dispatch import jax_funcify

    reduce_as_pytensor = jax_funcify.dispatch(CAReduce)

    def reduce_in_acc_dtype(op: CAReduce, node: Apply, **kwargs: Any) -> Callable:
        reduce = reduce_as_pytensor(op, node=node, **kwargs)
        acc_dtype = getattr(op, "acc_dtype", None) or node.inputs[0].type.dtype
        dtype = node.outputs[0].type.dtype
        return lambda x: reduce(x.astype(acc_dtype)).astype(dtype)

    jax_funcify.register(CAReduce, reduce_in_acc_dtype)
    try:
        yield
    finally:
        jax_funcify.register(CAReduce, reduce_as_pytensor)
