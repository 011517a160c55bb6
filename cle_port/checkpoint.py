"""Reading and writing checkpoints: ``.npz`` files without pickles.

A checkpoint holds arrays by name.  Parameters stand under their own names, as
the original's ``load_params`` expects them; everything else has a prefix:

=====================  ======================================================
name                   content
=====================  ======================================================
``<parameter>``        parameters, ``W_x_t__x_1`` and so on
``adam_m/<param>``     first moments; likewise ``adam_v/``, ``adam_counter``
``optimizer/lr``       the learning rate
``state/<name>``       carried state, such as ``state/rnn_tm1``
``log/<channel>``      the training log
``log_lines``          the text of the ``.jsonl`` file, as bytes
``meta``               JSON text: format version, program, settings, progress
=====================  ======================================================

No counterpart in the original, which pickles the whole main loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError
from cle_port.files import open_file, replace_file

FORMAT_VERSION = 2
LOG = ("log/", "log_lines")  # what grows with the run: no shape can be asked of it

# What NumPy, zipfile and JSON raise on files that are damaged or something else:
# RuntimeError for bits that say encrypted or an unknown compression, or a text
# nested too deep, MemoryError for sizes that cannot be.
DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

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


def load(
    path: str | Path, like: Mapping[str, NDArray] | None = None
) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Read a checkpoint, all of it or nothing.

    No more memory is taken than the file is long.

    Parameters
    ----------
    path : path
        File written by `save`.
    like : mapping of str to ndarray, optional
        Arrays that the file must have, with these shapes and dtypes; besides
        them only the log.  Looked at before any array is read.

    Returns
    -------
    arrays : dict of str to ndarray
    meta : dict

    Raises
    ------
    UserError
        If the file is missing, not a checkpoint, damaged, of a newer format, or
        not ``like`` what is asked for.
    """

    def read(file: zipfile.ZipFile) -> tuple[dict[str, NDArray], dict[str, Any]]:
        meta = _read_meta(path, file)
        headers = {name: _header(file, name) for name in _names(file)}
        if like is not None:
            _check(path, headers, like)
        return {name: _read_array(file, name) for name in headers}, meta

    return _read(path, read)


def load_meta(path: str | Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself, without its arrays.

    Raises
    ------
    UserError
        See `load`.
    """
    return _read(path, lambda file: _read_meta(path, file))


def damaged(path: str | Path, error: BaseException | str) -> UserError:
    """Describe a file that is not what `save` writes."""
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


def read_npz(path: str | Path, names: Sequence[str]) -> dict[str, NDArray]:
    """Read some arrays of an ``.npz`` file that is no checkpoint, within the memory it has.

    Parameters
    ----------
    path : path
    names : sequence of str

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    Exception
        One of `DAMAGE`, if the file is damaged, compressed, or lacks a name.
    """
    with open_npz(path) as file:
        for name in names:
            _header(file, name)
        return {name: _read_array(file, name) for name in names}


@contextlib.contextmanager
def open_npz(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open an ``.npz`` file whose entries are not larger than it is."""
    with open_file(path) as stream, zipfile.ZipFile(stream) as file:
        _check_sizes(file, os.fstat(stream.fileno()).st_size)
        yield file


def _check_sizes(file: zipfile.ZipFile, size: int) -> None:
    """Refuse a file that promises more than it has: nothing in a checkpoint is compressed."""
    entries = file.infolist()
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("two entries have one name")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its entries are compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its entries are said to be larger than the file")


def _names(file: zipfile.ZipFile) -> list[str]:
    names = [entry.filename for entry in file.infolist()]
    if not all(name.endswith(".npy") for name in names):
        raise ValueError("it has entries that are no arrays")
    return [name.removesuffix(".npy") for name in names if name != "meta.npy"]


def _read_meta(path: str | Path, file: zipfile.ZipFile) -> dict[str, Any]:
    _header(file, "meta")
    meta = json.loads(str(_read_array(file, "meta")[()]))
    version = int(meta["format_version"])
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} has checkpoint format {version}, this program reads up to "
            f"{FORMAT_VERSION}; use the newer program that wrote it"
        )
    return meta


def _header(file: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, which must be as large as they say."""
    with file.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"{name} has version {version} of NumPy's format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        count = 1
        for length in shape:  # exactly, where NumPy's product would overflow
            count *= length
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(f"{name} has no numbers")
        if count * dtype.itemsize != file.getinfo(f"{name}.npy").file_size - stream.tell():
            raise ValueError(f"{name} is not as large as its shape {shape}")
    return shape, dtype


def _read_array(file: zipfile.ZipFile, name: str) -> NDArray:
    with file.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _check(
    path: str | Path,
    headers: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    like: Mapping[str, NDArray],
) -> None:
    def describe(shape: tuple[int, ...], dtype: np.dtype) -> str:
        return f"{dtype} of shape {shape}"

    found = {name: describe(*header) for name, header in headers.items()}
    wanted = {name: describe(array.shape, array.dtype) for name, array in like.items()}
    extra = {name for name in found.keys() - wanted.keys() if not name.startswith(LOG)}
    different = [name for name in wanted if found.get(name) != wanted[name]] + sorted(extra)
    if different:
        name = different[0]
        raise UserError(
            f"{path} is of another model: {len(different)} arrays differ, {name} is "
            f"{found.get(name, 'not there')} where the model has {wanted.get(name, 'nothing')}; "
            "give a checkpoint of this program and its settings"
        )
