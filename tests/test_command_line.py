"""How command lines complain, and how they end."""

import argparse
from pathlib import Path

import pytest

from cle_port.console.command_line import Parser, check_ending, ended
from cle_port.errors import UserError


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = Parser(prog="p")
    parser.add_argument("--frames", type=int)
    command = parser.add_subparsers().add_parser("build")
    command.add_argument("--seq_len", type=int)
    return parser


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--frame5"], "unrecognized arguments: --frame5; did you mean --frames?"),
        (["--xyz"], "unrecognized arguments: --xyz"),
        (["--frames", "many"], "argument --frames: invalid int value: 'many'"),
        (["build", "--seq_len"], "argument --seq_len: expected one argument"),
    ],
)
def test_complaints(argv, message, parser):
    with pytest.raises(UserError) as error:
        parser.parse_args(argv)
    assert str(error.value) == f"{message} (--help shows all options)"


def test_help_is_not_an_error(parser, capsys):
    with pytest.raises(SystemExit) as end:
        ended(lambda: parser.parse_args(["--help"]) and 0)
    assert end.value.code == 0
    assert "--frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (UserError("give another file"), 2, "error: give another file"),
        (MemoryError("8 GiB"), 2, "error: not enough memory (8 GiB); ask for less"),
        (KeyboardInterrupt(), 130, "interrupted; all is well"),
        (KeyboardInterrupt(15), 143, "interrupted; all is well"),
    ],
)
def test_ends(raised, status, line, capsys):
    def command():
        raise raised

    assert ended(command, "all is well", "ask for less") == status
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("path", ["out.npz", "folder.x/OUT.NPZ"])
def test_an_ending_that_is_right(path):
    check_ending("OUT", Path(path), ".npz")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("out.csv", "OUT must end in .npz, not 'out.csv': try out.npz"),
        ("folder/out", "OUT must end in .npz, not 'out': try folder/out.npz"),
        (".", "OUT must end in .npz, not '.': try out.npz"),
    ],
)
def test_an_ending_that_is_wrong(path, message):
    with pytest.raises(UserError) as error:
        check_ending("OUT", Path(path), ".npz")
    assert str(error.value) == message


def test_other_errors_are_bugs():
    with pytest.raises(ZeroDivisionError):
        ended(lambda: 1 // 0)


def test_a_command_s_own_status():
    assert ended(lambda: 1) == 1
