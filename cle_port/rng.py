"""The standard normal noise that a model takes as an input.

No counterpart in the original, which draws inside the graph, from one module-wide
``MRG_RandomStreams``; `MRGNoise` are the same numbers.  See docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Iterator as IteratorType
from typing import Any, Protocol

import numpy as np
import pytensor
from numpy.typing import NDArray

from cle_port.mrg import Streams


class Batches(Protocol):
    """What `cle_port.data.Iterator` offers: batches again at each pass, and a name."""

    name: str | None

    def __iter__(self) -> IteratorType[tuple[NDArray, ...]]:
        """Start a pass."""

    def __len__(self) -> int:
        """Return the number of batches of a pass."""

    def go_to(self, n_pass: int, n_batch: int) -> None:
        """Let the next pass be number ``n_pass``, from its batch ``n_batch`` on."""


class Noise(Protocol):
    """A stream of standard normal noise, one draw for each batch."""

    dim: int
    state: Any

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Draw the next noise, shape (n_step, batch_size, dim), dtype floatX."""


class NormalNoise:
    """Noise from NumPy's generator.

    Parameters
    ----------
    dim : int
        Size of the last axis: the dimension of z.
    seed : int or numpy.random.SeedSequence
        Where the stream starts.
    """

    def __init__(self, dim: int, seed: int | np.random.SeedSequence) -> None:
        self.dim = dim
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Draw the next noise, shape (n_step, batch_size, dim), dtype floatX."""
        dtype: Any = np.dtype(pytensor.config.floatX)
        return self.generator.standard_normal((n_step, batch_size, self.dim), dtype=dtype)

    @property
    def state(self) -> dict[str, Any]:
        """Position in the stream, as JSON can hold it; may be set."""
        return dict(self.generator.bit_generator.state)

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        self.generator.bit_generator.state = value


class MRGNoise:
    """Noise from a block of the original's streams: what a scan with a draw in it takes.

    Parameters
    ----------
    dim : int
        Size of the last axis: the dimension of z.
    streams : Streams
        The block, of which several may share one: they take turns then.
    """

    def __init__(self, dim: int, streams: Streams) -> None:
        self.dim = dim
        self.streams = streams

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Draw the next noise, shape (n_step, batch_size, dim), dtype floatX.

        One draw for each step, as in the original: an odd ``batch_size * dim`` leaves out
        a number at each.
        """
        size = (batch_size, self.dim)
        return np.stack([self.streams.normal(size) for _ in range(n_step)])

    @property
    def state(self) -> dict[str, Any]:
        """Position in the streams, as JSON can hold it; may be set."""
        return self.streams.state

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        self.streams.state = value


class WithNoise:
    """Batches of an iterator, each with fresh noise for its frames added.

    Parameters
    ----------
    data : Iterator
        Yields tuples whose first entry is x, shape (n_step, batch_size, x_dim).
    noise : NormalNoise or MRGNoise
        Yields what is added as the last entry, shape (n_step, batch_size, dim).
    """

    def __init__(self, data: Batches, noise: Noise) -> None:
        self.data = data
        self.noise = noise
        self.name = data.name

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        return len(self.data)

    def go_to(self, n_pass: int, n_batch: int) -> None:
        """See `cle_port.data.Iterator.go_to`; the noise's position is set by its ``state``."""
        self.data.go_to(n_pass, n_batch)

    def __iter__(self) -> IteratorType[tuple[NDArray, ...]]:
        """Start a pass."""
        for batch in self.data:
            n_step, batch_size = batch[0].shape[:2]
            yield (*batch, self.noise.draw(n_step, batch_size))
