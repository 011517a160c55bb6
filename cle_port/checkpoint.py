"""Reading and writing checkpoints: ``.npz`` files without pickles.

A checkpoint holds arrays by name.  Parameters stand under their own names, as
the original's ``load_params`` expects them; everything else has a prefix:

=====================  ======================================================
name                   content
=====================  ======================================================
``<parameter>``        parameters, ``W_x_t__x_1`` and so on
``adam_m/<param>``     first moments; likewise ``adam_v/``, ``adam_counter``
``state/<name>``       carried state, such as ``state/rnn_tm1``
``log/<channel>``      the training log
``meta``               JSON text: format version, program, settings, progress
=====================  ======================================================

No counterpart in the original, which pickles the whole main loop.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError

FORMAT_VERSION = 1

# What NumPy, zipfile and json raise on files that are damaged or something else:
# RuntimeError for bits that say encrypted or an unknown compression, MemoryError
# for sizes that cannot be.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def save(path: str | Path, arrays: Mapping[str, NDArray], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint; the old file stays whole until the new one is.

    Parameters
    ----------
    path : path
        File to write, usually ending in ``.npz``.
    arrays : mapping of str to ndarray
        Numbers only.
    meta : mapping
        What JSON can hold; ``format_version`` is added.

    Raises
    ------
    OSError
        If the file cannot be written.  Nothing is left behind then.
    """
    path = Path(path)
    text = json.dumps({"format_version": FORMAT_VERSION, **meta})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, meta=np.array(text), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def load(path: str | Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Read a checkpoint.

    Parameters
    ----------
    path : path
        File written by `save`.

    Returns
    -------
    arrays : dict of str to ndarray
    meta : dict

    Raises
    ------
    UserError
        If the file is missing, not a checkpoint, damaged, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        # Opened here, since NumPy leaves a file that is no zip archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")[()]))
        version = int(meta["format_version"])
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a whole checkpoint of this program ({reason}); use another one"
        ) from error
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} has checkpoint format {version}, this program reads up to "
            f"{FORMAT_VERSION}; use the newer program that wrote it"
        )
    return arrays, meta


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself survive a power failure, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
