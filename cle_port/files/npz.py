"""Read ``.npz`` files that may be damaged or malicious.

No counterpart in the original, which stores pickles.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cle_port.files import open_file

# NumPy, zipfile and JSON raise these for files that are damaged or have another format.  They raise
# RuntimeError for encryption, unknown compression and deeply nested text, and MemoryError for
# impossible sizes.
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


def read_npz(path: str | Path, names: Sequence[str]) -> dict[str, NDArray]:
    """Read arrays of an ``.npz`` file in no more memory than the file's size.

    Parameters
    ----------
    path : path
    names : sequence of str
        Names of the arrays.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    Exception
        One of `DAMAGE`, if the file is damaged or compressed, or an array is
        missing.
    """
    with open_npz(path) as file:
        for name in names:
            header(file, name)
        return {name: read_array(file, name) for name in names}


@contextlib.contextmanager
def open_npz(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open an uncompressed ``.npz`` file; check that its entries fit into it.

    Parameters
    ----------
    path : path

    Yields
    ------
    zipfile.ZipFile

    Raises
    ------
    Exception
        One of `DAMAGE`, if the file is damaged or compressed.
    """
    with open_file(path) as stream, zipfile.ZipFile(stream) as file:
        _check_sizes(file, os.fstat(stream.fileno()).st_size)
        yield file


def _check_sizes(file: zipfile.ZipFile, size: int) -> None:
    """Reject compressed entries and entries that claim to be larger than the file."""
    entries = file.infolist()
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("two entries have one name")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its entries are compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its entries are said to be larger than the file")


def header(file: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Read shape and dtype of an array and check that its data fit them.

    Parameters
    ----------
    file : zipfile.ZipFile
        From `open_npz`.
    name : str
        Name of the array.

    Returns
    -------
    tuple of int, numpy.dtype

    Raises
    ------
    Exception
        One of `DAMAGE`, if the header is damaged, or the array holds objects or
        has another size.
    """
    with file.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"{name} has version {version} of NumPy's format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        count = 1
        for length in shape:  # exact integers: NumPy's product would overflow
            count *= length
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(f"{name} has no numbers")
        if count * dtype.itemsize != file.getinfo(f"{name}.npy").file_size - stream.tell():
            raise ValueError(f"{name} is not as large as its shape {shape}")
    return shape, dtype


def read_array(file: zipfile.ZipFile, name: str) -> NDArray:
    """Read an array after `header` has checked it."""
    with file.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
