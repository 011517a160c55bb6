"""Reading and writing checkpoints: ``.npz`` files without pickles.

A checkpoint holds arrays by name.  Parameters have their own names, as the
original's ``load_params`` expects; everything else has a prefix:

=====================  ======================================================
name                   content
=====================  ======================================================
``<parameter>``        parameters, ``W_x_t__x_1`` and so on
``adam_m/<param>``     first moments; likewise ``adam_v/``, ``adam_counter``;
                       other optimizers: ``Optimizer.state`` of `cle_port.train.opt`
``optimizer/lr``       the learning rate
``state/<name>``       carried state, such as ``state/rnn_tm1``
``log/<channel>``      the training log
``log_lines``          the text of the ``.jsonl`` file, as bytes
``meta``               JSON text: format version, program, settings, progress
=====================  ======================================================

No counterpart in the original, which pickles the whole main loop.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError
from cle_port.files import replace_file
from cle_port.files.npz import DAMAGE, header, open_npz, read_array

FORMAT_VERSION = 2
LOG = ("log/", "log_lines")  # arrays that grow with the run, so that no shape is wrong

State = tuple[dict[str, NDArray], dict[str, Any]]  # arrays and meta
T = TypeVar("T")


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
    text = json.dumps({"format_version": FORMAT_VERSION, **meta})

    def write(file: Any) -> None:
        np.savez(file, allow_pickle=False, meta=np.array(text), **arrays)

    replace_file(path, write)


def load(path: str | Path) -> State:
    """Read a checkpoint, all of it or nothing.

    This takes no more memory than the file is long.

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
        If the file is missing, no checkpoint, damaged, or of a newer format.
    """

    def read(file: zipfile.ZipFile) -> State:
        meta = _read_meta(path, file)
        names = _names(file)
        for name in names:
            header(file, name)
        return {name: read_array(file, name) for name in names}, meta

    return _read(path, read)


def load_meta(path: str | Path) -> dict[str, Any]:
    """Read the meta of a checkpoint, without its arrays.

    Raises
    ------
    UserError
        See `load`.
    """
    return _read(path, lambda file: _read_meta(path, file))


def damaged(path: str | Path, error: BaseException | str) -> UserError:
    """Make the error for a file that `save` has not written whole."""
    reason = " ".join(str(error).split())[:200]
    return UserError(
        f"{path} is not a whole checkpoint of this program ({reason}); use another one"
    )


def _read(path: str | Path, read: Callable[[zipfile.ZipFile], T]) -> T:
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"there is no checkpoint {path}")
    try:
        with open_npz(path) as file:
            return read(file)
    except DAMAGE as error:
        raise damaged(path, error) from error


def _names(file: zipfile.ZipFile) -> list[str]:
    names = [entry.filename for entry in file.infolist()]
    if not all(name.endswith(".npy") for name in names):
        raise ValueError("it has entries that are no arrays")
    return [name.removesuffix(".npy") for name in names if name != "meta.npy"]


def _read_meta(path: str | Path, file: zipfile.ZipFile) -> dict[str, Any]:
    header(file, "meta")
    meta = json.loads(str(read_array(file, "meta")[()]))
    version = int(meta["format_version"])
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} has checkpoint format {version}, this program reads up to "
            f"{FORMAT_VERSION}; use the newer program that wrote it"
        )
    return meta


def check_like(
    path: str | Path, arrays: Mapping[str, NDArray], like: Mapping[str, NDArray]
) -> None:
    """Make sure that a checkpoint's arrays are those of a model.

    Parameters
    ----------
    path : path
        File of the checkpoint, for the message.
    arrays : mapping of str to ndarray
        What the checkpoint holds.
    like : mapping of str to ndarray
        What it must hold, with these shapes and dtypes; beside them only the log.

    Raises
    ------
    UserError
        If names, shapes or dtypes differ.
    """

    def described(arrays: Mapping[str, NDArray]) -> dict[str, str]:
        return {name: f"{array.dtype} of shape {array.shape}" for name, array in arrays.items()}

    found, wanted = described(arrays), described(like)
    extra = {name for name in found.keys() - wanted.keys() if not name.startswith(LOG)}
    different = [name for name in wanted if found.get(name) != wanted[name]] + sorted(extra)
    if different:
        name = different[0]
        raise UserError(
            f"{path} is of another model: {len(different)} arrays differ, {name} is "
            f"{found.get(name, 'not there')} where the model has {wanted.get(name, 'nothing')}; "
            "give a checkpoint of this program and its settings"
        )
