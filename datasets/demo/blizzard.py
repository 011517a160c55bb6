"""Demo corpus of babbled speech, in the layout of the original's Blizzard file.

The Blizzard 2013 recordings require a registration.  This corpus consists of a few
minutes of synthetic babble (`datasets.demo.speech`).  It serves to try the programs,
not to get results.

No counterpart in the original.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from cle_port.console.command_line import check_ending
from cle_port.errors import UserError
from cle_port.files import unwritable, write
from datasets.blizzard import row_ranges
from datasets.demo import speech
from datasets.demo.corpus import (
    check_seed,
    check_writable,
    ensure_corpus,
    fingerprint,
    prepare_folder,
)
from datasets.demo.speech import speak
from datasets.grep_blizzard_hdf5 import SAMPLE_RATE
from datasets.hdf5.rows import FILE_NAME, Moments, RowWriter
from datasets.hdf5.statistics import save_statistics, statistics_path

STAND_IN_NOTICE = (
    "Data: synthetic babble, a stand-in for Blizzard that shows the program at work, no results.\n"
    "Real speech: python -m datasets.build blizzard RECORDINGS OUT, then add --data_path OUT."
)
VERSION = 2
SUMS = "SHA256SUMS"
LONGEST = 60.0  # minutes; memory holds all samples


@dataclass(frozen=True)
class CorpusSettings:
    """Settings of the corpus; see `build`."""

    seed: int = 0
    minutes: float = 8.0
    seq_len: int = 4000
    n_streams: int = 16

    @property
    def n_blocks(self) -> int:
        """Number of rows per stream."""
        return int(self.minutes * 60 * SAMPLE_RATE) // (self.seq_len * self.n_streams)

    def check(self) -> None:
        """Raise `UserError` if no corpus can be made with these settings."""
        for name in ("seed", "seq_len", "n_streams"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < (name != "seed"):
                least = "0" if name == "seed" else "1"
                raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if not 0 < self.minutes <= LONGEST:  # also NaN
            raise UserError(f"minutes must be above 0 and at most {LONGEST:g}, not {self.minutes}")
        if self.n_blocks < 2:
            needed = 2 * self.seq_len * self.n_streams / (60 * SAMPLE_RATE)
            raise UserError(
                f"{self.minutes:g} minutes are too short for training and validation rows of "
                f"{self.n_streams} streams by {self.seq_len} samples: "
                f"ask for at least {math.ceil(100 * needed) / 100:g} minutes"
            )


def build(
    folder: str | Path,
    *,
    seed: int = CorpusSettings.seed,
    minutes: float = CorpusSettings.minutes,
    seq_len: int = CorpusSettings.seq_len,
    n_streams: int = CorpusSettings.n_streams,
    quiet: bool = False,
) -> Path:
    """Synthesise a corpus and write it in the layout of the original's Blizzard file.

    The function cuts one long recording into `n_streams` parts.  Row ``i *
    n_streams + j`` is the i-th piece of part j.  So each batch of `n_streams` rows
    continues the previous batch, as truncated backpropagation through time needs.

    Parameters
    ----------
    folder : str or Path
        Folder for ``blizzard_unseg_tbptt.h5`` (int16 ``data``, (rows, seq_len)),
        ``blizzard_unseg_tbptt_normal.npz`` (float64 scalars ``X_mean`` and
        ``X_std`` of the training rows of `datasets.blizzard.row_ranges`), and
        ``SHA256SUMS`` of both.  The function creates the folder if necessary and
        replaces existing files.
    seed : int
        See `datasets.demo.speech.speak`.
    minutes : float
        Maximum length.  The function drops samples that do not fill a row of
        every stream.
    seq_len : int
        Samples per row; a multiple of the frame size, which is 200 in the demo.
    n_streams : int
        Number of parallel streams, and the batch size for training.  The last
        rows, which serve for validation, are the ends of all streams.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    UserError
        If a setting is out of range or the folder cannot be written.

    Notes
    -----
    Counterpart of the layout: ``datasets/grep_blizzard_hdf5.py``,
    ``fetch_blizzard_tbptt``.  The statistics are the true ones of all training
    rows; ``Blizzard_tbptt.load`` estimates them.
    """
    settings = CorpusSettings(seed, minutes, seq_len, n_streams)
    settings.check()
    folder = Path(folder)
    prepare_folder(folder)
    recording = speak(settings.n_blocks * seq_len * n_streams, seed, quiet)
    streams = recording.reshape(n_streams, settings.n_blocks, seq_len)
    try:
        _write_corpus(folder, streams.swapaxes(0, 1).reshape(-1, seq_len), n_streams)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def ensure(*, quiet: bool = False) -> Path:
    """Return the folder of the corpus with default settings in the cache; build it on first use.

    `datasets.demo.corpus.ensure_corpus` describes the result and the errors;
    `quiet` hides the progress bar.
    """
    return ensure_corpus(
        "demo_blizzard",
        f"v{VERSION}-{_fingerprint(CorpusSettings())}",
        lambda folder: build(folder, quiet=quiet),
        _is_intact,
    )


def _fingerprint(settings: CorpusSettings) -> str:
    return fingerprint(__file__, speech.__file__, settings=json.dumps(asdict(settings)))


def _write_corpus(folder: Path, rows: NDArray[np.int16], n_streams: int) -> None:
    sums = folder / SUMS
    sums.unlink(missing_ok=True)  # the old sums must not describe new files
    hdf5 = folder / f"{FILE_NAME}.h5"
    seq_len = rows.shape[1]
    with RowWriter(
        hdf5, seq_len, batch_size=n_streams, seq_len=seq_len, sample_rate=SAMPLE_RATE
    ) as writer:
        writer.append(rows)
        writer.finish()
        writer.commit()
    train = Moments()
    train.add(rows[: row_ranges(len(rows), n_streams, n_streams).train_end])
    save_statistics(folder, FILE_NAME, train.mean, train.std)
    # The sums come last, so if they exist, the other files do too.  `sha256sum -c` reads them.
    lines = [
        f"{_sha256(path)}  {path.name}\n" for path in (hdf5, statistics_path(folder, FILE_NAME))
    ]
    write(sums, "".join(lines).encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_intact(folder: Path) -> bool:
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
        sums = [line.split() for line in lines]
        return len(sums) == 2 and all(_sha256(folder / name) == digest for digest, name in sums)
    except (OSError, ValueError):
        return False


def write_wav(out: Path, seconds: float, seed: int) -> None:
    """Write babbled speech to a wav file (16 kHz, mono, 16 bit) and print a line about it.

    Parameters
    ----------
    out : Path
        File with the ending ``.wav``; an existing file is replaced.
    seconds : float
        Length, s.
    seed : int
        See `datasets.demo.speech.speak`.

    Raises
    ------
    UserError
        If an argument is out of range or the file cannot be written.
    """
    if not 1 / SAMPLE_RATE <= seconds <= 60 * LONGEST:  # also NaN
        raise UserError(f"--seconds must be above 0 and at most {60 * LONGEST:g}, not {seconds:g}")
    check_seed(seed)
    check_ending("OUT", out, ".wav")
    check_writable(out.parent, out)
    content = io.BytesIO()
    wavfile.write(content, SAMPLE_RATE, speak(round(seconds * SAMPLE_RATE), seed, quiet=False))
    write(out, content.getvalue())
    print(f"{out}: {seconds:g} s of babble, 16 kHz mono, seed {seed}")
