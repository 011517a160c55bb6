"""The data behind a checkpoint: statistics and validation sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pytensor
from numpy.typing import ArrayLike, NDArray

from cle_port.errors import UserError
from models.running.data import open_blizzard, open_digits, open_iamondb
from models.settings import Settings


class Sequences(NamedTuple):
    """Validation data as the models see it.

    Attributes
    ----------
    x : ndarray, shape (T, B, x_dim), floatX
    lengths : ndarray of int, shape (B,)
        Frames of each sequence that are not padding.
    """

    x: NDArray
    lengths: NDArray

    def lines(self, x: NDArray) -> list[NDArray]:
        """Cut frames of the same shape into sequences, each (length, x_dim)."""
        return [x[:length, b] for b, length in enumerate(self.lengths)]


class ValidationData(NamedTuple):
    """The part of a data set that sampling needs.

    Attributes
    ----------
    X_mean, X_std : scalar
        Statistics that undo the normalisation.
    number : int
        Validation sequences: rows of Blizzard's file, lines of IAM-OnDB, images.
    longest : callable
        Takes the number of a sequence, from 0 on; returns how many frames can be
        read from its beginning.
    read : callable
        Takes that number, and a number of frames (None: all of the sequence);
        returns the frames, shape (T, x_dim), floatX.
    """

    X_mean: ArrayLike
    X_std: ArrayLike
    number: int
    longest: Callable[[int], int]
    read: Callable[[int, int | None], NDArray]

    def first(self, number: int) -> Sequences:
        """Read that many sequences from the first on.

        Raises
        ------
        UserError
            If there are less.
        """
        self.check_number(number)
        return self.choose(range(number))

    def choose(self, rows: Iterable[int], length: int | None = None, most: int = 0) -> Sequences:
        """Read chosen sequences.

        Parameters
        ----------
        rows : iterable of int
            Their numbers, from 0 on.
        length : int, optional
            Frames of each, counted from its beginning; default: all.  On Blizzard
            more frames than a row has go on in the rows that follow in the recording.
        most : int
            Without a ``length``, that many if so many can be read, even if a row has
            less.

        Raises
        ------
        UserError
            If there is no such sequence, or it is too short.
        """
        return padded([self._one(row, length, most) for row in rows])

    def check_number(self, number: int) -> None:
        """Make sure that there are so many sequences.

        Raises
        ------
        UserError
            If there are less.
        """
        if number > self.number:
            raise UserError(
                f"{number} validation sequences are asked for, but there are {self.number}; "
                "ask for less"
            )

    def check_rows(self, rows: Iterable[int]) -> None:
        """Make sure that all these sequences exist.

        Raises
        ------
        UserError
            If one does not.
        """
        for row in rows:
            if not 0 <= row < self.number:
                raise UserError(
                    f"there is no validation sequence {row}; --rows takes numbers from 0 to "
                    f"{self.number - 1}"
                )

    def _one(self, row: int, length: int | None, most: int) -> NDArray:
        self.check_rows([row])
        available = self.longest(row)
        if length is None and most:
            length = min(most, available)
        if length is not None and length > available:
            raise UserError(
                f"--real_length is {length}, but there are {available} validation frames from the "
                f"beginning of sequence {row} on; give at most {available}, or other --rows"
            )
        return self.read(row, length)


def padded(lines: Sequence[NDArray]) -> Sequences:
    """Put sequences of shape (T, x_dim) side by side, with zeros after the shorter ones."""
    lengths = np.array([len(line) for line in lines])
    x = np.zeros((lengths.max(), len(lines), lines[0].shape[1]), dtype=lines[0].dtype)
    for b, line in enumerate(lines):
        x[: len(line), b] = line
    return Sequences(x, lengths)


def open_data(args: Settings) -> ValidationData:
    """Open the data that the model was trained on: statistics and validation sequences.

    Raises
    ------
    UserError
        If it is missing or unusable.
    """
    if args.dataset == "iamondb":
        return _handwriting(args)
    return _images(args) if args.dataset == "digits" else _speech(args)


def _handwriting(args: Settings) -> ValidationData:
    train, valid, _ = open_iamondb(args)

    def read(row: int, length: int | None) -> NDArray:
        x, _ = valid.slices(row, row + 1)
        return x[:length, 0]

    return ValidationData(
        train.X_mean, train.X_std, valid.num_examples(), lambda row: len(read(row, None)), read
    )


def _images(args: Settings) -> ValidationData:
    with pytensor.config.change_flags(floatX=args.floatX):
        images = open_digits(args).valid

    def read(row: int, length: int | None) -> NDArray:
        (x,) = images.slices(row, row + 1)
        return x[:length, 0]

    return ValidationData(0.0, 1.0, images.num_examples(), lambda row: 1, read)


def _speech(args: Settings) -> ValidationData:
    """Rows of the file; row i and row i + (number of streams) follow each other in a recording."""
    _, valid, rows, _ = open_blizzard(args)
    number = rows.valid_end - rows.valid_start
    # Without a record in the file, training, too, takes the batch size as the number of streams.
    n_stream = valid.batch_size_of_file or args.batch_size
    per_row = valid.seq_len // args.x_dim

    def longest(row: int) -> int:
        return per_row * len(range(row, number, n_stream))

    def read(row: int, length: int | None) -> NDArray:
        last = row + (math.ceil((length or per_row) / per_row) - 1) * n_stream
        following = range(rows.valid_start + row, rows.valid_start + last + 1, n_stream)
        with pytensor.config.change_flags(floatX=args.floatX):
            pieces = [valid.slices(i, i + 1)[0][:, 0] for i in following]
        return np.concatenate(pieces)[:length]

    return ValidationData(valid.X_mean, valid.X_std, number, longest, read)
