"""Piano rolls of short pieces that this module composes itself.

Counterpart: ``datasets/music.py``, which reads pickled piano rolls of MuseData.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.data import TemporalSeries
from cle_port.errors import UserError

N_PIECES = {"train": 1000, "valid": 100, "test": 100}

MAJOR = (0, 2, 4, 5, 7, 9, 11)  # steps of the major scale, in semitones
PROGRESSIONS = ((0, 5, 3, 4), (0, 4, 5, 3), (0, 3, 4, 4), (5, 3, 0, 4))  # by degrees of the scale
LOWEST_ROOTS = range(40, 52)  # notes on which a key may begin
CHORD_STEPS = 2  # time steps that a chord lasts
SHORTEST, LONGEST = 18, 25  # time steps of a piece
P_REST = 0.1  # probability of a note to be left out

Piece = list[list[int]]  # the notes, from 1 on, of each time step


class Music(TemporalSeries):
    """Batches of pieces, of the same pieces one time step later, and of masks.

    Parameters
    ----------
    nlabel : int
        Number of notes.
    name : {'train', 'valid', 'test'}
        Which pieces: 1000, 100 or 100 of their own; also the name in the log.
    seed : int
        Seed of the composition.

    Attributes
    ----------
    data : list of two ndarrays of object
        x and y, each piece but for its last time step and but for its first one:
        arrays of shape (steps - 1, nlabel), ``floatX`` at the time of loading, 1
        for a note that sounds and 0 for all others.

    Raises
    ------
    UserError
        If `name` has another value.
    ValueError
        If a note is above `nlabel`.

    Notes
    -----
    Counterpart: ``datasets/music.py``, ``Music``, which reads pickles by way of
    `numpy.load`.  This class reads none, because pickles can run any code.
    """

    data: list[NDArray]

    def __init__(self, nlabel: int, name: str | None = None, seed: int = 0) -> None:
        if name not in N_PIECES:
            raise UserError(f"name must be one of {', '.join(N_PIECES)}, not {name!r}")
        self.nlabel = nlabel
        self._rng = np.random.default_rng([seed, list(N_PIECES).index(name)])
        self._n_piece = N_PIECES[name]
        super().__init__(name=name)

    def load(self, path: Any = None) -> list[NDArray]:
        """Compose the pieces; ``path`` has no effect."""
        x, y = (np.empty(self._n_piece, dtype=object) for _ in range(2))
        for n in range(self._n_piece):
            piece = compose(self._rng)
            roll = np.array([self.list2nparray(notes, self.nlabel) for notes in piece])
            x[n], y[n] = roll[:-1], roll[1:]
        return [x, y]

    def list2nparray(self, x: Sequence[int], dim: int) -> NDArray:
        """Encode notes as a vector with a 1 for each of them.

        Parameters
        ----------
        x : sequence of int
            Notes, 1 to ``dim``.
        dim : int

        Returns
        -------
        ndarray, shape (dim,), floatX

        Raises
        ------
        ValueError
            If a note is not one of 1 to ``dim``.
        """
        if not all(1 <= note <= dim for note in x):
            raise ValueError(f"notes {list(x)} are not all among 1 to {dim}; give a larger nlabel")
        code = np.zeros(dim, dtype=pytensor.config.floatX)
        code[np.array(x, dtype=int) - 1] = 1
        return code

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return pieces ``start`` to ``end`` as one batch.

        Parameters
        ----------
        start, end : int
            Range of pieces.

        Returns
        -------
        x, y : ndarray, shape (time, batch, nlabel), floatX
            Piano rolls, padded with zeros to the longest piece.
        mask : ndarray, shape (time, batch), floatX
            1 within the piece, 0 in the padding.
        """
        x, y = (batch[start:end] for batch in self.data)
        return (self.zero_pad(x), *self.create_mask_and_zero_pad(y))

    def theano_vars(self, batch_size: int | None = None) -> list[TensorVariable]:
        """Return the symbolic inputs for a batch.

        Parameters
        ----------
        batch_size : int, optional
            Number of pieces to fix in the static shapes.

        Returns
        -------
        list of TensorVariable
            ``x`` and ``y``, shape (time, batch, nlabel), and ``mask``, shape (time,
            batch), all ``floatX``.

        Notes
        -----
        Counterpart: ``Music.theano_vars``, which fixes no shape.
        """
        shapes = {
            "x": (None, batch_size, self.nlabel),
            "y": (None, batch_size, self.nlabel),
            "mask": (None, batch_size),
        }
        floatX = pytensor.config.floatX
        return [pt.tensor(name, dtype=floatX, shape=shape) for name, shape in shapes.items()]


def compose(rng: np.random.Generator) -> Piece:
    """Compose a piece: a melody of broken chords above the chords of a progression.

    Key, progression, first chord, direction of the melody and length are drawn
    once; then only the notes that are left out, a tenth, are left to chance.  (Were
    there none, a trained model would be certain, and its probabilities 0 or 1.)

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    list of list of int
        Notes from 40 to 79, counted in semitones, of each of 18 to 25 time steps.
    """
    root = int(rng.choice(LOWEST_ROOTS))
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    first = int(rng.integers(len(progression)))
    direction = int(rng.choice([-1, 1]))
    piece = []
    for step in range(rng.integers(SHORTEST, LONGEST + 1)):
        degree = progression[(first + step // CHORD_STEPS) % len(progression)]
        chord = [root + _semitones(degree + third) for third in (0, 2, 4)]
        melody = chord[(direction * step) % len(chord)] + 12
        piece.append([note for note in [*chord, melody] if rng.random() >= P_REST])
    return piece


def _semitones(degree: int) -> int:
    """Semitones from the key's root to a degree of its major scale, the root being degree 0."""
    octave, step = divmod(degree, len(MAJOR))
    return 12 * octave + MAJOR[step]
