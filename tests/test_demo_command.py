"""Errors and help texts of ``python -m datasets.demo``."""

import subprocess
import sys
from pathlib import Path

import pytest

from datasets.demo import blizzard, iamondb
from datasets.demo.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["blizzard"], "required: OUT.wav (--help shows all options)"),
        (["blizzard", "{}/a.wav", "--seconds", "long"], "--seconds: invalid float value: 'long'"),
        (["blizzard", "{}/a.wav", "--seconds", "0"], "above 0 and at most 3600, not 0"),
        (["blizzard", "{}/a.wav", "--seconds", "nan"], "--seconds must be above 0"),
        (["blizzard", "{}/a.wav", "--seconds", "1e9"], "at most 3600"),
        (["blizzard", "{}/a.wav", "--seed", "-1"], "--seed must not be negative, not -1"),
        (["blizzard", "{}/a.wav", "--pitch", "3"], "unrecognized arguments: --pitch 3"),
        (["blizzard", "{}/a.wav", "--sedo", "3"], "did you mean --seed?"),
        (["blizzard", "{}/a.mp3"], "OUT must end in .wav, not 'a.mp3': try "),
        (["blizzard", ""], "OUT must end in .wav, not '.': try out.wav"),
        (["blizzard", "{}/nowhere/a.wav"], "cannot write"),
        (["blizzard", "{}/folder.wav", "--seconds", "0.1"], "cannot write"),
        (["iamondb"], "required: OUT.svg (--help shows all options)"),
        (["iamondb", "{}/a.svg", "--lines", "many"], "--lines: invalid int value: 'many'"),
        (["iamondb", "{}/a.svg", "--lines", "0"], "--lines must be 1 to 1000, not 0"),
        (["iamondb", "{}/a.svg", "--lines", "1001"], "--lines must be 1 to 1000"),
        (["iamondb", "{}/a.svg", "--seed", "-1"], "--seed must not be negative, not -1"),
        (["iamondb", "{}/a.svg", "--slant", "3"], "unrecognized arguments: --slant 3"),
        (["iamondb", "{}/a.svg", "--lnes", "3"], "did you mean --lines?"),
        (["iamondb", "{}/a.png"], "OUT must end in .svg, not 'a.png': try "),
        (["iamondb", "/"], "OUT must end in .svg, not '/': try out.svg"),
        (["iamondb", "{}/nowhere/a.svg"], "cannot write"),
        (["iamondb", "{}/folder.svg", "--lines", "1"], "cannot write"),
        ([], "required: command"),
        (["timit"], "invalid choice: 'timit'"),
    ],
)
def test_refuses(tmp_path, capsys, args, message):
    for ending in ("wav", "svg"):
        (tmp_path / f"folder.{ending}").mkdir()
    assert main([arg.format(tmp_path) for arg in args]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.svg", "folder.wav"]


@pytest.mark.parametrize(
    ("module", "slow", "name", "out"),
    [(blizzard, "speak", "blizzard", "a.wav"), (iamondb, "write_lines", "iamondb", "a.svg")],
)
def test_can_be_interrupted(tmp_path, capsys, monkeypatch, module, slow, name, out):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, slow, interrupted)
    assert main([name, str(tmp_path / out)]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blizzard", ("examples:", "--seconds S", "default: 10", "default: 0", "16 kHz")),
        ("iamondb", ("examples:", "--lines N", "default: 12", "default: 0")),
    ],
)
def test_help_teaches(name, expected):
    done = subprocess.run(
        [sys.executable, "-m", "datasets.demo", name, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for words in (*expected, "stand-in"):
        assert words in " ".join(done.stdout.split())
