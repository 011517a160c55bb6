"""The command ``python -m datasets.blizzard build``: from recordings to training data."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from cle_port.command_line import Parser
from cle_port.errors import UserError, one_line
from cle_port.progress import progress_bar
from datasets.blizzard import save_statistics, statistics_path
from datasets.building import run
from datasets.grep_blizzard_hdf5 import (
    SAMPLE_RATE,
    SampleFile,
    find_npy,
    stream_writer,
    too_short,
    write_npy_streams,
    write_streams,
)
from datasets.hdf5_rows import Moments, RowWriter

FILE_NAME = "blizzard_unseg_tbptt"
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
RATES = range(4000, 384001)  # outside these, a header is taken to be damaged
BLOCK_SAMPLES = 2**19  # samples decoded at a time, all channels together
MP3_SLACK = 2304  # frames that a sound mp3 may miss at its end: two packets
STREAMED = (0, 2**32 - 1)  # lengths that programs put into the header of an endless wav

HELP = """\
Make the training data of the Blizzard programs from a folder of recordings.

SOURCE is searched for wav, flac, mp3 and ogg files, of any sample rate and
number of channels.  Channels are averaged, everything is resampled to 16 kHz,
joined in the order of the paths, and cut into --batch_size streams of equal
length, which training runs through side by side.  If SOURCE holds data_*.npy
files in the layout of the original programs, these are taken instead.

Two files appear in OUT once everything is done, and nothing before:
  blizzard_unseg_tbptt.h5           int16 rows of --seq_len samples
  blizzard_unseg_tbptt_normal.npz   mean and standard deviation of all rows
While it works it needs room in OUT for the audio, 115 MB an hour, besides.
"""

EXAMPLE = """\
example:
  python -m datasets.blizzard build ~/recordings ~/data/blizzard
  python models/vrnn_gmm.py --dataset blizzard --data_path ~/data/blizzard

The programs of the paper use rows of 8000 samples and batches of 128.  These
need 64 seconds of audio for each batch; with little audio lower both:
  python -m datasets.blizzard build ~/few ~/data/few --batch_size 8 --seq_len 2000
"""


class BadRecording(Exception):
    """A recording that cannot be used, with the reason in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(one_line(reason))


@dataclass
class Summary:
    """What `build` did.

    Attributes
    ----------
    used : int
        Files that went into the data.
    skipped : list of (pathlib.Path, str)
        Files left out, each with the reason.
    moments : Moments
        Mean, standard deviation and peak of the samples written.
    n_rows, seq_len : int
        Rows written, samples in a row.
    hdf5_path, statistics_path : pathlib.Path
        Files written.
    """

    hdf5_path: Path
    statistics_path: Path
    seq_len: int
    used: int = 0
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    n_rows: int = 0
    moments: Moments = field(default_factory=Moments)

    @property
    def hours(self) -> float:
        """Hours of audio in the rows."""
        return self.n_rows * self.seq_len / SAMPLE_RATE / 3600

    def skipped_lines(self) -> list[str]:
        """Return a line for each file left out, with its reason."""
        return [f"skipped  {path}: {reason}" for path, reason in self.skipped]

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
) -> Summary:
    """Make ``blizzard_unseg_tbptt.h5`` and its statistics from recordings.

    Memory stays bounded whatever the amount of audio: it passes through a
    temporary file of 16-bit samples in `out`.  Interrupted or failing, it
    leaves nothing behind.

    Parameters
    ----------
    source : path-like
        Folder of recordings or of ``data_*.npy``, or one recording.
    out : path-like
        Folder for the two files, created if need be.
    batch_size : int
        Parallel streams; row ``i * batch_size + j`` is piece i of stream j.
    seq_len : int
        Samples in a row.
    quiet : bool
        Show no progress bar.
    strict : bool
        Fail at the first recording that cannot be used, instead of skipping it.
    force : bool
        Replace files of an earlier run.

    Returns
    -------
    Summary

    Raises
    ------
    UserError
        If there is no source, nothing usable in it or too little, if files
        exist already or cannot be written, or if soundfile is not installed.

    Notes
    -----
    No counterpart: the original starts from ``data_*.npy``.  The statistics are
    the mean and standard deviation of all rows, training and validation; the
    original's running ones are of the order of the same (`running_statistics`).
    """
    source, out = Path(source), Path(out)
    for option, value in (("--batch_size", batch_size), ("--seq_len", seq_len)):
        if value < 1:
            raise UserError(f"{option} must be at least 1, not {value}")
    if not os.path.exists(source):
        raise UserError(f"no file or folder {source}; check the path of SOURCE")
    summary = Summary(out / f"{FILE_NAME}.h5", statistics_path(out, FILE_NAME), seq_len)
    _prepare(summary, force)
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
        # Statistics of an older file must never stand beside a new one.
        summary.statistics_path.unlink(missing_ok=True)
        writer.commit()
    save_statistics(out, FILE_NAME, summary.moments.mean, summary.moments.std)
    return summary


def _prepare(summary: Summary, force: bool) -> None:
    out = summary.hdf5_path.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create {out} ({error.strerror}); choose another folder for OUT"
        ) from error
    for path in (summary.hdf5_path, summary.statistics_path):
        if os.path.exists(path) and not force:
            raise UserError(f"{path} exists; use --force to replace it, or another folder for OUT")


def _holds_npy(source: Path) -> bool:
    return os.path.isdir(source) and next(source.rglob("data_*.npy"), None) is not None


def find_recordings(source: Path) -> list[Path]:
    """Find audio files below a folder, in the natural order of their paths.

    Parameters
    ----------
    source : pathlib.Path
        Folder, or an audio file.

    Returns
    -------
    list of pathlib.Path
        Numbers in names count as numbers: ``a2`` before ``a10``.

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
    summary: Summary,
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
            path, reason = summary.skipped[0]
            raise UserError(
                f"none of the {len(recordings)} recordings can be used, the first, {path}, "
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


def _add_recording(samples: SampleFile, path: Path, summary: Summary, strict: bool) -> None:
    before = len(samples)
    try:
        for block in read_recording(path):
            samples.append(block)
        summary.used += 1
    except BadRecording as error:
        if strict:
            raise UserError(
                f"cannot use {path}: {error}; mend or remove it, or leave out --strict"
            ) from error
        samples.truncate(before)
        summary.skipped.append((path, str(error)))


def read_recording(path: Path) -> Iterator[NDArray[np.int16]]:
    """Decode an audio file, block by block, into one channel at 16 kHz.

    Parameters
    ----------
    path : pathlib.Path
        Any file that libsndfile reads.

    Yields
    ------
    ndarray of int16, shape (samples,)
        Mean of the channels, resampled, rounded, and clipped to the range of int16.

    Raises
    ------
    BadRecording
        If the file is no audio, damaged, cut off, empty, or holds values that
        are not finite; possibly after some blocks.
    UserError
        If soundfile is not installed.

    Notes
    -----
    Of an mp3 with variable bit rate and without the header that tells its
    length (LAME writes it) libsndfile decodes only as much as it guesses.
    """
    soundfile = _soundfile()
    try:
        if path.stat().st_size == 0:
            raise BadRecording("it is empty")
        if path.suffix.lower() == ".raw":
            raise BadRecording("it has no header that says what its samples are")
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
        raise BadRecording(f"it is cut off: {declared[2]} of {declared[1]} bytes are there")
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
        raise BadRecording(f"it is cut off: {frames} of {file.frames} frames are there")


def _check_ogg_end(path: Path) -> None:
    """Refuse an Ogg file without its last page, which libsndfile does not notice."""
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

    The result is that of `scipy.signal.resample_poly` on the whole signal,
    since each block is filtered together with as much of its neighbours as
    the filter reaches.

    Parameters
    ----------
    blocks : iterable of ndarray, each (samples,)
    rate, new_rate : int
        Sample rates in Hz.

    Yields
    ------
    ndarray, shape (samples,)
        Together ceil(samples * new_rate / rate).
    """
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    if up == down:
        yield from blocks
        return
    half = 10 * max(up, down)
    lowpass = scipy.signal.firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0))
    reach = half // up + 2  # input samples that one output sample depends on, to each side
    left = -(-reach // down) * down
    # Cuts are made only where input and output samples coincide, every `down` input samples.
    buffer, done = np.zeros(0), 0  # of the buffer's samples, `done` are there as context only
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
    """Round samples from the range -1 to 1 to int16, clipping what lies outside."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, by default those of the process.

    Returns
    -------
    int
        0, or 2 after bad input, or 130 after an interruption.
    """
    return run(_parser(), build, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m datasets.blizzard", description="Commands for the Blizzard data."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "build",
        help="make the training data from recordings",
        description=HELP,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("SOURCE", help="folder of recordings, or of data_*.npy")
    command.add_argument("OUT", help="folder for the result, created if need be")
    command.add_argument(
        "--batch_size", type=int, default=128, metavar="N", help="parallel streams (128)"
    )
    command.add_argument(
        "--seq_len", type=int, default=8000, metavar="N", help="samples in a row (8000)"
    )
    command.add_argument("--strict", action="store_true", help="fail if a recording is unusable")
    command.add_argument("--force", action="store_true", help="replace an earlier result")
    command.add_argument("--quiet", action="store_true", help="print nothing but what was skipped")
    return parser
