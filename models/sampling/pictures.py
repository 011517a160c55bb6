"""Pictures of images, and of all that a VAE generates, if matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.sampling.png import png

COLUMNS = 10  # images in a row of a sheet


def image_sheet(images: Mapping[str, NDArray]) -> bytes:
    """Images beside and below each other in one grey scale, a PNG.

    Parameters
    ----------
    images : mapping of str to ndarray, each (N, height, width)
        By kind; 0 is white, 1 is black.  Image i of one kind stands above image i
        of the next.
    """
    number = len(next(iter(images.values())))
    rows, names = [], []
    for start in range(0, number, COLUMNS):
        for kind, all_of_kind in images.items():
            row = all_of_kind[start : start + COLUMNS]
            missing = min(number, COLUMNS) - len(row)
            rows.append(np.pad(row, [(0, missing), (0, 0), (0, 0)]))
            names.append(kind)
    figure, ax = _mosaic(np.stack(rows))
    if len(images) > 1:
        ax.set_yticks(np.arange(len(rows)) + 0.5, names)
        figure.set_figwidth(figure.get_figwidth() + 0.1 * max(map(len, names)))
    return png(figure)


def image_plane(z: NDArray, x: NDArray) -> bytes:
    """Images over the plane of z in one grey scale, a PNG.

    Parameters
    ----------
    z : ndarray, shape (n, n, 2)
        From `models.sampling.generation.plane`.
    x : ndarray, shape (n, n, height, width)
        0 is white, 1 is black.
    """
    figure, ax = _mosaic(x)
    _label_plane(ax, z)
    return png(figure)


def wave_plane(z: NDArray, x: NDArray) -> bytes:
    """Waves over the plane of z in one scale, a PNG.

    Parameters
    ----------
    z : ndarray, shape (n, n, 2)
        From `models.sampling.generation.plane`.
    x : ndarray, shape (n, n, samples)
    """
    from matplotlib.figure import Figure

    n, _, samples = x.shape
    middle = (x.max() + x.min()) / 2
    scale = 0.9 / max(float(np.ptp(x)), 1e-12)
    time = 0.05 + 0.9 * np.arange(samples) / samples
    figure = Figure(figsize=(10, 10), layout="constrained")
    ax = figure.add_subplot()
    for i in range(n):
        for j in range(n):
            height = i + 0.5 - scale * (x[i, j] - middle)  # the axis runs downwards
            ax.plot(j + time, height, color="#112233", linewidth=0.8)
    ax.set_xlim(0, n)
    ax.set_ylim(n, 0)
    _label_plane(ax, z)
    return png(figure)


def _mosaic(images: NDArray) -> tuple[Any, Any]:
    """Draw images of shape (rows, columns, height, width); returns figure and axes.

    One unit of the axes is one image.
    """
    from matplotlib.figure import Figure

    n_row, n_column, height, width = images.shape
    picture = images.swapaxes(1, 2).reshape(n_row * height, n_column * width)
    figure = Figure(figsize=(0.7 * n_column + 1.5, 0.7 * n_row + 0.7), layout="constrained")
    ax = figure.add_subplot()
    ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1, extent=(0, n_column, n_row, 0))
    ax.vlines(np.arange(n_column + 1), 0, n_row, color="#bbbbbb", linewidth=3)
    ax.hlines(np.arange(n_row + 1), 0, n_column, color="#bbbbbb", linewidth=3)
    ax.set_xlim(0, n_column)
    ax.set_ylim(n_row, 0)
    ax.set_xticks([])
    ax.set_yticks([])
    return figure, ax


def _label_plane(ax: Any, z: NDArray) -> None:
    """Write the values of z at rows and columns of a plane, whose cells have size 1."""
    n = len(z)
    ax.set_xticks(np.arange(n) + 0.5, [f"{value:.2f}" for value in z[0, :, 0]], fontsize=7)
    ax.set_yticks(np.arange(n) + 0.5, [f"{value:.2f}" for value in z[:, 0, 1]], fontsize=7)
    ax.set_xlabel("z_1")
    ax.set_ylabel("z_2")
