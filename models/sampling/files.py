"""Writing what was generated: wave files, pen strokes, drawings, images."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.io import wavfile

from cle_port.console.progress import progress_bar
from cle_port.files import write
from datasets.digits import IMAGE_SHAPE
from models.sampling.data import ValidationData
from models.sampling.drawing import lay_out, pen_png, pen_svg
from models.sampling.latent import Latent
from models.sampling.latent_pictures import latent_pen_picture, latent_wave_picture
from models.sampling.pictures import image_plane, image_sheet, wave_plane
from models.sampling.png import has_matplotlib
from models.sampling.sound import SAMPLE_RATE, comparison_picture, wave_picture

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
    """Points (T + 1, 3) of pen-up bit, x and y, from (0, 0) on, for `lay_out`."""
    steps = np.stack([strokes["pen"], strokes["dx"], strokes["dy"]], axis=1).astype(float)
    steps[:, 1:] = np.cumsum(steps[:, 1:], axis=0)
    return np.concatenate([np.zeros((1, 3)), steps])


class Line(NamedTuple):
    """A sequence to be written.

    Attributes
    ----------
    name : str
        Of its own file, without ending.
    caption : str
        For pictures.
    frames : ndarray, shape (T, x_dim)
        Normalised.
    primed : int or None
        Frames that are a real prime, if the others continue one.
    """

    name: str
    caption: str
    frames: NDArray
    primed: int | None = None


def wave_of(frames: NDArray, data: ValidationData) -> NDArray[np.int16]:
    """Sound of normalised frames of shape (T, x_dim)."""
    return as_wave(denormalize(frames, data.X_mean, data.X_std).reshape(-1))


def write_waves(
    folder: Path, lines: Sequence[Line], data: ValidationData, quiet: bool
) -> list[Path]:
    """Write ``<name>.wav`` and, with matplotlib, ``<name>.png`` of each line.

    Parameters
    ----------
    folder : Path
    lines : list of Line
    data : ValidationData
    quiet : bool

    Returns
    -------
    list of Path
        Files written.
    """
    written = []
    with progress_bar(len(lines), "writing", "file", quiet) as bar:
        for line in lines:
            wave = wave_of(line.frames, data)
            buffer = io.BytesIO()
            wavfile.write(buffer, SAMPLE_RATE, wave)
            path = folder / f"{line.name}.wav"
            write(path, buffer.getvalue())
            written.append(path)
            if has_matplotlib():
                boundary = None if line.primed is None else line.primed * line.frames.shape[1]
                write(path.with_suffix(".png"), wave_picture(wave, boundary))
                written.append(path.with_suffix(".png"))
            bar.update()
    return written


def write_pens(start: Path, lines: Sequence[Line], data: ValidationData) -> list[Path]:
    """Write ``<name>.npz`` of each line, ``<start>.svg`` and, with matplotlib, ``<start>.png``.

    Parameters
    ----------
    start : Path
        Folder and name of the drawing.
    lines : list of Line
        Frames of pen bits and normalised offsets.
    data : ValidationData

    Returns
    -------
    list of Path
        Files written.
    """
    written, drawing = [], []
    for line in lines:
        strokes = as_strokes(line.frames, data.X_mean, data.X_std)
        written.append(start.with_name(f"{line.name}.npz"))
        write_arrays(written[-1], strokes)
        drawing.append(as_points(strokes))
    # Point 0 is where the pen starts, so that point n follows n frames.
    layout = lay_out(drawing, [line.caption for line in lines], [line.primed for line in lines])
    written.append(start.with_name(f"{start.name}.svg"))
    write(written[-1], pen_svg(layout).encode())
    if has_matplotlib():
        written.append(start.with_name(f"{start.name}.png"))
        write(written[-1], pen_png(layout))
    return written


def write_comparisons(
    start: Path,
    dataset: str,
    rows: Sequence[int],
    kinds: Mapping[str, Sequence[NDArray]],
    data: ValidationData,
    quiet: bool,
) -> list[Path]:
    """Write ``<start>_<row>.png``: kinds of one sequence below each other, in one scale.

    Parameters
    ----------
    start : Path
        First part of the files' names.
    dataset : {'blizzard', 'iamondb', 'digits'}
        Images of digits share ``<start>.png``.
    rows : list of int
        Numbers of the validation sequences.
    kinds : mapping of str to list of ndarray, each (T, x_dim)
        Normalised frames, a sequence for each row; from the top down.
    data : ValidationData
    quiet : bool

    Returns
    -------
    list of Path
        Files written.
    """
    if dataset == "digits":
        images = {kind: as_images(np.concatenate(lines)) for kind, lines in kinds.items()}
        write(start.with_name(f"{start.name}.png"), image_sheet(images))
        return [start.with_name(f"{start.name}.png")]
    written = []
    with progress_bar(len(rows), "comparing", "file", quiet) as bar:
        for row, *lines in zip(rows, *kinds.values()):
            title = _title(start, row)
            if dataset == "blizzard":
                waves = {kind: wave_of(line, data) for kind, line in zip(kinds, lines)}
                picture = comparison_picture(waves, title)
            else:
                drawing = [as_points(as_strokes(x, data.X_mean, data.X_std)) for x in lines]
                captions = [f"{title}: {kind}" for kind in kinds]
                picture = pen_png(lay_out(drawing, captions, most_columns=1))
            written.append(start.with_name(f"{start.name}_{row}.png"))
            write(written[-1], picture)
            bar.update()
    return written


def write_latents(
    start: Path,
    dataset: str,
    rows: Sequence[int],
    lines: Sequence[NDArray],
    latents: Sequence[Latent],
    data: ValidationData,
    quiet: bool,
) -> list[Path]:
    """Write ``<start>_<row>.npz`` and, with matplotlib, ``<start>_<row>.png``.

    Parameters
    ----------
    start : Path
        First part of the files' names.
    dataset : {'blizzard', 'iamondb'}
    rows : list of int
        Numbers of the validation sequences.
    lines : list of ndarray, each (T, x_dim)
        Their normalised frames.
    latents : list of Latent
    data : ValidationData
    quiet : bool

    Returns
    -------
    list of Path
        Files written.  The arrays are the fields of `Latent`, ``x``, which are the
        frames, and in the data's unit ``wave``, or ``pen``, ``dx``, ``dy``.
    """
    written = []
    with progress_bar(len(rows), "writing", "file", quiet) as bar:
        for row, x, latent in zip(rows, lines, latents):
            if dataset == "blizzard":
                real = {"wave": wave_of(x, data)}
            else:
                real = as_strokes(x, data.X_mean, data.X_std)

            def picture(row: int = row, latent: Latent = latent, real: dict = real) -> bytes:
                title = _title(start, row)
                if dataset == "blizzard":
                    return latent_wave_picture(latent, real["wave"], title)
                return latent_pen_picture(latent, as_points(real), title)

            arrays = latent._asdict() | {"x": x} | real
            written += write_with_picture(start.with_name(f"{start.name}_{row}"), arrays, picture)
            bar.update()
    return written


def _title(start: Path, row: int) -> str:
    """Name a checkpoint and a sequence; the last word of ``start`` is the kind of files."""
    return f"{start.name.rpartition('_')[0]}, validation sequence {row}"


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
