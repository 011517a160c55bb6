"""``docs/names.md``: each public name of the original has a place here, or a reason.

If the variable ``CLE_ORIGINALS`` names the folder that contains the original's two
repositories, ``cle`` and ``nips2015_vrnn``, the names of the page are those of the sources.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import tokenize
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.recordings import PROJECT

PAGE = (PROJECT / "docs" / "names.md").read_text(encoding="utf-8")
REPOSITORIES = ("cle", "nips2015_vrnn")
SCRIPTS = ("cle: tutorials/", "nips2015_vrnn: models/")  # each file there is one name


class Row(NamedTuple):
    """A name of the original, its place here (``-`` for none) and a note."""

    name: str
    place: str
    note: str


# ----------------------------------------------------------------------------------------
# The page
# ----------------------------------------------------------------------------------------


def cells(text: str) -> list[list[str]]:
    """Return the cells of all rows of a text's tables, without headers and backquotes."""
    lines = re.findall(r"^\| (?!---)(.*) \|$(?!\n\| ---)", text, re.MULTILINE)
    return [[cell.strip(" `") for cell in line.split(" |")] for line in lines]


def tables(page: str) -> dict[str, list[Row]]:
    """Return the rows about each module of the original."""
    sections = re.split(r"^## `(.*)`$", page, flags=re.MULTILINE)[1:]
    return {
        module: [Row(*row) for row in cells(text)]
        for module, text in zip(sections[::2], sections[1::2])
    }


def counts(page: str) -> dict[str, tuple[int, int]]:
    """Return the page's summary: names, and names with a place, of each module."""
    summary = re.findall(r"^\| \[`(.*)`\]\(#.*\) \| (\d+) \| (\d+) \| \S.* \|$", page, re.MULTILINE)
    return {module: (int(names), int(places)) for module, names, places in summary}


def total(page: str) -> tuple[int, int]:
    """Return the page's claim: names with a place, and names."""
    found = re.search(r"(\d+) of (\d+) names", page)
    assert found is not None
    return int(found[1]), int(found[2])


def unexplained(rows: list[Row]) -> list[str]:
    """Names without place and reason, and names that are called otherwise here without a note."""
    return [
        row.name
        for row in rows
        if not row.note and row.place.split(".")[-1] != row.name.split(".")[-1]
    ]


def imported(place: str) -> Any:
    """Return what a dotted path names.

    ``pkgutil.resolve_name`` would hide the error of a module that cannot be imported.
    """
    parts = place.split(".")
    found = import_module(parts[0])
    for length, part in enumerate(parts[1:], 2):
        if inspect.ismodule(found) and not hasattr(found, part):
            import_module(".".join(parts[:length]))
        found = getattr(found, part)
    return found


def problem(place: str) -> str | None:
    """Say what is wrong with a place, if anything."""
    if any(part.startswith("_") for part in place.split(".")):
        return f"{place} is not public"
    try:
        found = imported(place)
    except (ImportError, AttributeError) as error:
        return f"{place}: {error}"
    return f"{place} is not implemented" if is_abstract(found, place) else None


def is_abstract(found: Any, place: str) -> bool:
    """Whether a method is inherited from a base class that only says that it is missing."""
    return (
        inspect.isfunction(found)
        and not place.endswith(found.__qualname__)
        and "NotImplementedError" in found.__code__.co_names
    )


# ----------------------------------------------------------------------------------------
# The original's sources
# ----------------------------------------------------------------------------------------


def statements(source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield depth and tokens of each logical line.

    ``ast`` refuses the ``print`` of Python 2; ``tokenize`` does not.
    """
    depth, tokens = 0, []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.INDENT, tokenize.DEDENT):
            depth += 1 if token.type == tokenize.INDENT else -1
        elif token.type == tokenize.NEWLINE:
            yield depth, tokens
            tokens = []
        elif token.type not in (tokenize.NL, tokenize.COMMENT):
            tokens.append(token.string)


def public_names(source: str) -> list[str]:
    """Return what a module and its classes bind by class, def or assignment, in its order."""
    names, owner = [], ""
    for depth, tokens in statements(source):
        if depth == 0:
            owner = ""
        match tokens:
            case ["class", name, *_] if depth == 0:
                owner = name
                names.append(name)
            case ["def", name, *_] | [name, "=", *_] if depth == 0:
                names.append(name)
            case ["def", name, *_] | [name, "=", *_] if depth == 1 and owner:
                names.append(f"{owner}.{name}")
    public = (name for name in names if not re.search(r"(^|\.)_", name))
    return list(dict.fromkeys(public))


def title(path: Path) -> str:
    """Return the page's heading of a file, whose path begins with the repository."""
    repository, *parts = path.parts
    return f"{repository}: " + "/".join(parts[1:] if parts[0] == "cle" else parts)


def names_of_the_originals(folder: Path) -> dict[str, list[str]]:
    """Return the names of each module: first its own, then those that it binds."""
    names: dict[str, list[str]] = {}
    for repository in REPOSITORIES:
        for path in sorted((folder / repository).rglob("*.py")):
            source, relative = path.read_text(encoding="utf-8"), path.relative_to(folder)
            module, heading = relative.with_suffix(""), title(relative)
            folder_of_scripts = next((s for s in SCRIPTS if heading.startswith(s)), None)
            if not source:
                continue
            if folder_of_scripts is not None:
                script = heading.removeprefix(folder_of_scripts)
                names.setdefault(folder_of_scripts, []).append(script)
            else:
                own = ".".join(module.parts).removesuffix(".__init__")
                names[heading] = [own, *public_names(source)]
    return names


# ----------------------------------------------------------------------------------------
# Tests
# ----------------------------------------------------------------------------------------

TABLES = tables(PAGE)


@pytest.mark.parametrize("module", TABLES)
def test_every_place_exists(module):
    places = [row.place for row in TABLES[module] if row.place != "-"]
    assert [said for said in map(problem, places) if said is not None] == []


@pytest.mark.parametrize("module", TABLES)
def test_every_name_has_a_place_or_a_reason(module):
    assert unexplained(TABLES[module]) == []


@pytest.mark.parametrize("module", TABLES)
def test_no_name_is_there_twice(module):
    names = [row.name for row in TABLES[module]]
    assert len(names) == len(set(names))


def test_counts_of_the_page():
    found = {
        module: (len(rows), sum(row.place != "-" for row in rows))
        for module, rows in TABLES.items()
    }
    assert list(counts(PAGE)) == list(TABLES)
    assert counts(PAGE) == found
    assert total(PAGE) == tuple(sum(column) for column in zip(*found.values()))[::-1]


def test_names_are_those_of_the_original():
    folder = os.environ.get("CLE_ORIGINALS")
    if folder is None:
        pytest.skip("CLE_ORIGINALS does not name the folder of the original's repositories")
    expected = names_of_the_originals(Path(folder))
    assert set(TABLES) == set(expected)
    assert {module: [row.name for row in rows] for module, rows in TABLES.items()} == expected


def test_names_of_a_source():
    source = '''
import numpy
"""
def in_a_text():
"""
print "printed by Python 2"
value = 1
_private = 2
class A(object):
    attribute = numpy.zeros((2,
        2))
    @property
    def rate(self):
        local = 1
        def nested(): pass
    @rate.setter
    def rate(self, value): raise ValueError, "of Python 2"
    def __init__(self): self.x = 0
    def _hidden(self): pass
class _B:
    def method(self): pass
def function(x,
             y=1):
    z = 1
if __name__ == "__main__":
    def main(): pass
    inside = 1
'''
    assert public_names(source) == ["value", "A", "A.attribute", "A.rate", "function"]


def test_names_of_a_folder(tmp_path):
    for file in ("cle/cle/a/__init__.py", "cle/tutorials/b.py", "nips2015_vrnn/models/c/d.py"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("x = 1\n")
    (tmp_path / "cle" / "__init__.py").touch()
    assert names_of_the_originals(tmp_path) == {
        "cle: a/__init__.py": ["cle.cle.a", "x"],
        "cle: tutorials/": ["b.py"],
        "nips2015_vrnn: models/": ["c/d.py"],
    }


def test_a_bad_page_is_noticed():
    row = "| `LSTM.fprop` | `cle_port.layers.recurrent.LSTM.fprop` | |\n"
    assert row in PAGE
    module = "cle: layers/recurrent.py"
    assert len(tables(PAGE.replace(row, ""))[module]) == len(TABLES[module]) - 1
    for place in ("-", "cle_port.layers.recurrent.LSTM.other"):
        (changed,) = tables(f"## `{module}`\n{row.replace(row.split('`')[3], place)}").values()
        assert unexplained(changed) == ["LSTM.fprop"]


@pytest.mark.parametrize(
    "place",
    [
        "cle_port.layers.recurrent.LSTN",
        "cle_port.layers.recurrent.LSTM.fprob",
        "cle_port.layer",
        "cle_port.layers.recurrent.LSTM._gates",
        "cle_port.layers.recurrent.RecurrentLayer.fprop",  # StemCell's, which is abstract
    ],
)
def test_a_bad_place_is_noticed(place):
    assert problem(place) is not None


@pytest.mark.parametrize(
    "place",
    [
        "cle_port.layers",
        "cle_port.layers.StemCell.fprop",
        "cle_port.layers.recurrent.LSTM.get_init_state",  # inherited
        "cle_port.cost.Gaussian",
    ],
)
def test_a_good_place_is_found(place):
    assert problem(place) is None
