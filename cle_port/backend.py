"""Which compiler runs the graphs, and the one place where they are compiled.

PyTensor can hand the same graph to JAX, to a C compiler or to numba.  The
numbers agree to rounding; the time until the first update does not:
docs/backends.md has the measurements behind ``auto``.

No counterpart in the original, where Theano's C compiler was the only choice.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytensor
from numpy.typing import NDArray
from pytensor.compile.mode import Mode, get_mode
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.features import ReplaceValidate
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.rewriting.basic import GraphRewriter, in2out
from pytensor.scan.op import Scan
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import CAReduce
from pytensor.tensor.rewriting.math import local_batched_matmul_to_core_matmul_with_reshape

from cle_port import blas
from cle_port.cache import cache_dir
from cle_port.errors import UserError
from cle_port.linker import InPlaceJAXLinker
from cle_port.loops import TakeOutOfScans, editable, settings_of
from cle_port.parallel import sharded
from cle_port.utils import tolist

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "jax", "c", "numba")
PYTENSOR_MODES = {"jax": "JAX", "c": "CVM", "numba": "NUMBA"}

# Rewritings of PyTensor whose work `TakeOutOfScans` does, all at once: it has to
# see the gradient's step whole to find the forward step in it.
REPLACED = ("scan_push_out_seq", "scan_push_out_add", "scan_push_out_dot1")
# They look for diagonal, symmetric and selection matrices, of which there are
# none here, and take a tenth of the time of all rewriting.
WITHOUT_USE = ("dot_diag_to_elemwise", "selection_dot_to_indexing", "useless_symmetric_transpose")

# Numbers of one value that rewriting may write out: more than any shape or bias has, which
# PyTensor had better know, less than the weights of a layer.
LARGEST_FOLDED = 10_000

COMPILING = threading.RLock()  # held while PyTensor is changed, which is put back afterwards


class Choice(NamedTuple):
    """A backend and the reason why it was chosen."""

    backend: str
    reason: str


def choose(backend: str = "auto") -> Choice:
    """Resolve ``auto`` to the best backend that is installed.

    Parameters
    ----------
    backend : {'auto', 'jax', 'c', 'numba'}
        What the user asked for.

    Returns
    -------
    Choice

    Raises
    ------
    UserError
        If the backend is unknown or what it needs is not installed.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    has_jax = importlib.util.find_spec("jax") is not None
    has_compiler = bool(pytensor.config.cxx)
    if backend == "jax" and not has_jax:
        raise UserError("--backend jax needs JAX; install it with: pip install jax")
    if backend == "c" and not has_compiler:
        raise UserError("--backend c needs a C++ compiler; install g++, or use --backend jax")
    if backend != "auto":
        return Choice(backend, "asked for")
    if has_jax:
        return Choice("jax", "compiles these graphs in seconds")
    if has_compiler:
        return Choice("c", "JAX is not installed: compiling takes minutes; pip install jax")
    return Choice(
        "numba",
        "neither JAX nor a C++ compiler is installed: compiling takes many minutes; "
        "pip install jax",
    )


def compile_function(
    inputs: Sequence[Variable],
    outputs: Variable | Sequence[Variable],
    updates: Mapping[Any, Variable] | None = None,
    backend: str = "auto",
    devices: int = 1,
) -> Callable:
    """Compile a graph with the chosen backend.

    Parameters
    ----------
    inputs : list of variables
        The function's arguments.
    outputs : variable or list of variables
        What it returns.
    updates : mapping of shared variable to variable, optional
        New values that each call leaves in the shared variables.
    backend : {'auto', 'jax', 'c', 'numba'}
    devices : int
        Number of devices that the graph is written for, see `cle_port.parallel`.

    Returns
    -------
    callable
        Takes arrays in the order of ``inputs``; a float64 array is accepted
        for a float32 input.  Its outputs are arrays of the backend: pass them
        to `numpy.asarray`.  Under JAX, inputs without a static length are
        padded, see `PerLength`.

    Raises
    ------
    UserError
        See `choose`.
    """
    name = choose(backend).backend
    if name == "c":
        blas.link()
    if name == "jax":
        _set_up_jax()
        if any(variable.type.shape[:1] == (None,) for variable in inputs):
            return PerLength(inputs, outputs, updates or {}, devices)
    return _compile(inputs, outputs, updates or {}, name, devices)


def _compile(
    inputs: Sequence[Any], outputs: Any, updates: Mapping, name: str, devices: int
) -> Callable:
    mode = _mode(name)
    sums = sums_as_the_graph_says() if name == "jax" else nullcontext()
    with COMPILING, building(), zeros_left_as_they_are(), sums:
        return pytensor.function(
            list(inputs),
            outputs,
            updates=list(updates.items()),
            mode=mode if devices == 1 else sharded(mode, devices),
            on_unused_input="ignore",
            allow_input_downcast=True,
        )


@contextmanager
def building() -> Iterator[None]:
    """Leave out what makes PyTensor slow while it derives and rewrites graphs.

    Python looks for garbage each time a few hundred objects are new; a graph
    is hundreds of thousands, all in use.  PyTensor notes for each variable
    where the program made it, which for these is always the same line; the
    flag ``exception_verbosity=high`` keeps these notes.
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
def zeros_left_as_they_are() -> Iterator[None]:
    """Keep rewriting from writing out large arrays of one value, for one compilation.

    The gradient of a scan begins the sums for each weight with zeros at all
    steps, of which a later rewriting keeps one.  PyTensor's constant folding
    comes before it: some 10 GB of zeros for the paper's handwriting model.
    """
    # PyTensor asks the operation itself and nobody else: there is no setting to change.
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
def sums_as_the_graph_says() -> Iterator[None]:
    """Let PyTensor translate sums to JAX in the dtypes of its graph, for one compilation.

    The graph says that float32 is summed in float64 and returned as float32.
    PyTensor's translation sums in float32 and returns float64, which makes JAX
    refuse every scan that carries such a sum.
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


class PerLength:
    """A function of sequences of any length, compiled by JAX for a few lengths.

    JAX compiles for fixed shapes.  Batches are therefore padded with zeros
    behind their last frame, up to the next of the lengths of `padded_length`;
    a function is compiled for each of these when it first occurs.

    Parameters
    ----------
    inputs : list of variables
        Those whose first axis has no static length are padded along it.  The
        graph must not care for frames of zeros that are appended to all of
        them together: padded frames are masked out of all outputs.
    outputs : variable or list of variables
        None of which has a time axis.
    updates : mapping of shared variable to variable
    devices : int
        See `compile_function`.

    Attributes
    ----------
    n_frame, n_padded : int
        Frames seen so far, and how many of them were padding.
    """

    def __init__(
        self, inputs: Sequence[Any], outputs: Any, updates: Mapping, devices: int = 1
    ) -> None:
        self.inputs = list(inputs)
        self.outputs = outputs
        self.updates = dict(updates)
        self.devices = devices
        self.varies = [variable.type.shape[:1] == (None,) for variable in self.inputs]
        self.functions: dict[int, Callable] = {}
        self.n_frame = 0
        self.n_padded = 0

    def __call__(self, *batch: NDArray) -> Any:
        """Call the function compiled for the batch's length."""
        length = next(len(array) for array, varies in zip(batch, self.varies) if varies)
        padded = padded_length(length)
        if padded not in self.functions:
            logger.info("Compiling for sequences of up to %d frames", padded)
            self.functions[padded] = self._compile_for(padded)
        self.n_frame += padded
        self.n_padded += padded - length
        return self.functions[padded](
            *(
                np.pad(array, [(0, padded - length)] + [(0, 0)] * (array.ndim - 1))
                if varies
                else array
                for array, varies in zip(batch, self.varies)
            )
        )

    def _compile_for(self, length: int) -> Callable:
        inputs = [
            variable.type.clone(shape=(length, *variable.type.shape[1:]))(name=variable.name)
            if varies
            else variable
            for variable, varies in zip(self.inputs, self.varies)
        ]
        is_list = isinstance(self.outputs, list | tuple)
        graph = clone_replace(
            [*tolist(self.outputs), *self.updates.values()],
            replace=dict(zip(self.inputs, inputs)),
            rebuild_strict=False,
        )
        n_output = len(graph) - len(self.updates)
        updates = dict(zip(self.updates, graph[n_output:]))
        outputs = graph[:n_output] if is_list else graph[0]
        return _compile(inputs, outputs, updates, "jax", self.devices)


def padded_length(length: int) -> int:
    """Return the least compiled length that holds ``length`` frames.

    The lengths are 16, 24, 32, 48, 64, 96, 128, then multiples of 64 up to
    1024, then eight an octave.  Short sequences are padded by up to a half, but
    cost little; from 512 on by an eighth at most, for there a frame of padding
    costs more than a further compilation.
    """
    octave = max(16, 1 << max(0, length - 1).bit_length())
    step = max(octave // 16, min(octave // 4, 64)) if octave > 16 else 16
    return -(-length // step) * step


def _mode(name: str) -> Mode:
    """PyTensor's own mode with our rewritings, see docs/performance.md."""
    mode = get_mode(PYTENSOR_MODES[name]).register((MergeInsideScans(), -1))
    if name != "jax":
        return mode
    mode = mode.excluding(*REPLACED, *WITHOUT_USE)
    # Products at all steps become products of matrices at once.  Before that PyTensor would
    # reverse what they read (gradients of the LSTM's gates), not what they give (of a layer).
    mode = mode.register(
        (TakeOutOfScans(), 1.7), (in2out(local_batched_matmul_to_core_matmul_with_reshape), 1.8)
    )
    return Mode(InPlaceJAXLinker(), mode.provided_optimizer)


@cache
def _set_up_jax() -> None:
    """Let both precisions work in one process; keep compiled code between runs."""
    import jax

    # Every update waits for its cost, so there is nothing to gain from another thread that
    # computes; in the same one, memory is free when a call returns: `cle_port.linker`.  JAX
    # reads this when it computes first, which importing PyTensor's dispatch may do.
    with suppress(AttributeError):  # a JAX without the flag
        jax.config.update("jax_cpu_enable_async_dispatch", False)

    import pytensor.link.jax.dispatch  # noqa: F401

    # Importing PyTensor's dispatch sets this flag by the floatX of that moment.
    jax.config.update("jax_enable_x64", True)
    if not jax.config.jax_compilation_cache_dir:  # else the user has chosen a folder
        jax.config.update("jax_compilation_cache_dir", str(cache_dir("jax")))


class MergeInsideScans(GraphRewriter):
    """Compute equal things inside a scan once, before anything else looks at it.

    The gradient of a scan holds a copy of the forward step for each of its
    outputs: the step of VRNN-GMM's gradient starts with some 4500 nodes, of
    which 350 are different.  Every later rewrite walks all of them.  PyTensor's
    own `MergeOptimizer` leaves most copies apart, because it forgets a node
    whose inputs are merged after it was queued.  Merging first, from inputs to
    outputs, makes compilation five times faster and changes no number.
    """

    def add_requirements(self, fgraph: FunctionGraph) -> None:
        """Attach what `apply` needs to replace nodes."""
        fgraph.attach_feature(ReplaceValidate())

    def apply(self, fgraph: FunctionGraph) -> None:
        """Rewrite every scan of ``fgraph`` in place."""
        for node in fgraph.toposort():
            if isinstance(node.op, Scan):
                scan = _with_inner_graph(node.op, merged(node.op.fgraph))
                outputs = scan.make_node(*node.inputs).outputs
                fgraph.replace_all(list(zip(node.outputs, outputs)), reason="merge_inside_scans")


def merged(fgraph: Any) -> FunctionGraph:
    """Copy of a graph in which equal operations on equal inputs stand once.

    Parameters
    ----------
    fgraph : FunctionGraph, frozen or not
        Without inplace operations.

    Returns
    -------
    FunctionGraph
        Same inputs and outputs, in the same order.
    """
    fgraph = editable(fgraph)
    representative: dict[Variable, Variable] = {}
    constants: dict[Any, Variable] = {}
    nodes: dict[Any, Any] = {}

    def represent(variable: Variable) -> Variable:
        if isinstance(variable, Constant):
            return constants.setdefault(variable.merge_signature(), variable)
        return representative.get(variable, variable)

    for node in fgraph.toposort():
        inputs = tuple(represent(variable) for variable in node.inputs)
        twin = nodes.setdefault((node.op, inputs), node)
        if twin is node and list(inputs) != node.inputs:
            twin = nodes[node.op, inputs] = node.clone_with_new_inputs(list(inputs))
        representative.update(zip(node.outputs, twin.outputs))
    return FunctionGraph(
        fgraph.inputs, [represent(variable) for variable in fgraph.outputs], clone=True
    )


def _with_inner_graph(scan: Scan, fgraph: FunctionGraph) -> Scan:
    """Return a scan like ``scan`` that runs another graph at each step."""
    return Scan(fgraph.inputs, fgraph.outputs, scan.info, **settings_of(scan))
