"""Merging equal operations inside scans: the same numbers from fewer nodes."""

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.fg import FunctionGraph
from pytensor.scan.op import Scan

from cle_port.graph import compile_function
from cle_port.graph.merging import MergeInsideScans, merged
from tests.units import compile_plainly

T, B, D = 4, 3, 2
WEIGHTS = np.array([[0.5, -0.25], [0.125, 0.75]])
X = np.random.default_rng(1).standard_normal((T, B, D))


def inner_nodes(fn):
    """Numbers of nodes inside the scans of a function graph."""
    return [len(node.op.fgraph.apply_nodes) for node in fn.toposort() if isinstance(node.op, Scan)]


def test_MergeInsideScans_keeps_the_numbers_with_far_fewer_nodes():
    """The gradient of a scan holds a copy of the step for each of its outputs."""

    def step(x_t, h):
        outputs = []
        for _ in range(6):  # each from the one before
            h = pt.tanh(pt.dot(x_t, W) + h)
            outputs.append(h)
        return outputs

    with pytensor.config.change_flags(floatX="float64"):
        x, W = pt.tensor("x", shape=(T, B, D)), pt.tensor("W", shape=(D, D))
        info = [pt.zeros((B, D))] + [None] * 5
        states = pytensor.scan(step, sequences=[x], outputs_info=info, return_updates=False)
        cost = pt.add(*(pt.sum(h**2) for h in states))
        outputs = [cost, pytensor.grad(cost, W)]
        fgraph = FunctionGraph([x, W], outputs, clone=True)
        before = inner_nodes(fgraph)
        MergeInsideScans().rewrite(fgraph)
        after = inner_nodes(fgraph)
        ours = compile_plainly(fgraph.inputs, fgraph.outputs)(X, WEIGHTS)
        theirs = compile_plainly([x, W], outputs)(X, WEIGHTS)
    assert len(before) == len(after) == 2
    assert after[1] < before[1] / 2, (before, after)
    for value, expected in zip(ours, theirs):
        np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_merged_leaves_equal_things_once():
    x, y = pt.dscalars("x", "y")
    # Three times the same, each from copies of its own, constants included.
    outputs = [pt.exp(x + 1.0) * y for _ in range(3)] + [pt.exp(x + 2.0)]
    fgraph = FunctionGraph([x, y], outputs, clone=False)
    ours = merged(fgraph)
    assert len(fgraph.apply_nodes) == 11
    assert len(ours.apply_nodes) == 5
    assert [v.name for v in ours.inputs] == ["x", "y"]
    assert ours.outputs[0] is ours.outputs[1] is ours.outputs[2]
    values = compile_plainly(ours.inputs, ours.outputs)(0.5, 2.0)
    np.testing.assert_allclose(values, [2 * np.exp(1.5)] * 3 + [np.exp(2.5)], rtol=1e-15)


def test_merged_tells_constants_apart_by_type():
    x = pt.dscalar("x")
    one_f, one_i = pt.constant(1.0, dtype="float64"), pt.constant(1, dtype="int8")
    ours = merged(FunctionGraph([x], [x + one_f, x + one_i], clone=False))
    assert len(ours.apply_nodes) >= 2


def test_merged_tells_outputs_of_a_node_apart():
    x = pt.dvector("x")
    first, second = pt.split(x, [1, 1], n_splits=2)
    again = pt.split(x, [1, 1], n_splits=2)
    ours = merged(FunctionGraph([x], [first - second, again[0] - again[1]], clone=False))
    assert ours.outputs[0] is ours.outputs[1]
    np.testing.assert_array_equal(
        compile_plainly(ours.inputs, ours.outputs[0])(np.array([3.0, 1.0])), [2.0]
    )


def test_scans_are_merged_whenever_something_is_compiled(monkeypatch):
    """PyTensor's own modes are left as they are."""
    seen = []
    monkeypatch.setattr(MergeInsideScans, "apply", lambda self, fgraph: seen.append(fgraph))
    compile_function([], pt.constant(1.0) + 1.0, None, "jax")
    assert len(seen) == 1
    pytensor.function([], pt.constant(1.0) + 1.0, mode="JAX")
    assert len(seen) == 1
