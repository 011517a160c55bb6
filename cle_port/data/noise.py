"""Noise, an input of the models: standard normal, or uniform for dropout.

No counterpart in the original, which draws inside the graph from one global
``MRG_RandomStreams``.  `MRGNoise` gives the same numbers.  See docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Iterator as IteratorType
from typing import Any, Protocol

import numpy as np
import pytensor
from numpy.typing import NDArray

from cle_port.data import Batches
from cle_port.utils.mrg import Streams


class Noise(Protocol):
    """Protocol of streams of noise, with one draw for each batch."""

    dim: int
    state: Any

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Draw the next noise, shape (n_step, batch_size, dim), dtype floatX."""


class _GeneratorNoise:
    """Noise from NumPy's generator; subclasses define ``draw``."""

    def __init__(self, dim: int, seed: int | np.random.SeedSequence) -> None:
        self.dim = dim
        self.generator = np.random.Generator(np.random.PCG64(seed))

    @property
    def state(self) -> dict[str, Any]:
        """Position in the stream, in types of JSON; may be set."""
        return dict(self.generator.bit_generator.state)

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        self.generator.bit_generator.state = value


class NormalNoise(_GeneratorNoise):
    """Standard normal noise from NumPy's generator.

    Parameters
    ----------
    dim : int
        Size of the last axis: the dimension of z.
    seed : int or numpy.random.SeedSequence
        Start of the stream.
    """

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Draw the next noise, shape (n_step, batch_size, dim), dtype floatX."""
        dtype: Any = np.dtype(pytensor.config.floatX)
        return self.generator.standard_normal((n_step, batch_size, self.dim), dtype=dtype)


class UniformNoise(_GeneratorNoise):
    """Uniform noise on [0, 1) from NumPy's generator, as `cle_port.utils.op.dropout` needs.

    Parameters
    ----------
    dim : int
        Size of the last axis.
    seed : int or numpy.random.SeedSequence
        Start of the stream.
    """

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Draw the next noise, shape (n_step, batch_size, dim), dtype floatX."""
        dtype: Any = np.dtype(pytensor.config.floatX)
        return self.generator.random((n_step, batch_size, self.dim), dtype=dtype)


class MRGNoise:
    """Noise from the original's streams: the numbers of a scan that draws at each step.

    Parameters
    ----------
    dim : int
        Size of the last axis: the dimension of z.
    streams : Streams
        A block of streams.  Several objects may share a block; each draw advances it.
    """

    def __init__(self, dim: int, streams: Streams) -> None:
        self.dim = dim
        self.streams = streams

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Draw the next noise, shape (n_step, batch_size, dim), dtype floatX.

        Each step is a draw of its own, as in the original: if ``batch_size * dim`` is odd,
        each step skips a number.
        """
        size = (batch_size, self.dim)
        return np.stack([self.streams.normal(size) for _ in range(n_step)])

    @property
    def state(self) -> dict[str, Any]:
        """Position in the streams, in types of JSON; may be set."""
        return self.streams.state

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        self.streams.state = value


class WithNoise:
    """Batches with new noise as a further last array.

    Parameters
    ----------
    data : Batches
        Yields tuples whose first array is x, shape (n_step, batch_size, x_dim).
    noise : Noise
        Draws the last array, shape (n_step, batch_size, dim).
    """

    def __init__(self, data: Batches, noise: Noise) -> None:
        self.data = data
        self.noise = noise
        self.name = data.name

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return len(self.data)

    def go_to(self, n_pass: int, n_batch: int) -> None:
        """See `cle_port.data.Iterator.go_to`; set the noise's position by its ``state``."""
        self.data.go_to(n_pass, n_batch)

    def __iter__(self) -> IteratorType[tuple[NDArray, ...]]:
        """Start a pass; the noise continues its stream."""
        for batch in self.data:
            n_step, batch_size = batch[0].shape[:2]
            yield (*batch, self.noise.draw(n_step, batch_size))
