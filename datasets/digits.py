"""Handwritten digits as batches: the images that scikit-learn ships, in place of MNIST.

``pip install scikit-learn`` installs them; nothing is downloaded.

Counterpart: ``datasets/mnist.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.data import DesignMatrix
from cle_port.errors import UserError

N_LABELS = 10
IMAGE_SHAPE = (8, 8)
X_DIM = 64
WHITE = 16  # the greatest grey level
N_TRAIN = 1437  # four fifths of 1797
SPLITS = {"train": slice(0, N_TRAIN), "valid": slice(N_TRAIN, None)}


class Digits(DesignMatrix):
    """Batches of images of handwritten digits and their labels.

    These are the 1797 images of ``sklearn.datasets.load_digits``: 8 x 8 pixels
    of 17 grey levels, here scaled to the range 0 to 1.

    Parameters
    ----------
    unsupervised : int or bool
        Images without labels, each as a sequence of one frame: see `slices`.
    name : {'train', 'valid'}
        The first 1437 images or the other 360; also the name in the log.

    Attributes
    ----------
    data : list of ndarray
        Images, shape (images, 64), ``floatX`` at the time of loading, rows of
        pixels one after the other; and labels, shape (images,), int64, unless
        `unsupervised` is set.

    Raises
    ------
    UserError
        If scikit-learn is not installed, or `name` has another value.

    Notes
    -----
    Counterpart: ``datasets/mnist.py``, ``MNIST``, whose images have 28 x 28
    pixels and whose `unsupervised` leaves `theano_vars` as it is.

    The split keeps the package's order, because that order is by writer: 14
    forms of about 130 digits follow one another (the sequence of labels shows
    where they begin).  So the validation images are the last two forms, of
    writers whom training never sees, and all but 22 digits of the form before.
    That is the harder and the more honest split: the nearest training image has
    another label for 4.4 % of the validation images, and for about 1 % after
    shuffling.  Each digit makes up 9 to 10.5 % of both parts.
    """

    data: list[NDArray]

    def __init__(self, unsupervised: int | bool = 0, name: str | None = None) -> None:
        if name not in SPLITS:
            raise UserError(f"name must be 'train' or 'valid', not {name!r}")
        self.unsupervised = unsupervised
        self._split = SPLITS[name]
        super().__init__(name=name)

    def load(self, path: Any = None) -> list[NDArray]:
        """Return the arrays of the class; ``path`` has no effect, the package has the data."""
        images, labels = _images_and_labels()
        x = (images[self._split] / WHITE).astype(pytensor.config.floatX)
        return [x] if self.unsupervised else [x, labels[self._split]]

    def theano_vars(self, batch_size: int | None = None) -> Any:
        """Return the symbolic inputs for a batch.

        Parameters
        ----------
        batch_size : int, optional
            Number of images to fix in the static shapes.

        Returns
        -------
        list of TensorVariable, or TensorVariable
            ``x``, shape (batch, 64), ``floatX``, and ``y``, shape (batch,),
            int64.  If `unsupervised` is set, only ``x``, shape (1, batch, 64),
            and not in a list.

        Notes
        -----
        Counterpart: ``MNIST.theano_vars``, which fixes no shape.
        """
        floatX = pytensor.config.floatX
        if self.unsupervised:
            return pt.tensor("x", dtype=floatX, shape=(1, batch_size, X_DIM))
        x = pt.tensor("x", dtype=floatX, shape=(batch_size, X_DIM))
        y: TensorVariable = pt.tensor("y", dtype="int64", shape=(batch_size,))
        return [x, y]

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return images ``start`` to ``end`` as one batch.

        Parameters
        ----------
        start, end : int
            Range of images.

        Returns
        -------
        x : ndarray, shape (batch, 64), or (1, batch, 64) if `unsupervised` is set
            Images, ``floatX``.  The first axis of the second form is time: a model
            of sequences sees an image as a sequence of one frame.
        y : ndarray, shape (batch,), int64
            Labels, 0 to 9; not if `unsupervised` is set.
        """
        batch = super().slices(start, end)
        return (batch[0][None],) if self.unsupervised else batch


def open_digits(unsupervised: int | bool = 0) -> tuple[Digits, Digits]:
    """Open training and validation images.

    Parameters
    ----------
    unsupervised : int or bool
        See `Digits`.

    Returns
    -------
    train, valid : Digits

    Raises
    ------
    UserError
        If scikit-learn is not installed.
    """
    return Digits(unsupervised, name="train"), Digits(unsupervised, name="valid")


def _images_and_labels() -> tuple[NDArray, NDArray[np.int64]]:
    """Images of grey levels 0 to 16, shape (1797, 64), and labels, in the package's order."""
    try:
        from sklearn.datasets import load_digits  # here, because this takes a second
    except ImportError as error:
        raise UserError(
            f"the digits need scikit-learn ({error}); install it with: pip install scikit-learn"
        ) from error
    images, labels = load_digits(return_X_y=True)
    return images, labels.astype(np.int64)
