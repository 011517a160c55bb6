"""Writing what was generated: wave files, pen strokes, drawings, images."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.io import wavfile

from cle_port.console.progress import progress_bar
from cle_port.files import write
from datasets.digits import IMAGE_SHAPE
from datasets.iamondb_utils import write_svg
from models.sampling.data import ValidationData
from models.sampling.pictures import (
    SAMPLE_RATE,
    has_matplotlib,
    image_plane,
    image_sheet,
    pen_picture,
    wave_picture,
    wave_plane,
)

INT16 = np.iinfo(np.int16)


def denormalize(x: NDArray, X_mean: ArrayLike, X_std: ArrayLike) -> NDArray:
    """Undo the normalisation of the data, in the precision of ``x``."""
    return x * np.asarray(X_std, dtype=x.dtype) + np.asarray(X_mean, dtype=x.dtype)


def as_wave(samples: NDArray) -> NDArray[np.int16]:
    """Samples as 16 bit integers: truncated as in the original, but clipped where it wraps."""
    return np.clip(samples, INT16.min, INT16.max).astype(np.int16)


def as_strokes(x: NDArray, X_mean: ArrayLike, X_std: ArrayLike) -> dict[str, NDArray]:
    """Pen bits (int8) and offsets in the data's unit, by name, from frames of shape (T, 3)."""
    offsets = denormalize(x[:, 1:], X_mean, X_std)
    return {"pen": x[:, 0].astype(np.int8), "dx": offsets[:, 0], "dy": offsets[:, 1]}


def as_points(strokes: dict[str, NDArray]) -> NDArray:
    """Points (T + 1, 3) of pen-up bit, x and y, from (0, 0) on, for `write_svg`."""
    steps = np.stack([strokes["pen"], strokes["dx"], strokes["dy"]], axis=1).astype(float)
    steps[:, 1:] = np.cumsum(steps[:, 1:], axis=0)
    return np.concatenate([np.zeros((1, 3)), steps])


def write_waves(
    start: Path, sequences: Sequence[NDArray], data: ValidationData, quiet: bool
) -> list[Path]:
    """Write ``<start>_<i>.wav`` and, with matplotlib, ``<start>_<i>.png``.

    Parameters
    ----------
    start : Path
        First part of the files' names.
    sequences : list of ndarray, each (T, x_dim)
        Normalised frames.
    data : ValidationData
    quiet : bool

    Returns
    -------
    list of Path
        Files written.
    """
    written = []
    with progress_bar(len(sequences), "writing", "file", quiet) as bar:
        for i, frames in enumerate(sequences):
            wave = as_wave(denormalize(frames, data.X_mean, data.X_std).reshape(-1))
            buffer = io.BytesIO()
            wavfile.write(buffer, SAMPLE_RATE, wave)
            path = start.with_name(f"{start.name}_{i}.wav")
            write(path, buffer.getvalue())
            written.append(path)
            if has_matplotlib():
                write(path.with_suffix(".png"), wave_picture(wave))
                written.append(path.with_suffix(".png"))
            bar.update()
    return written


def write_pens(
    start: Path,
    names: Sequence[str],
    lines: Sequence[NDArray],
    captions: Sequence[str],
    data: ValidationData,
) -> list[Path]:
    """Write ``<name>.npz`` of each line, ``<start>.svg`` and, with matplotlib, ``<start>.png``.

    Parameters
    ----------
    start : Path
        Folder and name of the drawing.
    names : list of str
        Names of the lines' files in that folder.
    lines : list of ndarray, each (T, 3)
        Pen bits and normalised offsets.
    captions : list of str
        Text above each line.
    data : ValidationData

    Returns
    -------
    list of Path
        Files written.
    """
    written, drawing = [], []
    for name, frames in zip(names, lines):
        strokes = as_strokes(frames, data.X_mean, data.X_std)
        written.append(start.with_name(f"{name}.npz"))
        write_arrays(written[-1], strokes)
        drawing.append(as_points(strokes))
    written.append(start.with_name(f"{start.name}.svg"))
    write_svg(written[-1], drawing, captions)
    if has_matplotlib():
        written.append(start.with_name(f"{start.name}.png"))
        write(written[-1], pen_picture(drawing, captions))
    return written


def write_images(start: Path, lines: Mapping[str, Sequence[NDArray]]) -> list[Path]:
    """Write ``<start>.npz`` and, with matplotlib, ``<start>.png``: one sheet of all images.

    Parameters
    ----------
    start : Path
        First part of the files' names.
    lines : mapping of str to list of ndarray, each (1, pixels)
        Images as sequences of one frame, by kind; the kinds name the arrays in
        the file, each (N, 8, 8).

    Returns
    -------
    list of Path
        Files written.
    """
    images = {kind: as_images(np.concatenate(frames)) for kind, frames in lines.items()}
    return write_with_picture(start, images, lambda: image_sheet(images))


def write_plane(
    start: Path, dataset: str, z: NDArray, x: NDArray, data: ValidationData
) -> list[Path]:
    """Write ``<start>.npz`` and, with matplotlib, ``<start>.png``: means of x over the plane of z.

    Parameters
    ----------
    start : Path
        First part of the files' names.
    dataset : {'digits', 'blizzard'}
    z, x : ndarray
        From `models.sampling.generation.plane`.
    data : ValidationData

    Returns
    -------
    list of Path
        Files written.  The arrays are ``z``, shape (n, n, 2), and ``x``, shape
        (n, n, 8, 8) for images, (n, n, samples) in the data's unit for sound.
    """
    if dataset == "digits":
        images = as_images(x)
        return write_with_picture(start, {"z": z, "x": images}, lambda: image_plane(z, images))
    waves = denormalize(x, data.X_mean, data.X_std)
    return write_with_picture(start, {"z": z, "x": waves}, lambda: wave_plane(z, waves))


def as_images(x: NDArray) -> NDArray:
    """Frames of digits, shape (..., 64), as images, shape (..., 8, 8)."""
    return x.reshape((*x.shape[:-1], *IMAGE_SHAPE))


def write_with_picture(
    start: Path, arrays: Mapping[str, NDArray], picture: Callable[[], bytes]
) -> list[Path]:
    """Write ``<start>.npz`` and, with matplotlib, the PNG that ``picture`` makes."""
    written = [start.with_name(f"{start.name}.npz")]
    write_arrays(written[0], arrays)
    if has_matplotlib():
        written.append(start.with_name(f"{start.name}.png"))
        write(written[1], picture())
    return written


def write_arrays(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write arrays by name into an ``.npz`` file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write(path, buffer.getvalue())
