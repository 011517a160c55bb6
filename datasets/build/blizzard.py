"""Builder of the Blizzard training data (``python -m datasets.build blizzard``)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from cle_port.console.progress import progress_bar
from cle_port.errors import UserError, one_line
from datasets.build.output import BuildSummary, prepare_output
from datasets.grep_blizzard_hdf5 import (
    SAMPLE_RATE,
    SampleFile,
    find_npy,
    stream_writer,
    too_short,
    write_npy_streams,
    write_streams,
)
from datasets.hdf5.rows import FILE_NAME, Moments, RowWriter
from datasets.hdf5.statistics import save_statistics, statistics_path

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
RATES = range(4000, 384001)  # Hz; any other rate indicates a damaged header
BLOCK_SAMPLES = 2**19  # samples to decode at a time, over all channels
MP3_SLACK = 2304  # frames (two packets) that an intact mp3 may lack at its end
STREAMED = (0, 2**32 - 1)  # lengths in the header of a wav of unknown length


class BadRecording(Exception):
    """A recording cannot be used; the message is a reason of one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(one_line(reason))


@dataclass
class BlizzardSummary(BuildSummary):
    """Report of `build`.

    Attributes
    ----------
    hdf5_path, statistics_path : pathlib.Path
        Output files.
    seq_len : int
        Samples per row.
    used : int
        Number of files in the data; `skipped` lists the others.
    n_rows : int
        Number of rows.
    moments : Moments
        Mean, standard deviation and peak of the rows.
    """

    hdf5_path: Path
    statistics_path: Path
    seq_len: int
    used: int = 0
    n_rows: int = 0
    moments: Moments = field(default_factory=Moments)

    @property
    def hours(self) -> float:
        """Hours of audio in the rows."""
        return self.n_rows * self.seq_len / SAMPLE_RATE / 3600

    def __str__(self) -> str:
        lines = [
            f"files    {self.used} used, {len(self.skipped)} skipped",
            *self.skipped_lines(),
            f"audio    {self.hours:.4g} hours ({self.hours * 3600:.6g} s) at {SAMPLE_RATE} Hz",
            f"rows     {self.n_rows} of {self.seq_len} samples",
            f"mean     {self.moments.mean:.4f}",
            f"std      {self.moments.std:.4f}",
            f"peak     {self.moments.peak} of 32768",
            f"wrote    {self.hdf5_path}",
            f"wrote    {self.statistics_path}",
        ]
        return "\n".join(lines)


def build(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    batch_size: int = 128,
    seq_len: int = 8000,
    quiet: bool = False,
    strict: bool = False,
    force: bool = False,
) -> BlizzardSummary:
    """Build ``blizzard_unseg_tbptt.h5`` and its statistics from recordings.

    The audio passes through a temporary file of 16-bit samples in `out`, so
    memory use does not grow with the amount of audio.  After an error or an
    interruption the function leaves no files behind.

    Parameters
    ----------
    source : path-like
        Folder of recordings or of ``data_*.npy``, or one recording.
    out : path-like
        Folder for the two files; the function creates it if necessary.
    batch_size : int
        Number of parallel streams.  Row ``i * batch_size + j`` is piece i of
        stream j.
    seq_len : int
        Samples per row.
    quiet : bool
        Show no progress bar.
    strict : bool
        Raise an error at the first unusable recording instead of skipping it.
    force : bool
        Replace existing files.

    Returns
    -------
    BlizzardSummary

    Raises
    ------
    UserError
        If the source is missing, unusable or too short, if files exist already
        or cannot be written, or if soundfile is not installed.

    Notes
    -----
    No counterpart: the original starts from ``data_*.npy``.  The statistics are
    the mean and standard deviation of all rows, including validation.  The
    original estimates them (`datasets.blizzard.running_statistics`).
    """
    source, out = Path(source), Path(out)
    for option, value in (("--batch_size", batch_size), ("--seq_len", seq_len)):
        if value < 1:
            raise UserError(f"{option} must be at least 1, not {value}")
    if not os.path.exists(source):
        raise UserError(f"no file or folder {source}; check the path of SOURCE")
    summary = BlizzardSummary(out / f"{FILE_NAME}.h5", statistics_path(out, FILE_NAME), seq_len)
    prepare_output(summary.hdf5_path, summary.statistics_path, force=force)
    npy = find_npy(source) if _holds_npy(source) else []
    recordings = [] if npy else find_recordings(source)
    with stream_writer(summary.hdf5_path, seq_len, batch_size) as writer:
        if npy:
            write_npy_streams(writer, npy, seq_len, batch_size, quiet)
            summary.used = len(npy)
        else:
            _write_recordings(writer, recordings, summary, batch_size, quiet, strict)
        summary.n_rows, summary.moments = writer.n_rows, writer.moments
        if summary.moments.std == 0:
            raise UserError(f"the recordings in {source} are silent; check them")
        writer.finish()
        # The statistics of an older file must never exist beside a new file.
        summary.statistics_path.unlink(missing_ok=True)
        writer.commit()
    save_statistics(out, FILE_NAME, summary.moments.mean, summary.moments.std)
    return summary


def _holds_npy(source: Path) -> bool:
    return os.path.isdir(source) and next(source.rglob("data_*.npy"), None) is not None


def find_recordings(source: Path) -> list[Path]:
    """Find audio files below a folder and sort them by path in natural order.

    Parameters
    ----------
    source : pathlib.Path
        Folder, or one audio file.

    Returns
    -------
    list of pathlib.Path
        Digits in names compare as numbers: ``a2`` comes before ``a10``.

    Raises
    ------
    UserError
        If there are none.
    """
    if os.path.isfile(source):
        return [source]
    found = [path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES]
    found = [path for path in found if not os.path.isdir(path)]
    if not found:
        raise UserError(f"no {', '.join(SUFFIXES)} and no data_*.npy in {source}; check SOURCE")
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[list[tuple[int, int, str]]]:
    return [
        [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]
        for pieces in (re.split(r"(\d+)", part) for part in path.parts)
    ]


def _write_recordings(
    writer: RowWriter,
    recordings: list[Path],
    summary: BlizzardSummary,
    batch_size: int,
    quiet: bool,
    strict: bool,
) -> None:
    total = sum(_size(path) for path in recordings)
    with SampleFile(writer.path.parent) as samples:
        with progress_bar(total, "reading", "B", quiet) as bar:
            bar.unit_scale = True
            for path in recordings:
                _add_recording(samples, path, summary, strict)
                bar.update(_size(path))
        if summary.used == 0:
            first, reason = summary.skipped[0]
            raise UserError(
                f"none of the {len(recordings)} recordings can be used, the first, {first}, "
                f"because {reason}; check SOURCE"
            )
        write_streams(writer, samples.read(), summary.seq_len, batch_size, quiet)
        if writer.n_rows == 0:
            audio = f"{len(samples) / SAMPLE_RATE:.1f} seconds of audio"
            raise too_short(batch_size, summary.seq_len, audio)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _add_recording(samples: SampleFile, path: Path, summary: BlizzardSummary, strict: bool) -> None:
    before = len(samples)
    try:
        for block in read_recording(path):
            samples.append(block)
        summary.used += 1
    except BadRecording as error:
        if strict:
            raise UserError(
                f"cannot use {path}: {error}; repair or remove it, or run without --strict"
            ) from error
        samples.truncate(before)
        summary.skipped.append((path, str(error)))


def read_recording(path: Path) -> Iterator[NDArray[np.int16]]:
    """Decode an audio file block by block to one channel at 16 kHz.

    Parameters
    ----------
    path : pathlib.Path
        Any file that libsndfile can read.

    Yields
    ------
    ndarray of int16, shape (samples,)
        Mean of the channels, resampled, rounded, and clipped to the int16 range.

    Raises
    ------
    BadRecording
        If the file is no audio, damaged, truncated or empty, or holds values
        that are not finite.  The error may follow after some blocks.
    UserError
        If soundfile is not installed.

    Notes
    -----
    No counterpart in the original.  An mp3 with variable bit rate may lack the
    header with its length, which LAME writes.  libsndfile then estimates the
    length and may decode only a part of the file.
    """
    soundfile = _soundfile()
    try:
        if path.stat().st_size == 0:
            raise BadRecording("it is empty")
        if path.suffix.lower() == ".raw":
            raise BadRecording("it has no header that describes its samples")
        with soundfile.SoundFile(path) as file:
            if file.samplerate not in RATES:
                raise BadRecording(f"its sample rate is {file.samplerate} Hz")
            for block in resample(_mono_blocks(file), file.samplerate):
                yield to_int16(block)
        _check_ogg_end(path)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None)
        raise BadRecording(str(reason or error).removeprefix("Error : ").rstrip(".")) from error


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: libsndfile itself is missing
        raise UserError(
            "reading recordings needs soundfile: `pip install soundfile` "
            "(or this project with its extra [audio])"
        ) from error
    return soundfile


def _mono_blocks(file: Any) -> Iterator[NDArray[np.float64]]:
    declared = re.search(r"^\s*data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if declared and int(declared[1]) not in STREAMED and int(declared[1]) > int(declared[2]):
        raise BadRecording(f"it is cut off: it has {declared[2]} of {declared[1]} bytes")
    frames = 0
    while True:
        block = file.read(BLOCK_SAMPLES // file.channels, dtype="float64", always_2d=True)
        if len(block) == 0:
            break
        if not np.isfinite(block).all():
            raise BadRecording("it holds NaN or infinite samples")
        frames += len(block)
        yield block.mean(axis=1)
    if frames == 0:
        raise BadRecording("it is empty")
    if frames < file.frames - (MP3_SLACK if file.format == "MP3" else 0):
        raise BadRecording(f"it is cut off: it has {frames} of {file.frames} frames")


def _check_ogg_end(path: Path) -> None:
    """Raise `BadRecording` if an Ogg file lacks its last page, which libsndfile ignores."""
    with open(path, "rb") as file:
        if file.read(4) != b"OggS":
            return
        file.seek(max(0, _size(path) - 2**17))  # twice the largest page
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    ends = len(page) > 26 and page[5] & 4 and len(page) >= 27 + len(lengths) + sum(lengths)
    if not ends:
        raise BadRecording("it is cut off: its last page is missing")


def resample(
    blocks: Iterable[NDArray[np.float64]], rate: int, new_rate: int = SAMPLE_RATE
) -> Iterator[NDArray[np.float64]]:
    """Change the sample rate of a signal that arrives in blocks.

    The function filters each block together with as many neighbouring samples as
    the filter covers.  So the result equals that of `scipy.signal.resample_poly`
    for the whole signal.

    Parameters
    ----------
    blocks : iterable of ndarray, each (samples,)
    rate, new_rate : int
        Sample rates in Hz.

    Yields
    ------
    ndarray, shape (samples,)
        In total ceil(samples * new_rate / rate) samples.

    Notes
    -----
    No counterpart in the original.
    """
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    if up == down:
        yield from blocks
        return
    half = 10 * max(up, down)
    lowpass = scipy.signal.firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0))
    reach = half // up + 2  # input samples on each side that influence one output sample
    left = -(-reach // down) * down
    # Cut only where input and output samples coincide: every `down` input samples.
    buffer, done = np.zeros(0), 0  # the first `done` samples of the buffer serve only as context
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        ready = (len(buffer) - reach) // down * down
        if ready <= done:
            continue
        filtered = scipy.signal.resample_poly(buffer[: ready + reach], up, down, window=lowpass)
        yield filtered[done // down * up : ready // down * up]
        keep = max(ready - left, 0)
        buffer, done = buffer[keep:], ready - keep
    yield scipy.signal.resample_poly(buffer, up, down, window=lowpass)[done // down * up :]


def to_int16(samples: NDArray[np.float64]) -> NDArray[np.int16]:
    """Scale samples from the range -1 to 1 to int16, round them, and clip values outside it."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
