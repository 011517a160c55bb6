"""Data sets and iterators over their batches.

Counterpart: ``cle/data/__init__.py``.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator as IteratorType
from collections.abc import Sequence
from os import PathLike
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray | Sequence[NDArray]


class Data:
    """Base of all data sets: named arrays with one example per entry of the first axis.

    Parameters
    ----------
    name : str, optional
        Prefix of monitored channels, such as ``'train'``.
    path : str or path-like, optional
        Argument of `load`.
    multi_process : int
        Number of worker processes that run `multi_process_slices` and put batches
        into ``self.queue``; 0 starts none.

    Attributes
    ----------
    data : sequence of ndarray
        Result of `load`: one array for each input of the graph.

    Raises
    ------
    NotImplementedError
        If `multi_process` is positive and `multi_process_slices` is not overridden.

    Notes
    -----
    Counterpart: ``cle/data/__init__.py``, ``Data``, which has no `shuffle`.  If
    `multi_process_slices` is missing, its workers fail one by one; here the
    constructor raises an error.  Workers are daemons and end with the program.
    They are spawned, so a subclass that uses them must be picklable.
    """

    data: Any

    def __init__(
        self,
        name: str | None = None,
        path: str | PathLike[str] | None = None,
        multi_process: int = 0,
    ) -> None:
        self.name = name
        self.data = self.load(path)
        self.multi_process = multi_process
        if multi_process > 0:
            self._start_workers(multi_process)

    def _start_workers(self, count: int) -> None:
        if type(self).multi_process_slices is Data.multi_process_slices:
            self.multi_process_slices()
        # Forking is unsafe once compiled code has started threads.
        context = multiprocessing.get_context("spawn")
        self.queue = context.Queue(2**15 - 1)  # macOS allows no more
        for worker in range(count):
            context.Process(target=self.multi_process_slices, args=(worker,), daemon=True).start()

    def multi_process_slices(self, mid: int = -1) -> None:
        """Put batches into ``self.queue`` as worker number ``mid``; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} cannot load in several processes")

    def load(self, path: Any) -> Any:
        """Read the arrays of the data set from a ``.npy`` file; subclasses override it.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ValueError
            If the file holds pickled objects.  `numpy.load` of 2015 executed them.
        """
        return np.load(path, allow_pickle=False)

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return the batch of examples ``start`` to ``end``; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} has no batches of its own")

    def num_examples(self) -> int:
        """Return the length of the longest array."""
        return max(mat.shape[0] for mat in self.data)

    def theano_vars(self) -> Any:
        """Return the symbolic inputs for the arrays of a batch; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} has no symbolic inputs of its own")

    def shuffle(self, rng: np.random.Generator) -> None:
        """Permute the examples of all arrays in the same random order.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the permutation.

        Raises
        ------
        ValueError
            If the arrays differ in length.

        Notes
        -----
        No counterpart: ``cle.data.Iterator`` calls such a method, but no data class
        of the original has it.
        """
        lengths = {len(mat) for mat in self.data}
        if len(lengths) != 1:
            raise ValueError(f"cannot shuffle arrays of different lengths: {sorted(lengths)}")
        order = rng.permutation(lengths.pop())
        self.data = [mat[order] for mat in self.data]


class Batches(Protocol):
    """Protocol of named sources of batches, such as `Iterator`; each loop is a new pass."""

    name: str | None

    def __iter__(self) -> IteratorType[tuple[NDArray, ...]]:
        """Start a pass."""

    def __len__(self) -> int:
        """Return the number of batches in a pass."""

    def go_to(self, n_pass: int, n_batch: int) -> None:
        """Continue with batch ``n_batch`` of pass ``n_pass``, both from 0."""


class Iterator:
    """Batches of consecutive examples, in order; each ``for`` loop is a new pass.

    Parameters
    ----------
    data : Data
        Its ``slices(start, end)`` makes the batches.
    batch_size : int, optional
        Examples in a batch.  Give either this or `nbatch`.
    nbatch : int, optional
        Number of batches; the batch size is the number of examples divided by it,
        rounded down.
    start, end : int
        Range of the examples; the default is all.
    shuffle : bool
        Call ``data.shuffle(rng)`` before each pass.
    infinite_data : bool
        ``data`` generates its batches: call ``data.slices()``, without a range,
        `pseudo_n` times.
    pseudo_n : int
        Number of batches in a pass over infinite data.
    rng : numpy.random.Generator, optional
        Required with `shuffle`.

    Attributes
    ----------
    batch_size, nbatch, nexp : int
        Batch size, number of whole batches and number of examples in the range.

    Raises
    ------
    ValueError
        If `batch_size` and `nbatch` are both given or both missing, if one is not
        positive, if there are fewer examples than `nbatch`, if the range is empty
        or negative, or if `shuffle` is given without `rng`.

    Notes
    -----
    Counterpart: ``cle/data/__init__.py``, ``Iterator``; `rng`, ``len`` and `go_to`
    are new.  A pass covers the same examples as in the original: batches start at
    ``start, start + batch_size, ...`` below ``end - end % batch_size``.  If
    ``start`` is no multiple of the batch size, the last batch may therefore extend
    beyond ``end`` or be missing, and a pass may have one batch more than
    ``nbatch``.  ``len(iterator)`` is the number of batches that a pass yields.  An
    ``end`` beyond the data gives a short last batch.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int | None = None,
        nbatch: int | None = None,
        start: int = 0,
        end: int | None = None,
        shuffle: bool = False,
        infinite_data: bool = False,
        pseudo_n: int = 1000000,
        rng: np.random.Generator | None = None,
    ) -> None:
        if not batch_size and not nbatch:
            raise ValueError("give batch_size or nbatch")
        if batch_size is not None and nbatch is not None:
            raise ValueError("give only one of batch_size and nbatch")
        if shuffle and rng is None:
            raise ValueError("shuffle needs rng, such as np.random.default_rng(seed).")
        self.data = data
        self.name = data.name
        self.infinite_data = infinite_data
        self.pseudo_n = pseudo_n
        self.shuffle = shuffle
        self.rng = rng
        self._n_skip = 0  # number of batches that the next pass skips
        if not infinite_data:
            self._set_range(batch_size, nbatch, start, end)

    def _set_range(
        self, batch_size: int | None, nbatch: int | None, start: int, end: int | None
    ) -> None:
        self.start = start
        self.end = self.data.num_examples() if end is None else end
        if self.start >= self.end or self.start < 0:
            raise ValueError(f"start is {start}; it must be at least 0 and before the end")
        self.nexp = self.end - self.start
        if batch_size is None:
            assert nbatch is not None
            self.batch_size, self.nbatch = self.nexp // nbatch, nbatch
        else:
            self.batch_size, self.nbatch = batch_size, self.nexp // batch_size
        if self.batch_size < 1:
            raise ValueError(
                f"batch_size and nbatch must be positive, and nbatch at most the "
                f"number of examples ({self.nexp})."
            )

    def _starts(self) -> range:
        return range(self.start, self.end - self.end % self.batch_size, self.batch_size)

    def __len__(self) -> int:
        return self.pseudo_n if self.infinite_data else len(self._starts())

    def go_to(self, n_pass: int, n_batch: int) -> None:
        """Continue with batch ``n_batch`` of pass ``n_pass``, both from 0.

        Call this on a new iterator, with data and ``rng`` as at the start of the
        run that resumes.  It repeats the random draws of the earlier passes.

        Parameters
        ----------
        n_pass, n_batch : int
            Number of complete passes, and number of batches of the next pass,
            before this point.
        """
        if self.infinite_data:
            endless: Any = self.data
            for _ in range(n_pass * self.pseudo_n + n_batch):
                endless.slices()
        if self.shuffle:
            assert self.rng is not None
            for _ in range(n_pass):
                self.data.shuffle(self.rng)
        self._n_skip = n_batch

    def __iter__(self) -> IteratorType[tuple[NDArray, ...]]:
        n_skip, self._n_skip = self._n_skip, 0
        if self.infinite_data:
            endless: Any = self.data  # its `slices` takes no range
            for _ in range(self.pseudo_n - n_skip):
                yield endless.slices()
            return
        if self.shuffle:
            assert self.rng is not None
            self.data.shuffle(self.rng)
        for start in self._starts()[n_skip:]:
            yield self.data.slices(start, start + self.batch_size)


class DesignMatrix(Data):
    """Data without a time axis: a batch has some rows of each array.

    Notes
    -----
    Counterpart: ``cle/data/__init__.py``, ``DesignMatrix``, whose `slices`
    returns a generator.
    """

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return rows ``start`` to ``end`` of each array, each (batch, ...)."""
        return tuple(mat[start:end] for mat in self.data)


class TemporalSeries(Data):
    """Data with a time axis: stored arrays are (example, time, ...), batches (time, batch, ...).

    Notes
    -----
    Counterpart: ``cle/data/__init__.py``, ``TemporalSeries``.  The original returns
    object arrays as masks and padded batches of an object array; here they have the
    dtype of the samples and the same numbers.
    """

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return examples ``start`` to ``end`` of each array, each (time, batch, ...)."""
        return tuple(mat[start:end].swapaxes(0, 1) for mat in self.data)

    def create_mask(self, batch: Samples) -> NDArray:
        """Mark the entries of a padded batch that are samples.

        Parameters
        ----------
        batch : sequence of ndarray
            Sequences, each (length, ...).

        Returns
        -------
        ndarray, shape (longest length, batch)
            1 within a sequence, 0 after its end; dtype of the samples.
        """
        mask = np.zeros((_longest(batch), len(batch)), dtype=_sample_dtype(batch))
        for column, sample in enumerate(batch):
            mask[: len(sample), column] = 1
        return mask

    def zero_pad(self, batch: Samples) -> NDArray:
        """Pad sequences of vectors with zeros to the length of the longest.

        Parameters
        ----------
        batch : sequence of ndarray
            Sequences, each (length, features).

        Returns
        -------
        ndarray, shape (longest length, batch, features)

        Raises
        ------
        ValueError
            If a sequence is not two-dimensional.
        """
        if any(np.ndim(sample) != 2 for sample in batch):
            raise ValueError(
                "zero_pad needs sequences of shape (length, features); "
                "use create_mask_and_zero_pad for sequences of scalars"
            )
        return self.create_mask_and_zero_pad(batch)[0]

    def create_mask_and_zero_pad(self, batch: Samples) -> tuple[NDArray, NDArray]:
        """Pad sequences with zeros to the length of the longest, and mark the samples.

        Parameters
        ----------
        batch : sequence of ndarray
            Sequences, each (length,) or (length, features).

        Returns
        -------
        x : ndarray, shape (longest length, batch) or (longest length, batch, features)
        mask : ndarray, shape (longest length, batch)
        """
        padded = np.zeros(
            (_longest(batch), len(batch), *batch[0].shape[1:]), dtype=_sample_dtype(batch)
        )
        for column, sample in enumerate(batch):
            padded[: len(sample), column] = sample
        return padded, self.create_mask(batch)


def _longest(batch: Samples) -> int:
    return max(len(sample) for sample in batch)


def _sample_dtype(batch: Samples) -> np.dtype:
    return np.result_type(*{np.asarray(sample).dtype for sample in batch})
