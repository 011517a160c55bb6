"""The original's random number generator: MRG31k3p, as in Theano 0.7's ``MRG_RandomStreams``.

MRG31k3p [1]_ has two linear recurrences of order three, one modulo M1 = 2^31 - 1 and
one modulo M2 = 2^31 - 21069.  Each number is the difference of the two.  The state is
the last three values of each recurrence.  To jump over n numbers, multiply the state by
the n-th power of the step matrix.

Jumps split the sequence that starts at the seed.  Each random variable of a graph gets a
block of 2^134 numbers, and a block is split into streams of 2^72 numbers.  A draw takes
its first number from the first stream of the block, its second number from the second
stream, and so on, and starts over after the last stream.  The next draw starts at the
first stream again.

Notes
-----
Counterpart: ``default_theano_rng`` in ``cle/utils/op.py``, that is Theano 0.7's
``theano.sandbox.rng_mrg`` and ``theano.sandbox.multinomial`` on a CPU.

References
----------
.. [1] P. L'Ecuyer and R. Touzin, "Fast combined multiple recursive generators with
   multipliers of the form a = +-2^q +-2^r", Winter Simulation Conference, 2000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytensor
from numpy.typing import ArrayLike, NDArray

from cle_port.errors import UserError

N_STREAMS = 60 * 256  # for draws of unknown size when the graph is built
M1 = 2**31 - 1
M2 = 2**31 - 21069
STEP1 = np.array([[0, 2**22, 2**7 + 1], [1, 0, 0], [0, 1, 0]], dtype=np.int64)
STEP2 = np.array([[2**15, 0, 2**15 + 1], [1, 0, 0], [0, 1, 0]], dtype=np.int64)

# Factor from integers 1 .. M1 to the open interval (0, 1).  In single precision M1 rounds
# to 2^31, so the factor must be less than 2^-31.
NORM = {"float32": np.float32(4.6566126e-10), "float64": np.float64(2.0**-31)}


def guess_n_streams(size: Sequence[int]) -> int:
    """Return the number of streams for draws of known size when the graph is built.

    Parameters
    ----------
    size : sequence of int
        Shape of a uniform draw.  A normal draw needs an even number of uniform
        numbers; give that number.

    Notes
    -----
    Counterpart: ``guess_n_streams`` in ``theano/sandbox/rng_mrg.py``.
    """
    n_samples = math.prod(size)
    return min(n_samples // 6 if n_samples > 6 else n_samples, N_STREAMS)


class MRG_RandomStreams:
    """A source of blocks of streams, one for each random variable of a graph.

    Parameters
    ----------
    seed : int or sequence of 6 int
        A number from 1 to M2 - 1, repeated six times, or a state: three numbers below
        M1 and three below M2, neither three all 0.

    Attributes
    ----------
    rstate : ndarray of shape (6,), dtype int64
        State of the first stream of the next block.

    Raises
    ------
    UserError
        If the seed is no valid state.

    Notes
    -----
    Counterpart: ``theano.sandbox.rng_mrg.MRG_RandomStreams``.
    """

    def __init__(self, seed: int | Sequence[int] = 12345) -> None:
        rstate = [seed] * 6 if isinstance(seed, int | np.integer) else list(seed)
        if not _is_state(rstate):
            raise UserError(f"{seed} cannot seed MRG31k3p; give a number from 1 to {M2 - 1}")
        self.rstate = np.array(rstate, dtype=np.int64)

    def block(self, n_streams: int = N_STREAMS) -> Streams:
        """Return the next block; in the original, a new random variable takes it."""
        block = Streams(self.rstate, n_streams)
        self.rstate = _jump(self.rstate[:, None], 2**134)[:, 0]
        return block


class Streams:
    """A block of streams: the numbers of one random variable of a graph.

    A draw corresponds to one call of the compiled function, or to one step of the scan
    that contains the variable.

    Parameters
    ----------
    start : array_like of 6 int
        State of the first stream; each further stream starts 2^72 numbers later.
    n_streams : int
        Number of streams.

    Attributes
    ----------
    start : ndarray of shape (6,), dtype int64
        State of the first stream before any draw.
    drawn : ndarray of shape (n_streams,), dtype int64
        Count of numbers drawn from each stream.
    """

    def __init__(self, start: ArrayLike, n_streams: int = N_STREAMS) -> None:
        self.start = np.array(start, dtype=np.int64)
        self.drawn = np.zeros(n_streams, dtype=np.int64)
        self._columns = _spread(self.start, n_streams)

    @property
    def rstates(self) -> NDArray:
        """State of each stream, shape (n_streams, 6), dtype int32 as in Theano."""
        return self._columns.T.astype(np.int32)

    @property
    def state(self) -> dict[str, Any]:
        """Start and position of the streams, in types of JSON; may be set.

        ``drawn`` has pairs (count of numbers, number of consecutive streams with this
        count), from the first stream to the last.  Setting an invalid state raises
        ValueError.
        """
        counts, runs = np.unique(self.drawn, return_counts=True)
        # Counts never increase from the first stream to the last.
        drawn = [[int(count), int(run)] for count, run in zip(counts, runs, strict=True)][::-1]
        return {"generator": "MRG31k3p", "start": self.start.tolist(), "drawn": drawn}

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        if value.get("generator") != "MRG31k3p":
            raise ValueError("not the state of MRG31k3p streams")
        counts, runs = np.array(value["drawn"], dtype=np.int64).T
        n_streams = len(self.drawn)
        if not _is_state(value["start"]) or min(counts) < 0 or min(runs) < 1:
            raise ValueError("the state of MRG31k3p streams is damaged")
        if sum(runs) != n_streams:
            raise ValueError(f"the state has {sum(runs)} streams; there are {n_streams}")
        self.start = np.array(value["start"], dtype=np.int64)
        self.drawn = np.repeat(counts, runs)
        parts = np.split(_spread(self.start, n_streams), np.cumsum(runs)[:-1], axis=1)
        self._columns = np.concatenate(
            [_jump(part, int(count)) for part, count in zip(parts, counts, strict=True)], axis=1
        )

    def uniform(
        self,
        size: tuple[int, ...],
        low: float = 0.0,
        high: float = 1.0,
        dtype: str | None = None,
    ) -> NDArray:
        """Draw uniform numbers.

        Parameters
        ----------
        size : tuple of int
            Shape of the draw.
        low, high : float
            Bounds; the draws lie strictly between them.
        dtype : {'float32', 'float64'}, optional
            Precision; default floatX.

        Returns
        -------
        ndarray of shape ``size``
        """
        dtype = dtype or pytensor.config.floatX
        to = np.dtype(dtype).type
        n_samples = math.prod(size)
        whole = np.empty(n_samples, dtype=np.int64)
        for first in range(0, n_samples, len(self.drawn)):
            last = min(first + len(self.drawn), n_samples)
            whole[first:last] = self._next(last - first)
        sample = whole.astype(dtype) * NORM[dtype]
        return (sample * (to(high) - to(low)) + to(low)).reshape(size)

    def normal(
        self,
        size: tuple[int, ...],
        avg: float = 0.0,
        std: float = 1.0,
        dtype: str | None = None,
    ) -> NDArray:
        """Draw normal numbers by the Box-Muller transform.

        The first half of the uniform numbers gives the radii, the second half the angles.
        The cosines come first, then the sines.  An odd draw takes one more uniform
        number and drops the last sine.

        Parameters
        ----------
        size : tuple of int
            Shape of the draw.
        avg, std : float
            Mean and standard deviation.
        dtype : {'float32', 'float64'}, optional
            Precision; default floatX.

        Returns
        -------
        ndarray of shape ``size``

        Notes
        -----
        Logarithm, cosine and sine are computed in double precision and rounded to
        ``dtype``.  They differ by at most one unit in the last place from those of the C
        library, which the original uses.  NumPy's single precision functions differ by up
        to three.
        """
        dtype = dtype or pytensor.config.floatX
        to = np.dtype(dtype).type
        n_samples = math.prod(size)
        u1, u2 = np.split(self.uniform((n_samples + n_samples % 2,), dtype=dtype), 2)
        radius = np.sqrt(to(-2) * _rounded(np.log, u1))
        angle = to(2 * np.pi) * u2
        sample = np.concatenate(
            [radius * _rounded(np.cos, angle), radius * _rounded(np.sin, angle)]
        )
        return to(avg) + to(std) * sample[:n_samples].reshape(size)

    def binomial(self, size: tuple[int, ...], p: float = 0.5, dtype: str = "int64") -> NDArray:
        """Draw ones with probability ``p``, otherwise zeros.

        Parameters
        ----------
        size : tuple of int
            Shape of the draw.
        p : float or ndarray
            Probabilities; their shape broadcasts to ``size``.
        dtype : str
            Dtype of the result.  The uniform numbers compared with ``p`` have dtype
            floatX.

        Returns
        -------
        ndarray of shape ``size``
        """
        return (self.uniform(size) < p).astype(dtype)

    def multinomial(self, pvals: NDArray, dtype: str = "int64") -> NDArray:
        """Draw one column for each row.

        Parameters
        ----------
        pvals : ndarray of shape (n_rows, n_columns)
            Probabilities.
        dtype : str
            Dtype of the result.  The uniform numbers have dtype floatX, the cumulated
            probabilities that of ``pvals``.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
            One in the drawn column, zeros elsewhere.  A row is all zeros if its
            probabilities sum to less than the uniform number because of rounding.
        """
        uniform = self.uniform((len(pvals),))
        reached = np.cumsum(pvals, axis=1, dtype=pvals.dtype) > uniform[:, None]
        first = reached & (np.cumsum(reached, axis=1) == 1)
        return first.astype(dtype)

    def _next(self, n_streams: int) -> NDArray:
        """Draw one number, 1 .. M1, from each of the first streams."""
        # Multiply by STEP1 and STEP2, except by their zeros and ones.
        state = self._columns[:, :n_streams]
        new1 = ((state[1] << 22) + 129 * state[2]) % M1
        new2 = ((state[3] << 15) + 32769 * state[5]) % M2
        state[1:3] = state[0:2]
        state[4:6] = state[3:5]
        state[0], state[3] = new1, new2
        self.drawn[:n_streams] += 1
        difference = new1 - new2
        return np.where(difference > 0, difference, difference + M1)


def _is_state(numbers: Sequence[int]) -> bool:
    """Return whether these are six numbers that the recurrences can start from."""
    limits = [M1] * 3 + [M2] * 3
    return (
        len(numbers) == 6
        and all(0 <= n < limit for n, limit in zip(numbers, limits, strict=True))
        and any(numbers[:3])
        and any(numbers[3:])
    )


def _spread(start: NDArray, n_streams: int) -> NDArray:
    """Return the states of streams 2^72 numbers apart, shape (6, n_streams)."""
    columns = start[:, None]
    while columns.shape[1] < n_streams:
        columns = np.concatenate([columns, _jump(columns, columns.shape[1] * 2**72)], axis=1)
    return columns[:, :n_streams].copy()


def _jump(columns: NDArray, n: int) -> NDArray:
    """Advance states, shape (6, n_streams), by ``n`` numbers."""
    return np.concatenate(
        [_product(_power(0, n), columns[:3], M1), _product(_power(1, n), columns[3:], M2)]
    )


@cache
def _power(recurrence: int, n: int) -> NDArray:
    """Return the matrix of ``n`` steps of the first or second recurrence."""
    step, modulus = ((STEP1, M1), (STEP2, M2))[recurrence]
    if n == 0:
        return np.eye(3, dtype=np.int64)
    half = _power(recurrence, n // 2)
    even = _product(half, half, modulus)
    return _product(even, step, modulus) if n % 2 else even


def _product(a: NDArray, b: NDArray, modulus: int) -> NDArray:
    """Return a matrix product modulo ``modulus``; factors below 2^31 cannot overflow."""
    return (a[:, :, None] * b % modulus).sum(axis=1) % modulus


def _rounded(function: np.ufunc, x: NDArray) -> NDArray:
    """Compute a function in double precision and round to the precision of ``x``."""
    return function(x, dtype=np.float64).astype(x.dtype)
