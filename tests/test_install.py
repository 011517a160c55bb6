"""Installation, archives, versions, and the commands and links of the documents."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
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
BESIDE_THE_ORIGINAL = ("recorder.py", "original_theano.py")
CODE = ("cle_port", "models", "datasets", "tutorials", "compare", "benchmarks")
MODULES = {"scikit-learn": "sklearn"}  # packages whose modules have another name


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    """Arguments of setup.py's call of setuptools."""
    setuptools = pytest.importorskip("setuptools")
    arguments: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        patch.setattr(setuptools, "setup", lambda **keywords: arguments.update(keywords))
        runpy.run_path(str(PROJECT / "setup.py"), run_name="__main__")
    return arguments


def test_only_the_library_is_installed(setup_arguments):
    """Packages named datasets, models or tests would collide with other projects'."""
    packages = setup_arguments["packages"]
    assert {package.split(".")[0] for package in packages} == {"cle_port"}
    assert "py_modules" not in setup_arguments
    folders = {path.parent for path in (PROJECT / "cle_port").rglob("__init__.py")}
    assert set(packages) == {".".join(path.relative_to(PROJECT).parts) for path in folders}


def test_every_folder_of_the_library_is_a_package():
    """The installation leaves out a folder without __init__.py."""
    folders = {path.parent for path in (PROJECT / "cle_port").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("name", CODE)
def test_programs_are_regular_packages(name):
    """An installed package of the same name would hide a folder without __init__.py."""
    assert (PROJECT / name / "__init__.py").is_file()


def test_versions_agree(setup_arguments):
    assert setup_arguments["version"] == cle_port.__version__
    changes = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?([0-9][^\s\]]*)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == cle_port.__version__
    citation = (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {cle_port.__version__}\n" in citation


def test_installed_version_agrees(setup_arguments):
    try:
        installed = metadata.version(setup_arguments["name"])
    except metadata.PackageNotFoundError:
        pytest.skip("cle-port is not installed")
    assert installed == cle_port.__version__


def test_python_versions_agree(setup_arguments):
    pyproject = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    least = setup_arguments["python_requires"].removeprefix(">=")
    assert f'python_version = "{least}"' in pyproject
    assert f'target-version = "py{least.replace(".", "")}"' in pyproject
    assert f"Programming Language :: Python :: {least}" in setup_arguments["classifiers"]


def test_setuptools_versions_agree(setup_arguments):
    """Tests build archives with the oldest setuptools that the build requires, or a newer one."""
    pyproject = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    (needed,) = (r for r in setup_arguments["extras_require"]["test"] if r.startswith("setuptools"))
    assert f'requires = ["{needed}"]' in pyproject


def test_everything_imported_is_asked_for(setup_arguments):
    """setup.py requires exactly the third-party modules that the code imports."""
    extras = setup_arguments["extras_require"]
    used = ("jax", "audio", "plot", "digits", "bench")
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
    names = {re.split(r"[<>=\[]", requirement)[0] for requirement in asked}
    assert {MODULES.get(name, name) for name in names} == imported


def imports(path: Path) -> set[str]:
    """Return the top-level names of all modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


# --- archives -------------------------------------------------------------------------------

BUILD = (
    "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
)
# Imports all named modules without the optional packages, and prints where they come from.
IMPORT = """
import importlib, sys
hidden, *names = sys.argv[1:]
sys.modules.update(dict.fromkeys(hidden.split(","), None))
for name in names:
    print(importlib.import_module(name).__file__)
"""
OPTIONAL = "jax,soundfile,matplotlib,sklearn,torch"


def build(what: str, source: Path, out: Path) -> Path:
    """Build an archive without network; ``what`` is a hook of setuptools, such as build_wheel."""
    pytest.importorskip("setuptools", minversion="77")
    out.mkdir()
    command = [sys.executable, "-c", BUILD, what, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Deprecat" not in done.stderr
    (archive,) = out.iterdir()
    return archive


@pytest.fixture(scope="module")
def git_files() -> set[str]:
    """Paths of all files in the checkout that git does not ignore."""
    if not (PROJECT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("the tests do not run from a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"git does not list the files: {done.stderr}")
    return {name for name in done.stdout.split("\0") if (PROJECT / name).is_file()}


def test_source_archive_has_the_files_that_git_has(git_files, tmp_path):
    """The tests run from it, so it needs the programs, recordings, documents and settings."""
    checkout = tmp_path / "checkout"
    junk = ["tests/__pycache__/a.cpython-311.pyc", "models/b.pyc", "tests/.hypothesis/c", "runs/d"]
    for name in [*git_files, *junk]:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        if name in junk:
            (checkout / name).touch()
        else:
            shutil.copyfile(PROJECT / name, checkout / name)
    archive = build("build_sdist", checkout, tmp_path / "out")
    with tarfile.open(archive) as tar:
        files = {member.name.partition("/")[2] for member in tar if member.isfile()}
    made = {name for name in files if name.startswith("cle_port.egg-info/")}
    assert files - made - {"PKG-INFO", "setup.cfg"} == git_files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Wheel of the library."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    no_bytecode = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "cle_port", source / "cle_port", ignore=no_bytecode)
    for name in ("models", "datasets", "compare"):  # must stay out
        (source / name).mkdir()
        shutil.copyfile(PROJECT / name / "__init__.py", source / name / "__init__.py")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(PROJECT / name, source / name)
    return build("build_wheel", source, folder / "out")


def test_wheel_has_the_library_only(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        (metadata_file,) = (name for name in files if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata_file).decode()
    library = {name for name in files if name.startswith("cle_port/")}
    folder = PROJECT / "cle_port"
    assert library == {
        str(path.relative_to(PROJECT))
        for path in [*folder.rglob("*.py"), *folder.rglob("py.typed")]
    }
    info = metadata_file.removesuffix("METADATA")
    assert all(name.startswith(info) for name in files - library)
    assert f"{info}licenses/LICENSE" in files
    assert f"{info}entry_points.txt" not in files  # a command would need models or datasets
    assert "\nLicense-Expression: BSD-3-Clause\n" in text


@pytest.mark.parametrize("hidden", ["", OPTIONAL], ids=["all", "without extras"])
def test_every_module_of_the_wheel_is_importable(hidden, wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        files = [Path(name) for name in archive.namelist() if name.endswith(".py")]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, hidden, *names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "site" / path) for path in files]


# --- documents ------------------------------------------------------------------------------


def commands(document: Path) -> list[list[str]]:
    """Return the words of each command in the document's blocks of shell code."""
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


def test_the_search_finds_commands():
    """Otherwise the tests below would pass without a command."""
    in_readme = [words for document, words in PYTHON if document.name == "README.md"]
    assert ["models/vrnn_gmm.py", "--dataset", "blizzard"] in in_readme
    assert ["-m", "datasets.build", "blizzard", "RECORDINGS", "DATA"] in in_readme


@cache
def help_of(program: tuple[str, ...]) -> str:
    """Return what one of our programs prints for --help."""
    done = subprocess.run(
        [sys.executable, *program, "--help"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def program_of(words: list[str]) -> tuple[str, ...]:
    """Return the words that name our program and its command; none for other programs."""
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
    if f"<!-- file: {words[0]} -->" in document.read_text(encoding="utf-8"):
        return  # an example of the page itself: test_library.py runs it
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
    """Every path of ours in `code`; models/blizzard and models/iamondb are the original's."""
    text = document.read_text(encoding="utf-8")
    folders = r"cle_port|models|datasets|tutorials|compare|tests|benchmarks|docs|\.ci|\.github"
    for name in re.findall(rf"`((?:{folders})/[\w./]*)(?:::\w+)?`", text):
        if not name.startswith(("models/blizzard", "models/iamondb")):
            assert (PROJECT / name).exists(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_tests_exist(document):
    """Every ``test_file.py::test_name`` that a document names."""
    text = document.read_text(encoding="utf-8")
    for file, name in re.findall(r"(test_\w+\.py)::(\w+)", text):
        path = PROJECT / "tests" / file
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), f"{file}::{name}"
