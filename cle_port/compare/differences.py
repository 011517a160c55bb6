"""How far two arrays are apart, and what a comparison is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Difference:
    """One quantity of the original beside the port's.

    Of an array, `original` and `port` are the two numbers that differ most.

    Attributes
    ----------
    name : str
        What is compared: a term of the cost, a node, a parameter, a channel.
    place : str
        When and where it was computed, in words.
    at : int
        Update, or pass of monitoring, that it belongs to.
    order : tuple of int
        Sorts differences by when they arise: the first that is too large is
        where the programs part.
    original, port : float
    absolute : float
        Largest absolute difference.
    relative : float
        `absolute` divided by the size that it is compared at.
    ulps : int or None
        How many floating point numbers, of the recording's dtype, lie between
        `original` and `port`; None where one is not finite.
    allowed : float or None
        Largest `relative` that is rounding; None where nothing can be said.
    noise : float
        Measured noise of rounding, relative to the same size; 0 where it is not measured.
    """

    name: str
    place: str
    at: int
    order: tuple[int, ...]
    original: float
    port: float
    absolute: float
    relative: float
    ulps: int | None
    allowed: float | None
    noise: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it is within what is allowed; NaN is not."""
        return self.allowed is None or self.relative <= self.allowed


@dataclass
class Section:
    """Differences of one kind.

    Attributes
    ----------
    title : str
    differences : list of Difference
    by_update : bool
        Whether to show every update on a line of its own; otherwise a line
        for each name, with its largest difference.
    note : str
        What is held to what, or why there is no verdict.
    """

    title: str
    differences: list[Difference] = field(default_factory=list)
    by_update: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything is within what is allowed."""
        return all(difference.ok for difference in self.differences)

    @property
    def judged(self) -> bool:
        """Whether there is anything that a difference is allowed for."""
        return any(difference.allowed is not None for difference in self.differences)

    def worst(self) -> Difference | None:
        """Return what is furthest above, or nearest below, what is allowed."""
        return worst(self.differences)


@dataclass
class Comparison:
    """A recording of the original and what the port computes in its place.

    Attributes
    ----------
    path : str
        The recording.
    facts : dict of str to str
        What was compared: program, sizes, precision.
    sections : list of Section
    left_out : dict of str to str
        Recorded cases that were not repeated, with the reason.
    """

    path: str
    facts: dict[str, str]
    sections: list[Section]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the port agrees with the original."""
        return all(section.ok for section in self.sections)

    def first(self) -> Difference | None:
        """Where the two part: the earliest difference that is too large."""
        failed = [d for section in self.sections for d in section.differences if not d.ok]
        return min(failed, key=lambda difference: difference.order, default=None)


def worst(differences: Sequence[Difference]) -> Difference | None:
    """Of several differences the one furthest above, or nearest below, what is allowed."""

    def badness(difference: Difference) -> tuple[bool, float]:
        ratio = difference.relative / (difference.allowed or 1.0)
        return (not difference.ok, np.inf if np.isnan(ratio) else ratio)

    return max(differences, key=badness, default=None)


def compare(
    name: str,
    ours: ArrayLike,
    theirs: ArrayLike,
    allowed: float | None,
    *,
    place: str = "",
    at: int = 0,
    order: Sequence[int] = (),
    least: float = 0.0,
    noise: float = 0.0,
    multiple: float = 0.0,
) -> Difference:
    """Compare an array of the port with the original's.

    Parameters
    ----------
    name : str
    ours, theirs : array_like of one shape
        What the port and the original computed.
    allowed : float or None
        See `Difference`.
    place, at, order
        See `Difference`.
    least : float
        The difference is divided by the largest recorded entry, or by this where
        it is more.
    noise : float
        Absolute noise of rounding in the port's own numbers.
    multiple : float
        How many times the noise is allowed where that exceeds `allowed`.

    Returns
    -------
    Difference
        Shapes that differ count as an infinite difference.
    """
    ours, theirs = in_reals(ours), in_reals(theirs)
    facts: dict[str, Any] = {
        "name": name,
        "place": place or name,
        "at": at,
        "order": tuple(order),
    }
    if ours.shape != theirs.shape or not theirs.size:
        distance = 0.0 if ours.shape == theirs.shape else np.inf
        nothing: dict[str, Any] = {"original": np.nan, "port": np.nan, "ulps": None}
        return Difference(**facts, **nothing, allowed=allowed, absolute=distance, relative=distance)
    distances = distance_of(ours, theirs)
    where = np.unravel_index(np.argmax(distances), distances.shape)  # the first NaN, if any
    absolute = float(distances[where])
    scale = size_of(theirs, least) or 1.0
    return Difference(
        **facts,
        allowed=raised(allowed, noise / scale, multiple),
        noise=noise / scale,
        original=float(theirs[where]),
        port=float(ours[where]),
        absolute=absolute,
        relative=absolute / scale,
        ulps=ulps_between(ours[where], theirs[where], theirs.dtype),
    )


def raised(allowed: float | None, noise: float, multiple: float) -> float | None:
    """Raise what is allowed to a multiple of the noise, both relative, if that is more."""
    return None if allowed is None else max(allowed, multiple * noise)


def noise_of(value: ArrayLike, moved: Iterable[ArrayLike]) -> float:
    """Largest absolute difference from any of some repetitions of a value.

    Parameters
    ----------
    value : array_like
    moved : iterable of array_like
        What the port computes from numbers moved by one unit in the last place.

    Returns
    -------
    float
        0 if there are no repetitions.  Those of another shape, and numbers that are not
        finite, say nothing.
    """
    value = in_reals(value)
    distances = (distance_of(value, in_reals(other)) for other in moved if _fits(other, value))
    return max((float(np.max(d[np.isfinite(d)], initial=0.0)) for d in distances), default=0.0)


def _fits(other: ArrayLike, value: NDArray) -> bool:
    return in_reals(other).shape == value.shape


def in_reals(array: ArrayLike) -> NDArray:
    """Array of real numbers: of complex ones the real parts, then the imaginary ones."""
    array = np.asarray(array)
    return np.stack([array.real, array.imag]) if np.iscomplexobj(array) else array


def distance_of(ours: NDArray, theirs: NDArray) -> NDArray:
    """Absolute differences; 0 where both are NaN or the same infinity."""
    ours, theirs = ours.astype(float), theirs.astype(float)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(same, 0.0, np.abs(ours - theirs))


def size_of(theirs: NDArray, least: float = 0.0) -> float:
    """Largest finite absolute value, at least ``least``."""
    finite = np.abs(theirs[np.isfinite(theirs)].astype(float))
    return max(float(np.max(finite, initial=0.0)), least)


def with_signs_of(ours: NDArray, theirs: NDArray) -> NDArray:
    """Turn the columns that point away from the recorded ones, as another SVD may return them."""
    if ours.shape != theirs.shape:
        return ours
    return ours * np.sign(np.sum(ours * theirs, axis=0))


def largest_difference(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Largest difference divided by the largest recorded entry.

    Parameters
    ----------
    ours, theirs : array_like of one shape

    Returns
    -------
    float
        The absolute difference where all that is recorded is 0.
    """
    return compare("", ours, theirs, None).relative


def ulps_between(ours: Any, theirs: Any, dtype: np.dtype) -> int | None:
    """Count the floating point numbers from one to another.

    Parameters
    ----------
    ours, theirs : float
    dtype : numpy.dtype
        Numbers of float32 or float64 are counted; others as float64.

    Returns
    -------
    int or None
        None if one is not finite.
    """
    if not (np.isfinite(ours) and np.isfinite(theirs)):
        return None
    is_single = dtype == np.float32
    kind, integer = (np.float32, np.int32) if is_single else (np.float64, np.int64)
    least = int(np.iinfo(integer).min)

    def rank(value: Any) -> int:
        bits = int(np.array(value, dtype=kind).view(integer))
        return bits if bits >= 0 else least - bits  # negative numbers count downwards from 0

    return abs(rank(ours) - rank(theirs))


def compare_summaries(
    ours: Mapping[str, NDArray],
    rows: NDArray,
    allowed: float | None,
    *,
    place: str,
    at: int,
    order: Sequence[int],
    least: float = 0.0,
    noises: Mapping[str, float] | None = None,
    multiple: float = 0.0,
) -> list[Difference]:
    """Compare arrays with rows of ``check/...``: size, sums, norm, first and last entries.

    Parameters
    ----------
    ours : mapping of str to ndarray
        In the order of the rows.
    rows : ndarray of shape (len(ours), 20)
        Size, sum, sum of squares, norm, first 8 and last 8 entries.
    allowed, place, at, order, least, multiple
        See `compare`.  Sums are compared at the array's largest entry times its
        size, the sum of squares at twice its square times that.
    noises : mapping of str to float, optional
        Absolute noise of each array's entries, see `noise_of`.

    Returns
    -------
    list of Difference
        One for each array; the numbers shown are the norms.
    """
    differences = []
    for i, ((name, array), row) in enumerate(zip(ours.items(), rows)):
        summary = summarize(array)
        size, scale = summary[0], size_of(np.asarray(array), least) or 1.0
        scales = np.array([1.0, size * scale, 2 * size * scale**2, size * scale] + [scale] * 16)
        distances = distance_of(summary, row)
        relative = np.inf if summary[0] != row[0] else float(np.max(distances / scales))
        noise = (noises or {}).get(name, 0.0) / scale
        differences.append(
            Difference(
                name=name,
                place=f"{place} (sums, norm and ends)",
                at=at,
                order=(*order, i),
                original=float(row[3]),
                port=float(summary[3]),
                absolute=float(np.max(distances[3:])),
                relative=relative,
                ulps=ulps_between(summary[3], row[3], rows.dtype),
                allowed=raised(allowed, noise, multiple),
                noise=noise,
            )
        )
    return differences


def summarize(array: NDArray) -> NDArray:
    """Describe an array by 20 numbers, as a row of ``check/...`` does."""
    flat = np.asarray(array, dtype=float).ravel()
    ends = np.zeros(16)
    ends[: min(8, flat.size)] = flat[:8]
    ends[8 : 8 + min(8, flat.size)] = flat[-8:]
    square = np.sum(flat**2)
    return np.array([flat.size, flat.sum(), square, np.sqrt(square), *ends])
