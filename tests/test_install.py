"""What gets installed, that versions agree, and that the documents' commands exist."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
import sys
from functools import cache
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

import cle_port
from tests.recordings import PROJECT

DOCUMENTS = sorted(
    [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("benchmarks/*.md")]
)
# Scripts for the environment in which the original runs.
BESIDE_THE_ORIGINAL = ("record_original.py", "original_theano.py")
CODE = ("cle_port", "models", "datasets", "benchmarks")


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    """What setup.py tells setuptools."""
    setuptools = pytest.importorskip("setuptools")
    arguments: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        patch.setattr(setuptools, "setup", lambda **keywords: arguments.update(keywords))
        runpy.run_path(str(PROJECT / "setup.py"), run_name="__main__")
    return arguments


def test_only_the_library_is_installed(setup_arguments):
    """Packages called datasets, models or tests would hide, or be hidden by, other people's."""
    packages = setup_arguments["packages"]
    assert {package.split(".")[0] for package in packages} == {"cle_port"}
    assert "py_modules" not in setup_arguments
    folders = {path.parent for path in (PROJECT / "cle_port").rglob("__init__.py")}
    assert set(packages) == {".".join(path.relative_to(PROJECT).parts) for path in folders}


def test_every_folder_of_the_library_is_a_package():
    """A folder without __init__.py would be left out of the installation."""
    folders = {path.parent for path in (PROJECT / "cle_port").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("name", ["models", "datasets"])
def test_programs_are_regular_packages(name):
    """A folder without __init__.py loses against an installed package of its name."""
    assert (PROJECT / name / "__init__.py").is_file()


def test_versions_agree(setup_arguments):
    assert setup_arguments["version"] == cle_port.__version__
    changes = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?([0-9][^\s\]]*)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == cle_port.__version__


def test_installed_version_agrees(setup_arguments):
    try:
        installed = metadata.version(setup_arguments["name"])
    except metadata.PackageNotFoundError:
        pytest.skip("the tests run from a checkout that is not installed")
    assert installed == cle_port.__version__


def test_python_versions_agree(setup_arguments):
    pyproject = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    least = setup_arguments["python_requires"].removeprefix(">=")
    assert f'python_version = "{least}"' in pyproject
    assert f'target-version = "py{least.replace(".", "")}"' in pyproject


def test_everything_imported_is_asked_for(setup_arguments):
    """Third-party modules that the code imports stand in setup.py, and the other way round."""
    extras = setup_arguments["extras_require"]
    used = ("jax", "audio", "plot", "bench")
    asked = [*setup_arguments["install_requires"], *(r for name in used for r in extras[name])]
    ours = {*CODE, "tests"}
    imported = {
        name
        for folder in CODE
        for path in (PROJECT / folder).rglob("*.py")
        if path.name not in BESIDE_THE_ORIGINAL
        for name in imports(path)
        if name not in sys.stdlib_module_names and name not in ours
    }
    assert {re.split(r"[<>=\[]", requirement)[0] for requirement in asked} == imported


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


# --- documents ------------------------------------------------------------------------------


def commands(document: Path) -> list[list[str]]:
    """Words of each command in the document's blocks of shell code."""
    text = document.read_text(encoding="utf-8")
    found = []
    for block in re.findall(
        r"^ *```(?:sh|bash|console)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE
    ):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\|?|;", line):
                words = shlex.split(part, comments=True)
                if words:
                    found.append(words)
    return found


ALL_COMMANDS = [(document, words) for document in DOCUMENTS for words in commands(document)]
PYTHON = [
    (document, words[1:])
    for document, words in ALL_COMMANDS
    if re.fullmatch(r"(.*/)?python3?", words[0])
]


def test_there_are_documented_commands():
    """Else the tests below would pass by finding nothing."""
    of_readme = [words for document, words in PYTHON if document.name == "README.md"]
    assert ["models/vrnn_gmm.py", "--dataset", "blizzard"] in of_readme
    assert ["-m", "datasets.blizzard", "build", "RECORDINGS", "DATA"] in of_readme


@cache
def help_of(program: tuple[str, ...]) -> str:
    """What a program of ours shows for --help."""
    done = subprocess.run(
        [sys.executable, *program, "--help"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def program_of(words: list[str]) -> tuple[str, ...]:
    """The words that name a program of ours and its command; none for others'."""
    is_module = words[0] == "-m"
    name = words[1 if is_module else 0]
    if is_module and name.split(".")[0] not in CODE:
        return ()
    lead = 2 if is_module else 1
    return (*words[:lead], *takewhile(re.compile("[a-z_]+").fullmatch, words[lead:]))


@pytest.mark.parametrize(
    ("document", "words"), PYTHON, ids=[" ".join([d.name, *words]) for d, words in PYTHON]
)
def test_documented_programs_and_flags_exist(document, words):
    if words[0].startswith("-") and words[0] != "-m":
        return  # Python's own options
    program = program_of(words)
    if not program:
        return  # pytest, venv and the like
    flags = [word.split("=")[0] for word in words if word.startswith("--")]
    known = re.findall(r"--\w[\w-]*", help_of(program))
    assert set(flags) <= {*known, "--help"}


@pytest.mark.parametrize(
    ("document", "words"),
    [(d, words) for d, words in ALL_COMMANDS if "install" in words],
    ids=lambda value: value.name if isinstance(value, Path) else " ".join(value),
)
def test_documented_extras_exist(document, words, setup_arguments):
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(setup_arguments["extras_require"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_headings_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document):
    """Paths of ours in `code`; generated files and the original's are not under these folders."""
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:cle_port|tests|benchmarks|\.ci)/[\w./]*)(?:::\w+)?`", text):
        assert (PROJECT / name).exists(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_tests_exist(document):
    """Every ``test_file.py::test_name`` that a document gives as evidence."""
    text = document.read_text(encoding="utf-8")
    for file, name in re.findall(r"(test_\w+\.py)::(\w+)", text):
        path = PROJECT / "tests" / file
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), f"{file}::{name}"
