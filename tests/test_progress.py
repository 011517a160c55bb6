"""Progress on terminals, in files, and nowhere."""

import sys
import threading

import pytest

from cle_port.console.progress import elapsed_time, progress_bar


@pytest.fixture
def as_terminal(monkeypatch):
    """Make standard error look like a terminal, from the call on; pytest exchanges it before."""
    return lambda: monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_bar_in_a_file_writes_whole_lines(capsys):
    with progress_bar(total=4, description="work", unit="row") as bar:
        for _ in range(4):
            bar.update()
        bar.refresh()
    lines = capsys.readouterr().err.splitlines()
    assert lines.pop() == ""  # tqdm ends with it
    assert all(line.startswith("work: ") for line in lines)
    assert "4/4" in lines[-1]
    assert "\r" not in "".join(lines)


def test_bar_in_a_file_is_not_written_at_every_step(capsys):
    with progress_bar(total=1000, description="work") as bar:
        for _ in range(1000):
            bar.update()
    assert len(capsys.readouterr().err.split("\n")) <= 3


def test_bar_on_a_terminal_is_redrawn(as_terminal, capsys):
    as_terminal()
    with progress_bar(total=4, description="work", unit="row") as bar:
        bar.update(4)
        bar.refresh()
    shown = capsys.readouterr().err
    assert "work" in shown
    assert "4/4" in shown
    assert "\r" in shown


def test_the_rate_is_that_of_this_process(capsys):
    """What was done before, by the run that is resumed, took no time here."""
    with progress_bar(total=1000, description="work", initial=900) as bar:
        bar.update(1)
        seen = bar.format_dict
    assert (seen["n"], seen["initial"]) == (901, 900)


def test_bar_without_a_total(capsys):
    with progress_bar(total=None, description="work") as bar:
        bar.update(3)
        bar.refresh()
    assert "3it" in capsys.readouterr().err


def test_quiet_bar(capsys):
    with progress_bar(total=4, description="work", quiet=True) as bar:
        bar.update(4)
        bar.refresh()
    assert capsys.readouterr().err == ""


def test_elapsed_time_in_a_file_is_one_line(capsys):
    with elapsed_time("Compiling"):
        pass
    assert capsys.readouterr().err == "Compiling ...\n"


def test_elapsed_time_quiet(as_terminal, capsys):
    as_terminal()
    with elapsed_time("Compiling", quiet=True):
        pass
    assert capsys.readouterr().err == ""


def test_elapsed_time_on_a_terminal(as_terminal, capsys):
    as_terminal()
    before = threading.active_count()
    with elapsed_time("Compiling"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert "Compiling ... 00:00" in capsys.readouterr().err


def test_elapsed_time_ends_with_an_error(as_terminal, capsys):
    as_terminal()
    before = threading.active_count()

    def fail():
        with elapsed_time("Compiling"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert threading.active_count() == before
