"""Rewritings that take out of a scan what need not be inside.

Both the original and this port write a model as one step that `scan` repeats,
and leave it to the compiler to find out what really has to wait for the step
before.  Theano and PyTensor find some of it.  The rewritings here find the
rest, in the training graph, where a scan goes forward and another, made by
`grad`, goes back:

1. `share_preactivations`: the scan that goes back repeats the forward step to
   have its values.  It gets the results of the matrix products instead.
2. `take_out`: what depends on no earlier step is computed for all steps at
   once before the scan; what no later step depends on, after it; sums over
   steps are taken outside.  Many small matrix products become few large ones.
3. Some things stay inside, for memory is slower than arithmetic: the difference
   `1 - y` of a gate's gradient (`arithmetic_inside`) and the transpose of a
   weight matrix (`take_in_transposes`).

No number changes but for the order in which rounding happens.  They need to
know the number of steps when the graph is compiled; otherwise they leave the
scan alone.

PyTensor's names for what a step has (`ScanArgs`; ``inner_`` for its own
variable of one step, ``outer_`` for what the graph around it has for that):

``seqs``, ``non_seqs``
    Sequences, of which it reads an entry, and what is the same at every step.
``sit_sot``
    States: results that the next step reads, kept for all steps.
``shared``
    States of which only the last value is kept.
``mit_sot``, ``mit_mot``
    States that later steps read, or several steps write: as they are made by
    `grad`.
``nit_sot``
    Results that no step reads.

No counterpart in the original.  docs/performance.md has what they gain.
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

# Operations that PyTensor can carry out for all steps at once without a loop.
OVER_TIME = (CAReduce, DimShuffle, Dot, Elemwise, Join, Softmax, Split, Subtensor)
# Operations that take less time than to write their result to memory and to read it again.
ARITHMETIC = (Add, Mul, Neg, Sqr, Sub)
# Steps for which a transposed copy of a matrix does not pay.
FEW_STEPS = 100


class TakeOutOfScans(GraphRewriter):
    """Apply this module's rewritings to every scan of a graph.

    To be run after PyTensor's own simplifications of the graph around the
    scans, which settle numbers of steps and shapes.
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
            take_out(fgraph, scan)
        for node in fgraph.toposort():
            if isinstance(node.op, Scan):
                take_in_transposes(fgraph, node)


# ---------------------------------------------------------------------------
# 1. What the way back needs of the way forward


def share_preactivations(
    fgraph: FunctionGraph, forward: Apply, backward: Apply
) -> tuple[Apply, Apply]:
    """Let a scan use the sums of matrix products that an earlier one has computed.

    The scan that `grad` makes holds a copy of the forward step, fed with the
    sequences, states and parameters of the forward scan.  Each sum of products
    in that copy becomes an output of the forward scan and a sequence of this
    one.  What is made of them entry by entry costs little; `take_out` takes it
    out.

    Parameters
    ----------
    fgraph : FunctionGraph
        Changed in place.
    forward, backward : Apply
        Two `Scan`s, in the order in which they run.

    Returns
    -------
    tuple of Apply
        Both scans as they are now: unchanged if they have nothing in common, or
        if their numbers of steps are not known or differ.
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
    """Sums of matrix products in the step of ``bwd`` that are in that of ``fwd`` too.

    Parameters
    ----------
    fwd, bwd : ScanArgs
    twins : dict of variable of ``bwd`` to variable of ``fwd``
        Inputs that are the same; the variables made of them are added.
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
    """Inputs of the step of ``bwd`` and what they are in ``fwd``, whose steps it takes back."""
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
    """Find out what a sequence is cut out of.

    Parameters
    ----------
    fgraph : FunctionGraph
    sequence : variable
        Such as ``v[:-1][::-1]``.

    Returns
    -------
    variable, tuple of int
        ``v``, and which of its entries the sequence has, in order.  Where that is
        not known, the sequence itself and nothing.
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
    """Slice of the first axis that a `Subtensor` takes, if it takes one and it is known."""
    first, *others = get_idx_list(node.inputs, node.op.idx_list)
    if others or not isinstance(first, slice):
        return None
    bounds = [first.start, first.stop, first.step]
    known = [v.data.item() if isinstance(v, Constant) else v for v in bounds]
    return None if any(isinstance(v, Variable) for v in known) else slice(*known)


# ---------------------------------------------------------------------------
# 2. What need not be inside


class _Kinds(NamedTuple):
    """What a step computes, by what has to wait for what.

    Attributes
    ----------
    order : list of Apply
        All nodes in the order in which they run, but for those of ``sums``.
    varies : set of variable
        What differs from step to step.
    before : set of variable
        What depends on sequences and parameters alone.
    after : set of variable
        What no later step needs.
    sums : dict of variable to Apply
        See `_sums_over_steps`.
    """

    order: list[Apply]
    varies: set[Variable]
    before: set[Variable]
    after: set[Variable]
    sums: dict[Variable, Apply]


def _kinds_of(args: ScanArgs) -> _Kinds:
    """Tell what may be computed before and after a scan; the rest has to stay inside."""
    sums = _sums_over_steps(args)
    order = [n for n in _inner_nodes(args) if n.outputs[0] not in sums and n not in sums.values()]
    parameters = set(args.inner_in_non_seqs)
    varies = _made_of(order, [v for v in args.inner_inputs if v not in parameters])
    before = _computed_before(order, varies, set(args.inner_in_seqs))
    fed_back = set(ancestors(v for v in _recurrent_outputs(args) if v not in sums))
    after = _computed_after(order, varies - before, fed_back)
    before -= arithmetic_inside(args, order, before, after, sums)
    return _Kinds(order, varies, before, after, sums)


def take_out(fgraph: FunctionGraph, node: Apply) -> None:
    """Compute before and after a scan what no step has to wait for.

    Parameters
    ----------
    fgraph : FunctionGraph
        Changed in place.
    node : Apply
        Of a `Scan`.  Left alone if its number of steps is not known, or if it
        has a condition to end.
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

    # Values at all steps, by the variable of one step.
    values: dict[Variable, Any] = dict(zip(args.inner_in_non_seqs, args.outer_in_non_seqs))
    for v, sequence in zip(args.inner_in_seqs, list[Any](args.outer_in_seqs)):
        values[v] = sequence if _first_length(fgraph, sequence) == steps else sequence[:steps]
    values |= _over_time(_in_order(order, before), values)

    # What is computed before comes in as sequences.
    inside = [n for n in order if n.outputs[0] not in outside]
    read = {v for n in inside for v in n.inputs} | set(_recurrent_outputs(args))
    results = {v: v.type() for v in _in_order(order, before & read)}
    args.inner_in_seqs += results.values()
    args.outer_in_seqs += [values[v] for v in results]

    # What is read after goes out as sequences, and sums do not.
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
    # A variable may be among these and be a state as well, whose value is the last one alone.
    last = dict(zip(args.inner_out_shared, outputs[n_kept:]))
    last |= {v: start + _total(sums[v], values) for v, start in zip(shared, starts) if v in sums}
    at_last_step = [last[v] for v in shared]
    _replace_outputs(fgraph, node, [*outputs[:n_traced], *at_all_steps, *at_last_step])


def _repeated(v: Variable, values: Mapping[Variable, Any], steps: int) -> Any:
    """Value at all steps of a variable that is the same at each."""
    (once,) = _over_time([v], values).values()
    return pt.alloc(once, steps, *once.shape)


def _sums_over_steps(args: ScanArgs) -> dict[Variable, Apply]:
    """States that only add something up, of which the last is kept; and the node of what they add.

    That is a sum (the gradient of a bias) or a product (that of a weight).
    """
    users, outputs = _users_of(_inner_nodes(args)), args.inner_outputs
    sums = {}
    for start, end in zip(args.inner_in_shared, args.inner_out_shared):
        # No step may look at what has been added up so far, nor give it out.
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
    """Sum over all steps of what ``addend`` computes at one; that of products is one product."""
    a, *others = (values.get(v, v) for v in addend.inputs)
    if isinstance(addend.op, Dot) and a.ndim == others[0].ndim == 3:
        (b,) = others  # a and b have the shapes (T, m, k) and (T, k, n)
        # XLA reads a transposed matrix as it stands; each step's transposed it would write out.
        rows = a.dimshuffle(0, 2, 1).reshape((-1, a.shape[1]))
        return rows.T @ b.reshape((-1, b.shape[2]))
    (at_each_step,) = _over_time(addend.outputs, values).values()
    return at_each_step.sum(axis=0, dtype=at_each_step.dtype)


def _computed_before(
    order: Sequence[Apply], varies: set[Variable], sequences: set[Variable]
) -> set[Variable]:
    """Variables made of sequences, and of what does not vary, alone."""
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
    """Variables that nothing reads but others of these: no later step, nothing inside."""
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
    """Whether an operation varies from step to step and can be done for all steps at once.

    Not so a product whose second matrix varies: it would become one product a
    step.
    """
    return (
        isinstance(node.op, OVER_TIME)
        and all(v in varies for v in node.outputs)
        and not (isinstance(node.op, Dot) and node.inputs[1] in varies)
    )


def _over_time(
    variables: Iterable[Variable], values: Mapping[Variable, Any]
) -> dict[Variable, Any]:
    """Variables of one step for all steps at once, from the ``values`` of others."""
    variables = list(variables)
    return dict(zip(variables, vectorize_graph(variables, values))) if variables else {}


# ---------------------------------------------------------------------------
# 3. What had better stay inside


def arithmetic_inside(
    args: ScanArgs,
    order: Sequence[Apply],
    before: set[Variable],
    after: set[Variable],
    sums: Mapping[Variable, Apply],
) -> set[Variable]:
    """Variables that could be computed before, but cost less to compute at each step.

    The scan reads y at all steps, say, in place of both y and 1 - y.  They are
    read inside only, and cost it at most one sequence that it did not read.

    Parameters
    ----------
    args : ScanArgs
        Parts of the scan.
    order, before, after, sums
        See `_Kinds`.

    Returns
    -------
    set of variable
        Part of ``before``.
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


def take_in_transposes(fgraph: FunctionGraph, node: Apply) -> None:
    """Give a scan as they are the matrices that it got transposed.

    XLA multiplies by a matrix or by its transpose; but the transpose that it
    finds outside of a loop, it writes to memory, and copies it.  Over many steps
    that pays, for with some shapes it multiplies faster by the copy.

    Parameters
    ----------
    fgraph : FunctionGraph
        Changed in place.
    node : Apply
        Of a `Scan`; left alone from `FEW_STEPS` on.
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
    """Number of steps of a scan, if it is known."""
    steps = node.inputs[0]
    return int(steps.data) if isinstance(steps, Constant) else None


def _first_length(fgraph: FunctionGraph, v: Variable) -> int | None:
    """Length of a variable's first axis, if it is known."""
    if v.type.shape[0] is not None:
        return v.type.shape[0]
    length = fgraph.shape_feature.get_shape(v, 0)
    return int(length.data) if isinstance(length, Constant) else None


def editable(fgraph: Any) -> FunctionGraph:
    """Return a copy of a scan's inner graph that can be changed.

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
    """Return how a scan was made, but for its graph.

    Parameters
    ----------
    scan : Scan

    Returns
    -------
    dict of str to value
        Arguments for another one like it.
    """
    return {
        name: getattr(scan, name)
        for name in inspect.signature(Scan.__init__).parameters
        if name not in ("self", "inputs", "outputs", "info") and hasattr(scan, name)
    }


def _open_scan(node: Apply, simplify: bool = False) -> ScanArgs:
    """Parts of a scan, to be changed and given to `_close_scan`."""
    inner: Any = editable(node.op.fgraph)
    if simplify:
        inner = rewrite_graph(inner, include=("canonicalize",), clone=False)
    return ScanArgs(node.inputs, node.outputs, inner.inputs, inner.outputs, node.op.info)


def _close_scan(
    node: Apply, args: ScanArgs, replace: Mapping[Variable, Variable] | None = None
) -> list[Variable]:
    """Outputs of a scan like that of ``node``, with changed parts and without unused inputs."""
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
    """Put ``new`` in the place of the outputs of ``node``."""
    pairs = [(old, old.type.filter_variable(v)) for old, v in zip(node.outputs, new)]
    fgraph.replace_all(pairs, reason="cle_port.loops")


def _inner_nodes(args: ScanArgs) -> list[Apply]:
    """Nodes of a step in the order in which they run."""
    return list(io_toposort(args.inner_inputs, args.inner_outputs))


def _recurrent_outputs(args: ScanArgs) -> list[Variable]:
    """Outputs of a step that a later step reads."""
    mit_mot = [v for outputs in args.inner_out_mit_mot for v in outputs]
    return [*mit_mot, *args.inner_out_mit_sot, *args.inner_out_sit_sot, *args.inner_out_shared]


def _users_of(order: Iterable[Apply]) -> dict[Variable, list[Apply]]:
    """Nodes that read a variable, by variable."""
    users: dict[Variable, list[Apply]] = defaultdict(list)
    for node in order:
        for v in dict.fromkeys(node.inputs):
            users[v].append(node)
    return users


def _made_of(order: Iterable[Apply], roots: Iterable[Variable]) -> set[Variable]:
    """``roots`` and all variables that depend on them."""
    made = set(roots)
    for node in order:
        if any(v in made for v in node.inputs):
            made.update(node.outputs)
    return made


def _in_order(
    order: Iterable[Apply], chosen: set[Variable], first: Iterable[Variable] = ()
) -> list[Variable]:
    """Chosen variables in the order in which they come about: no set decides on a graph."""
    every = [*first, *(v for node in order for v in node.outputs)]
    return [v for v in every if v in chosen]


def _identities(variables: Iterable[Variable]) -> tuple[Any, ...]:
    """What tells equal variables: constants by their value, others by themselves."""
    return tuple(v.merge_signature() if isinstance(v, Constant) else v for v in variables)


def _is_add(node: Apply) -> bool:
    """Whether a node adds entry by entry."""
    return _is_elementwise(node, Add)


def _is_elementwise(node: Apply, kinds: type | tuple[type, ...]) -> bool:
    """Whether a node does one of some kinds of scalar operation, entry by entry."""
    return isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, kinds)


def is_transpose(node: Apply | None) -> bool:
    """Whether a node transposes a matrix."""
    return node is not None and isinstance(node.op, DimShuffle) and node.op.new_order == (1, 0)
