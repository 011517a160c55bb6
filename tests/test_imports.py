"""The import graph: no import runs upwards, and no module imports itself by way of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.recordings import PROJECT

PACKAGES = ("cle_port", "datasets", "models", "tutorials", "compare", "benchmarks")

# From below.  A module belongs to the longest name here that is its own or its package's; it may
# import modules of its own line and of the lines before.
LAYERS = (
    ("cle_port.errors",),
    ("cle_port.console", "cle_port.files"),
    ("cle_port.utils",),
    ("cle_port.cost", "cle_port.layers", "cle_port.data"),
    ("cle_port.models", "cle_port.graph"),
    ("cle_port.train", "cle_port"),
    ("datasets.hdf5", "datasets.subcommands"),
    ("datasets.grep_blizzard_hdf5", "datasets.iamondb_utils"),
    ("datasets.build",),
    ("datasets.blizzard", "datasets.iamondb", "datasets"),
    ("datasets.demo",),
    ("tutorials",),
    ("models.settings",),
    ("models.parts", "models.channels"),
    ("models.running",),
    ("models.vrnn_gmm", "models.rnn_gmm", "models.vae", "models"),
    ("models.vrnn_gauss", "models.rnn_gauss", "models.storn"),
    ("models.programs",),
    ("models.sampling",),
    ("models.sample",),
    ("models.report",),
    ("models.runs",),
    ("compare.tolerances", "compare.recording"),
    ("compare.differences",),
    ("compare.units", "compare.replay"),
    ("compare.verdicts",),
    ("compare.report",),
    ("compare.original",),
    ("compare",),
    ("benchmarks",),
)
HEIGHTS = {name: height for height, names in enumerate(LAYERS) for name in names}


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, ast.Module]:
    """Parsed source of each module by name."""
    paths = [path for package in PACKAGES for path in (PROJECT / package).rglob("*.py")]
    return {module_name(path): ast.parse(path.read_text()) for path in paths}


def is_for_types(node: ast.AST) -> bool:
    """Whether this is the block that only a type checker reads."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(node: ast.AST, modules: set[str]) -> Iterator[str]:
    """Names of the project's modules that the code below ``node`` imports, in functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in modules)
        elif isinstance(child, ast.ImportFrom) and child.module in modules:
            submodules = {f"{child.module}.{alias.name}" for alias in child.names} & modules
            yield from submodules
            if len(submodules) < len(child.names):
                yield str(child.module)
        elif not is_for_types(child):
            yield from imported(child, modules)


def import_graph(parsed: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Modules that each module imports."""
    modules = set(parsed)
    return {name: {*imported(tree, modules)} - {name} for name, tree in parsed.items()}


def height(module: str) -> int:
    name = module
    while name not in HEIGHTS:
        name, _, last = name.rpartition(".")
        assert last, f"{module} has no layer"
    return HEIGHTS[name]


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a module by one of a lower layer."""
    return [
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in sorted(others)
        if height(other) > height(name)
    ]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of a circle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph(sources())


def test_no_import_runs_upwards(graph):
    assert upward(graph) == []


def test_no_circle(graph):
    assert circle(graph) == []


def test_the_library_imports_nothing_that_is_not_installed(graph):
    """``pip install`` installs cle_port alone."""
    foreign = {
        other
        for name, others in graph.items()
        for other in others
        if name.split(".")[0] == "cle_port" and other.split(".")[0] != "cle_port"
    }
    assert foreign == set()


def test_every_package_is_seen(graph):
    assert {name.split(".")[0] for name in graph} == set(PACKAGES)
    assert sum(map(len, graph.values())) > 200


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import models.settings", {"models.settings"}),
        ("from models import settings", {"models.settings"}),
        ("from models.settings import parse", {"models.settings"}),
        ("from models import settings, NAME", {"models.settings", "models"}),
        ("def f():\n    from models import settings", {"models.settings"}),
        ("if TYPE_CHECKING:\n    from models import settings", set()),
        ("import numpy", set()),
    ],
)
def test_an_import_is_seen(source, expected):
    modules = {"models", "models.settings"}
    assert set(imported(ast.parse(source), modules)) == expected


def test_a_bad_graph_is_noticed():
    names = ["cle_port.errors", "cle_port.train", "models.sample"]
    bad = {name: {other} for name, other in pairwise([*names, names[0]])}
    assert upward(bad) == [f"{a} imports {b}" for a, b in pairwise(names)]
    assert set(circle(bad)) == set(names)
