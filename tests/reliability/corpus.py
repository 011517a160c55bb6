"""Files to read, and ways to damage them: the corpus of the fuzz tests.

Nothing is kept as a file: valid ones are written by the project's own writers
or copied from the recordings, damaged ones follow from these and a seed.
"""

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from cle_port.errors import UserError
from cle_port.files.unpickle import load_npy, load_pickled_arrays
from cle_port.train import checkpoint
from compare.original import importing
from compare.recording import Recording
from datasets.build.blizzard import BadRecording, read_recording
from datasets.build.iamondb import _read_list
from datasets.grep_blizzard_hdf5 import load_recordings
from datasets.hdf5.lines import Line, LineWriter, read_lines
from datasets.hdf5.rows import HDF5Rows, RowWriter
from datasets.hdf5.statistics import load_statistics
from datasets.iamondb_utils import Unusable, read_caches, read_strokes, read_transcript
from models.settings import Settings, read_config
from tests import pickles

ARTIFACTS = Path(__file__).parents[1] / "reference" / "artifacts"
REFUSALS = (UserError, Unusable, BadRecording)  # the last two for one file of a collection


class Reader(NamedTuple):
    """A parser under test.

    Attributes
    ----------
    file_name : str
        Name that the file must have.
    read : callable
        Takes the path, reads everything in the file.
    seeds : callable
        Takes an empty folder, returns valid files as bytes.
    beside : callable
        Puts other files that the parser needs into the folder.
    """

    file_name: str
    read: Callable[[Path], Any]
    seeds: Callable[[Path], list[bytes]]
    beside: Callable[[Path], None] = lambda folder: None


def outcome(reader: Reader, path: Path) -> str:
    """Read a file: ``'read'``, or the message with which it was refused.

    Any other exception, and a message that is not one printable line, is a failure of the test.
    """
    try:
        reader.read(path)
    except REFUSALS as error:
        message = str(error)
        assert message.isprintable(), f"not one line: {message!r}"
        assert len(message) < 2000, f"too long: {message[:200]!r}..."
        return message
    return "read"


# ----------------------------------------------------------------------------------------
# Readers
# ----------------------------------------------------------------------------------------


def _read_rows(path):
    rows = HDF5Rows(path)
    try:
        for block in rows.blocks():
            assert block.dtype.kind == "i"
            assert block.shape[1] == rows.shape[1]
    finally:
        rows.close()


def _read_lines(path):
    for split in ("train", "valid"):
        read_lines(path, split)


def _read_statistics(path):
    load_statistics(path.parent, path.name.removesuffix("_normal.npz"))


def _read_recording(path):
    with Recording(path) as recording:
        for name in recording:
            assert recording[name].dtype.kind in "biufcSU"


def _read_sound(path):
    for block in read_recording(path):
        assert block.dtype == np.int16


def _row_files(folder):
    with RowWriter(folder / "rows.h5", 20, batch_size=4, seq_len=20, sample_rate=16000) as writer:
        writer.append(np.random.default_rng(0).integers(-999, 999, (64, 20)).astype(np.int16))
        writer.finish()
        writer.commit()
    written = (folder / "rows.h5").read_bytes()
    return [written, _artifact("blizzard/full/full_blizzard.h5")]


def some_lines() -> list[Line]:
    """Three short lines of handwriting."""
    points = np.array([[0, 5, 7], [1, 9, -4], [0, 10, 0], [1, 12, 3]], dtype=np.int64)
    return [Line(points, "No."), Line(points[:2], "a"), Line(points[2:], "")]


def _line_files(folder):
    with LineWriter(folder / "lines.h5") as writer:
        for line in some_lines():
            writer.append("train", line)
            writer.append("valid", line)
        writer.finish()
        writer.commit()
    return [(folder / "lines.h5").read_bytes()]


def _checkpoints(folder):
    arrays = {"W": np.arange(6.0).reshape(2, 3), "adam_m/W": np.ones((2, 3), dtype=np.float32)}
    checkpoint.save(folder / "m.npz", arrays, {"program": "m_1", "settings": {"lr": 3e-4}})
    return [(folder / "m.npz").read_bytes()]


def _statistics(folder):
    return [_artifact("blizzard/statistics/stat_normal.npz"), npz(X_mean=1.5, X_std=2.0)]


def _recordings_of_the_original(folder):
    text = np.array(["a", "bc"])
    return [npz(cost=np.arange(3.0), text=text), npz(zipfile.ZIP_DEFLATED, cost=np.zeros((4, 5)))]


def _checkpoints_of_the_original(folder):
    with pytest.MonkeyPatch.context() as patch:
        return [pickles.dump(pickles.mainloop(pickles.Classes(patch)))]


def _recording_files(folder):
    plain = io.BytesIO()
    np.save(plain, np.arange(300, dtype=np.int16))
    return [_artifact("blizzard/full/data_0.npy"), plain.getvalue()]


def _pickles(folder):
    arrays = [np.arange(6, dtype="<i2").reshape(2, 3), np.float32(2.5), np.dtype(">f8"), "text", 7]
    nested = {"list": arrays, "tuple": (None, True, b"\xff")}
    return [pickle.dumps(nested, protocol) for protocol in (0, 2, 4, 5)]


def _cache(kind):
    return lambda folder: [_artifact(f"iamondb/written_by_fetch/train_npy_{kind}.npy")]


def _all_caches(folder):
    for path in (ARTIFACTS / "iamondb" / "written_by_fetch").iterdir():
        shutil.copy(path, folder)


def _strokes(folder):
    lines = ARTIFACTS / "iamondb" / "tree" / "lineStrokes" / "a00"
    return [path.read_bytes() for path in sorted(lines.rglob("*.xml"))[:3]]


def _transcripts(folder):
    texts = ARTIFACTS / "iamondb" / "tree" / "ascii"
    return [path.read_bytes() for path in sorted(texts.rglob("*.txt"))[:3]]


def _sounds(file_format):
    def seeds(folder):
        import soundfile

        stream = io.BytesIO()
        signal = np.sin(np.arange(3000) / 7) * 0.4
        soundfile.write(stream, signal, 8000, format=file_format)
        return [stream.getvalue()]

    return seeds


def npz(compression: int = zipfile.ZIP_STORED, **arrays: Any) -> bytes:
    """Bytes of an ``.npz`` file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, np.asarray(array), allow_pickle=True)
            archive.writestr(f"{name}.npy", member.getvalue())
    return stream.getvalue()


def _artifact(name):
    return (ARTIFACTS / name).read_bytes()


READERS = {
    "rows.h5": Reader("x.h5", _read_rows, _row_files),
    "lines.h5": Reader("x.h5", _read_lines, _line_files),
    "checkpoint": Reader("x.npz", checkpoint.load, _checkpoints),
    "statistics": Reader("x_normal.npz", _read_statistics, _statistics),
    "recording of the original": Reader("x.npz", _read_recording, _recordings_of_the_original),
    "checkpoint of the original": Reader("x.pkl", importing.read, _checkpoints_of_the_original),
    "npy": Reader("x.npy", load_npy, _recording_files),
    "recordings": Reader("data_0.npy", load_recordings, _recording_files),
    "pickle": Reader("x.pkl", load_pickled_arrays, _pickles),
    "cached strokes": Reader(
        "train_npy_x.npy", lambda path: read_caches(path.parent, "train"), _cache("x"), _all_caches
    ),
    "cached labels": Reader(
        "train_npy_y.npy", lambda path: read_caches(path.parent, "train"), _cache("y"), _all_caches
    ),
    "strokes.xml": Reader("x.xml", read_strokes, _strokes),
    "transcript": Reader("x.txt", read_transcript, _transcripts),
    "list of forms": Reader("train.txt", _read_list, lambda folder: [b"a01-000u\nb02-001\n"]),
    "config": Reader(
        "config.txt",
        lambda path: Settings(**read_config(path)),
        lambda folder: [
            Settings().as_text().encode(),
            Settings(data_path="d e").as_text().encode(),
        ],
    ),
    **{
        f"sound.{suffix}": Reader(f"x.{suffix}", _read_sound, _sounds(suffix.upper()))
        for suffix in ("wav", "flac", "mp3", "ogg")
    },
}

# ----------------------------------------------------------------------------------------
# Random damage
# ----------------------------------------------------------------------------------------

NUMBERS = [
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("little", "big")
]
TOKENS = {
    "text": [
        b"\n",
        b"\0",
        b"\x1b[2J",
        b"..",
        b"/",
        b"-1",
        b"1e999",
        b"nan",
        b"9" * 50,
        b"\xff\xfe",
    ],
    "xml": [b"<", b">", b"&", b"&#0;", b"<!DOCTYPE a>", b"<![CDATA[", b"?>", b'x="', b"'"],
    "npy": [b"O", b"|O", b"{", b"}", b"(", b",)", b"<f8", b"<U9", b"\x93NUMPY"],
    "zip": [b".npy", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06"],
    "pickle": [b"cos\nsystem\n(", b"\x80\x05", b"tR.", b"b", b"\x8c", b"\x93", b"2", b"h\0"],
    "sound": [b"OggS", b"RIFF", b"data", b"fLaC"],
    "hdf5": [b"TREE", b"SNOD", b"HEAP", b"OHDR", b"FRHP", b"\x89HDF\r\n"],
}
ALL_TOKENS = [token for tokens in TOKENS.values() for token in tokens]


def damage(content: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Change a few places of a file at random, or cut it off."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        _CHANGES[rng.integers(len(_CHANGES))](changed, rng, others)
    return bytes(changed)


def _place(changed, rng):
    return int(rng.integers(len(changed) + 1))


def _flip(changed, rng, others):
    for _ in range(int(rng.integers(1, 9))):
        if changed:
            changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))


def _cut(changed, rng, others):
    del changed[_place(changed, rng) :]


def _overwrite(changed, rng, others):
    at, value = _place(changed, rng), NUMBERS[rng.integers(len(NUMBERS))]
    changed[at : at + len(value)] = value


def _insert(changed, rng, others):
    at = _place(changed, rng)
    changed[at:at] = ALL_TOKENS[rng.integers(len(ALL_TOKENS))]


def _replace(changed, rng, others):
    at, token = _place(changed, rng), ALL_TOKENS[rng.integers(len(ALL_TOKENS))]
    changed[at : at + len(token)] = token


def _remove(changed, rng, others):
    at = _place(changed, rng)
    del changed[at : at + int(rng.integers(1, 64))]


def _repeat(changed, rng, others):
    at, to = _place(changed, rng), _place(changed, rng)
    changed[to:to] = changed[at : at + int(rng.integers(1, 200))]


def _splice(changed, rng, others):
    other = others[rng.integers(len(others))]
    at = _place(changed, rng)
    changed[at:] = other[_place(other, rng) :]


_CHANGES = [_flip, _flip, _flip, _cut, _overwrite, _overwrite, _insert, _replace, _remove, _repeat,
            _splice]  # fmt: skip


def truncations(content: bytes, step: int = 1024) -> list[bytes]:
    """Cut a file off at every ``step`` bytes, and one byte before its end."""
    return [content[:length] for length in (*range(0, len(content), step), len(content) - 1)]
