"""Rewritings that hoist work out of scans.

The original and this port write a model as one step that `scan` repeats.  The
compiler has to find out which operations depend on the step before.  Theano
and PyTensor move some of the others out of the scan.  The rewritings in this
module move the rest.  They rewrite the training graph, which has a forward
scan and a backward scan that `grad` makes:

1. `share_preactivations`: the backward scan repeats the forward step to get its
   values.  The rewriting passes it the results of the forward scan's matrix
   products instead.
2. `hoist`: operations that depend on no earlier step run before the scan, for
   all steps at once.  Operations that no later step depends on run after it.
   Sums over steps move outside.  Many small matrix products become few large
   ones.
3. Two kinds of operations stay in the scan because memory is slower than
   arithmetic: the difference `1 - y` in the gradient of a gate
   (`arithmetic_inside`) and the transpose of a weight matrix
   (`sink_transposes`).

The numbers stay the same up to rounding.  The rewritings need the number of
steps at compile time; they skip scans whose number of steps is unknown.

`ScanArgs` is PyTensor's view of a scan.  It calls the variables of one step
``inner_`` and their counterparts in the surrounding graph ``outer_``.  It names
the kinds of variables:

``seqs``, ``non_seqs``
    Sequences, of which a step reads one entry; values that are the same at every
    step.
``sit_sot``
    States: results that the next step reads.  All steps are kept.
``shared``
    States of which only the last value is kept.
``mit_sot``, ``mit_mot``
    States that several later steps read or that several steps write.  `grad`
    makes them.
``nit_sot``
    Results that no step reads.

No counterpart in the original.  docs/performance.md says what the rewritings
gain.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.features import ReplaceValidate
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.rewriting.basic import GraphRewriter
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.scalar.basic import Add, Mul, Neg, Sqr, Sub
from pytensor.scan.op import Scan
from pytensor.scan.utils import ScanArgs
from pytensor.tensor.basic import Join, Split
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.special import Softmax
from pytensor.tensor.subtensor import Subtensor, get_idx_list

# Operations that PyTensor can compute for all steps at once without a loop.
OVER_TIME = (CAReduce, DimShuffle, Dot, Elemwise, Join, Softmax, Split, Subtensor)
# Computing these operations takes less time than writing and reading their results.
ARITHMETIC = (Add, Mul, Neg, Sqr, Sub)
# Up to this number of steps a transposed copy of a matrix costs more time than it saves.
FEW_STEPS = 100


class HoistOutOfScans(GraphRewriter):
    """Apply this module's rewritings to every scan of a graph.

    Register it after PyTensor's own simplifications of the surrounding graph,
    which find the numbers of steps and the shapes.
    """

    def add_requirements(self, fgraph: FunctionGraph) -> None:
        """Attach what `apply` needs to replace nodes."""
        fgraph.attach_feature(ReplaceValidate())

    def apply(self, fgraph: FunctionGraph) -> None:
        """Rewrite every scan of ``fgraph`` in place."""
        scans = [node for node in fgraph.toposort() if isinstance(node.op, Scan)]
        for later in range(len(scans)):
            for earlier in range(later):
                scans[earlier], scans[later] = share_preactivations(
                    fgraph, scans[earlier], scans[later]
                )
        for scan in scans:
            hoist(fgraph, scan)
        for node in fgraph.toposort():
            if isinstance(node.op, Scan):
                sink_transposes(fgraph, node)


# ---------------------------------------------------------------------------
# 1. Values that the backward scan reads from the forward scan


def share_preactivations(
    fgraph: FunctionGraph, forward: Apply, backward: Apply
) -> tuple[Apply, Apply]:
    """Let the backward scan read sums of matrix products from the forward scan.

    The scan that `grad` makes contains a copy of the forward step.  The copy
    reads the sequences, states and parameters of the forward scan.  Each sum of
    products in the copy becomes an output of the forward scan and a sequence of
    the backward scan.  The elementwise operations on these sums cost little;
    `hoist` moves them out of the scan.

    Parameters
    ----------
    fgraph : FunctionGraph
        Changed in place.
    forward, backward : Apply
        Nodes of two `Scan`s, in the order in which they run.

    Returns
    -------
    tuple of Apply
        Both scans after the change.  They are unchanged if they share no sum of
        products, or if their numbers of steps are unknown or differ.
    """
    steps = _number_of_steps(forward)
    if steps is None or _number_of_steps(backward) != steps:
        return forward, backward
    fwd, bwd = _open_scan(forward), _open_scan(backward)
    common = _preactivations_in_common(fwd, bwd, _twins_of_inputs(fgraph, fwd, bwd, steps))
    if not common:
        return forward, backward
    whole = [
        v
        for v, trace in zip(fwd.inner_out_nit_sot, fwd.outer_out_nit_sot)
        if _first_length(fgraph, trace) == steps
    ]
    new = [v for v in dict.fromkeys(common.values()) if v not in whole]
    end = len(forward.outputs) - len(fwd.outer_out_shared)  # new outputs come before these
    fwd.inner_out_nit_sot += new
    fwd.outer_in_nit_sot += [fwd.n_steps] * len(new)
    outputs = _close_scan(forward, fwd)
    traces: dict[Variable, Any] = dict(
        zip(fwd.inner_out_nit_sot, outputs[end - len(fwd.outer_out_nit_sot) :])
    )

    sequences = {v: v.type() for v in common}
    bwd.inner_in_seqs += sequences.values()
    bwd.outer_in_seqs += [traces[twin][::-1] for twin in common.values()]
    outputs_back = _close_scan(backward, bwd, sequences)
    _replace_outputs(fgraph, backward, outputs_back)
    _replace_outputs(fgraph, forward, outputs[:end] + outputs[end + len(new) :])
    return outputs[0].owner, outputs_back[0].owner


def _preactivations_in_common(
    fwd: ScanArgs, bwd: ScanArgs, twins: dict[Variable, Variable]
) -> dict[Variable, Variable]:
    """Find the sums of matrix products that the steps of both scans compute.

    Parameters
    ----------
    fwd, bwd : ScanArgs
    twins : dict of variable of ``bwd`` to variable of ``fwd``
        Equal inputs of the two steps.  This adds the equal variables that the
        steps compute from them.

    Returns
    -------
    dict of variable of ``bwd`` to variable of ``fwd``
    """
    nodes = {(node.op, _identities(node.inputs)): node for node in _inner_nodes(fwd)}
    order = _inner_nodes(bwd)
    for node in order:
        twin = nodes.get((node.op, _identities(twins.get(v, v) for v in node.inputs)))
        if twin is not None:
            twins.update(zip(node.outputs, twin.outputs))
    users = _users_of(order)
    common = {}
    for node in order:
        v = node.outputs[0]
        if isinstance(node.op, Dot) and v in twins:
            while len(users[v]) == 1 and _is_add(users[v][0]) and users[v][0].outputs[0] in twins:
                v = users[v][0].outputs[0]
            common[v] = twins[v]
    return common


def _twins_of_inputs(
    fgraph: FunctionGraph, fwd: ScanArgs, bwd: ScanArgs, steps: int
) -> dict[Variable, Variable]:
    """Map inputs of the step of ``bwd`` to equal variables of ``fwd``.

    The backward scan runs through the steps of the forward scan in reverse.
    """
    every = tuple(range(steps))
    sources: dict[Any, Variable] = {}
    for inner, outer in zip(fwd.inner_in_seqs, fwd.outer_in_seqs):
        sources[time_steps(fgraph, outer)] = inner
    for k, trace in enumerate(fwd.outer_out_sit_sot):
        if _first_length(fgraph, trace) == steps + 1:
            sources[trace, every] = fwd.inner_in_sit_sot[k]
            sources[trace, tuple(range(1, steps + 1))] = fwd.inner_out_sit_sot[k]
    for k, trace in enumerate(fwd.outer_out_nit_sot):
        if _first_length(fgraph, trace) == steps:
            sources[trace, every] = fwd.inner_out_nit_sot[k]
    twins = {}
    for inner, outer in zip(bwd.inner_in_seqs, bwd.outer_in_seqs):
        base, which = time_steps(fgraph, outer)
        if len(which) == steps and (base, which[::-1]) in sources:
            twins[inner] = sources[base, which[::-1]]
    parameters = dict(zip(fwd.outer_in_non_seqs, fwd.inner_in_non_seqs))
    for inner, outer in zip(bwd.inner_in_non_seqs, bwd.outer_in_non_seqs):
        if outer in parameters:
            twins[inner] = parameters[outer]
    return twins


def time_steps(fgraph: FunctionGraph, sequence: Variable) -> tuple[Variable, tuple[int, ...]]:
    """Find the variable that a sequence is sliced from.

    Parameters
    ----------
    fgraph : FunctionGraph
    sequence : variable
        Such as ``v[:-1][::-1]``.

    Returns
    -------
    variable, tuple of int
        ``v``, and the indices of its entries in the sequence, in order.  If the
        slices are unknown: the sequence itself and an empty tuple.
    """
    cuts: list[slice] = []
    base = sequence
    while base.owner is not None and isinstance(base.owner.op, Subtensor):
        cut = _constant_slice(base.owner)
        if cut is None:
            return sequence, ()
        cuts.append(cut)
        base = base.owner.inputs[0]
    which = range(_first_length(fgraph, base) or 0)
    for cut in reversed(cuts):
        which = which[cut]
    return base, tuple(which)


def _constant_slice(node: Apply) -> slice | None:
    """Return the slice of the first axis that a `Subtensor` takes; None if it is unknown.

    None, too, if the `Subtensor` takes an index or indexes further axes.
    """
    first, *others = get_idx_list(node.inputs, node.op.idx_list)
    if others or not isinstance(first, slice):
        return None
    bounds = [first.start, first.stop, first.step]
    known = [v.data.item() if isinstance(v, Constant) else v for v in bounds]
    return None if any(isinstance(v, Variable) for v in known) else slice(*known)


# ---------------------------------------------------------------------------
# 2. Work that moves out of the scan


class _Kinds(NamedTuple):
    """The variables of a step, sorted by when they can be computed.

    Attributes
    ----------
    order : list of Apply
        All nodes except those of ``sums``, in the order in which they run.
    varies : set of variable
        Variables that differ from step to step.
    before : set of variable
        Variables that depend on sequences and parameters only.
    after : set of variable
        Variables that no later step needs.
    sums : dict of variable to Apply
        See `_sums_over_steps`.
    """

    order: list[Apply]
    varies: set[Variable]
    before: set[Variable]
    after: set[Variable]
    sums: dict[Variable, Apply]


def _kinds_of(args: ScanArgs) -> _Kinds:
    """Sort the variables of a step; those in neither ``before`` nor ``after`` stay inside."""
    sums = _sums_over_steps(args)
    order = [n for n in _inner_nodes(args) if n.outputs[0] not in sums and n not in sums.values()]
    parameters = set(args.inner_in_non_seqs)
    varies = _made_of(order, [v for v in args.inner_inputs if v not in parameters])
    before = _computed_before(order, varies, set(args.inner_in_seqs))
    fed_back = set(ancestors(v for v in _recurrent_outputs(args) if v not in sums))
    after = _computed_after(order, varies - before, fed_back)
    before -= arithmetic_inside(args, order, before, after, sums)
    return _Kinds(order, varies, before, after, sums)


def hoist(fgraph: FunctionGraph, node: Apply) -> None:
    """Move work that no step waits for out of a scan, before or after it.

    Parameters
    ----------
    fgraph : FunctionGraph
        Changed in place.
    node : Apply
        Node of a `Scan`.  This skips it if its number of steps is unknown or if it
        has a stopping condition.
    """
    steps = _number_of_steps(node)
    if steps is None or node.op.info.as_while:
        return
    args = _open_scan(node, simplify=True)
    order, varies, before, after, sums = _kinds_of(args)
    if not (before or after or sums):
        return
    outside = {*args.inner_in_seqs, *before, *after}
    nit_sot, shared = list(args.inner_out_nit_sot), list(args.inner_out_shared)

    # Keys are variables of one step, values the same at all steps.
    values: dict[Variable, Any] = dict(zip(args.inner_in_non_seqs, args.outer_in_non_seqs))
    for v, sequence in zip(args.inner_in_seqs, list[Any](args.outer_in_seqs)):
        values[v] = sequence if _first_length(fgraph, sequence) == steps else sequence[:steps]
    values |= _over_time(_in_order(order, before), values)

    # Variables computed before the scan become its sequences.
    inside = [n for n in order if n.outputs[0] not in outside]
    read = {v for n in inside for v in n.inputs} | set(_recurrent_outputs(args))
    results = {v: v.type() for v in _in_order(order, before & read)}
    args.inner_in_seqs += results.values()
    args.outer_in_seqs += [values[v] for v in results]

    # Variables read after the scan become its outputs; sums are outputs no longer.
    read = {v for n in order if n.outputs[0] in after for v in n.inputs}
    read |= {*nit_sot, *(v for addend in sums.values() for v in addend.inputs)}
    args.inner_out_nit_sot = _in_order(order, (read & varies) - outside, args.inner_inputs)
    args.outer_in_nit_sot = [args.n_steps] * len(args.inner_out_nit_sot)
    kept = [k for k, v in enumerate(shared) if v not in sums]
    args.inner_in_shared = [args.inner_in_shared[k] for k in kept]
    args.inner_out_shared = [shared[k] for k in kept]
    starts, args.outer_in_shared = args.outer_in_shared, [args.outer_in_shared[k] for k in kept]

    outputs = _close_scan(node, args, results)
    n_traced = len(node.outputs) - len(nit_sot) - len(shared)
    n_kept = n_traced + len(args.inner_out_nit_sot)
    values |= zip(args.inner_out_nit_sot, outputs[n_traced:n_kept])
    values |= _over_time(_in_order(order, after), values)
    at_all_steps = [values[v] if v in varies else _repeated(v, values, steps) for v in nit_sot]
    # A variable in `values` may also be a state of which only the last value is kept.
    last = dict(zip(args.inner_out_shared, outputs[n_kept:]))
    last |= {v: start + _total(sums[v], values) for v, start in zip(shared, starts) if v in sums}
    at_last_step = [last[v] for v in shared]
    _replace_outputs(fgraph, node, [*outputs[:n_traced], *at_all_steps, *at_last_step])


def _repeated(v: Variable, values: Mapping[Variable, Any], steps: int) -> Any:
    """Repeat a variable that is the same at each step over all steps."""
    (once,) = _over_time([v], values).values()
    return pt.alloc(once, steps, *once.shape)


def _sums_over_steps(args: ScanArgs) -> dict[Variable, Apply]:
    """Find states that only add something up, and of which only the last value is kept.

    Returns
    -------
    dict of variable to Apply
        The state and the node that computes its addend: a sum (gradient of a
        bias) or a matrix product (gradient of a weight).
    """
    users, outputs = _users_of(_inner_nodes(args)), args.inner_outputs
    sums = {}
    for start, end in zip(args.inner_in_shared, args.inner_out_shared):
        # A step must neither use the sum so far nor return it.
        if users[start] != [end.owner] or users[end] or start in outputs or outputs.count(end) > 1:
            continue
        addends = [v for v in end.owner.inputs if v is not start]
        if not _is_add(end.owner) or len(addends) != 1:
            continue
        addend = addends[0].owner
        is_alone = users[addends[0]] == [end.owner] and addends[0] not in outputs
        if is_alone and addend is not None and isinstance(addend.op, CAReduce | Dot):
            sums[end] = addend
    return sums


def _total(addend: Apply, values: Mapping[Variable, Any]) -> Any:
    """Sum the output of ``addend`` over all steps; a sum of products becomes one product."""
    a, *others = (values.get(v, v) for v in addend.inputs)
    if isinstance(addend.op, Dot) and a.ndim == others[0].ndim == 3:
        (b,) = others  # a and b have the shapes (T, m, k) and (T, k, n)
        # XLA multiplies by a transposed matrix without copying it.  It would copy a transposed
        # array of three axes.
        rows = a.dimshuffle(0, 2, 1).reshape((-1, a.shape[1]))
        return rows.T @ b.reshape((-1, b.shape[2]))
    (at_each_step,) = _over_time(addend.outputs, values).values()
    return at_each_step.sum(axis=0, dtype=at_each_step.dtype)


def _computed_before(
    order: Sequence[Apply], varies: set[Variable], sequences: set[Variable]
) -> set[Variable]:
    """Find variables that depend only on sequences and on variables that do not vary."""
    before: set[Variable] = set()
    for node in order:
        if _is_possible_over_time(node, varies) and all(
            v in sequences or v in before for v in node.inputs if v in varies
        ):
            before.update(node.outputs)
    return before


def _computed_after(
    order: Sequence[Apply], varies: set[Variable], fed_back: set[Variable]
) -> set[Variable]:
    """Find variables that only others of them read: no later step, nothing in the scan."""
    users = _users_of(order)
    after: set[Variable] = set()
    for node in reversed(order):
        if (
            _is_possible_over_time(node, varies)
            and not any(v in fed_back for v in node.outputs)
            and all(user.outputs[0] in after for v in node.outputs for user in users[v])
        ):
            after.update(node.outputs)
    return after


def _is_possible_over_time(node: Apply, varies: set[Variable]) -> bool:
    """Return whether a varying operation can be computed for all steps at once.

    A product whose second matrix varies cannot: it would remain one product for
    each step.
    """
    return (
        isinstance(node.op, OVER_TIME)
        and all(v in varies for v in node.outputs)
        and not (isinstance(node.op, Dot) and node.inputs[1] in varies)
    )


def _over_time(
    variables: Iterable[Variable], values: Mapping[Variable, Any]
) -> dict[Variable, Any]:
    """Compute variables of one step for all steps at once, from the ``values`` of others."""
    variables = list(variables)
    return dict(zip(variables, vectorize_graph(variables, values))) if variables else {}


# ---------------------------------------------------------------------------
# 3. Work that stays in the scan


def arithmetic_inside(
    args: ScanArgs,
    order: Sequence[Apply],
    before: set[Variable],
    after: set[Variable],
    sums: Mapping[Variable, Apply],
) -> set[Variable]:
    """Find variables that could move before the scan but cost less inside it.

    For example, the scan then reads y at all steps instead of both y and 1 - y.
    Only the scan reads these variables, and each needs at most one sequence that
    the scan did not read already.

    Parameters
    ----------
    args : ScanArgs
        Parts of the scan.
    order, before, after, sums
        See `_Kinds`.

    Returns
    -------
    set of variable
        Subset of ``before``.
    """
    users, outputs = _users_of([*order, *sums.values()]), args.inner_outputs
    inside = {v for node in order for v in node.outputs} - before - after
    read = {v for node in order if node.outputs[0] in inside for v in node.inputs}
    for node in reversed(order):
        v = node.outputs[0]
        if v not in before or v in outputs or not _is_elementwise(node, ARITHMETIC):
            continue
        new = {w for w in node.inputs if w in before or w in args.inner_in_seqs} - read
        if len(new) <= 1 and all(user.outputs[0] in inside for user in users[v]):
            inside.add(v)
            read |= new
    return before & inside


def sink_transposes(fgraph: FunctionGraph, node: Apply) -> None:
    """Move transposes of matrices into a scan.

    XLA multiplies by a matrix or by its transpose at the same cost.  But it
    writes a transpose that is outside of a loop to memory, and copies it again.
    The copy is worth it over many steps, because XLA multiplies faster by it for
    some shapes.

    Parameters
    ----------
    fgraph : FunctionGraph
        Changed in place.
    node : Apply
        Node of a `Scan`.  This skips it if it has more than `FEW_STEPS` steps.
    """
    steps = _number_of_steps(node)
    if steps is None or steps > FEW_STEPS:
        return
    args = _open_scan(node)
    transposed: dict[Variable, Variable] = {}
    for k, outer in enumerate(args.outer_in_non_seqs):
        if is_transpose(outer.owner):
            matrix = outer.owner.inputs[0]
            inner = matrix.type()
            transposed[args.inner_in_non_seqs[k]] = inner.T
            args.outer_in_non_seqs[k], args.inner_in_non_seqs[k] = matrix, inner
    if transposed:
        _replace_outputs(fgraph, node, _close_scan(node, args, transposed))


# ---------------------------------------------------------------------------
# Scans and their parts


def _number_of_steps(node: Apply) -> int | None:
    """Return the number of steps of a scan; None if it is unknown."""
    steps = node.inputs[0]
    return int(steps.data) if isinstance(steps, Constant) else None


def _first_length(fgraph: FunctionGraph, v: Variable) -> int | None:
    """Return the length of a variable's first axis; None if it is unknown."""
    if v.type.shape[0] is not None:
        return v.type.shape[0]
    length = fgraph.shape_feature.get_shape(v, 0)
    return int(length.data) if isinstance(length, Constant) else None


def editable(fgraph: Any) -> FunctionGraph:
    """Copy the inner graph of a scan so that it can be changed.

    Parameters
    ----------
    fgraph : FunctionGraph, frozen or not

    Returns
    -------
    FunctionGraph
    """
    # PyTensor from 3.1 on freezes inner graphs; a frozen one cannot be edited.
    return fgraph.unfreeze() if hasattr(fgraph, "unfreeze") else fgraph.clone()


def settings_of(scan: Scan) -> dict[str, Any]:
    """Return the arguments that made a scan, without its graph.

    Parameters
    ----------
    scan : Scan

    Returns
    -------
    dict of str to value
        Keyword arguments of `Scan` for another scan like it.
    """
    return {
        name: getattr(scan, name)
        for name in inspect.signature(Scan.__init__).parameters
        if name not in ("self", "inputs", "outputs", "info") and hasattr(scan, name)
    }


def _open_scan(node: Apply, simplify: bool = False) -> ScanArgs:
    """Return the parts of a scan; change them and pass them to `_close_scan`."""
    inner: Any = editable(node.op.fgraph)
    if simplify:
        inner = rewrite_graph(inner, include=("canonicalize",), clone=False)
    return ScanArgs(node.inputs, node.outputs, inner.inputs, inner.outputs, node.op.info)


def _close_scan(
    node: Apply, args: ScanArgs, replace: Mapping[Variable, Variable] | None = None
) -> list[Variable]:
    """Make a scan of changed parts, without unused inputs; return its outputs."""
    outputs: Any = graph_replace(args.inner_outputs, dict(replace or {}), strict=False)
    if not outputs:
        return []
    used = set(ancestors(outputs))
    for kind in ("seqs", "non_seqs"):
        inner, outer = getattr(args, f"inner_in_{kind}"), getattr(args, f"outer_in_{kind}")
        kept = [k for k, v in enumerate(inner) if v in used]
        setattr(args, f"inner_in_{kind}", [inner[k] for k in kept])
        setattr(args, f"outer_in_{kind}", [outer[k] for k in kept])
    scan = Scan(args.inner_inputs, outputs, args.info, **settings_of(node.op))
    return scan.make_node(*args.outer_inputs).outputs


def _replace_outputs(fgraph: FunctionGraph, node: Apply, new: Sequence[Variable]) -> None:
    """Replace the outputs of ``node`` by ``new``."""
    pairs = [(old, old.type.filter_variable(v)) for old, v in zip(node.outputs, new)]
    fgraph.replace_all(pairs, reason="cle_port.graph.scans")


def _inner_nodes(args: ScanArgs) -> list[Apply]:
    """Return the nodes of a step in the order in which they run."""
    return list(io_toposort(args.inner_inputs, args.inner_outputs))


def _recurrent_outputs(args: ScanArgs) -> list[Variable]:
    """Return the outputs of a step that a later step reads."""
    mit_mot = [v for outputs in args.inner_out_mit_mot for v in outputs]
    return [*mit_mot, *args.inner_out_mit_sot, *args.inner_out_sit_sot, *args.inner_out_shared]


def _users_of(order: Iterable[Apply]) -> dict[Variable, list[Apply]]:
    """Return the nodes that read each variable."""
    users: dict[Variable, list[Apply]] = defaultdict(list)
    for node in order:
        for v in dict.fromkeys(node.inputs):
            users[v].append(node)
    return users


def _made_of(order: Iterable[Apply], roots: Iterable[Variable]) -> set[Variable]:
    """Return ``roots`` and all variables that depend on them."""
    made = set(roots)
    for node in order:
        if any(v in made for v in node.inputs):
            made.update(node.outputs)
    return made


def _in_order(
    order: Iterable[Apply], chosen: set[Variable], first: Iterable[Variable] = ()
) -> list[Variable]:
    """Sort chosen variables by when they are computed: a graph never depends on a set's order."""
    every = [*first, *(v for node in order for v in node.outputs)]
    return [v for v in every if v in chosen]


def _identities(variables: Iterable[Variable]) -> tuple[Any, ...]:
    """Return keys that are equal for equal variables; constants are equal by value."""
    return tuple(v.merge_signature() if isinstance(v, Constant) else v for v in variables)


def _is_add(node: Apply) -> bool:
    """Return whether a node adds elementwise."""
    return _is_elementwise(node, Add)


def _is_elementwise(node: Apply, kinds: type | tuple[type, ...]) -> bool:
    """Return whether a node applies one of these scalar operations elementwise."""
    return isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, kinds)


def is_transpose(node: Apply | None) -> bool:
    """Return whether a node transposes a matrix."""
    return node is not None and isinstance(node.op, DimShuffle) and node.op.new_order == (1, 0)
