"""Measure the difference of two arrays, and the classes that a comparison consists of.

No counterpart in the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Difference:
    """The difference between the original's and the port's value of one quantity.

    For an array, `original` and `port` are the two entries that differ most.

    Attributes
    ----------
    name : str
        The quantity: a term of the cost, a node, a parameter, a channel.
    place : str
        Update and quantity, in words.
    update : int
        Number of the update.
    order : tuple of int
        Sort key for the order of computation.  The programs part at the first
        difference that is too large.
    original, port : float
    absolute : float
        Largest absolute difference.
    relative : float
        `absolute` divided by the scale, see `compare`.
    ulps : int or None
        Steps between neighbouring floating point numbers, of the recording's
        dtype, from `original` to `port`; None if one of them is not finite.
    allowed : float or None
        Largest `relative` that counts as rounding; None if there is no verdict.
    noise : float
        Measured noise of rounding, relative to the same scale; 0 if not measured.
    """

    name: str
    place: str
    update: int
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
        """Whether the difference is allowed; NaN is not."""
        return self.allowed is None or self.relative <= self.allowed


@dataclass
class Section:
    """Differences of one kind.

    Attributes
    ----------
    title : str
    differences : list of Difference
    by_update : bool
        Show one line for each update.  Otherwise show one line for each name,
        with its largest difference.
    note : str
        The scale of the differences, or the reason for a missing verdict.
    """

    title: str
    differences: list[Difference] = field(default_factory=list)
    by_update: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether all differences are allowed."""
        return all(difference.ok for difference in self.differences)

    @property
    def judged(self) -> bool:
        """Whether any of the differences gets a verdict."""
        return any(difference.allowed is not None for difference in self.differences)

    def by_name(self) -> dict[str, list[Difference]]:
        """Group the differences by name, in the order in which the names first occur."""
        groups: dict[str, list[Difference]] = {}
        for difference in self.differences:
            groups.setdefault(difference.name, []).append(difference)
        return groups

    def worst(self) -> Difference | None:
        """Return the difference furthest above, or nearest below, its limit."""
        return worst(self.differences)


@dataclass
class Comparison:
    """The result of comparing a recording of the original with the port.

    Attributes
    ----------
    path : str
        Path of the recording.
    facts : dict of str to str
        Description of the comparison: program, sizes, precision.
    sections : list of Section
    left_out : dict of str to str
        Recorded cases that the port did not repeat, each with the reason.
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
        """Return the earliest difference that is too large, where the programs part."""
        failed = [d for section in self.sections for d in section.differences if not d.ok]
        return min(failed, key=lambda difference: difference.order, default=None)


def worst(differences: Sequence[Difference]) -> Difference | None:
    """Return the difference furthest above, or nearest below, its limit."""

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
    update: int = 0,
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
        Arrays of the port and of the original.
    allowed : float or None
        See `Difference`.
    place, update, order
        See `Difference`.
    least : float
        Smallest scale.  The scale, by which differences are divided, is the
        largest absolute entry of ``theirs``, or ``least`` if that is larger.
    noise : float
        Absolute noise of rounding in the port's numbers.
    multiple : float
        Allowed multiple of the noise, if it exceeds ``allowed``.

    Returns
    -------
    Difference
        Infinite if the shapes differ.
    """
    ours, theirs = in_reals(ours), in_reals(theirs)
    facts: dict[str, Any] = {
        "name": name,
        "place": place or name,
        "update": update,
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
    """Return the larger of the limit and a multiple of the noise, both relative."""
    return None if allowed is None else max(allowed, multiple * noise)


def noise_of(value: ArrayLike, moved: Iterable[ArrayLike]) -> float:
    """Return the largest absolute difference between a value and its repetitions.

    Parameters
    ----------
    value : array_like
    moved : iterable of array_like
        The same quantity, computed from numbers moved by one unit in the last place.

    Returns
    -------
    float
        0 without repetitions.  Repetitions of another shape and differences that
        are not finite are left out.
    """
    value = in_reals(value)
    repetitions = [in_reals(other) for other in moved]
    distances = [distance_of(value, other) for other in repetitions if other.shape == value.shape]
    return max((float(np.max(d[np.isfinite(d)], initial=0.0)) for d in distances), default=0.0)


def in_reals(array: ArrayLike) -> NDArray:
    """Return an array of real numbers; a complex array becomes its real and imaginary parts."""
    array = np.asarray(array)
    return np.stack([array.real, array.imag]) if np.iscomplexobj(array) else array


def distance_of(ours: NDArray, theirs: NDArray) -> NDArray:
    """Return absolute differences; 0 where both are NaN or the same infinity."""
    ours, theirs = ours.astype(float), theirs.astype(float)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(same, 0.0, np.abs(ours - theirs))


def size_of(theirs: NDArray, least: float = 0.0) -> float:
    """Return the largest finite absolute value, at least ``least``."""
    finite = np.abs(theirs[np.isfinite(theirs)].astype(float))
    return max(float(np.max(finite, initial=0.0)), least)


def with_signs_of(ours: NDArray, theirs: NDArray) -> NDArray:
    """Flip the columns of opposite sign to the recorded ones; an SVD may return either sign."""
    if ours.shape != theirs.shape:
        return ours
    return ours * np.sign(np.sum(ours * theirs, axis=0))


def largest_difference(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Return the largest difference divided by the largest recorded entry.

    Parameters
    ----------
    ours, theirs : array_like of one shape

    Returns
    -------
    float
        The absolute difference if all recorded entries are 0.
    """
    return compare("", ours, theirs, None).relative


def ulps_between(ours: Any, theirs: Any, dtype: np.dtype) -> int | None:
    """Count the steps between neighbouring floating point numbers from one to another.

    Parameters
    ----------
    ours, theirs : float
    dtype : numpy.dtype
        float32 counts numbers of that dtype; every other dtype counts float64.

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
        return bits if bits >= 0 else least - bits  # the bits of negative numbers count downwards

    return abs(rank(ours) - rank(theirs))


def compare_summaries(
    ours: Mapping[str, NDArray],
    recorded: NDArray,
    allowed: float | None,
    *,
    place: str,
    update: int,
    order: Sequence[int],
    least: float = 0.0,
    noises: Mapping[str, float] | None = None,
    multiple: float = 0.0,
) -> list[Difference]:
    """Compare arrays with their summaries ``check/...``: size, sums, norm, first and last entries.

    Parameters
    ----------
    ours : mapping of str to ndarray
        Arrays in the order of the recorded summaries.
    recorded : ndarray of shape (len(ours), 20)
        Size, sum, sum of squares, norm, first 8 and last 8 entries of each array.
    allowed, place, update, order, least, multiple
        See `compare`.  The scale of a sum is the array's size times its largest
        entry; the scale of a sum of squares is twice the size times the square of
        the largest entry.
    noises : mapping of str to float, optional
        Absolute noise of each array's entries, see `noise_of`.

    Returns
    -------
    list of Difference
        One for each array.  Its `original` and `port` are the norms.
    """
    differences = []
    for i, ((name, array), theirs) in enumerate(zip(ours.items(), recorded)):
        summary = summarize(array)
        size, scale = summary[0], size_of(np.asarray(array), least) or 1.0
        scales = np.array([1.0, size * scale, 2 * size * scale**2, size * scale] + [scale] * 16)
        distances = distance_of(summary, theirs)
        relative = np.inf if summary[0] != theirs[0] else float(np.max(distances / scales))
        noise = (noises or {}).get(name, 0.0) / scale
        differences.append(
            Difference(
                name=name,
                place=f"{place} (sums, norm and ends)",
                update=update,
                order=(*order, i),
                original=float(theirs[3]),
                port=float(summary[3]),
                absolute=float(np.max(distances[3:])),
                relative=relative,
                ulps=ulps_between(summary[3], theirs[3], recorded.dtype),
                allowed=raised(allowed, noise, multiple),
                noise=noise,
            )
        )
    return differences


def summarize(array: NDArray) -> NDArray:
    """Summarize an array by 20 numbers, as `compare.original.recorder.summary` does."""
    flat = np.asarray(array, dtype=float).ravel()
    ends = np.zeros(16)
    ends[: min(8, flat.size)] = flat[:8]
    ends[8 : 8 + min(8, flat.size)] = flat[-8:]
    square = np.sum(flat**2)
    return np.array([flat.size, flat.sum(), square, np.sqrt(square), *ends])
