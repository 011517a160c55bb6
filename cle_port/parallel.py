"""Data parallel training: one batch on several devices, in one process or in many.

Every device takes an equal part of each batch and computes cost and gradients
of it, with parameters of its own that equal everybody's.  One all-reduce turns
these into the means over all parts, which are cost and gradients of the whole
batch; clipping and optimizer then do the same on every device.

In a graph this is said by three operations::

    x = tensor of shape (T, batch, dim)          an input, whole
    part_of_batch(x, devices)                    (T, batch // devices, dim)
    ... cost of the part, and its gradients ...
    mean_over_devices([*gradients, cost])        the only communication
    whole_batch(last_state, devices, axis=0)     (batch, dim), a carried state

and `ShardedLinker` runs it under `jax.shard_map`.  docs/devices.md says how to
start programs on several devices and machines.

No counterpart in the original, which knows one device.
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
from cle_port.linker import CompiledFirst, InPlaceJAXLinker

AXIS = "batch"  # of the mesh of devices


class _OnDevices(Op):
    """An operation that means something only under `ShardedLinker`."""

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        raise NotImplementedError(f"{self} is computed by JAX on several devices only")


class _OfBatch(_OnDevices):
    """Between a whole batch and a device's part of it, along one axis."""

    __props__ = ("devices", "axis")

    def __init__(self, devices: int, axis: int) -> None:
        self.devices = devices
        self.axis = axis

    def resized(self, size: int) -> int:
        """Return the output's batch size, from the input's."""
        raise NotImplementedError

    def make_node(self, *inputs: Any) -> Apply:
        """Type of the one output from that of the one input."""
        (x,) = inputs
        shape = list(x.type.shape)
        shape[self.axis] = self.resized(shape[self.axis])
        return Apply(self, [x], [x.type.clone(shape=tuple(shape))()])


class PartOfBatch(_OfBatch):
    """From an input that holds a whole batch to the part that a device takes."""

    def resized(self, size: int) -> int:
        """See `_OfBatch`."""
        return size // self.devices


class WholeBatch(_OfBatch):
    """From the parts that the devices hold to an output that holds a whole batch."""

    def resized(self, size: int) -> int:
        """See `_OfBatch`."""
        return size * self.devices


class MeanOverDevices(_OnDevices):
    """Means over the devices of all inputs, in one all-reduce."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Outputs have the inputs' types."""
        return Apply(self, list(inputs), [value.type() for value in inputs])


class FromEachDevice(_OnDevices):
    """What each device has computed, on all of them: from shape (n,) to (devices, n)."""

    __props__ = ("devices",)

    def __init__(self, devices: int) -> None:
        self.devices = devices

    def make_node(self, *inputs: Any) -> Apply:
        """Put an axis of the devices before the others."""
        (x,) = inputs
        return Apply(self, [x], [x.type.clone(shape=(self.devices, *x.type.shape))()])


def part_of_batch(x: TensorVariable, devices: int, axis: int = 1) -> TensorVariable:
    """Return the part of a batch that one device takes.

    Parameters
    ----------
    x : tensor
        An input of the function or a shared variable, with a static batch size
        that `devices` divides.  Nothing else may be done with it.
    devices : int
        Number of devices; 1 returns ``x`` itself.
    axis : int
        The batch axis.
    """
    return x if devices == 1 else _output(PartOfBatch(devices, axis), x)


def whole_batch(x: TensorVariable, devices: int, axis: int = 1) -> TensorVariable:
    """Put the parts of all devices together; the inverse of `part_of_batch`.

    The result must be an output of the function, or an update.
    """
    return x if devices == 1 else _output(WholeBatch(devices, axis), x)


def mean_over_devices(values: Sequence[TensorVariable], devices: int) -> list[TensorVariable]:
    """Return the means of some tensors over the devices, under the same names.

    Parameters
    ----------
    values : list of tensors
        Computed from each device's part of a batch.
    devices : int
        Number of devices; 1 returns the tensors themselves.
    """
    if devices == 1:
        return list(values)
    means: Any = MeanOverDevices()(*values, return_list=True)
    for mean, value in zip(means, values):
        mean.name = value.name
    return means


def from_each_device(scalars: Sequence[TensorVariable], devices: int) -> list[TensorVariable]:
    """Return outputs of a function that `over_batches` calls.

    Parameters
    ----------
    scalars : list of tensors
        Computed from a batch of one device's own.  The function is given as
        many batches as there are devices, joined along their batch axis;
        `part_of_batch` of that is one of them again.
    devices : int
        Number of devices; 1 returns the scalars themselves.

    Returns
    -------
    list of tensors
        One, of shape (devices, number of scalars).
    """
    return list(scalars) if devices == 1 else [_output(FromEachDevice(devices), pt.stack(scalars))]


def _output(op: Op, x: TensorVariable) -> TensorVariable:
    return cast(TensorVariable, op(x))


def over_batches(fn: Callable, batches: Iterable[tuple[NDArray, ...]], devices: int) -> NDArray:
    """Call a function for all batches, one batch on each device at a time.

    Parameters
    ----------
    fn : callable
        Its outputs are `from_each_device`.
    batches : iterable of tuples of ndarray
        Arrays of shape (time, batch, ...); those of one length of time need
        padding that the function masks out.
    devices : int
        Number of devices.

    Returns
    -------
    ndarray, shape (number of batches, number of scalars)
    """
    if devices == 1:
        return np.array([[np.asarray(value) for value in fn(*batch)] for batch in batches])
    records = []
    remaining = iter(batches)
    while group := list(islice(remaining, devices)):
        (values,) = fn(*_joined([group[min(i, len(group) - 1)] for i in range(devices)]))
        records.append(np.asarray(values)[: len(group)])
    return np.concatenate(records)


def _joined(group: Sequence[tuple[NDArray, ...]]) -> list[NDArray]:
    """Join batches along their batch axis, padded with zeros to the longest."""
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
    """Make this process one of several that train together, before JAX is used.

    Parameters
    ----------
    coordinator : str
        ``host:port`` of process 0, where the others find it; ``auto`` leaves
        everything to what JAX finds in the environment (Slurm, Open MPI,
        Kubernetes, Cloud TPU).
    processes : int, optional
        Number of processes.
    process : int, optional
        Number of this one, from 0.

    Raises
    ------
    UserError
        If something is missing or the others cannot be found.
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
    """Whether this process has called `join_processes`."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def is_first_process() -> bool:
    """Whether this process writes log and checkpoints: the only one, or number 0."""
    if not is_among_others():
        return True
    import jax

    return jax.process_index() == 0


def greatest(number: int) -> int:
    """Return the greatest of the numbers that the processes give; all must call this."""
    if not is_among_others():
        return number
    from jax.experimental.multihost_utils import process_allgather

    return int(np.max(process_allgather(np.int32(number))))


def value_of(variable: TensorSharedVariable) -> NDArray:
    """Copy the value of a shared variable, with the parts that other processes hold.

    All processes must call this, in the same order.
    """
    value: Any = variable.get_value(borrow=True)
    if not getattr(value, "is_fully_addressable", True) and not value.is_fully_replicated:
        from jax.experimental.multihost_utils import process_allgather

        value = process_allgather(value, tiled=True)
    return np.array(value)


def check_devices(devices: int, backend: str, **batch_sizes: int) -> None:
    """Make sure that a program can run on so many devices.

    Parameters
    ----------
    devices : int
        Number of devices, those of all processes together.
    backend : str
        The chosen backend.
    **batch_sizes : int
        By the names of their settings: what will be divided by `devices`.

    Raises
    ------
    UserError
        If the backend is not JAX, a batch cannot be divided, there are too few
        devices, or the processes cannot have equal numbers of them.
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
    """Mesh of so many devices, an equal number from each process."""
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
    """Return a mode that rewrites as ``mode`` of JAX does and runs on several devices."""
    return Mode(linker=ShardedLinker(devices), optimizer=mode.provided_optimizer)


class ShardedLinker(InPlaceJAXLinker):
    """Run a graph of the operations above on several devices.

    Whole batches (see `divided_axes`) are divided among the devices; all other
    inputs and outputs are the same on each.

    Parameters
    ----------
    devices : int
    """

    def __init__(self, devices: int) -> None:
        self.devices = devices
        _set_up_jax()
        super().__init__()

    def jit_compile(self, fn: Callable) -> Callable:
        """Compile what PyTensor made of the graph."""
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
        # JAX's check of what is the same everywhere refuses scans that start from constants.
        parallel = jax.shard_map(
            fn, mesh=mesh, in_specs=in_specs, out_specs=specs(fgraph.outputs), check_vma=False
        )
        jitted = jax.jit(parallel, donate_argnums=self.overwritten())
        shardings = [NamedSharding(mesh, spec) for spec in in_specs]
        return _Placing(CompiledFirst(jitted, on_one_device=False), shardings)


def divided_axes(fgraph: FunctionGraph) -> dict[Variable, int]:
    """Which variables of a graph hold a whole batch, and on which axis.

    Each device sees its part of these.  That makes no difference to operations
    on single entries; others are refused.

    Returns
    -------
    dict of variable to int

    Raises
    ------
    ValueError
        If something else is done with a whole batch.
    """
    nodes = fgraph.toposort()
    axes = {node.inputs[0]: node.op.axis for node in nodes if isinstance(node.op, PartOfBatch)}
    for variable in axes:
        if variable not in fgraph.inputs:
            raise ValueError(
                f"part_of_batch of {variable}, which is no input and no shared variable"
            )
    for node in nodes:
        if isinstance(node.op, WholeBatch):
            axes[node.outputs[0]] = node.op.axis
        elif not isinstance(node.op, PartOfBatch):
            found = {axes[variable] for variable in node.inputs if variable in axes}
            if not found:
                continue
            if len(found) > 1 or not isinstance(node.op, Elemwise):
                raise ValueError(f"{node} takes a whole batch, of which each device has a part")
            axes.update(dict.fromkeys(node.outputs, found.pop()))
    return axes


class _Placing:
    """A compiled function that first lays its arguments on the devices."""

    def __init__(self, jitted: Any, shardings: Sequence[Any]) -> None:
        self.jitted = jitted
        self.shardings = shardings

    def __call__(self, *args: Any) -> Any:
        return self.jitted(*map(_placed, args, self.shardings))

    def lower(self, *args: Any) -> Any:
        """See JAX: the program before it is compiled, to look at."""
        return self.jitted.lower(*map(_placed, args, self.shardings))


def _placed(value: Any, sharding: Any) -> Any:
    """Lay an array on the devices of this process, unless it is there already."""
    import jax

    if isinstance(value, jax.Array) and value.sharding == sharding:
        return value
    value = np.asarray(value)
    return jax.make_array_from_process_local_data(sharding, value, value.shape)


@cache
def _set_up_jax() -> None:
    """Tell PyTensor how JAX computes the operations."""
    import jax
    from jax.flatten_util import ravel_pytree
    from pytensor.link.jax.dispatch import jax_funcify

    @jax_funcify.register(PartOfBatch)
    @jax_funcify.register(WholeBatch)
    def same(op: Op, **kwargs: Any) -> Callable:
        # Under shard_map every device sees its own part only.
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
