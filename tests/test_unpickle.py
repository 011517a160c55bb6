import contextlib
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cle_port.errors import UserError
from cle_port.files.unpickle import load_npy, load_pickled_arrays

ARTIFACTS = Path(__file__).parent / "reference" / "artifacts"
ROWS = np.load(ARTIFACTS / "blizzard_h5.npz")

# A list of one int16 array, as cPickle of Python 2 writes it under protocol 0.
PYTHON_2_TEXT = rb"""(lp1
cnumpy.core.multiarray
_reconstruct
p2
(cnumpy
ndarray
p3
(I0
tS'b'
tRp4
(I1
(I3
tcnumpy
dtype
p5
(S'i2'
I0
I1
tRp6
(I3
S'<'
NNNI-1
I-1
I0
tbI00
S'\x01\x00\xff\xff\x00\x80'
tba."""


def ragged(*items):
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def write(path, content):
    path.write_bytes(content)
    return path


def assert_refused(path, reader=load_pickled_arrays):
    with pytest.raises(UserError) as caught:
        reader(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["data_0.npy", "data_10.npy", "data_2.npy"])
def test_reads_object_arrays_of_python_2(name):
    loaded = load_npy(ARTIFACTS / "blizzard" / "tbptt" / name)
    key = f"tbptt/in/{name}"
    assert loaded.shape == (ROWS[key + "/count"],)
    for number, item in enumerate(loaded):
        assert item.dtype == np.int16
        np.testing.assert_array_equal(item, ROWS[f"{key}/{number:03d}"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype="<i2").reshape(2, 3),
        np.arange(6, dtype=">f8"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3), dtype=np.float32),
        np.array(["a", "bcd"]),
        np.array([b"a", b"bcd"]),
        np.array([True, False]),
        np.array([1 + 2j]),
    ],
    ids=lambda value: f"{value.dtype.str}{value.shape}",
)
def test_reads_every_protocol(tmp_path, protocol, value):
    content = {"list": [value, value], "tuple": (1, 2.5, "text", None), "bytes": b"\xff\x00"}
    path = write(tmp_path / "x.pkl", pickle.dumps(content, protocol))
    loaded = load_pickled_arrays(path)
    assert loaded["tuple"] == content["tuple"]
    assert loaded["bytes"] == content["bytes"]
    assert loaded["list"][0] is loaded["list"][1]
    assert loaded["list"][0].dtype == value.dtype
    np.testing.assert_array_equal(loaded["list"][0], value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_scalars_dtypes_and_object_arrays(tmp_path, protocol):
    nested = ragged(np.arange(3), ragged(np.ones(2), "x"), None)
    value = [np.float32(1.5), np.dtype("<i4"), nested]
    loaded = load_pickled_arrays(write(tmp_path / "x.pkl", pickle.dumps(value, protocol)))
    assert loaded[:2] == value[:2]
    assert type(loaded[0]) is np.float32
    assert loaded[2][0].tolist() == [0, 1, 2]
    assert loaded[2][1][0].tolist() == [1, 1]
    assert loaded[2][2] is None


def test_reads_text_protocol_of_python_2(tmp_path):
    (loaded,) = load_pickled_arrays(write(tmp_path / "x.pkl", PYTHON_2_TEXT))
    assert loaded.dtype == np.dtype("<i2")
    assert loaded.tolist() == [1, -1, -32768]


def test_reads_plain_npy_as_a_memory_map(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(5, dtype=np.int16))
    loaded = load_npy(tmp_path / "x.npy")
    assert isinstance(loaded, np.memmap)
    assert loaded.tolist() == [0, 1, 2, 3, 4]


def test_reads_object_arrays_of_this_numpy(tmp_path):
    np.save(tmp_path / "x.npy", ragged(np.arange(2), np.arange(3)), allow_pickle=True)
    assert [item.tolist() for item in load_npy(tmp_path / "x.npy")] == [[0, 1], [0, 1, 2]]


class Hostile:
    """Pickles to a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("in_array", [False, True])
def test_executes_nothing(tmp_path, monkeypatch, protocol, in_array):
    monkeypatch.chdir(tmp_path)
    hostile = Hostile(os.system, "touch executed")
    content = pickle.dumps(ragged(np.arange(2), hostile) if in_array else hostile, protocol)
    message = assert_refused(write(tmp_path / "x.pkl", content))
    assert "system" in message
    assert not (tmp_path / "executed").exists()
    pickle.loads(content)  # it would have worked
    assert (tmp_path / "executed").exists()


def test_executes_nothing_from_npy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ragged(Hostile(os.system, "touch executed"), 1), allow_pickle=True)
    assert_refused(tmp_path / "x.npy", load_npy)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "value",
    [
        Hostile(eval, "1"),
        Hostile(getattr, "text", "upper"),
        Hostile(bytes, 10**12),
        Hostile(__import__, "os"),
        Hostile(np.load, "x"),
        Hostile(np.ndarray.tofile, np.zeros(1), "x"),
        np.load,
        np.ndarray,
        {1, 2},
        np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        np.array(["2015-01-01"], dtype="datetime64[D]"),
        np.ma.masked_array([1, 2], [0, 1]),
        np.random.default_rng(0),
        bytearray(b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refuses_everything_else(tmp_path, value):
    assert_refused(write(tmp_path / "x.pkl", pickle.dumps(value)))


def built(state, dtype=b"i2"):
    """Protocol 2 pickle of an array with the given state behind its dtype."""
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    kind = b"cnumpy\ndtype\n(U" + bytes([len(dtype)]) + dtype + b"K\x00K\x01tR"
    return head + state.replace(b"DTYPE", kind) + b"b."


SAMPLES = b"U\x04abcd"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("too little data", built(b"(K\x01(K\x09tDTYPE\x89" + SAMPLES + b"t")),
        ("too much data", built(b"(K\x01(K\x01tDTYPE\x89" + SAMPLES + b"t")),
        ("negative shape", built(b"(K\x01(J\xff\xff\xff\xffJ\xfe\xff\xff\xfftDTYPE\x89" + SAMPLES)),
        ("text as shape", built(b"(K\x01U\x02xxDTYPE\x89" + SAMPLES + b"t")),
        ("huge shape", built(b"(K\x01(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftDTYPE\x89" + SAMPLES)),
        ("numbers as objects", built(b"(K\x01(K\x02tDTYPE\x89" + SAMPLES + b"t", b"O8")),
        ("objects too many", built(b"(K\x01(J\xff\xff\xff\x7ftDTYPE\x89]t", b"O8")),
        ("a record", built(b"(K\x01(K\x02tDTYPE\x89" + SAMPLES + b"t", b"i2,i2")),
        ("no dtype", built(b"(K\x01(K\x02tK\x05\x89" + SAMPLES + b"t")),
        ("no state", built(b"N")),
        ("huge text", b"\x80\x04\x8d" + struct.pack("<Q", 2**30) + b"x."),
        ("huge bytes", b"\x80\x04\x8e" + struct.pack("<Q", 2**30) + b"x."),
        ("huge bytearray", b"\x80\x05\x96" + struct.pack("<Q", 2**30) + b"x."),
        ("huge frame", b"\x80\x04\x95" + struct.pack("<Q", 2**30) + b"."),
        ("huge memo index", b"\x80\x02Nr\xff\xff\xff\x7fcos\nsystem\n."),
        ("alters a function", b"\x80\x02c_codecs\nencode\n}b0K\x01."),
        ("extension registry", b"\x80\x02\x82\x01."),
        ("persistent id", b"\x80\x02U\x01aQ."),
        ("subclass", b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(K\x01(K\x00tU\x01btR."),
        ("hash of tuples", b"\x80\x02})q\x00" + b"0h\x00h\x00\x86q\x00" * 200 + b"K\x01s."),
        ("contains itself", b"\x80\x02]q\x00h\x00a."),
        ("deep", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
        ("only a protocol", b"\x80\x02"),
        ("unknown protocol", b"\x80\x63."),
        ("empty", b""),
        ("text", b"hello\nworld\n"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_refuses_false_pickles(tmp_path, name, content):
    path = write(tmp_path / "x.pkl", content)
    tracemalloc.start()
    try:
        assert_refused(path)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reader", [load_npy, load_pickled_arrays])
def test_refuses_missing_files_and_folders(tmp_path, reader):
    assert "No such file" in assert_refused(tmp_path / "none", reader)
    assert_refused(tmp_path, reader)


def test_arrays_of_one_text_share_it(tmp_path):
    text = b"U\x08" + b"abcdefgh" + b"q\x00"
    first = built(b"(K\x01(K\x04tDTYPE\x89" + text + b"t")[:-1]
    second = built(b"(K\x01(K\x04tDTYPE\x89h\x00t")[2:-1]
    loaded = load_pickled_arrays(write(tmp_path / "x.pkl", first + second + b"\x86."))
    assert loaded[0].tobytes() == loaded[1].tobytes() == b"abcdefgh"
    assert np.shares_memory(*loaded)


def bomb(setup, step, n):
    """Protocol 2 pickle of a list: ``setup`` fills the memo, ``step`` is repeated."""
    return b"\x80\x02" + setup + b"](" + step * n + b"e."


MEGABYTE = b"X" + struct.pack("<I", 2**20) + b"x" * 2**20
LIST = b"](" + b"N" * 2**16 + b"e"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"


@pytest.mark.parametrize(
    "content",
    [
        bomb(MEGABYTE + b"U\x06latin1\x86q\x000c_codecs\nencode\nq\x010", b"h\x01h\x00R", 1000),
        bomb(
            LIST + b"q\x000cnumpy\ndtype\n(U\x02O8K\x00K\x01tRq\x010",
            ARRAY + b"(K\x01(J\x00\x00\x01\x00th\x01\x89h\x00tb",
            1000,
        ),
    ],
    ids=["encoded", "objects"],
)
def test_one_content_many_times_takes_its_memory_once(tmp_path, content):
    path = write(tmp_path / "x.pkl", content)
    tracemalloc.start()
    try:
        with contextlib.suppress(UserError):
            load_pickled_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_refuses_every_truncation(tmp_path):
    whole = (ARTIFACTS / "blizzard" / "full" / "data_0.npy").read_bytes()
    for length in range(0, len(whole), 7):
        assert_refused(write(tmp_path / "x.npy", whole[:length]), load_npy)


def test_survives_every_flipped_byte(tmp_path):
    whole = (ARTIFACTS / "blizzard" / "full" / "data_0.npy").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        try:
            load_npy(write(tmp_path / "x.npy", bytes(damaged)))
        except UserError:
            refused += 1
    assert refused > 200  # most bytes are samples, which may have any value


def test_refuses_an_object_array_whose_header_says_otherwise(tmp_path):
    np.save(tmp_path / "x.npy", ragged(np.arange(2), np.arange(3)), allow_pickle=True)
    content = (tmp_path / "x.npy").read_bytes().replace(b"(2,)", b"(3,)")
    assert "header" in assert_refused(write(tmp_path / "y.npy", content), load_npy)
