import pickle
import shutil

import h5py
import numpy as np
import pytensor
import pytest
from numpy.testing import assert_array_equal

from cle_port.data import Iterator
from cle_port.errors import UserError
from datasets.hdf5.lines import Line, LineWriter, OffsetMoments, read_lines
from datasets.iamondb import IAMOnDB, open_iamondb
from datasets.iamondb_utils import CHARSET, UNKNOWN, detokenize, one_hot, tokenize
from tests.recordings import below, path_of, read

TREE = "artifacts/iamondb/tree"
CACHES = "artifacts/iamondb/written_by_fetch"


def recorded(case):
    return below(read("artifacts/iamondb.npz"), case)


def recorded_list(case):
    arrays = recorded(case)
    return [arrays[f"{n:03d}"] for n in range(int(arrays["count"]))]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.dtype == theirs.dtype
        assert_array_equal(ours, theirs)


@pytest.fixture(params=["float32", "float64"])
def float_x(request):
    with pytensor.config.change_flags(floatX=request.param):
        yield request.param


@pytest.fixture(scope="module", params=["tree", "caches", "hdf5"])
def folder(request, tmp_path_factory):
    """The recorded data in each supported layout."""
    target = tmp_path_factory.mktemp("iam") / request.param
    shutil.copytree(path_of(CACHES if request.param == "caches" else TREE), target)
    if request.param == "hdf5":
        IAMOnDB(name="train", path=target)  # builds iamondb.h5
        for part in ("lineStrokes", "ascii"):
            shutil.rmtree(target / part)
    return target


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return shutil.copytree(path_of(TREE), tmp_path_factory.mktemp("iam") / "tree")


def write(folder, train, valid):
    folder.mkdir(exist_ok=True)
    with LineWriter(folder / "iamondb.h5") as writer:
        for split, lines in (("train", train), ("valid", valid)):
            for line in lines:
                writer.append(split, Line(np.array(line), "ab"))
        writer.finish()
        writer.commit()
    return folder


CASES = {
    "train_normalize": {"name": "train", "prep": "normalize"},
    "train_none": {"name": "train", "prep": "none"},
    "train_standardize": {"name": "train", "prep": "standardize"},
    "train_cond": {"name": "train", "prep": "normalize", "cond": True},
}


def opened(folder, case):
    if case == "valid_normalize":
        return open_iamondb(folder)[1]
    return IAMOnDB(path=folder, **CASES[case])


# Against the recordings


@pytest.mark.parametrize("case", [*CASES, "valid_normalize"])
def test_sequences_and_statistics(folder, case):
    data = opened(folder, case)
    assert_same(data.data[0], recorded_list(f"dataset/{case}/data"))
    theirs = recorded(f"dataset/{case}")
    assert data.X_mean == theirs["X_mean"]
    assert np.asarray(data.X_mean).dtype == theirs["X_mean"].dtype
    assert data.X_std == theirs["X_std"]
    assert data.data[0].dtype == object
    if case != "valid_normalize":
        assert data.num_examples() == theirs["num_examples"]


BATCHES = [
    ("train_normalize", 0, 3),
    ("train_normalize", 3, 6),
    ("train_normalize", 2, 9),
    ("train_none", 0, 3),
    ("train_standardize", 0, 3),
    ("train_cond", 0, 3),
    ("valid_normalize", 0, 2),
    ("valid_normalize", 2, 5),
]


@pytest.mark.parametrize(("case", "start", "end"), BATCHES)
def test_batches(folder, float_x, case, start, end):
    batch = opened(folder, case).slices(start, end)
    theirs = recorded(f"dataset/{case}/slices_{start}_{end}")
    names = ["x", "mask", "y", "label_mask"][: len(batch)]
    assert len(batch) == (4 if case == "train_cond" else 2)
    for ours, name in zip(batch, names):
        assert ours.dtype == "float32"  # whatever floatX is
        assert ours.flags.c_contiguous
        assert_array_equal(ours, theirs[name])


def test_labels(folder):
    for split in ("train", "valid"):
        data = IAMOnDB(name=split, path=folder)
        assert_same(data.labels[0], recorded_list(f"fetch/{split}_y"))
        assert [detokenize(y.argmax(axis=1)) for y in data.labels[0]] == [
            "".join(c if c in CHARSET else UNKNOWN for c in text) for text in data.texts
        ]


def test_lines_of_one_length(tmp_path):
    theirs = recorded("same_length")
    n, time, _ = theirs["data_shape"]
    lines = np.zeros((n, time + 1, 3), dtype=int)
    lines[:, 1:] = np.random.default_rng(0).integers(-9, 9, (n, time, 3))
    lines[:, :, 0] = [*[0] * time, 1]
    folder = write(tmp_path, lines, lines)
    # The recording holds only the shapes and the mask, not the lines.
    original = IAMOnDB(name="train", prep="normalize", path=folder, original_masks=True)
    x, mask = original.slices(0, 3)
    assert x.shape == theirs["x"].shape
    assert_array_equal(mask, theirs["mask"])
    x, mask = IAMOnDB(name="train", prep="normalize", path=folder).slices(0, 3)
    assert x.shape == theirs["x"].shape
    assert_array_equal(mask, theirs["mask"].T)


def test_original_masks_only_matter_when_all_lines_have_one_length(tree):
    ours, theirs = (IAMOnDB(name="train", path=tree, original_masks=m) for m in (False, True))
    assert_same(ours.slices(2, 4), theirs.slices(2, 4))  # two lines of one length
    assert ours.slices(2, 4)[1].shape == (7, 2)


def test_generate_index(tree):
    data = IAMOnDB(name="train", prep="normalize", path=tree)
    assert_array_equal(data.generate_index(data.data[0]), recorded("dataset")["generate_index"])


# Batches


def test_pen_bit_belongs_to_the_point_that_the_offset_leads_to(tree):
    data = IAMOnDB(name="train", prep="normalize", path=tree)
    raw = IAMOnDB(name="train", path=tree)
    for x, points in zip(data.data[0], raw.data[0]):
        walked = np.cumsum(x[:, 1:].astype(float) * data.X_std + data.X_mean, axis=0)
        np.testing.assert_allclose(walked + points[0, 1:], points[1:, 1:], atol=1e-3)
        assert_array_equal(x[:, 0], points[1:, 0])
        assert x[-1, 0] == 1


def test_open_as_the_programs_do(tree):
    train, valid = open_iamondb(tree, batch_size=5)
    assert (train.name, valid.name) == ("train", "valid")
    assert (valid.X_mean, valid.X_std) == (train.X_mean, train.X_std)
    assert IAMOnDB(name="valid", prep="normalize", path=tree).X_mean != train.X_mean
    assert [x.shape[1] for x, _ in Iterator(train, 2)] == [2, 2, 2, 2]
    assert len(open_iamondb(tree, cond=True)[1].slices(0, 1)) == 4


@pytest.mark.parametrize("batch_size", [0, 6, -1])
def test_batch_size_that_leaves_no_batch(tree, batch_size):
    with pytest.raises(UserError, match=r"9 lines for training and 5 for validation; use 1 to 5"):
        open_iamondb(tree, batch_size)


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("cond", [False, True])
def test_theano_vars(tree, float_x, batch_size, cond):
    data = IAMOnDB(name="train", prep="normalize", path=tree, cond=cond)
    variables = data.theano_vars(batch_size)
    shapes = {
        "x": (None, batch_size, 3),
        "mask": (None, batch_size),
        "y": (None, batch_size, 57),
        "label_mask": (None, batch_size),
    }
    assert [v.name for v in variables] == list(shapes)[: 4 if cond else 2]
    for variable, array in zip(variables, data.slices(0, 3)):
        assert variable.type.shape == shapes[variable.name]
        assert variable.dtype == "float32"  # whatever floatX is
        variable.type.filter(array, strict=True)
    assert [v.name for v in data.theano_test_vars(batch_size)] == ["y", "label_mask"]


@pytest.mark.parametrize(("start", "end"), [(0, 0), (9, 12), (3, 2)])
def test_no_batch_without_lines(tree, start, end):
    with pytest.raises(ValueError, match="no lines"):
        IAMOnDB(name="train", path=tree).slices(start, end)


def test_no_mask_has_a_column_of_zeros(tree):
    data = IAMOnDB(name="train", prep="normalize", path=tree)
    assert (data.slices(0, 9)[1].sum(axis=0) >= 1).all()


# Labels


def test_tokenize():
    assert tokenize("AZaz ',.").tolist() == [1, 26, 27, 52, 53, 54, 55, 56]
    assert tokenize("1é%\0").tolist() == [0, 0, 0, 0]
    assert one_hot("").shape == (0, 57)
    assert detokenize([3, 0, 27]) == f"C{UNKNOWN}a"


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prep": "center"}, "prep must be one of none, normalize, standardize, not 'center'"),
        ({"name": "test"}, "name must be 'train' or 'valid', not 'test'"),
        ({"name": None}, "name must be 'train' or 'valid'"),
        ({"path": None}, "IAMOnDB needs path"),
        ({"path": "/nowhere"}, "/nowhere is not a folder"),
        ({"X_mean": 0, "X_std": 0}, "X_mean and X_std passed to IAMOnDB are 0 and 0, but must"),
        ({"X_mean": 0, "X_std": np.nan}, "a positive one"),
        ({"X_mean": "0", "X_std": 1}, "X_mean and X_std .* are '0' and 1"),
        ({"X_mean": [0, 1], "X_std": 1}, "a finite number"),
    ],
)
def test_bad_arguments(tree, arguments, message):
    with pytest.raises(UserError, match=message) as raised:
        IAMOnDB(**{"name": "train", "prep": "normalize", "path": tree, **arguments})
    assert "\n" not in str(raised.value)


def test_statistics_that_come_out_negative(tmp_path):
    diagonal = [[0, 10 * n, 10 * n] for n in range(5)]
    diagonal[-1][0] = 1
    folder = write(tmp_path, [diagonal], [diagonal])
    with pytest.raises(UserError, match=r"X_mean and X_std computed from .* are .*nan"):
        IAMOnDB(name="train", prep="normalize", path=folder)
    assert IAMOnDB(name="train", prep="none", path=folder).num_examples() == 1


def test_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"no folder lineStrokes in .*; unpack lineStrokes-all"):
        IAMOnDB(name="train", path=tmp_path)
    assert list(tmp_path.iterdir()) == []


GOOD_X = [np.array([[0, 1, 2], [1, 3, 4]])]
GOOD_Y = [np.eye(57, dtype=np.int16)[:2]]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([], [], "it holds no lines"),
        (GOOD_X, GOOD_Y * 2, "no lists of the same length"),
        (3, GOOD_Y, "no lists"),
        ([np.zeros((2, 2), int)], GOOD_Y, "line 0 is no array of points"),
        ([[1, 2, 3]], GOOD_Y, "line 0 is no array of points"),
        ([GOOD_X[0] * 1.0], GOOD_Y, "line 0 holds float64, not whole numbers"),
        ([GOOD_X[0][1:]], GOOD_Y, "line 0 has 1 points, less than two"),
        ([GOOD_X[0] + [1, 0, 0]], GOOD_Y, "line 0 has no valid pen bits"),
        ([GOOD_X[0][::-1]], GOOD_Y, "line 0 has no valid pen bits"),
        ([GOOD_X[0] * [1, 10**6, 1]], GOOD_Y, "line 0 has a coordinate beyond 100000"),
        (GOOD_X, [np.eye(58, dtype=int)], "no one-hot vectors of 57"),
        (GOOD_X, [GOOD_Y[0] * 0], "labels are not one-hot"),
        (GOOD_X, ["ab"], "no one-hot vectors of 57"),
    ],
)
def test_bad_caches(tmp_path, x, y, message):
    for split in ("train", "valid"):
        for name, value in (("x", x), ("y", y)):
            (tmp_path / f"{split}_npy_{name}.npy").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(UserError, match=message) as raised:
        IAMOnDB(name="train", path=tmp_path)
    assert "\n" not in str(raised.value)


class _Harmful:
    def __reduce__(self):
        return print, ("executed",)


def test_caches_are_not_executed(tmp_path, capsys):
    shutil.copytree(path_of(CACHES), tmp_path, dirs_exist_ok=True)
    (tmp_path / "train_npy_x.npy").write_bytes(pickle.dumps([_Harmful()]))
    with pytest.raises(UserError, match=r"train_npy_x\.npy"):
        IAMOnDB(name="train", path=tmp_path)
    assert capsys.readouterr().out == ""


# The file


def test_file_keeps_lines(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for n in rng.integers(2, 400, 300):  # more lines than several buffers hold
        points = rng.integers(-90000, 90000, (n, 3))
        points[:, 0] = [*rng.integers(0, 2, n - 1), 1]
        lines.append(Line(points, "".join(map(chr, rng.integers(1, 9000, n % 7)))))
    moments = OffsetMoments()
    with LineWriter(tmp_path / "a.h5") as writer:
        for number, line in enumerate(lines):
            writer.append("valid" if number % 3 else "train", line)
        assert not (tmp_path / "a.h5").exists()
        writer.commit()
    for split, part in (("train", lines[::3]), ("valid", [*np.delete(np.arange(300), np.s_[::3])])):
        expected = part if split == "train" else [lines[n] for n in part]
        found = read_lines(tmp_path / "a.h5", split)
        assert [line.text for line in found] == [line.text for line in expected]
        assert_same([line.points for line in found], [line.points for line in expected])
    for line in lines[::3]:
        moments.add(line.points)
    assert vars(writer.moments["train"]) == vars(moments)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_moments_are_those_of_the_data_set(tree):
    data = IAMOnDB(name="train", path=tree)
    moments = OffsetMoments()
    for points in data.data[0]:
        moments.add(points)
    assert (moments.mean, moments.std) == (data.X_mean, data.X_std)


def test_negative_mean_is_rounded_down(tmp_path):
    line = [[0, 0, 0], [0, 0, 0], [1, -1, 0]]
    data = IAMOnDB(name="train", path=write(tmp_path, [line], [line]))
    moments = OffsetMoments()
    moments.add(np.array(line))
    assert data.X_mean == moments.mean == -1  # rounded down from -0.5


def _set(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def _fill(name, index, value):
    def change(file):
        file[name][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("train"), "no data set 'train/x/joined'"),
        (lambda file: file.pop("train/x/lengths"), "no data set 'train/x/lengths'"),
        (_set("train/x/joined", 5), "'train/x/joined' has another layout"),
        (_set("train/x/joined", np.zeros((4, 2), int)), "lengths in train/x do not match"),
        (_set("train/x/joined", np.zeros((6, 3))), "'train/x/joined' has another layout"),
        (_set("train/x/lengths", np.array([7, -1])), "lengths in train/x do not match"),
        (_set("train/x/lengths", np.array([1, 5])), "line 0 has 1 points"),
        (_set("train/y/lengths", np.array([4])), "2 lines, but 1 transcripts"),
        (_set("train/y/joined", np.full(4, 2**31, np.uint32)), "cannot read"),
        (_fill("train/x/joined", 2, 0), "line 0 has no valid pen bits"),
        (_fill("train/y/joined", 0, 0), "line 0 has no valid transcript"),
    ],
)
def test_damaged_file(tmp_path, change, message):
    line = [[0, 0, 0], [0, 5, 0], [1, 0, 9]]
    folder = write(tmp_path, [line, line], [line])
    with h5py.File(folder / "iamondb.h5", "r+") as file:
        change(file)
    with pytest.raises(UserError, match=message) as raised:
        IAMOnDB(name="train", path=folder)
    assert "build it again" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"no HDF5", None])
def test_file_that_is_none(tmp_path, content):
    path = write(tmp_path, [GOOD_X[0]], [GOOD_X[0]]) / "iamondb.h5"
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    with pytest.raises(UserError, match="cannot read"):
        IAMOnDB(name="valid", path=tmp_path)


def test_flipped_bits_are_noticed(tmp_path):
    rng = np.random.default_rng(1)
    line = rng.integers(0, 9000, (3000, 3))
    line[:, 0] = [*[0] * 2999, 1]
    path = write(tmp_path, [line], [line]) / "iamondb.h5"
    with h5py.File(path) as file:
        chunk = file["train/x/joined"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read"):
        IAMOnDB(name="train", path=tmp_path)


def test_unwritable_file(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        LineWriter(tmp_path / "nowhere" / "iamondb.h5")
