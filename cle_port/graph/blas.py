"""Find a BLAS, the library of matrix products, for PyTensor's C backend.

PyTensor looks for a BLAS on the system.  If it finds none, it prints a warning of five lines and
uses NumPy's products; `find_blas` warns in one line.  `find_blas` first looks for Intel's MKL as
``pip install mkl`` installs it.  PyTensor cannot find that one, because it lacks the file name that
linkers need.

No counterpart in the original.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytensor

from cle_port.files.cache import cache_dir

logger = logging.getLogger(__name__)


class BLAS(NamedTuple):
    """A library of matrix products.

    Attributes
    ----------
    flags : str
        Flags for the linker.
    origin : str
        Description of its source, for a log; empty if there is no BLAS.
    """

    flags: str
    origin: str


@contextmanager
def linked() -> Iterator[None]:
    """Link PyTensor's C code with the BLAS of `find_blas` while the context lasts."""
    with pytensor.config.change_flags(blas__ldflags=find_blas().flags):
        yield


@cache
def find_blas() -> BLAS:
    """Choose the BLAS of the C backend.

    The user's choice (``blas__ldflags`` in ``PYTENSOR_FLAGS`` or ``.pytensorrc``)
    comes first, then MKL as pip installs it, then the BLAS that PyTensor finds on
    the system.  If there is none, this logs a warning that names the remedy.

    Returns
    -------
    BLAS
    """
    if chosen_by_user():
        flags = pytensor.config.blas__ldflags
        return BLAS(flags, f"as set: {flags or 'none'}")
    libraries = libraries_of("mkl")
    if any(library.name.startswith("libmkl_rt.so.") for library in libraries):
        # MKL's threads need this run-time library, but MKL does not load it.
        for library in libraries_of("intel-openmp"):
            if library.name == "libiomp5.so":
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        return BLAS(f"-L{folder_for_linking(libraries)} -lmkl_rt", "MKL from PyPI")
    flags = found_on_system()
    if not flags:
        logger.warning(
            "No BLAS found: matrix products will take twice as long; install one with: "
            "pip install mkl (Intel and AMD), or apt-get install libopenblas-dev"
        )
    return BLAS(flags, flags)


def found_on_system() -> str:
    """Return the linker flags of the BLAS that PyTensor finds, or ''; it searches once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS", UserWarning)
        return pytensor.config.blas__ldflags


def chosen_by_user() -> bool:
    """Return whether PyTensor's flags or settings file name a BLAS."""
    from pytensor.configparser import config_files_from_pytensorrc

    files = [Path(path) for path in config_files_from_pytensorrc() if Path(path).is_file()]
    texts = [os.environ.get("PYTENSOR_FLAGS", ""), *(path.read_text() for path in files)]
    return any("ldflags" in text for text in texts)


def libraries_of(package: str) -> list[Path]:
    """Return the shared libraries of an installed package; none if it is not installed."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in files if ".so" in file.name]


def folder_for_linking(libraries: Iterable[Path]) -> Path:
    """Make a folder of links to libraries; ``name.so.3`` also gets the name ``name.so``.

    Linkers ask for ``name.so``, programs load ``name.so.3``.
    """
    folder = cache_dir("blas")
    for library in libraries:
        for name in (library.name, library.name.split(".so")[0] + ".so"):
            _link(folder / name, library)
    return folder


def _link(link: Path, target: Path) -> None:
    """Make ``link`` point to ``target``; another process may do the same meanwhile."""
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
