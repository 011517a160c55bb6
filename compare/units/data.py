"""Repeat recorded data preparations and batch boundaries: ``units_data_*.npz``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cle_port.data import Data, Iterator, TemporalSeries
from cle_port.data.prep import SequentialPrepMixin, StaticPrepMixin
from compare.recording import Arrays
from compare.units.cases import RepeatedCases

STATIC = StaticPrepMixin()
SEQUENTIAL = SequentialPrepMixin()
SCALINGS = ("normalize", "global_normalize", "standardize")
TRANSFORMS = {
    "numpy_rfft": "fft_in",
    "rfft": "fft_in",
    "irfft": "fft_in",
    "stft": "fft_in",
    "numpy_irfft": "numpy_rfft",
    "istft": "stft",
}


class Numbers(Data):
    """The integers below n; a batch is a range of them."""

    def __init__(self, n: int) -> None:
        self.n = n
        super().__init__(name="numbers")

    def load(self, path: Any) -> list[NDArray]:
        """Make the integers, without a file."""
        return [np.arange(self.n)]

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return the integers from ``start`` up to, but not including, ``end``."""
        return (self.data[0][start:end],)


class GivenSeries(TemporalSeries):
    """Sequences in memory."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = arrays
        super().__init__()

    def load(self, path: Any) -> tuple[Any, ...]:
        """Return the sequences, without a file."""
        return self.arrays


def split(recording: Arrays, key: str) -> list[NDArray]:
    """Read sequences of different lengths, which are stored as ``/lengths`` and ``/joined``."""
    ends = np.cumsum(recording[f"{key}/lengths"])
    return list(np.split(recording[f"{key}/joined"], ends[:-1]))


def as_objects(sequences: list[NDArray]) -> NDArray:
    """Put sequences into an array of dtype object."""
    array = np.empty(len(sequences), dtype=object)
    for i, sequence in enumerate(sequences):
        array[i] = sequence
    return array


def ragged(key: str, sequences: Any) -> dict[str, NDArray]:
    """Store sequences as the recording does."""
    return {
        f"{key}/lengths": np.array([len(sequence) for sequence in sequences]),
        f"{key}/joined": np.concatenate(list(sequences)),
    }


def static_scalings(recording: Arrays) -> RepeatedCases:
    """Scale plain arrays, then others by the same numbers."""
    for method in SCALINGS:
        prepare = getattr(STATIC, method)
        out, first, second = prepare(recording["static/in"])
        applied, *_ = prepare(recording["static/second"], first, second)
        ours = {"out0": out, "out1": first, "out2": second, "second": applied}
        yield f"static/{method}", {name: np.asarray(value) for name, value in ours.items()}


def sequential_scalings(recording: Arrays) -> RepeatedCases:
    """Scale sequences of different lengths, as arrays of dtype object and as lists."""
    for kind in ("float", "int", "flat"):
        for method in SCALINGS[1:]:
            for form, arrange in (("array", as_objects), ("list", list)):
                case = f"sequential/{kind}/{method}_{form}"
                prepare = getattr(SEQUENTIAL, method)
                out, first, second = prepare(arrange(split(recording, f"sequential/{kind}/in")))
                others = arrange(split(recording, f"sequential/{kind}/second"))
                applied, *_ = prepare(others, first, second)
                ours = {"first": np.asarray(first), "second": np.asarray(second)}
                yield case, {**ragged("out", out), **ours, **ragged("applied", applied)}


def other_preparations(recording: Arrays) -> RepeatedCases:
    """Repeat norms, transforms, padding and reversal."""
    out, norm = SEQUENTIAL.norm_normalize(split(recording, "sequential/norm_normalize/in"))
    normalized = ragged("out", out)
    yield "sequential/norm_normalize", {**normalized, "avr": np.asarray(norm)}
    transformed = {
        name: getattr(SEQUENTIAL, name)(recording[f"sequential/{source}"])
        for name, source in TRANSFORMS.items()
    }
    yield "sequential", transformed
    sequences = split(recording, "sequential/fill_zero/in")
    for mode in ("lefthand", "righthand"):
        padded = SEQUENTIAL.fill_zero(sequences, 2, mode)
        filled = SEQUENTIAL.fill_zero(sequences, mode=mode)
        yield "sequential/fill_zero", {mode: np.asarray(filled), **ragged(f"pad2_{mode}", padded)}
        yield "sequential/fill_zero1D", {mode: SEQUENTIAL.fill_zero1D(sequences[0], 3, mode)}
    yield "sequential/reverse", ragged("out", SEQUENTIAL.reverse(sequences))


def series(recording: Arrays) -> RepeatedCases:
    """Repeat masks and padding of sequences."""
    sequences = as_objects(split(recording, "series/in"))
    data = GivenSeries(sequences)
    x, mask = data.create_mask_and_zero_pad(sequences)
    flat = as_objects(split(recording, "series/flat_in"))
    flat_x, flat_mask = GivenSeries(flat).create_mask_and_zero_pad(flat)
    ours = {
        "num_examples": GivenSeries(sequences, sequences[:2]).num_examples(),
        "create_mask": data.create_mask(sequences),
        "zero_pad": data.zero_pad(sequences),
        "both_x": x,
        "both_mask": mask,
        "flat_x": flat_x,
        "flat_mask": flat_mask,
    }
    yield "series", {name: np.asarray(value) for name, value in ours.items()}


def iterators(recording: Arrays) -> RepeatedCases:
    """Repeat the boundaries of batches."""
    for key in [key for key in recording if key.endswith("/nbatch")]:
        case = key.removesuffix("/nbatch")
        words = (str(word).split("=") for word in recording[f"{case}/kw"])
        arguments: dict[str, Any] = {name: int(value) for name, value in words}
        iterator = Iterator(Numbers(int(recording[f"{case}/n"])), **arguments)
        batches = [batch[0] for batch in iterator]
        yield (
            case,
            {
                "batch_size": np.asarray(iterator.batch_size),
                "nbatch": np.asarray(iterator.nbatch),
                "lengths": np.array([len(batch) for batch in batches], dtype=int),
                "joined": np.concatenate([*batches, np.arange(0)]),
            },
        )


def repeat_data(recording: Arrays) -> RepeatedCases:
    """Repeat all preparations and batch boundaries."""
    for part in (static_scalings, sequential_scalings, other_preparations, series, iterators):
        yield from part(recording)
