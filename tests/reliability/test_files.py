"""Broken and hostile files: refused in one line, in bounded memory, without consequences."""

import sys

import numpy as np
import pytest

from cle_port.errors import LONGEST, UserError, one_line
from tests.reliability import watch
from tests.reliability.corpus import READERS, outcome
from tests.reliability.fuzz import fuzz
from tests.reliability.hostile import HOSTILE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")

MEMORY = 100 * 2**20  # bytes that reading a hostile file may take


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(name, tmp_path):
    reader, make = HOSTILE[name]
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    work.mkdir()
    elsewhere.mkdir()
    READERS[reader].beside(work)
    path = work / READERS[reader].file_name
    path.unlink(missing_ok=True)
    make(path, elsewhere)
    there = sorted(work.iterdir()) + sorted(elsewhere.iterdir())
    before = watch.reset_peak()
    with watch.watched() as complaints:
        assert outcome(READERS[reader], path) != "read"
    assert watch.peak() - before < MEMORY
    assert complaints == []
    assert sorted(work.iterdir()) + sorted(elsewhere.iterdir()) == there


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name, tmp_path):
    """Some of what the long run does, see `fuzz`."""
    result = fuzz(name, 1, 0, 60, tmp_path)
    assert result["failures"] == []
    assert result["refused"] > 10


def test_watching_notices(tmp_path):
    """The check itself can fail."""
    (tmp_path / "in").mkdir()
    with watch.watched(tmp_path / "in") as complaints:
        (tmp_path / "in" / "a").write_text("may be written")
        assert complaints == []
        (tmp_path / "out").write_text("may not")
        exec("pass")
        (tmp_path / "out").unlink()
    assert [complaint.split("(")[0].split(" ")[0] for complaint in complaints] == [
        "wrote",
        "executed",
        "os.remove",
    ]
    before = watch.reset_peak()
    assert np.ones(2**24).sum() == 2**24
    assert watch.peak() - before > MEMORY


def test_messages_are_one_printable_line():
    assert (
        str(UserError("cannot read a\nb\x1b[2J\0  \udcff"))
        == "cannot read a b\\x1b[2J\\x00  \\udcff"
    )
    assert one_line("ä 'x' \\ \t.") == "ä 'x' \\  ."
    long = one_line("begin" + "x" * 10**6 + "end")
    assert long.startswith("begin")
    assert long.endswith("end")
    assert len(long) < LONGEST + 10
