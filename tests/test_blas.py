"""Which BLAS the C backend is linked with."""

import logging
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytensor
import pytest

from cle_port.graph import blas
from cle_port.graph.blas import (
    chosen_by_user,
    find_blas,
    folder_for_linking,
    found_on_system,
    libraries_of,
    linked,
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    found_on_system()  # PyTensor looks once, and warns if there is nothing
    monkeypatch.setenv("CLE_PORT_CACHE", str(tmp_path / "cache"))
    find_blas.cache_clear()
    yield
    find_blas.cache_clear()


pytestmark = pytest.mark.system


class File:
    """As `importlib.metadata.files` gives them."""

    def __init__(self, path):
        self.name, self.path = path.name, path

    def locate(self):
        return self.path


def install(monkeypatch, folder, **packages):
    """Pretend that pip has installed packages with these libraries."""
    files = {}
    for package, names in packages.items():
        files[package.replace("_", "-")] = [File(folder / name) for name in names]
        for name in names:
            (folder / name).write_bytes(b"")

    def find(package):
        if package not in files:
            raise blas.importlib.metadata.PackageNotFoundError(package)
        return files[package]

    monkeypatch.setattr(blas.importlib.metadata, "files", find)


def test_mkl_from_pypi_gets_the_names_that_linkers_ask_for(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, mkl=["libmkl_rt.so.3", "libmkl_core.so.3", "mkl.txt"])
    monkeypatch.setattr(blas, "chosen_by_user", lambda: False)
    with pytensor.config.change_flags(blas__ldflags=""):
        folder = tmp_path / "cache" / "blas"
        assert find_blas() == (f"-L{folder} -lmkl_rt", "MKL from PyPI")
    for name in ("libmkl_rt.so", "libmkl_rt.so.3", "libmkl_core.so", "libmkl_core.so.3"):
        assert (folder / name).resolve() == tmp_path / (name.split(".so")[0] + ".so.3")
    assert len(list(folder.iterdir())) == 4


def test_links_follow_a_package_that_moved(monkeypatch, tmp_path):
    for home in ("old", "new"):
        (tmp_path / home).mkdir()
        (tmp_path / home / "libx.so.1").write_text(home)
        folder = folder_for_linking([tmp_path / home / "libx.so.1"])
    assert (folder / "libx.so").read_text() == "new"


def test_what_the_user_has_set_stays(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, mkl=["libmkl_rt.so.3"])
    monkeypatch.setenv("PYTENSOR_FLAGS", "blas__ldflags=-lblas")
    assert chosen_by_user()
    with pytensor.config.change_flags(blas__ldflags="-lblas"):
        assert find_blas() == ("-lblas", "as set: -lblas")


def test_none_as_the_user_has_set(monkeypatch):
    monkeypatch.setenv("PYTENSOR_FLAGS", "blas__ldflags=")
    with pytensor.config.change_flags(blas__ldflags=""):
        assert find_blas() == ("", "as set: none")


ON_A_MACHINE_WITHOUT = """
import logging
import pytensor.link.c.cmodule as cmodule
cmodule.try_blas_flag = lambda flags: ""
logging.basicConfig(format="%(name)s: %(message)s")
from cle_port.graph.blas import find_blas
print(find_blas())
"""


def test_a_machine_without_a_blas_warns_in_one_line_of_ours(tmp_path):
    """PyTensor's own search, which warns on five lines; warnings are errors here."""
    env = {key: value for key, value in os.environ.items() if key != "PYTENSOR_FLAGS"}
    env |= {"HOME": str(tmp_path), "PYTENSOR_FLAGS": f"base_compiledir={tmp_path}"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", ON_A_MACHINE_WITHOUT],
        env=env,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (0, "BLAS(flags='', origin='')\n"), ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith("cle_port.graph.blas: No BLAS found: ")


@pytest.mark.parametrize("found", ["", "-lopenblas"])
def test_otherwise_what_pytensor_finds_or_one_line_of_warning(monkeypatch, tmp_path, caplog, found):
    install(monkeypatch, tmp_path)
    monkeypatch.setattr(blas, "chosen_by_user", lambda: False)
    caplog.set_level(logging.WARNING)
    with pytensor.config.change_flags(blas__ldflags=found):
        assert find_blas() == (found, found)
    assert [r.name for r in caplog.records] == ([] if found else ["cle_port.graph.blas"])
    if not found:
        assert "pip install mkl" in caplog.text


def test_no_package_no_libraries():
    assert libraries_of("a-package-that-nobody-has") == []


@pytest.mark.parametrize("fails", [False, True])
def test_flags_are_set_for_a_compilation_only(fails, monkeypatch):
    monkeypatch.setattr(blas, "find_blas", lambda: blas.BLAS("-lfound", "found"))

    def compile_something():
        with linked():
            assert pytensor.config.blas__ldflags == "-lfound"
            if fails:
                raise KeyboardInterrupt

    with pytensor.config.change_flags(blas__ldflags="-lbefore"):
        with pytest.raises(KeyboardInterrupt) if fails else nullcontext():
            compile_something()
        assert pytensor.config.blas__ldflags == "-lbefore"
