"""Opening the data that the settings name, or the built-in demo corpus."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cle_port.data import Iterator
from cle_port.errors import UserError
from datasets import digits, iamondb
from datasets.blizzard import Blizzard_tbptt, RowRanges, row_ranges, whole_batches
from datasets.demo import blizzard as demo_blizzard
from datasets.demo import iamondb as demo_iamondb
from datasets.hdf5.statistics import load_statistics
from models.settings import Settings

logger = logging.getLogger(__name__)

FILE_NAME = "blizzard_unseg_tbptt"  # of the original's scripts


class BlizzardData(NamedTuple):
    """Training and validation view of the file, and the rows that each uses.

    Attributes
    ----------
    train, valid : Blizzard_tbptt
    rows : RowRanges
    origin : str
        Where the data come from, for a reader.
    """

    train: Blizzard_tbptt
    valid: Blizzard_tbptt
    rows: RowRanges
    origin: str


class IAMOnDBData(NamedTuple):
    """Training and validation lines.

    Attributes
    ----------
    train, valid : IAMOnDB
    origin : str
        Where the data come from, for a reader.
    """

    train: iamondb.IAMOnDB
    valid: iamondb.IAMOnDB
    origin: str


class DigitsData(NamedTuple):
    """Training and validation images.

    Attributes
    ----------
    train, valid : Digits
    origin : str
        Where the data come from, for a reader.
    """

    train: digits.Digits
    valid: digits.Digits
    origin: str


def open_blizzard(args: Settings, rows: RowRanges | None = None) -> BlizzardData:
    """Open the rows of audio.

    Parameters
    ----------
    args : Settings
    rows : RowRanges, optional
        Rows to train and monitor on; the default is `datasets.blizzard.row_ranges`.

    Raises
    ------
    UserError
        If the data are missing, damaged or do not fit the settings.
    """
    folder, origin = _folder_of(args, demo_blizzard)
    X_mean, X_std = load_statistics(folder, FILE_NAME)
    train, valid = (
        Blizzard_tbptt(
            name=name,
            path=folder,
            frame_size=args.x_dim,
            file_name=FILE_NAME,
            X_mean=X_mean,
            X_std=X_std,
        )
        for name in ("train", "valid")
    )
    if rows is None:
        rows = row_ranges(train.num_examples(), args.batch_size, args.m_batch_size)
        valid_end = whole_batches(rows.valid_start, rows.valid_end, args.m_batch_size)
        rows = rows._replace(valid_end=valid_end)
    return BlizzardData(train, valid, rows, origin)


def open_iamondb(args: Settings) -> IAMOnDBData:
    """Open the lines of handwriting.

    Raises
    ------
    UserError
        If the data are missing, damaged or do not fit the settings.
    """
    folder, origin = _folder_of(args, demo_iamondb)
    train, valid = iamondb.open_iamondb(folder, batch_size=args.batch_size)
    if args.x_dim != 3:
        raise UserError(f"x_dim is {args.x_dim}, but a point of the pen has 3 numbers; give 3")
    return IAMOnDBData(train, valid, origin)


def open_digits(args: Settings) -> DigitsData:
    """Open the images of digits, each a sequence of one frame.

    Raises
    ------
    UserError
        If scikit-learn is not installed, or the settings do not fit the images.
    """
    if args.data_path is not None:
        raise UserError(
            f"data_path is {args.data_path}, but the digits come with scikit-learn; leave it out, "
            "or give another --dataset"
        )
    train, valid = digits.open_digits(unsupervised=1)
    if args.x_dim != digits.X_DIM:
        raise UserError(
            f"x_dim is {args.x_dim}, but an image has {digits.X_DIM} pixels; give {digits.X_DIM}"
        )
    for key, data in (("batch_size", train), ("m_batch_size", valid)):
        size, n = getattr(args, key), data.num_examples()
        if size > n:
            raise UserError(f"{key} is {size}, but there are {n} images of digits; use 1 to {n}")
    return DigitsData(train, valid, "the digits of scikit-learn")


def data_id(train: Iterator, valid: Iterator) -> str:
    """Identify data: a digest of their number and of their first and last batch."""
    digest = hashlib.sha256()
    for part in (train, valid):
        starts = (part.start, max(part.start, part.end - part.batch_size))
        digest.update(f"{part.data.num_examples()} {part.start} {part.end}".encode())
        for start in starts:
            for array in part.data.slices(start, start + part.batch_size):
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _folder_of(args: Settings, demo: Any) -> tuple[Path, str]:
    """Folder of the data and its name for a reader: the demo corpus unless a folder is given."""
    if args.data_path is None:
        logger.info("%s", demo.STAND_IN_NOTICE)
        return demo.ensure(quiet=args.quiet), "the built-in demo corpus"
    folder = Path(args.data_path)
    if not folder.is_dir():
        raise UserError(f"--data_path {folder} is not a folder; give the one with the data")
    return folder, str(folder)
