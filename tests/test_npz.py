"""Reading ``.npz`` files: damaged and malicious ones are refused before memory is taken."""

import copy
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from cle_port.files.npz import DAMAGE, header, open_npz, read_array, read_npz

ARRAYS = {
    "W": np.arange(6.0).reshape(2, 3),
    "single": np.full((2, 3), 1e-30, dtype=np.float32),
    "count": np.array(7),
    "empty": np.zeros((0, 3)),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.npz"


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)


def test_arrays_are_read_by_name(path):
    np.savez(path, **ARRAYS)
    names = list(ARRAYS)[::-1]
    found = read_npz(path, names)
    assert list(found) == names
    for name, array in found.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_headers_are_read_without_the_arrays(path):
    np.savez(path, **ARRAYS)
    with open_npz(path) as file:
        for name, array in ARRAYS.items():
            assert header(file, name) == (array.shape, array.dtype)
            np.testing.assert_array_equal(read_array(file, name), array)


def test_a_name_that_is_missing(path):
    np.savez(path, **ARRAYS)
    with pytest.raises(KeyError, match="nothing"):
        read_npz(path, ["W", "nothing"])


def test_all_headers_are_checked_before_an_array_is_read(path, monkeypatch):
    write_zip(path, {"W": npy(np.zeros(3)), "objects": npy(np.zeros(1, "V8"))[:-1]})
    monkeypatch.setattr("cle_port.files.npz.read_array", lambda *args: pytest.fail("was read"))
    with pytest.raises(DAMAGE):
        read_npz(path, ["W", "objects"])


def entry(text, data=b"", version=b"\x01\x00"):
    """An ``.npy`` file with any header."""
    text = text.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


def described(descr, shape):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (entry(described("'<f8'", "(1000000000000,)")), "not as large as its shape"),
        (entry(described("'<f8'", "(4294967296, 4294967296)")), "not as large as its shape"),
        (entry(described("'<f8'", "(2,)"), bytes(8)), "not as large as its shape"),
        (entry(described("'<f8'", "(2,)"), bytes(24)), "not as large as its shape"),
        (entry(described("'<f8'", "(-1,)"), bytes(8)), "has no numbers"),
        (entry(described("'|O'", "(1,)"), pickle.dumps([1])), "has no numbers"),
        (entry(described("'<f8'", "(1,)"), bytes(8), b"\x03\x00"), "has version"),
        (entry("__import__('os').system('exit')"), "malformed"),
        (entry("(" * 5000), "."),
        (b"lr 0.01", "magic string"),
    ],
    ids=[
        "huge",
        "overflow",
        "short",
        "long",
        "negative",
        "object",
        "version",
        "code",
        "nested",
        "text",
    ],
)
def test_arrays_that_are_not_what_they_say(content, message, path):
    write_zip(path, {"W": content})
    with pytest.raises(DAMAGE, match=message):
        read_npz(path, ["W"])


def test_compressed_entries(path):
    write_zip(path, {"W": npy(np.zeros(10**6))}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="entries are compressed"):
        read_npz(path, ["W"])


def test_entries_that_share_their_bytes(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("A.npy", npy(np.zeros(1000)))
        for i in range(9):
            again = copy.copy(file.getinfo("A.npy"))
            again.filename = f"A{i}.npy"
            file.filelist.append(again)
    with pytest.raises(ValueError, match="larger than the file"):
        read_npz(path, ["A"])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name(path):
    with zipfile.ZipFile(path, "w") as file:
        for _ in range(2):
            file.writestr("W.npy", npy(np.zeros(3)))
    with pytest.raises(ValueError, match="two entries have one name"):
        read_npz(path, ["W"])


def test_every_truncation(path):
    np.savez(path, W=np.arange(3.0))
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(DAMAGE):
            read_npz(path, ["W"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(OSError, match="a pipe or a device"):
        read_npz(path, ["W"])
