"""Checks that make it safe to read a damaged or hostile HDF5 file.

The HDF5 library follows links into other files, reads unwritten data as zeros,
and allocates as much memory as a file asks for.  It also trusts that each packed
chunk unpacks to a full chunk; a shorter one causes a segmentation fault.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import zlib
from pathlib import Path
from typing import Any

import h5py

from cle_port.errors import UserError

# A damaged file makes h5py raise any of these.
HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)

BLOSC = 32001  # filter of the original, which writes with PyTables
SHUFFLE, DEFLATE, FLETCHER32 = (
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_FLETCHER32,
)
# Accepted filters, in their only accepted order.  Installed plug-ins offer many more, and a
# hostile file must not be able to choose among them.
PIPELINES = [
    [code for code in codes if code]
    for codes in itertools.product([0, SHUFFLE], [0, DEFLATE, BLOSC], [0, FLETCHER32])
]
BLOSC_SETTINGS = 4  # minimum; the plug-in reads them without checking their number
BLOSC_HEADER = 16  # bytes; bytes 4 to 7 hold the unpacked length
CHECKSUM = 4  # bytes of fletcher32
LARGEST_CHUNK = 2**23  # bytes, unpacked; the writers of this project use 2**18


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """Return a data set that is stored in this file itself.

    Parameters
    ----------
    file : h5py.File
    name : str
        Path within the file.

    Returns
    -------
    h5py.Dataset or None
        None if there is no data set of that name.

    Raises
    ------
    ValueError
        If a link leads to it, because links may lead into other files.
    """
    node: Any = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or part not in node:
            return None
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r} is a link")
        node = node[part]
    return node if isinstance(node, h5py.Dataset) else None


def check_storage(stored: h5py.Dataset, path: Path) -> None:
    """Check that a data set is complete, stored in this file, and in an accepted format.

    Parameters
    ----------
    stored : h5py.Dataset
    path : pathlib.Path
        File of the data set, for the error message.

    Raises
    ------
    UserError
        If the data set needs blosc and blosc is not installed.
    ValueError
        If the content is stored in other files, the filters are not in
        `PIPELINES`, a chunk needs too much memory, or chunks are missing
        (HDF5 would silently read them as zeros).
    """
    if stored.is_virtual or stored.external:
        raise ValueError("its content is stored in other files")
    _check_filters(stored, path)
    if stored.chunks is None:
        there, needed, unit = stored.id.get_storage_size(), stored.nbytes, "bytes"
        there = min(there, path.stat().st_size)
    else:
        size = _chunk_size(stored)
        if size > LARGEST_CHUNK:
            raise ValueError(f"its chunks have {size} bytes, more than {LARGEST_CHUNK}")
        there, unit = stored.id.get_num_chunks(), "chunks"
        needed = math.prod(-(-n // chunk) for n, chunk in zip(stored.shape, stored.chunks))
    if there != needed:
        raise ValueError(f"it has only {there} of {needed} {unit}")


def check_chunks(stored: h5py.Dataset, start: int, stop: int) -> None:
    """Check that chunks unpack to their full size; call `check_storage` first.

    Parameters
    ----------
    stored : h5py.Dataset
    start, stop : int
        Range along the first axis.  The check unpacks every chunk in it.

    Raises
    ------
    ValueError
        If a chunk is damaged or does not unpack to a full chunk.
    """
    if stored.chunks is None:
        return
    filters, size = _filters(stored), _chunk_size(stored)
    first = range(start - start % stored.chunks[0], stop, stored.chunks[0])
    others = (range(0, n, chunk) for n, chunk in zip(stored.shape[1:], stored.chunks[1:]))
    for offset in itertools.product(first, *others):
        skipped, packed = stored.id.read_direct_chunk(offset)
        applied = [code for bit, code in enumerate(filters) if not skipped >> bit & 1]
        unpacked = _unpacked_length(packed, applied, size)
        if unpacked != size:
            raise ValueError(f"the chunk at {offset} unpacks to {unpacked} of {size} bytes")


def _unpacked_length(packed: bytes, filters: list[int], size: int) -> int:
    """Return the unpacked length of a chunk, or some number above ``size`` if it is longer."""
    if FLETCHER32 in filters:
        packed = packed[:-CHECKSUM]
    if BLOSC in filters:
        return int.from_bytes(packed[4:8], "little") if len(packed) >= BLOSC_HEADER else 0
    if DEFLATE in filters:
        unpacker = zlib.decompressobj()
        try:
            length = len(unpacker.decompress(packed, size + 1))
        except zlib.error as error:
            raise ValueError(str(error)) from error
        return length if unpacker.eof or length > size else 0
    return len(packed)


def _chunk_size(stored: h5py.Dataset) -> int:
    return math.prod(stored.chunks) * stored.dtype.itemsize


def _filters(stored: h5py.Dataset) -> list[int]:
    plist = stored.id.get_create_plist()
    return [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]


def _check_filters(stored: h5py.Dataset, path: Path) -> None:
    plist = stored.id.get_create_plist()
    if _filters(stored) not in PIPELINES:
        labels = [plist.get_filter(index)[3] for index in range(plist.get_nfilters())]
        names = ", ".join(label.decode(errors="replace") or "unknown" for label in labels)
        raise ValueError(f"it uses filters that are not accepted ({names})")
    if BLOSC not in _filters(stored):
        return
    if len(plist.get_filter_by_id(BLOSC)[1]) < BLOSC_SETTINGS:
        raise ValueError("its blosc filter lacks settings")
    if not h5py.h5z.filter_avail(BLOSC):
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  # the import registers its filters
    if not h5py.h5z.filter_avail(BLOSC):
        raise UserError(f"{path} is compressed with blosc; `pip install hdf5plugin` to read it")
