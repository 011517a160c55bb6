"""The data behind a checkpoint: statistics and validation sequences."""

from __future__ import annotations

from collections.abc import Callable
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
    first : callable
        Takes a number, returns that many validation sequences.
    """

    X_mean: ArrayLike
    X_std: ArrayLike
    first: Callable[[int], Sequences]


def open_data(args: Settings) -> ValidationData:
    """Open the data that the model was trained on: statistics and validation sequences.

    Raises
    ------
    UserError
        If it is missing or unusable.
    """
    if args.dataset == "iamondb":
        lines = open_iamondb(args)

        def first_lines(number: int) -> Sequences:
            _check_number(number, lines.valid.num_examples())
            with pytensor.config.change_flags(floatX=args.floatX):
                x, mask = lines.valid.slices(0, number)
            return Sequences(x, mask.sum(axis=0).astype(int))

        return ValidationData(lines.train.X_mean, lines.train.X_std, first_lines)

    if args.dataset == "digits":
        with pytensor.config.change_flags(floatX=args.floatX):
            images = open_digits(args).valid

        def first_images(number: int) -> Sequences:
            _check_number(number, images.num_examples())
            (x,) = images.slices(0, number)
            return Sequences(x, np.ones(number, dtype=int))

        return ValidationData(0.0, 1.0, first_images)

    rows = open_blizzard(args)
    start, end = rows.rows.valid_start, rows.rows.valid_end

    def first_rows(number: int) -> Sequences:
        _check_number(number, end - start)
        with pytensor.config.change_flags(floatX=args.floatX):
            (x,) = rows.valid.slices(start, start + number)
        return Sequences(x, np.full(number, len(x)))

    return ValidationData(rows.valid.X_mean, rows.valid.X_std, first_rows)


def _check_number(number: int, available: int) -> None:
    if number > available:
        raise UserError(
            f"{number} validation sequences are asked for, but there are {available}; ask for less"
        )
