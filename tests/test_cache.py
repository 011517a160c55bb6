"""The cache folder: where it is, and what happens where it cannot be."""

import os
import sys
from pathlib import Path

import pytest

from cle_port.errors import UserError
from cle_port.files.cache import ENVIRONMENT_VARIABLE, cache_dir


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No test touches the user's own folders."""
    for name in (ENVIRONMENT_VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


def test_environment_variable_decides(monkeypatch, tmp_path):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    assert cache_dir("demo", "blizzard") == tmp_path / "here" / "demo" / "blizzard"
    assert (tmp_path / "here" / "demo" / "blizzard").is_dir()
    assert cache_dir("demo") == tmp_path / "here" / "demo"  # it may be there already


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", None, "home/.cache/cle_port"),
        ("linux", "XDG_CACHE_HOME", "given/cle_port"),
        ("darwin", None, "home/Library/Caches/cle_port"),
        ("win32", None, "home/AppData/Local/cle_port"),
        ("win32", "LOCALAPPDATA", "given/cle_port"),
    ],
)
def test_folder_of_the_platform(platform, variable, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", platform)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "given"))
    assert cache_dir() == tmp_path / expected
    assert (tmp_path / expected).is_dir()


def test_a_file_in_the_way(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(
        UserError, match=r"cannot create the cache folder .*; set CLE_PORT_CACHE to"
    ):
        cache_dir("demo")


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    """Root may write anywhere, so the system's answer is given here."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"is read-only; set CLE_PORT_CACHE to a folder"):
        cache_dir()
