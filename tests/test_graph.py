"""Compiling: the same numbers on each backend and in each precision, and nothing left changed."""

import ast
import gc
import inspect
import json
import os
import subprocess
import sys
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import get_mode, optdb
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.db import RewriteDatabase
from pytensor.scan.op import Scan
from pytensor.scan.utils import ScanArgs
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import CAReduce

from cle_port import graph
from cle_port.errors import UserError
from cle_port.graph import (
    REPLACED,
    WITHOUT_USE,
    Compiler,
    building,
    compile_function,
    scans,
)
from cle_port.graph.merging import MergeInsideScans
from cle_port.graph.scans import HoistOutOfScans
from cle_port.utils import nnet, sharedX
from cle_port.utils.nnet import softplus
from tests.units import FLOATS

ROOT = Path(__file__).resolve().parents[1]
T, B, D = 4, 3, 2
WEIGHTS = np.array([[0.5, -0.25], [0.125, 0.75]])
X = np.random.default_rng(1).standard_normal((T, B, D))


def recurrence(W, floatX):
    """A scan that carries a sum over the batch: its inputs, a cost, and the gradient."""
    x = pt.tensor("x", shape=(T, B, D), dtype=floatX)

    def step(x_t, h, total):
        h = pt.tanh(pt.dot(x_t, W) + h)
        return h, total + pt.sum(h, axis=0)

    states, totals = pytensor.scan(
        step,
        sequences=[x],
        outputs_info=[pt.zeros((B, D), dtype=floatX), pt.zeros(D, dtype=floatX)],
        return_updates=False,
    )
    cost = pt.mean(states**2) + pt.sum(totals[-1])
    return x, cost, pytensor.grad(cost, W)


def by_numpy(x, W):
    """Cost and gradient of `recurrence`, the latter by differences, in double precision."""

    def cost(W):
        h = np.zeros((B, D))
        states, total = [], 0
        for x_t in x:
            h = np.tanh(x_t @ W + h)
            states.append(h)
            total += h.sum()
        return np.mean(np.square(states)) + total

    gradient = np.zeros_like(W)
    for i in np.ndindex(W.shape):
        e = np.zeros_like(W)
        e[i] = 1e-6
        gradient[i] = (cost(W + e) - cost(W - e)) / 2e-6
    return cost(W), gradient


@pytest.mark.parametrize("how", ["fast", "plain"])
@pytest.mark.parametrize("floatX", FLOATS)
def test_jax(floatX, how):
    """Both precisions in one process, sums inside a scan, updates, a float64 array for float32."""
    with pytensor.config.change_flags(floatX=floatX):
        W = sharedX(WEIGHTS, "W")
        x, cost, gradient = recurrence(W, floatX)
        compiler = Compiler("jax", graph=how)
        fn = compiler.function([x], [cost, gradient], {W: W - gradient})
        first = [np.asarray(value) for value in fn(X)]
    expected = by_numpy(X, WEIGHTS)
    assert [value.dtype for value in first] == [floatX, floatX]
    rtol = {"float64": 1e-8, "float32": 1e-5}[floatX]  # float64: that of the differences
    for ours, theirs in zip(first, expected):
        np.testing.assert_allclose(ours, theirs, rtol=rtol)
    assert W.get_value().dtype == floatX
    np.testing.assert_allclose(W.get_value(), WEIGHTS - expected[1], rtol=rtol)


@pytest.mark.parametrize("floatX", FLOATS)
def test_a_plain_graph_has_the_numbers_of_a_fast_one(floatX):
    values = {}
    for how in graph.GRAPHS:
        with pytensor.config.change_flags(floatX=floatX):
            x, cost, gradient = recurrence(sharedX(WEIGHTS, "W"), floatX)
            values[how] = compile_function([x], [cost, gradient], None, "jax", graph=how)(X)
    for plain, fast in zip(values["plain"], values["fast"]):
        assert plain.dtype == fast.dtype == floatX
        np.testing.assert_allclose(plain, fast, rtol=16 * np.finfo(floatX).eps)


@pytest.mark.parametrize("backend", ["jax", "numba"])
def test_a_plain_graph_uses_rewritings_of_PyTensor_only(backend, monkeypatch):
    def fail(self, fgraph):
        raise AssertionError(f"{type(self).__name__} ran")

    for rewriter in (MergeInsideScans, HoistOutOfScans):
        monkeypatch.setattr(rewriter, "apply", fail)
    x, cost, gradient = recurrence(sharedX(WEIGHTS, "W"), "float64")
    with pytest.raises(AssertionError, match="MergeInsideScans ran"):
        compile_function([x], [cost, gradient], None, backend)
    compile_function([x], cost, None, backend, graph="plain")


def test_a_plain_graph_folds_constants_as_PyTensor_does(monkeypatch):
    def fail():
        raise AssertionError("zeros_unfolded ran")

    monkeypatch.setattr(graph, "zeros_unfolded", fail)
    with pytest.raises(AssertionError, match="zeros_unfolded ran"):
        compile_function([], pt.constant(1.0), None, "jax")
    compile_function([], pt.constant(1.0), None, "jax", graph="plain")


@pytest.mark.parametrize("make", [compile_function, lambda *a, **k: Compiler(**k).function(*a)])
def test_unknown_graph(make):
    with pytest.raises(UserError, match=r"^unknown graph 'quick'; choose one of fast, plain$"):
        make([], pt.constant(1.0), graph="quick")


def test_softplus_is_computed_once():
    """PyTensor's own translation has three exponentials, for ranges of which one counts."""
    x = pt.tensor("x", dtype="float64", shape=(3,))
    fn = compile_function([x], [softplus(x)], None, "jax")
    assert fn.vm.jit_fn.lower(np.zeros(3)).as_text().count("stablehlo.exponential") == 1


@pytest.mark.skipif(not pytensor.config.cxx, reason="there is no C++ compiler")
@pytest.mark.system
def test_c():
    """One small graph: each operation takes the C++ compiler a second or more."""
    with pytensor.config.change_flags(floatX="float64"):
        x, total = pt.dvector("x"), sharedX(np.zeros(3), "total")
        fn = compile_function([x], 2 * x + 1, {total: total + x}, "c")
        np.testing.assert_array_equal(fn(np.arange(3.0)), [1, 3, 5])
        np.testing.assert_array_equal(total.get_value(), np.arange(3.0))


def test_unused_inputs_are_allowed():
    with pytensor.config.change_flags(floatX="float64"):
        x, y = pt.tensor("x", shape=(2,)), pt.dscalar("y")
        fn = compile_function([x, y], x + 1, None, "jax")
        np.testing.assert_array_equal(np.asarray(fn(np.zeros(2), 0.0)), [1, 1])


def test_no_large_array_of_one_value_is_written_out_while_rewriting():
    """A scan's gradient adds up a weight's from zeros for all its steps."""
    n, size = 400, 200
    with pytensor.config.change_flags(floatX="float64"):
        x, W = pt.tensor("x", shape=(n, 1, size)), sharedX(np.zeros((size, size)), "W")
        states = pytensor.scan(
            lambda x_t, h: pt.tanh(x_t + pt.dot(h, W)),
            sequences=[x],
            outputs_info=[pt.zeros((1, size))],
            return_updates=False,
        )
        gradient = pytensor.grad(states.sum(), W)
        tracemalloc.start()
        try:
            compile_function([x], gradient, None, "jax")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < n * size**2 * 8 / 2


def test_graphs_are_built_with_less_bookkeeping():
    """And all is as before afterwards, also after an error; who asks for details gets them."""
    before = gc.get_threshold(), pytensor.config.traceback__limit
    with building():
        assert gc.get_threshold()[0] > before[0][0]
        assert not getattr(pt.dscalar().tag, "trace", None)
    with pytest.raises(UserError), building():
        raise UserError("something")
    assert before == (gc.get_threshold(), pytensor.config.traceback__limit)
    with pytensor.config.change_flags(exception_verbosity="high"), building():
        assert pytensor.config.traceback__limit == before[1]


@pytest.mark.parametrize("fails", [False, True])
def test_pytensor_is_left_as_it_was(fails, monkeypatch):
    """Folding of constants and the translation of sums change for a compilation only."""
    from pytensor.link.jax.dispatch import jax_funcify

    compile_function([], pt.constant(1.0), None, "jax")  # importing adds translations for good
    fold, sums = Alloc.do_constant_folding, jax_funcify.dispatch(CAReduce)
    seen = []

    def function(*args, **kwargs):
        seen.append((Alloc.do_constant_folding is fold, jax_funcify.dispatch(CAReduce) is sums))
        if fails:
            raise KeyboardInterrupt
        return compiled(*args, **kwargs)

    compiled = pytensor.function
    monkeypatch.setattr(pytensor, "function", function)
    x = pt.tensor("x", dtype="float32", shape=(3,))
    with pytest.raises(KeyboardInterrupt) if fails else nullcontext():
        compile_function([x], [x.sum()], None, "jax")
    assert seen == [(False, False)]
    assert Alloc.do_constant_folding is fold
    assert jax_funcify.dispatch(CAReduce) is sums


# --- what is left afterwards ------------------------------------------------------------------

LEFT_BEHIND = """
import contextlib, gc, json, sys, warnings
import numpy as np
import jax
import pytensor
import pytensor.link.jax.dispatch as dispatch
import pytensor.tensor as pt
from pytensor.compile.mode import optdb, predefined_modes
from pytensor.tensor.basic import Alloc
from cle_port.graph import Compiler
from cle_port.graph.working_memory import kept_memory

def settings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTensor looks for a BLAS
        ours = {f"pytensor.{k}": str(getattr(pytensor.config, k))
                for k in pytensor.config._config_var_dict}
    modes = {f"mode {k}": f"{m.linker} {m.provided_optimizer}" for k, m in predefined_modes.items()}
    translations = {f"translation of {op}": str(f)
                    for op, f in dispatch.jax_funcify.registry.items()}
    types = {f"conversion of {t}": str(f) for t, f in dispatch.jax_typify.registry.items()}
    return {
        **{f"jax.{k}": str(v) for k, v in jax.config.values.items()},
        **ours, **modes, **translations, **types,
        "jax.config.jax_enable_x64": jax.config.jax_enable_x64,
        "rewritings": sorted(name for name, entries in optdb.__db__.items() if entries),
        "Alloc.do_constant_folding": str(Alloc.do_constant_folding),
        "gc": gc.get_threshold(),
    }

def numbers():
    # A sum over ones, which PyTensor folds; and what it computes, without and with JAX.
    x = pt.vector("x", dtype="float64")
    sums = pytensor.function([], pt.cumsum(pt.ones(50_000)), mode="FAST_COMPILE")
    folded = pytensor.function([], pt.cumsum(pt.ones(50_000)), mode="JAX")
    fns = [pytensor.function([x], pt.tanh(x).sum(), mode=m) for m in ("FAST_COMPILE", "JAX")]
    values = [np.asarray(f(np.linspace(0, 1, 9))) for f in fns]
    return {
        "last sums": [float(np.asarray(f())[-1]) for f in (sums, folded)],
        "nodes": [len(f.maker.fgraph.apply_nodes) for f in (sums, folded)],
        "values": [float(v) for v in values],
        "dtypes": [str(v.dtype) for v in values],
        "JAX": str(jax.numpy.ones(3).dtype),
    }

def use(dtype):
    x = pt.tensor("x", shape=(4, 3, 2), dtype=dtype)
    W = pytensor.shared(np.ones((2, 2), dtype), "W")
    h = pytensor.scan(lambda x_t, h: pt.tanh(pt.dot(x_t, W) + h), sequences=[x],
                      outputs_info=[pt.zeros((3, 2), dtype=dtype)], return_updates=False)
    cost = h.sum()
    fn = Compiler("jax").function([x], cost, {W: W - pytensor.grad(cost, W)})
    return [float(fn(np.ones((4, 3, 2)))) for _ in range(3)]

before = {**settings(), **numbers()}
for dtype in ("float64", "float32"):
    for context in (kept_memory(), contextlib.nullcontext()):
        with context:
            use(dtype)
            within = {**settings(), **numbers()}
        after = {**settings(), **numbers()}
        for when, found in (("within", within), ("after", after)):
            for name in sorted(set(before) | set(found)):
                if before.get(name) != found.get(name):
                    print(f"{dtype}, {when}: {name} is {found.get(name)}, was {before.get(name)}")
"""


def in_a_process_of_its_own(program, tmp_path, **variables):
    """Run a program; return the lines it prints, and the folder of its cache."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "PYTENSOR_FLAGS"))}
    env |= {
        "CLE_PORT_CACHE": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **variables,
    }
    command = [sys.executable, "-W", "ignore", "-c", program]
    ran = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines(), tmp_path / "cache" / "jax"


@pytest.mark.full
@pytest.mark.parametrize(
    ("floatX", "chosen"),
    [("float64", False), ("float32", True)],
    ids=["our cache", "the user's cache"],
)
def test_nothing_is_left_behind(floatX, chosen, tmp_path):
    """Settings of JAX, PyTensor and Python, and what PyTensor computes without us."""
    pytest.importorskip("jax")
    theirs = tmp_path / "theirs"
    variables = {"JAX_COMPILATION_CACHE_DIR": str(theirs)} if chosen else {}
    changed, ours = in_a_process_of_its_own(
        LEFT_BEHIND, tmp_path, PYTENSOR_FLAGS=f"floatX={floatX}", **variables
    )
    assert changed == []
    used, unused = (theirs, ours) if chosen else (ours, theirs)
    assert any(used.iterdir())
    assert not unused.exists() or not any(unused.iterdir())


JAX_FIRST = """
import json
import jax
import numpy as np, pytensor.tensor as pt
from cle_port.graph import compile_function
values = dict(jax.config.values)
x = pt.dvector("x")
value = compile_function([x], pt.exp(x), None, "jax", graph="plain")(np.ones(1))
changed = [k for k, v in jax.config.values.items() if v != values[k]]
print(json.dumps([changed, jax.config.jax_enable_x64, str(value.dtype)]))
"""


@pytest.mark.full
@pytest.mark.parametrize(
    ("floatX", "by_user", "changed", "after"),
    [
        ("float32", "0", [], False),
        ("float32", "1", [], True),
        ("float64", "1", [], True),
        # PyTensor does this when its translations are imported.
        ("float64", "0", ["jax_enable_x64"], True),
    ],
)
def test_jax_is_left_as_the_user_set_it(floatX, by_user, changed, after, tmp_path):
    pytest.importorskip("jax")
    (line,), _ = in_a_process_of_its_own(
        JAX_FIRST, tmp_path, JAX_ENABLE_X64=by_user, PYTENSOR_FLAGS=f"floatX={floatX}"
    )
    assert json.loads(line) == [changed, after, "float64"]


# --- what is relied upon in PyTensor ----------------------------------------------------------

# Two rewritings that PyTensor has had since then.
NEWER = {"dot_diag_to_elemwise": (3, 3), "selection_dot_to_indexing": (3, 3)}
VERSION = tuple(int(number) for number in pytensor.__version__.split("+")[0].split(".")[:2])
OURS_IN_PYTENSOR = [
    f"cle_port_{name}_{dtype}"
    for name in ("log_sigmoid", "log_1m_sigmoid", "log1p_neg_sigmoid")
    for dtype in nnet.SIGMOID
]


def databases(database):
    """A database of rewritings and those that it contains."""
    yield database
    for entries in database.__db__.values():
        for entry in entries:
            if isinstance(entry, RewriteDatabase) and database.__db__[entry.name] is entries:
                yield from databases(entry)


def is_registered(name):
    # PyTensor adds an empty entry when it looks for a name.
    return any(database.__db__.get(name) for database in databases(optdb))


def is_used(name, mode):
    """Whether a mode applies the rewriting of this name."""
    return any(
        entry in RewriteDatabase.query(database, mode._optimizer)
        for database in databases(optdb)
        for entry in database.__db__.get(name, ())
    )


@pytest.mark.parametrize("name", [*REPLACED, *WITHOUT_USE])
def test_rewritings_that_are_left_out(name):
    if NEWER.get(name, (0,)) > VERSION:
        pytest.skip(f"PyTensor {pytensor.__version__} does not have {name} yet")
    pytest.importorskip("jax")
    assert is_registered(name), f"PyTensor has no rewriting {name}"
    assert is_used(name, get_mode("JAX")), f"PyTensor's mode JAX does not use {name}"
    assert not is_used(name, graph._mode("jax", "fast")), f"{name} is not left out"


@pytest.mark.parametrize("name", OURS_IN_PYTENSOR)
def test_rewritings_of_logarithms(name):
    for how in graph.GRAPHS:
        assert is_used(name, graph._mode("numba", how)), f"PyTensor does not use {name}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ShapeOpt", 1.7),
        ("canonicalize", 1.7),
        ("stabilize", 1.7),
        ("scan_eqopt2", 1.7),
        ("scan_sit_sot_to_untraced", 1.7),
        (1.8, "specialize"),
        (-1, "merge1"),
        (-1, "scan_eqopt1"),
        (-1, "canonicalize"),
    ],
)
def test_order_of_rewritings(before, after):
    """`MergeInsideScans` runs at -1, `HoistOutOfScans` at 1.7, products of matrices at 1.8."""
    for name in (before, after):
        assert not isinstance(name, str) or name in optdb.__position__, f"PyTensor has no {name}"
    first, second = (optdb.__position__.get(name, name) for name in (before, after))
    assert first < second, f"{before} comes after {after}"


# By module and path of attributes: the parameters that are given by name or position.
USED = {
    "pytensor.compile.mode:Mode": "linker optimizer",
    "pytensor.compile.mode:Mode.register": "",
    "pytensor.compile.mode:Mode.excluding": "",
    "pytensor.configdefaults:config.change_flags": "",
    "pytensor.configparser:config_files_from_pytensorrc": "",
    "pytensor.graph.basic:Apply.clone_with_new_inputs": "inputs",
    "pytensor.graph.basic:Constant.merge_signature": "",
    "pytensor.graph.features:ReplaceValidate": "",
    "pytensor.graph.fg:FunctionGraph": "inputs outputs clone",
    "pytensor.graph.fg:FunctionGraph.attach_feature": "feature",
    "pytensor.graph.fg:FunctionGraph.clone": "",
    "pytensor.graph.fg:FunctionGraph.replace_all": "pairs",
    "pytensor.graph.fg:FunctionGraph.toposort": "",
    "pytensor.graph.op:Op.pullback": "inputs",
    "pytensor.graph.replace:clone_replace": "output replace",
    "pytensor.graph.replace:graph_replace": "outputs replace strict",
    "pytensor.graph.replace:vectorize_graph": "outputs replace",
    "pytensor.graph.rewriting.basic:GraphRewriter.add_requirements": "fgraph",
    "pytensor.graph.rewriting.basic:GraphRewriter.apply": "fgraph",
    "pytensor.graph.rewriting.basic:MergeOptimizer": "",
    "pytensor.graph.rewriting.basic:PatternNodeRewriter": "name allow_multiple_clients",
    "pytensor.graph.rewriting.basic:in2out": "",
    "pytensor.graph.rewriting.utils:rewrite_graph": "graph include clone",
    "pytensor.graph.traversal:ancestors": "graphs",
    "pytensor.graph.traversal:io_toposort": "inputs outputs",
    "pytensor.scalar.basic:Composite": "inputs outputs",
    "pytensor.scalar.basic:Composite.impl": "",
    "pytensor.scan.op:Scan.make_node": "inputs",
    "pytensor.scan.op:ScanInfo": "as_while",
    "pytensor.scan.utils:ScanArgs": "outer_inputs outer_outputs",
    "pytensor.tensor.basic:Alloc.do_constant_folding": "fgraph node",
    "pytensor.tensor.basic:Join": "",
    "pytensor.tensor.basic:Split": "",
    "pytensor.tensor.elemwise:CAReduce": "acc_dtype",
    "pytensor.tensor.elemwise:DimShuffle": "new_order",
    "pytensor.tensor.elemwise:Elemwise": "scalar_op name",
    "pytensor.tensor.math:Dot": "",
    "pytensor.tensor.rewriting.basic:register_stabilize": "node_rewriter",
    "pytensor.tensor.rewriting.math:local_batched_matmul_to_core_matmul_with_reshape": None,
    "pytensor.tensor.rewriting.shape:ShapeFeature.get_shape": "var idx",
    "pytensor.tensor.special:Softmax": "",
    "pytensor.tensor.subtensor:get_idx_list": "inputs idx_list",
    "pytensor.tensor.subtensor:Subtensor": "idx_list",
    "pytensor.tensor.type:TensorType.clone": "shape",
    "pytensor.tensor.type:TensorType.filter_variable": "other",
}
USED_WITH_JAX = {
    "pytensor.link.jax.dispatch:jax_funcify.dispatch": "cls",
    "pytensor.link.jax.dispatch:jax_funcify.register": "cls func",
    "pytensor.link.jax.linker:JAXLinker.fgraph_convert": "fgraph",
    "pytensor.link.jax.linker:JAXLinker.jit_compile": "fn",
    "pytensor.link.jax.linker:JAXLinker().scalar_shape_inputs": None,
}


def check_use(place, parameters):
    """That something is where it is looked for, and takes parameters of these names."""
    module, path = place.split(":")
    found = __import__(module, fromlist=["_"])
    for name in path.split("."):
        assert hasattr(found, name.removesuffix("()")), f"PyTensor has no {module}.{path}"
        found = getattr(found, name.removesuffix("()"))
        found = found() if name.endswith("()") else found
    if parameters is not None:
        assert callable(found), f"PyTensor's {module}.{path} cannot be called"
        missing = set(parameters.split()) - set(inspect.signature(found).parameters)
        assert not missing, f"PyTensor's {module}.{path} has no parameter {', '.join(missing)}"


@pytest.mark.parametrize(
    "name", ["blas__ldflags", "cxx", "exception_verbosity", "floatX", "traceback__limit"]
)
def test_flags_of_pytensor(name):
    assert name in pytensor.config._config_var_dict, f"PyTensor has no flag {name}"


@pytest.mark.parametrize("place", USED)
def test_use_of_pytensor(place):
    check_use(place, USED[place])


@pytest.mark.parametrize("place", USED_WITH_JAX)
def test_use_of_pytensor_with_jax(place):
    pytest.importorskip("jax")
    check_use(place, USED_WITH_JAX[place])


def attributes_of_scans():
    """What `cle_port.graph.scans` reads and sets of `ScanArgs`."""
    tree = ast.parse(inspect.getsource(scans))
    found = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("args", "fwd", "bwd")
    }
    return sorted(found | {"inner_in_non_seqs", "outer_in_non_seqs"})


@pytest.fixture(scope="module")
def scan_node():
    _, cost, _ = recurrence(sharedX(WEIGHTS, "W"), "float64")
    (node,) = (
        node
        for node in FunctionGraph(outputs=[cost], clone=False).toposort()
        if isinstance(node.op, Scan)
    )
    return node


@pytest.mark.parametrize("name", attributes_of_scans())
def test_parts_of_a_scan(name, scan_node):
    op = scan_node.op
    inner = scans.editable(op.fgraph)
    args = ScanArgs(scan_node.inputs, scan_node.outputs, inner.inputs, inner.outputs, op.info)
    assert hasattr(args, name), f"PyTensor's ScanArgs has no {name}"


@pytest.mark.parametrize("name", [*inspect.signature(Scan.__init__).parameters][1:])
def test_settings_of_a_scan(name, scan_node):
    """A scan keeps its arguments under their names; it uses ``typeConstructor`` only once."""
    if name not in ("inputs", "outputs", "info", "typeConstructor"):
        assert name in scans.settings_of(scan_node.op), f"PyTensor's Scan has no attribute {name}"
    assert {"inputs", "outputs", "info"} < set(inspect.signature(Scan.__init__).parameters)


@pytest.mark.parametrize("name", ["update_mapping", "shape_feature"])
def test_attributes_of_a_compiled_graph(name):
    w = sharedX(1.0, "w")
    fgraph = pytensor.function([], [], updates=[(w, w + 1)], mode="FAST_COMPILE").maker.fgraph
    assert hasattr(fgraph, name), f"PyTensor's FunctionGraph has no {name}"
    assert fgraph.update_mapping == {0: 0}


def test_sums_have_a_dtype_to_sum_in():
    total = pt.tensor("x", dtype="float32", shape=(3,)).sum()
    assert isinstance(total.owner.op, CAReduce)
    assert total.owner.op.acc_dtype == "float64"
    assert total.dtype == "float32"
