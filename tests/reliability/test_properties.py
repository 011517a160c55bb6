"""Properties of the parsers, on inputs that hypothesis makes up: refused in one line, or right."""

import io
import pickle
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cle_port.files.unpickle import load_npy, load_pickled_arrays
from datasets.hdf5.lines import LARGEST, Line, LineWriter, read_lines
from datasets.iamondb_utils import read_strokes
from models.settings import Settings, read_config
from tests.reliability.corpus import READERS, outcome

# The same examples each time, so that CI cannot fail by chance; and no folder of found ones.
settings.register_profile(
    "ci",
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ci")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def written(folder, content, name="x"):
    (folder / name).write_bytes(content)
    return folder / name


def assert_refused_or_read(name, folder, content):
    reader = READERS[name]
    outcome(reader, written(folder, content, reader.file_name))


@pytest.mark.parametrize("name", ["npy", "pickle", "strokes.xml", "transcript", "config"])
@given(content=st.binary(max_size=200))
def test_any_bytes(name, folder, content):
    assert_refused_or_read(name, folder, content)


# Opcodes with arguments that are meant for them, in any order.
OPCODES = st.one_of(
    st.sampled_from([bytes([code]) for code in range(256)]),
    st.sampled_from(
        [b"(", b"]", b"}", b")", b"l", b"t", b"d", b"a", b"e", b"s", b"u", b"b", b"R", b"\x81",
         b"0", b"2", b"q\0", b"h\0", b"\x94", b"N", b"\x88", b"G" + bytes(8),
         b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n",
         b"cnumpy.core.multiarray\nscalar\n", b"cnumpy.core.numeric\n_frombuffer\n",
         b"c_codecs\nencode\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b"U\x02i2", b"U\x01<",
         b"X\x06\0\0\0latin1"]
    ),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: b"J" + struct.pack("<i", n)),
    st.integers(0, 255).map(lambda n: b"K" + bytes([n])),
    st.binary(max_size=9).map(lambda text: b"U" + bytes([len(text)]) + text),
    st.integers(0, 2**64 - 1).map(lambda n: b"\x8e" + struct.pack("<Q", n)),
    st.binary(max_size=20).map(lambda n: b"\x8a" + bytes([len(n)]) + n),
)  # fmt: skip


@settings(max_examples=300)
@given(program=st.lists(OPCODES, max_size=25))
def test_any_program_of_pickle_opcodes(folder, program):
    assert_refused_or_read("pickle", folder, b"\x80\x04" + b"".join(program) + b".")


NUMBERS = hnp.arrays(
    dtype=hnp.integer_dtypes(endianness="?") | hnp.floating_dtypes() | hnp.boolean_dtypes(),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
CONTAINERS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(value=CONTAINERS, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_pickles_of_arrays_are_read_right(folder, value, protocol):
    loaded = load_pickled_arrays(written(folder, pickle.dumps(value, protocol)))
    assert same(value, loaded)


@given(array=NUMBERS)
def test_npy_files_are_read_right(folder, array):
    stream = io.BytesIO()
    np.save(stream, array)
    assert same(array, np.asarray(load_npy(written(folder, stream.getvalue()))))


@settings(max_examples=200)
@given(
    shape=st.lists(st.integers(-(2**65), 2**65) | st.integers(0, 5), max_size=5),
    dtype=st.sampled_from(["<i2", ">f8", "|O", "|V0", "<U0", "<U9", "<M8[s]", "|S3", "i2,i2"]),
    fortran=st.booleans(),
    content=st.binary(max_size=64),
)
def test_any_header_of_an_npy_file(folder, shape, dtype, fortran, content):
    header = repr({"descr": dtype, "fortran_order": fortran, "shape": tuple(shape)}).encode()
    start = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header
    for name in ("npy", "recordings"):
        assert_refused_or_read(name, folder, start + content)


POINTS = st.lists(
    st.tuples(st.integers(-LARGEST, LARGEST), st.integers(-LARGEST, LARGEST)),
    min_size=2,
    max_size=6,
)


@given(points=POINTS, text=st.text(max_size=8).filter(lambda text: "\0" not in text))
def test_lines_are_read_right(folder, points, text):
    array = np.array([[0, x, y] for x, y in points])
    array[-1, 0] = 1
    with LineWriter(folder / "lines.h5") as writer:
        for split in ("train", "valid"):
            writer.append(split, Line(array, text))
        writer.finish()
        writer.commit()
    (line,) = read_lines(folder / "lines.h5", "valid")
    assert line.text == text
    np.testing.assert_array_equal(line.points, array)


ATTRIBUTES = st.sampled_from(["x", "y", "z"]) | st.text(max_size=3)
VALUES = st.integers(-(10**7), 10**7).map(str) | st.text(max_size=5)


@given(points=st.lists(st.dictionaries(ATTRIBUTES, VALUES, max_size=3), max_size=4))
def test_points_are_read_right_or_refused(folder, points):
    inner = "".join(
        "<Point " + " ".join(f"{key}='{value}'" for key, value in point.items()) + "/>"
        for point in points
    )
    text = f"<W><StrokeSet><Stroke>{inner}</Stroke></StrokeSet></W>"
    path = written(folder, text.encode("utf-8", errors="surrogatepass"))
    if outcome(READERS["strokes.xml"], path) == "read":
        expected = [[int(point["x"]), -int(point["y"])] for point in points]
        assert read_strokes(path)[:, 1:].tolist() == expected


KEYS = st.sampled_from(sorted(Settings().as_dict())) | st.text(max_size=5)
LINES = st.tuples(KEYS, st.integers().map(str) | st.floats().map(str) | st.text(max_size=6))


@settings(max_examples=200)
@given(lines=st.lists(LINES, max_size=4))
def test_any_settings(folder, lines):
    text = "\n".join(f"{key} {value}" for key, value in lines)
    path = written(folder, text.encode("utf-8", errors="surrogatepass"))
    if outcome(READERS["config"], path) == "read":
        chosen = Settings(**read_config(path))
        path.write_text(chosen.as_text(), encoding="utf-8")
        assert Settings(**read_config(path)) == chosen
