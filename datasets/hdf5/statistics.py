"""Mean and standard deviation of a data set: the file that stores them, and their checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cle_port.errors import UserError
from cle_port.files import replace_file, unwritable
from cle_port.files.npz import DAMAGE, read_npz

REMEDY = "compute them with `python -m datasets.build blizzard` or statistics='true'"


def statistics_path(folder: str | os.PathLike[str], file_name: str) -> Path:
    """Return the path of the statistics that belong to ``file_name.h5``.

    Parameters
    ----------
    folder : str or path-like
        Folder of the data.
    file_name : str
        Name of the HDF5 file without ``.h5``.

    Returns
    -------
    pathlib.Path
        ``<folder>/<file_name>_normal.npz``, the original's name.
    """
    return Path(folder) / f"{file_name}_normal.npz"


def save_statistics(
    folder: str | os.PathLike[str], file_name: str, X_mean: float, X_std: float
) -> None:
    """Write ``<file_name>_normal.npz`` with the float64 scalars ``X_mean`` and ``X_std``.

    Parameters
    ----------
    folder, file_name
        See `statistics_path`.
    X_mean, X_std : float
        Mean and standard deviation of the samples.

    Raises
    ------
    UserError
        If the file cannot be written.

    Notes
    -----
    Counterpart: ``np.savez`` in ``Blizzard.load``.
    """
    path = statistics_path(folder, file_name)
    pair: dict[str, Any] = {"X_mean": np.float64(X_mean), "X_std": np.float64(X_std)}
    try:
        replace_file(path, lambda file: np.savez(file, allow_pickle=False, **pair))
    except OSError as error:
        raise unwritable(path, error) from error


def load_statistics(folder: str | os.PathLike[str], file_name: str) -> tuple[float, float]:
    """Read ``X_mean`` and ``X_std`` from ``<file_name>_normal.npz``.

    Parameters
    ----------
    folder, file_name
        See `statistics_path`.

    Returns
    -------
    X_mean, X_std : float

    Raises
    ------
    UserError
        If the file is missing or damaged, lacks one of the two, or fails
        `check_statistics`.

    Notes
    -----
    Counterpart: ``np.load(data_path + file_name + '_normal.npz')`` in the programs.
    """
    path = statistics_path(folder, file_name)
    again = "make it again with `python -m datasets.build blizzard`"
    if not os.path.isfile(path):
        raise UserError(f"no statistics {path}; {again}")
    try:
        stored = read_npz(path, ("X_mean", "X_std"))
    except DAMAGE as error:
        raise UserError(f"cannot read X_mean and X_std from {path} ({error}); {again}") from error
    return check_statistics(stored["X_mean"], stored["X_std"], f"in {path}")


def check_statistics(
    X_mean: Any, X_std: Any, source: str, remedy: str = REMEDY
) -> tuple[float, float]:
    """Check that data can be normalised with two statistics.

    Parameters
    ----------
    X_mean, X_std : scalar
        Any real number type, or an array of size 1.
    source : str
        Origin of the numbers, for the error message.
    remedy : str
        Advice to the user, for the error message.

    Returns
    -------
    X_mean, X_std : float

    Raises
    ------
    UserError
        If `X_mean` is not one finite number or `X_std` is not one finite
        positive number.

    Notes
    -----
    No counterpart in the original.
    """
    pair = (X_mean, X_std)
    if all(np.size(value) == 1 and np.asarray(value).dtype.kind in "iuf" for value in pair):
        mean, std = (float(np.asarray(value).reshape(())) for value in pair)
        if np.isfinite(mean) and np.isfinite(std) and std > 0:
            return mean, std
    shown = " and ".join(" ".join(repr(value).split())[:60] for value in pair)
    raise UserError(
        f"X_mean and X_std {source} are {shown}, but must be a finite number and a positive one; "
        f"{remedy}"
    )
