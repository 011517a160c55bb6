"""Pictures of waves, of handwriting and of images, if matplotlib is installed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import spectrogram

SAMPLE_RATE = 16000
WINDOW = 256  # samples of a spectrum: 16 ms
COLUMNS = 10  # images in a row of a sheet


def has_matplotlib() -> bool:
    """Say whether pictures can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def wave_picture(wave: NDArray[np.int16]) -> bytes:
    """Waveform above spectrogram (dB), a PNG."""
    from matplotlib.figure import Figure

    seconds = len(wave) / SAMPLE_RATE
    size = min(WINDOW, len(wave))
    _, _, power = spectrogram(wave.astype(float), SAMPLE_RATE, nperseg=size, noverlap=3 * size // 4)
    level = 10 * np.log10(power + 1e-6)  # far below one step of the 16 bits
    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, linewidth=0.5)
    above.set_ylabel("sample")
    below.imshow(
        level,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, SAMPLE_RATE / 2000),
        vmin=level.max() - 80,
        cmap="magma",
    )
    below.set_ylabel("kHz")
    below.set_xlabel("seconds")
    return _png(figure)


def pen_picture(lines: Sequence[NDArray], captions: Sequence[str]) -> bytes:
    """Lines of handwriting below each other in one scale, a PNG.

    Parameters
    ----------
    lines : sequence of ndarray, each (points, 3)
        From `as_points`.
    captions : list of str
    """
    from matplotlib.figure import Figure

    width = max(max(float(np.ptp(line[:, 1])) for line in lines), 1.0)
    gap = width / 30  # between two lines, for the caption
    figure = Figure(layout="constrained")
    ax = figure.add_subplot()
    top = 0.0
    for line, caption in zip(lines, captions):
        ax.text(0, top, caption, fontsize=7, color="#888888", verticalalignment="bottom")
        drawn = line[:, 1:] + [-line[:, 1].min(), top - line[:, 2].max()]
        for stroke in np.split(drawn, np.flatnonzero(line[:, 0] > 0.5) + 1):
            ax.plot(stroke[:, 0], stroke[:, 1], color="#112233", linewidth=1)
        top -= float(np.ptp(line[:, 2])) + gap
    ax.set_aspect("equal")
    ax.margins(0.02)
    ax.set_axis_off()
    figure.set_size_inches(10, min(10 * (gap - top) / width, 100))
    return _png(figure)


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
    return _png(figure)


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
    return _png(figure)


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
    return _png(figure)


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


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
