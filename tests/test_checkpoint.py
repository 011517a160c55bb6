"""Checkpoints: what is written is read back, whole or not at all."""

import copy
import io
import json
import os
import pickle
import stat
import zipfile

import numpy as np
import pytest

from cle_port.errors import UserError
from cle_port.train import checkpoint
from tests.flushing import UNFLUSHED_FOLDERS, refuse_to_flush_folders

ARRAYS = {
    "W_x_t__x_1": np.arange(6.0).reshape(2, 3),
    "adam_m/W_x_t__x_1": np.full((2, 3), 1e-30, dtype=np.float32),
    "state/step_count": np.array(7),
    "log/valid_nll": np.zeros(0),
}
META = {"program": "m", "settings": {"lr": 3e-4, "seed": None}, "noise": {"state": 2**100}}


def assert_same(arrays):
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_round_trip(tmp_path):
    path = tmp_path / "m.npz"
    checkpoint.save(path, ARRAYS, META)
    arrays, meta = checkpoint.load(str(path))
    assert_same(arrays)
    assert meta == {"format_version": checkpoint.FORMAT_VERSION, **META}
    assert os.listdir(tmp_path) == ["m.npz"]


def test_any_numpy_reads_it_without_pickles(tmp_path):
    checkpoint.save(tmp_path / "m.npz", ARRAYS, META)
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert set(file.files) == {*ARRAYS, "meta"}
        assert json.loads(str(file["meta"]))["program"] == "m"


def test_name_without_an_ending_is_kept(tmp_path):
    checkpoint.save(tmp_path / "m", ARRAYS, META)
    assert os.listdir(tmp_path) == ["m"]


class Interrupted(BaseException):
    """Like KeyboardInterrupt, not an Exception."""


def fail(error):
    def failing(*args, **kwargs):
        raise error

    return failing


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("cle_port.train.checkpoint.np.savez", OSError(28, "No space left on device")),
        ("cle_port.files.os.fsync", OSError(5, "Input/output error")),
        ("cle_port.files.os.replace", Interrupted()),
    ],
)
def test_the_old_file_stays_whole(function, error, tmp_path, monkeypatch):
    """Wherever writing fails, and nothing else is left behind."""
    path = tmp_path / "m.npz"
    checkpoint.save(path, ARRAYS, META)
    before = path.read_bytes()
    monkeypatch.setattr(function, fail(error))
    with pytest.raises(type(error)):
        checkpoint.save(path, {"W": np.zeros(1000)}, META)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.npz"]


@UNFLUSHED_FOLDERS
def test_a_folder_that_cannot_be_flushed(number, end, tmp_path, monkeypatch):
    """The file is there all the same; but a failing disk is told."""
    refuse_to_flush_folders(monkeypatch, number)
    with end:
        checkpoint.save(tmp_path / "m.npz", ARRAYS, META)
    assert os.listdir(tmp_path) == ["m.npz"]


def test_half_a_write_leaves_nothing(tmp_path):
    """An array that cannot be written comes after some that can."""
    arrays = {**ARRAYS, "objects": np.array([{}], dtype=object)}
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        checkpoint.save(tmp_path / "m.npz", arrays, META)
    assert os.listdir(tmp_path) == []


def test_meta_that_JSON_cannot_hold(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoint.save(tmp_path / "m.npz", ARRAYS, {"rng": object()})
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_file_mode_honours_umask(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        checkpoint.save(tmp_path / "m.npz", ARRAYS, META)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.npz").stat().st_mode) == mode


@pytest.mark.parametrize("there", [False, True], ids=["missing", "folder"])
def test_no_file(there, tmp_path):
    if there:
        (tmp_path / "m.npz").mkdir()
    with pytest.raises(UserError, match=r"^there is no checkpoint .*m\.npz$"):
        checkpoint.load(tmp_path / "m.npz")


def write_npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


FOREIGN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("lr 0.0003\n"),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"W": [1, 2]})),
    "npy": write_npy,
    "no meta": lambda path: np.savez(path, W=np.zeros(3)),
    "meta is a number": lambda path: np.savez(path, meta=np.array(3)),
    "meta is a list": lambda path: np.savez(path, meta=np.array('["format_version"]')),
    "meta is no JSON": lambda path: np.savez(path, meta=np.array("format_version: 1")),
    "no version": lambda path: np.savez(path, meta=np.array("{}")),
    "objects": lambda path: np.savez(path, meta=np.array([{}])),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files(kind, tmp_path):
    path = tmp_path / "m.npz"
    FOREIGN[kind](path)
    with pytest.raises(
        UserError, match=r"m\.npz is not a whole checkpoint .*; use another one$"
    ) as e:
        checkpoint.load(path)
    assert "\n" not in str(e.value)


def test_damaged_files(tmp_path):
    """Bytes changed, or all from there on missing: an error, or no harm done."""
    path = tmp_path / "m.npz"
    np.savez(path, **{"W": np.arange(4.0), "meta": np.array('{"format_version": 1}')})
    whole = path.read_bytes()
    refused = 0
    places = range(0, len(whole), 3)
    for i in places:
        changed = whole[:i] + bytes([whole[i] ^ 0x81]) + whole[i + 1 :]
        for damaged in (changed, whole[:i]):
            path.write_bytes(damaged)
            try:
                arrays, _ = checkpoint.load(path)
            except UserError:
                refused += 1
            else:
                assert damaged is changed  # a date or the like
                np.testing.assert_array_equal(arrays["W"], np.arange(4.0))
    assert refused > 1.5 * len(places)


def test_newer_format(tmp_path):
    np.savez(tmp_path / "m.npz", meta=np.array('{"format_version": 3}'))
    with pytest.raises(UserError, match=r"has checkpoint format 3, .* up to 2; use the newer"):
        checkpoint.load(tmp_path / "m.npz")


def entry(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An ``.npy`` file with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


def describe(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


HOSTILE = {
    "huge": entry(describe("'<f8'", "(1000000000000,)")),
    "overflow": entry(describe("'<f8'", "(4294967296, 4294967296)")),
    "negative": entry(describe("'<f8'", "(-1,)"), bytes(8)),
    "short": entry(describe("'<f8'", "(2,)"), bytes(8)),
    "long": entry(describe("'<f8'", "(2,)"), bytes(24)),
    "object": entry(describe("'|O'", "(1,)"), pickle.dumps([1])),
    "version": entry(describe("'<f8'", "(1,)"), bytes(8), b"\x03\x00"),
    "code": entry("__import__('os').system('exit')"),
    "nested": entry("(" * 5000),
    "text": b"lr 0.01",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["W", "meta"])
def test_arrays_that_are_not_what_they_say(kind, name, tmp_path):
    entries = {"meta.npy": npy(np.array('{"format_version": 2}'))} | {f"{name}.npy": HOSTILE[kind]}
    write_zip(tmp_path / "m.npz", entries)
    with pytest.raises(UserError, match="is not a whole checkpoint") as error:
        checkpoint.load(tmp_path / "m.npz")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_zip(path, entries, compression=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)


GOOD = {"meta.npy": npy(np.array('{"format_version": 2}')), "W.npy": npy(np.zeros(3))}


def test_bombs(tmp_path):
    """Nothing is compressed, and no two entries share their bytes."""
    path = tmp_path / "m.npz"
    write_zip(path, GOOD)
    assert list(checkpoint.load(path)[0]) == ["W"]
    write_zip(path, GOOD | {"B.npy": npy(np.zeros(10**7))}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="entries are compressed"):
        checkpoint.load(path)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in GOOD.items():
            file.writestr(name, content)
        file.writestr("A.npy", npy(np.zeros(1000)))
        for i in range(9):
            again = copy.copy(file.getinfo("A.npy"))
            again.filename = f"A{i}.npy"
            file.filelist.append(again)
    with pytest.raises(UserError, match="larger than the file"):
        checkpoint.load(path)


@pytest.mark.parametrize("name", ["W", "W.txt", "../W.txt"])
def test_entries_that_are_no_arrays(name, tmp_path):
    write_zip(tmp_path / "m.npz", GOOD | {name: b""})
    with pytest.raises(UserError, match="entries that are no arrays"):
        checkpoint.load(tmp_path / "m.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as file:
        for name in ("meta.npy", "W.npy", "W.npy"):
            file.writestr(name, GOOD[name])
    with pytest.raises(UserError, match="two entries have one name"):
        checkpoint.load(tmp_path / "m.npz")


def test_check_like():
    like = {name: array for name, array in ARRAYS.items() if not name.startswith("log/")}
    checkpoint.check_like("m.npz", ARRAYS, like)
    for name, other in (("W_x_t__x_1", np.zeros((3, 2))), ("new", np.zeros(1))):
        with pytest.raises(UserError, match=f"of another model: 1 arrays differ, {name} is"):
            checkpoint.check_like("m.npz", ARRAYS, like | {name: other})
    with pytest.raises(UserError, match=r"more is float64 of shape .* where the model has nothing"):
        checkpoint.check_like("m.npz", ARRAYS | {"more": np.zeros(2)}, like)


def test_meta_alone(tmp_path):
    checkpoint.save(tmp_path / "m.npz", ARRAYS, META)
    assert checkpoint.load_meta(tmp_path / "m.npz") == checkpoint.load(tmp_path / "m.npz")[1]
