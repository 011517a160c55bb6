"""The library of matrix products that PyTensor's C code is linked with.

PyTensor looks for one on the system.  Where it finds none, it warns on five lines and goes on
with NumPy's; `link` says that in one.  `link` first looks for Intel's MKL as ``pip install mkl``
leaves it, which PyTensor does not find: it lacks the file name that linkers ask for.

No counterpart in the original.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import os
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytensor

from cle_port.cache import cache_dir

logger = logging.getLogger(__name__)


@cache
def link() -> str:
    """Choose a BLAS for all functions compiled by C from now on.

    What the user has set (``blas__ldflags`` in ``PYTENSOR_FLAGS`` or
    ``.pytensorrc``) stays.

    Returns
    -------
    str
        What was chosen, for a reader; empty if there is none, which is also
        logged as a warning with its remedy.
    """
    if chosen_by_user():
        return f"as set: {pytensor.config.blas__ldflags or 'none'}"
    libraries = libraries_of("mkl")
    if any(library.name.startswith("libmkl_rt.so.") for library in libraries):
        # MKL's threads expect their run-time library to be there, but do not load it.
        for library in libraries_of("intel-openmp"):
            if library.name == "libiomp5.so":
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        pytensor.config.blas__ldflags = f"-L{folder_for_linking(libraries)} -lmkl_rt"
        return "MKL from PyPI"
    found = found_on_system()
    if not found:
        logger.warning(
            "No BLAS found: matrix products will take twice as long; install one with: "
            "pip install mkl (Intel and AMD), or apt-get install libopenblas-dev"
        )
    return found


def found_on_system() -> str:
    """Let PyTensor look for a BLAS, which it does once; return its flags for linking, or ''."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS", UserWarning)
        return pytensor.config.blas__ldflags


def chosen_by_user() -> bool:
    """Whether flags or a settings file of PyTensor name a BLAS."""
    from pytensor.configparser import config_files_from_pytensorrc

    files = [Path(path) for path in config_files_from_pytensorrc() if Path(path).is_file()]
    texts = [os.environ.get("PYTENSOR_FLAGS", ""), *(path.read_text() for path in files)]
    return any("ldflags" in text for text in texts)


def libraries_of(package: str) -> list[Path]:
    """Shared libraries that a package from PyPI has installed, if it is there."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in files if ".so" in file.name]


def folder_for_linking(libraries: Iterable[Path]) -> Path:
    """Folder with links to libraries ``name.so.3`` under this name and as ``name.so``.

    The second is what linkers ask for, the first what programs load.
    """
    folder = cache_dir("blas")
    for library in libraries:
        for name in (library.name, library.name.split(".so")[0] + ".so"):
            _link(folder / name, library)
    return folder


def _link(link: Path, target: Path) -> None:
    """Make ``link`` point to ``target``, also while another process does the same."""
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
