"""Data parallel training: one batch on several devices, in one process or several.

Every device takes an equal part of each batch and computes cost and gradients of
its part.  Every device has its own copy of the parameters, and all copies are
equal.  One all-reduce averages costs and gradients over the parts, which gives
those of the whole batch.  Clipping and optimizer then do the same on every
device.

Three operations express this in a graph::

    x = tensor of shape (T, batch, dim)          an input, whole
    part_of_batch(x, devices)                    (T, batch // devices, dim)
    ... cost of the part, and its gradients ...
    mean_over_devices([*gradients, cost])        the only communication
    whole_batch(last_state, devices, axis=0)     (batch, dim), a carried state

`ShardedLinker` runs the graph under `jax.shard_map`.  docs/devices.md says how to
start programs on several devices and machines.

No counterpart in the original, which uses one device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import islice
from typing import Any, cast

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import Op
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.errors import UserError
from cle_port.graph.jax_linker import (
    CompiledFirst,
    InBothPrecisions,
    InPlaceJAXLinker,
    double_precision_allowed,
)

AXIS = "batch"  # name of the axis of the device mesh


class _OnDevices(Op):
    """An operation that only `ShardedLinker` can run."""

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        raise NotImplementedError(f"{self} is computed by JAX on several devices only")


class _OfBatch(_OnDevices):
    """Conversion between a whole batch and one device's part of it, along one axis."""

    __props__ = ("devices", "axis")

    def __init__(self, devices: int, axis: int) -> None:
        self.devices = devices
        self.axis = axis

    def resized(self, size: int) -> int:
        """Return the batch size of the output for that of the input."""
        raise NotImplementedError

    def make_node(self, *inputs: Any) -> Apply:
        """Make a node of one input and one output; only the batch size changes."""
        (x,) = inputs
        shape = list(x.type.shape)
        shape[self.axis] = self.resized(shape[self.axis])
        return Apply(self, [x], [x.type.clone(shape=tuple(shape))()])


class PartOfBatch(_OfBatch):
    """Take one device's part of an input that holds a whole batch."""

    def resized(self, size: int) -> int:
        """See `_OfBatch`."""
        return size // self.devices


class WholeBatch(_OfBatch):
    """Join the parts of all devices to an output that holds a whole batch."""

    def resized(self, size: int) -> int:
        """See `_OfBatch`."""
        return size * self.devices


class MeanOverDevices(_OnDevices):
    """Average all inputs over the devices, in one all-reduce."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Make a node whose outputs have the types of the inputs."""
        return Apply(self, list(inputs), [value.type() for value in inputs])


class FromEachDevice(_OnDevices):
    """Gather the values of all devices on every device: shape (n,) to (devices, n)."""

    __props__ = ("devices",)

    def __init__(self, devices: int) -> None:
        self.devices = devices

    def make_node(self, *inputs: Any) -> Apply:
        """Make a node; its output has a first axis over the devices."""
        (x,) = inputs
        return Apply(self, [x], [x.type.clone(shape=(self.devices, *x.type.shape))()])


def part_of_batch(x: TensorVariable, devices: int, axis: int = 1) -> TensorVariable:
    """Return the part of a batch that one device takes.

    Parameters
    ----------
    x : tensor
        An input of the function or a shared variable.  Its batch size is static
        and a multiple of `devices`.  Other operations must not use it, except
        elementwise ones whose results are whole batches, too.
    devices : int
        Number of devices; 1 returns ``x`` itself.
    axis : int
        The batch axis.

    Returns
    -------
    tensor
        Shape of ``x`` with the batch size divided by `devices`.
    """
    return x if devices == 1 else _output(PartOfBatch(devices, axis), x)


def whole_batch(x: TensorVariable, devices: int, axis: int = 1) -> TensorVariable:
    """Join the parts of all devices; the inverse of `part_of_batch`.

    Parameters
    ----------
    x : tensor
        Part of one device.
    devices : int
        Number of devices; 1 returns ``x`` itself.
    axis : int
        The batch axis.

    Returns
    -------
    tensor
        Shape of ``x`` with the batch size times `devices`.  It must be an output
        of the function or an update.
    """
    return x if devices == 1 else _output(WholeBatch(devices, axis), x)


def mean_over_devices(values: Sequence[TensorVariable], devices: int) -> list[TensorVariable]:
    """Average tensors over the devices; the means keep the names.

    Parameters
    ----------
    values : list of tensors
        Values that each device computes from its part of a batch.
    devices : int
        Number of devices; 1 returns the tensors themselves.

    Returns
    -------
    list of tensors
        Same shapes and dtypes.
    """
    if devices == 1:
        return list(values)
    means: Any = MeanOverDevices()(*values, return_list=True)
    for mean, value in zip(means, values):
        mean.name = value.name
    return means


def from_each_device(scalars: Sequence[TensorVariable], devices: int) -> list[TensorVariable]:
    """Return the outputs of a function for `over_batches`.

    Parameters
    ----------
    scalars : list of tensors
        Values that each device computes from a batch of its own, or vectors of them.
        `over_batches` joins one batch per device along the batch axis;
        `part_of_batch` takes one of them out again.
    devices : int
        Number of devices; 1 returns the scalars themselves.

    Returns
    -------
    list of tensors
        One tensor of shape (devices, number of values).
    """
    if devices == 1:
        return list(scalars)
    values = pt.concatenate([pt.atleast_1d(scalar) for scalar in scalars])
    return [_output(FromEachDevice(devices), values)]


def _output(op: Op, x: TensorVariable) -> TensorVariable:
    return cast(TensorVariable, op(x))


def over_batches(fn: Callable, batches: Iterable[tuple[NDArray, ...]], devices: int) -> NDArray:
    """Call a function on all batches, with one batch per device and call.

    Parameters
    ----------
    fn : callable
        Its outputs are those of `from_each_device`.
    batches : iterable of tuples of ndarray
        Arrays of shape (time, batch, ...).  Shorter batches are padded with
        zeros, which the function has to mask.
    devices : int
        Number of devices.

    Returns
    -------
    ndarray, shape (number of batches, number of values)
    """
    if devices == 1:
        return np.array([np.hstack(fn(*batch)) for batch in batches])
    records = []
    remaining = iter(batches)
    while group := list(islice(remaining, devices)):
        (values,) = fn(*_joined([group[min(i, len(group) - 1)] for i in range(devices)]))
        records.append(np.asarray(values)[: len(group)])
    return np.concatenate(records)


def _joined(group: Sequence[tuple[NDArray, ...]]) -> list[NDArray]:
    """Join batches along their batch axis; pad them with zeros to the longest."""
    n_step = max(len(batch[0]) for batch in group)
    return [
        np.concatenate(
            [np.pad(a, [(0, n_step - len(a))] + [(0, 0)] * (a.ndim - 1)) for a in arrays], axis=1
        )
        for arrays in zip(*group)
    ]


def join_processes(
    coordinator: str, processes: int | None = None, process: int | None = None
) -> None:
    """Join this process to others that train together; call it before JAX is used.

    Parameters
    ----------
    coordinator : str
        ``host:port`` of process 0, to which the others connect.  With ``auto``
        JAX reads everything from the environment (Slurm, Open MPI, Kubernetes,
        Cloud TPU).
    processes : int, optional
        Number of processes.
    process : int, optional
        Number of this process, from 0.

    Raises
    ------
    UserError
        If an argument is missing or wrong, or the connection fails.
    """
    import jax

    if coordinator != "auto":
        if ":" not in coordinator:
            raise UserError(f"--coordinator is {coordinator!r}; give HOST:PORT, or auto")
        if processes is None or process is None:
            raise UserError(f"--coordinator {coordinator} needs --processes and --process, too")
        if process >= processes:
            raise UserError(f"--process is {process}; give 0 to {processes - 1}, each to one")
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator,
            num_processes=processes,
            process_id=process,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot join the other processes by --coordinator {coordinator} ({reason}); "
            "see docs/devices.md"
        ) from error


def is_among_others() -> bool:
    """Return whether this process has called `join_processes`."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def is_first_process() -> bool:
    """Return whether this process writes log and checkpoints: the only one, or number 0."""
    if not is_among_others():
        return True
    import jax

    return jax.process_index() == 0


def greatest(number: int) -> int:
    """Return the maximum of a number over all processes; all must call this."""
    if not is_among_others():
        return number
    from jax.experimental.multihost_utils import process_allgather

    return int(np.max(process_allgather(np.int32(number))))


def value_of(variable: TensorSharedVariable) -> NDArray:
    """Copy the whole value of a shared variable, with the parts of other processes.

    All processes must call this, for the same variables in the same order.
    """
    value: Any = variable.get_value(borrow=True)
    if not getattr(value, "is_fully_addressable", True) and not value.is_fully_replicated:
        from jax.experimental.multihost_utils import process_allgather

        with double_precision_allowed():
            value = process_allgather(value, tiled=True)
    return np.array(value)


def check_devices(devices: int, backend: str, **batch_sizes: int) -> None:
    """Check that a program can run on this number of devices.

    Parameters
    ----------
    devices : int
        Number of devices of all processes together.
    backend : str
        The chosen backend.
    **batch_sizes : int
        Batch sizes, by the names of their settings; each must be a multiple of
        `devices`.

    Raises
    ------
    UserError
        If the backend is not JAX, a batch size is no multiple, there are too few
        devices, or `devices` is no multiple of the number of processes.
    """
    if devices == 1 and not is_among_others():
        return
    if backend != "jax":
        raise UserError(f"--devices {devices} needs --backend jax, not {backend}")
    for name, size in batch_sizes.items():
        if size % devices:
            raise UserError(
                f"{name} is {size}, which {devices} devices cannot share equally; "
                f"give a multiple of {devices}, or other --devices"
            )
    _mesh(devices)


@cache
def _mesh(devices: int) -> Any:
    """Return a mesh of devices, with an equal number from each process."""
    import jax

    processes = jax.process_count()
    each, rest = divmod(devices, processes)
    if rest:
        raise UserError(
            f"--devices {devices} cannot be shared equally by {processes} processes; "
            f"give a multiple of {processes}"
        )
    by_process: list[list[Any]] = [[] for _ in range(processes)]
    for device in jax.devices():
        by_process[device.process_index].append(device)
    least = min(len(own) for own in by_process)
    if least < each:
        where = "" if processes == 1 else f" in each of {processes} processes"
        raise UserError(
            f"--devices {devices} needs {each} of JAX's devices{where}, but there are {least} "
            f"({jax.default_backend()}); give fewer, or on CPU set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={each}"
        )
    chosen = [device for own in by_process for device in own[:each]]
    return jax.sharding.Mesh(np.array(chosen), (AXIS,))


def sharded(mode: Mode, devices: int) -> Mode:
    """Return a mode with the rewritings of ``mode`` that runs on several devices."""
    return Mode(linker=ShardedLinker(devices), optimizer=mode.provided_optimizer)


class ShardedLinker(InPlaceJAXLinker):
    """A linker that runs a graph on several devices.

    It divides whole batches (see `divided_axes`) among the devices.  All other
    inputs and outputs are the same on each device.

    Parameters
    ----------
    devices : int
        Number of devices.
    """

    def __init__(self, devices: int) -> None:
        self.devices = devices
        _set_up_jax()
        super().__init__()

    def jit_compile(self, fn: Callable) -> Callable:
        """Compile ``fn``, which takes the graph's inputs in their order."""
        import jax
        from jax.sharding import NamedSharding, PartitionSpec

        fgraph = cast(FunctionGraph, self.fgraph)
        axes = divided_axes(fgraph)
        mesh = _mesh(self.devices)

        def specs(variables: Iterable[Variable]) -> tuple[PartitionSpec, ...]:
            return tuple(
                PartitionSpec(*[None] * axes[v], AXIS) if v in axes else PartitionSpec()
                for v in variables
            )

        in_specs = specs(fgraph.inputs)
        # With check_vma, JAX would reject scans that start from constants.
        parallel = jax.shard_map(
            fn, mesh=mesh, in_specs=in_specs, out_specs=specs(fgraph.outputs), check_vma=False
        )
        jitted = jax.jit(parallel, donate_argnums=self.overwritten())
        shardings = [NamedSharding(mesh, spec) for spec in in_specs]
        compiled = CompiledFirst(jitted, on_one_device=False)
        return InBothPrecisions(_Placing(compiled, shardings))


def divided_axes(fgraph: FunctionGraph) -> dict[Variable, int]:
    """Find the variables of a graph that hold a whole batch, and their batch axes.

    Each device holds only its part of these variables.  Elementwise operations
    give the same result on the parts; all others raise an error.

    Parameters
    ----------
    fgraph : FunctionGraph

    Returns
    -------
    dict of variable to int

    Raises
    ------
    ValueError
        If an operation that is not elementwise uses a whole batch.
    """
    nodes = fgraph.toposort()
    axes = {node.inputs[0]: node.op.axis for node in nodes if isinstance(node.op, PartOfBatch)}
    for variable in axes:
        if variable not in fgraph.inputs:
            raise ValueError(
                f"part_of_batch of {variable}, which is neither an input nor a shared variable"
            )
    for node in nodes:
        if isinstance(node.op, WholeBatch):
            axes[node.outputs[0]] = node.op.axis
        elif not isinstance(node.op, PartOfBatch):
            found = {axes[variable] for variable in node.inputs if variable in axes}
            if not found:
                continue
            if len(found) > 1 or not isinstance(node.op, Elemwise):
                raise ValueError(f"{node} uses a whole batch, but each device holds only its part")
            axes.update(dict.fromkeys(node.outputs, found.pop()))
    return axes


class _Placing:
    """A compiled function that places its arguments on the devices first."""

    def __init__(self, jitted: Any, shardings: Sequence[Any]) -> None:
        self.jitted = jitted
        self.shardings = shardings

    def __call__(self, *args: Any) -> Any:
        return self.jitted(*map(_placed, args, self.shardings))

    def lower(self, *args: Any) -> Any:
        """Return the program before compilation, see `jax.jit`."""
        return self.jitted.lower(*map(_placed, args, self.shardings))


def _placed(value: Any, sharding: Any) -> Any:
    """Place an array on the devices of this process, unless it is there already."""
    import jax

    if isinstance(value, jax.Array) and value.sharding == sharding:
        return value
    value = np.asarray(value)
    return jax.make_array_from_process_local_data(sharding, value, value.shape)


@cache
def _set_up_jax() -> None:
    """Register JAX translations of the operations of this module."""
    import jax
    from jax.flatten_util import ravel_pytree
    from pytensor.link.jax.dispatch import jax_funcify

    @jax_funcify.register(PartOfBatch)
    @jax_funcify.register(WholeBatch)
    def same(op: Op, **kwargs: Any) -> Callable:
        # Inside shard_map every device holds its own part only.
        return lambda x: x

    @jax_funcify.register(FromEachDevice)
    def gather(op: FromEachDevice, **kwargs: Any) -> Callable:
        return lambda x: jax.lax.all_gather(x, AXIS)

    @jax_funcify.register(MeanOverDevices)
    def mean(op: Op, **kwargs: Any) -> Callable:
        def mean_over_devices(*values: Any) -> Any:
            joined, separate = ravel_pytree(values)
            return separate(jax.lax.pmean(joined, AXIS))

        return mean_over_devices
