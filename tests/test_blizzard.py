import pickle
from pathlib import Path

import h5py
import numpy as np
import pytensor
import pytest

from cle_port.data import Iterator
from cle_port.errors import UserError
from datasets.blizzard import (
    Blizzard,
    Blizzard_tbptt,
    describe_split,
    row_ranges,
    running_statistics,
    true_statistics,
    whole_batches,
)
from datasets.grep_blizzard_hdf5 import fetch_blizzard, fetch_blizzard_tbptt, find_npy
from datasets.hdf5 import rows as hdf5_rows
from datasets.hdf5.rows import HDF5Rows, RowWriter
from datasets.hdf5.statistics import load_statistics, save_statistics

BLIZZARD = Path(__file__).parent / "reference" / "artifacts" / "blizzard"
REFERENCE = np.load(BLIZZARD.parent / "blizzard_h5.npz")
STATISTICS = {"X_mean": -3.5, "X_std": 410}


@pytest.fixture(params=["float64", "float32"])
def floatX(request):
    with pytensor.config.change_flags(floatX=request.param):
        yield request.param


@pytest.fixture
def float64():
    with pytensor.config.change_flags(floatX="float64"):
        yield


def original(**kwargs):
    return Blizzard_tbptt(
        name="train",
        path=BLIZZARD / "tbptt",
        file_name="blizzard_unseg_tbptt",
        **{"frame_size": 5, **STATISTICS, **kwargs},
    )


def write_rows(path, rows, dataset="data", **kwargs):
    with h5py.File(path, "w") as file:
        file.create_dataset(dataset, data=rows, **kwargs)
    return path


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


# Batches


def test_reads_the_rows_that_the_original_wrote():
    data = original()
    assert data.data.shape == (304, 20)
    assert data.num_examples() == 304
    np.testing.assert_array_equal(data.data[0:304], REFERENCE["tbptt/rows"])


@pytest.mark.parametrize("rows", [(0, 4), (2, 9), (4, 8)])
def test_batches_are_bit_for_bit_the_originals(float64, rows):
    (batch,) = original().slices(*rows)
    expected = REFERENCE["tbptt/plain/slices_{}_{}/out".format(*rows)]
    assert batch.dtype == np.float64
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch, expected)


@pytest.mark.parametrize("rows", [(0, 3), (1, 4)])
def test_batches_of_the_other_variant(float64, rows):
    data = Blizzard(path=BLIZZARD / "full", frame_size=16, **STATISTICS)
    expected = REFERENCE["full/plain/slices_{}_{}/out".format(*rows)]
    np.testing.assert_array_equal(data.slices(*rows)[0], expected)


@pytest.mark.parametrize(
    ("kind", "frame_size", "form"),
    [("window7", 7, "use_window"), ("window8", 8, "use_window"), ("spec8", 8, "use_spec")],
)
def test_windows_and_spectra(float64, kind, frame_size, form):
    data = original(frame_size=frame_size, **{form: 1})
    (batch,) = data.slices(0, 4)
    expected = REFERENCE[f"tbptt/{kind}/slices_0_4/out"]
    assert data.frames_shape == (batch.shape[0], batch.shape[2])
    np.testing.assert_allclose(batch, expected, rtol=1e-12, atol=1e-13)
    if form == "use_window":
        np.testing.assert_array_equal(batch, expected)


def test_single_precision_computes_in_single_precision():
    statistics = {"X_mean": np.float64(1234.56789), "X_std": np.float64(0.1)}
    with pytensor.config.change_flags(floatX="float32"):
        (batch,) = original(**statistics).slices(0, 4)
    rows = REFERENCE["tbptt/rows"][:4].astype(np.float32)
    rows = (rows - np.float32(1234.56789)) / np.float32(0.1)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, rows.reshape(4, 4, 5).transpose(1, 0, 2))


def test_spectra_can_be_undone(float64):
    data = original(frame_size=8, use_spec=1)
    rows = data.data[0:4].astype(float)
    spectra = data.apply_fft(rows)
    np.testing.assert_allclose(data.pow_magnitude(data.log_magnitude(spectra)), spectra)
    np.testing.assert_allclose(data.apply_ifft(spectra), data.apply_window(rows), atol=1e-9)
    assert data.concatenate(spectra).shape == (4, 4, 10)


def test_spectra_in_single_precision():
    with pytensor.config.change_flags(floatX="float32"):
        (batch,) = original(frame_size=8, use_spec=1).slices(0, 4)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, REFERENCE["tbptt/spec8/slices_0_4/out"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "shape"),
    [({}, (4, None, 5)), ({"frame_size": 8, "use_window": 1}, (4, None, 8))],
)
def test_symbolic_input_has_the_shape_of_a_batch(floatX, kwargs, shape):
    data = original(**kwargs)
    x = data.theano_vars()
    assert (x.name, x.dtype, x.type.shape) == ("x", floatX, shape)
    assert data.theano_vars(4).type.shape == data.slices(0, 4)[0].shape
    assert data.test_theano_vars().type.shape == (None, None)


def test_row_length_comes_from_the_file():
    assert original(seq_len=32000).seq_len == 20


def test_iterates_over_whole_batches(float64):
    batches = [x for (x,) in Iterator(original(), 16, end=100)]
    assert [x.shape for x in batches] == [(4, 16, 5)] * 6


def test_a_frame_of_one_sample_under_a_window(float64):
    assert original(frame_size=1, use_window=1).slices(0, 2)[0].shape == (20, 2, 1)


def test_rows_survive_pickling():
    rows = HDF5Rows(BLIZZARD / "tbptt" / "blizzard_unseg_tbptt.h5")
    again = pickle.loads(pickle.dumps(rows))
    np.testing.assert_array_equal(again[3:5], rows[3:5])


def test_rows_are_not_shuffled():
    with pytest.raises(ValueError, match="cannot be shuffled"):
        original().shuffle(np.random.default_rng(0))


def test_a_pass_reads_a_few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(hdf5_rows, "READ_SAMPLES", 60)
    blocks = list(HDF5Rows(BLIZZARD / "tbptt" / "blizzard_unseg_tbptt.h5").blocks(2, 10))
    assert [len(block) for block in blocks] == [3, 3, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), REFERENCE["tbptt/rows"][2:10])


# Statistics


@pytest.mark.parametrize(
    ("case", "range_end"),
    [("all", None), ("range_end_12000", 12000), ("first_stride_only", 10000)],
)
def test_running_statistics_are_the_originals(case, range_end):
    rows = HDF5Rows(BLIZZARD / "statistics" / "stat.h5")
    mean, std = running_statistics(rows, 0, range_end)
    assert mean == pytest.approx(REFERENCE[f"statistics/{case}/X_mean"], rel=1e-13)
    assert std == pytest.approx(REFERENCE[f"statistics/{case}/X_std"], rel=1e-13)


def test_running_statistics_from_a_later_stride():
    rows = HDF5Rows(BLIZZARD / "statistics" / "stat.h5")
    assert running_statistics(rows, 2) == (pytest.approx(rows[20000:24400].mean()), 0)


@pytest.mark.parametrize(("start", "end"), [(3, None), (0, 40000), (-1, None), (0, 0)])
def test_running_statistics_outside_the_data(start, end):
    rows = HDF5Rows(BLIZZARD / "statistics" / "stat.h5")
    with pytest.raises(UserError, match="range_start"):
        running_statistics(rows, start, end)


def test_true_statistics():
    rows = HDF5Rows(BLIZZARD / "statistics" / "stat.h5")
    every = rows[0 : len(rows)]
    assert true_statistics(rows) == (pytest.approx(every.mean()), pytest.approx(every.std()))


@pytest.mark.parametrize("statistics", ["running", "true"])
def test_missing_statistics_are_computed_and_saved(tmp_path, statistics):
    (tmp_path / "stat.h5").write_bytes((BLIZZARD / "statistics" / "stat.h5").read_bytes())
    data = Blizzard_tbptt(path=tmp_path, file_name="stat", frame_size=5, statistics=statistics)
    assert load_statistics(tmp_path, "stat") == (data.X_mean, data.X_std)
    expected = 574.9611110948126 if statistics == "running" else 704.5074551079521
    assert data.X_std == pytest.approx(expected, rel=1e-13)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stat.h5", "stat_normal.npz"]


def test_statistics_that_the_original_saved():
    mean, std = load_statistics(BLIZZARD / "statistics", "stat")
    assert np.isfinite(mean)
    assert std > 0


def test_zero_deviation_is_refused_and_not_saved(tmp_path):
    write_rows(tmp_path / "x.h5", np.arange(40, dtype=np.int16).reshape(4, 10))
    with pytest.raises(UserError, match="statistics='true'") as caught:
        Blizzard_tbptt(path=tmp_path, file_name="x", frame_size=5)
    one_line(caught)
    assert not (tmp_path / "x_normal.npz").exists()


@pytest.mark.parametrize(
    ("mean", "std"),
    [(np.nan, 1), (0, np.inf), (0, 0), (0, -1), ([1, 2], 1), ("0", 1), (0, 1j)],
)
def test_unusable_statistics_are_refused(tmp_path, mean, std):
    with pytest.raises(UserError, match="finite number and a positive one") as caught:
        original(X_mean=mean, X_std=std)
    one_line(caught)
    np.savez(tmp_path / "x_normal.npz", X_mean=mean, X_std=std)
    with pytest.raises(UserError, match="finite number and a positive one") as caught:
        load_statistics(tmp_path, "x")
    one_line(caught)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"text", (BLIZZARD / "statistics" / "stat_normal.npz").read_bytes()[:200]],
)
def test_statistics_file_missing_or_damaged(tmp_path, content):
    if content is not None:
        (tmp_path / "x_normal.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"datasets\.build blizzard") as caught:
        load_statistics(tmp_path, "x")
    assert "x_normal.npz" in one_line(caught)


def test_statistics_file_without_its_names(tmp_path):
    np.savez(tmp_path / "x_normal.npz", mean=0)
    with pytest.raises(UserError, match="X_mean"):
        load_statistics(tmp_path, "x")


def test_statistics_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        save_statistics(tmp_path / "none", "x", 0.0, 1.0)


# Row ranges


def passes(n_rows, batch_size, m_batch_size):
    """Return the starts and lengths of all batches of a program."""
    ranges = row_ranges(n_rows, batch_size, m_batch_size)

    class CountedRows:
        name = "rows"

        def slices(self, start, end):
            return start, min(end, n_rows) - start

    def over(size, start, end):
        return list(Iterator(CountedRows(), size, start=start, end=end))

    return (
        over(batch_size, 0, ranges.train_end),
        over(m_batch_size, 0, ranges.monitor_rows),
        over(
            m_batch_size,
            ranges.valid_start,
            whole_batches(ranges.valid_start, ranges.valid_end, m_batch_size),
        ),
    )


@pytest.mark.parametrize("n_rows", [2152704, 2152705, 2267008, 3000000])
@pytest.mark.parametrize(
    "sizes", [(128, 1280), (100, 1280), (128, 1000), (1, 1), (2040064, 112640)]
)
def test_ranges_of_the_original_file(n_rows, sizes):
    """The original's literals, for any batch sizes; the published file has about 2267008 rows."""
    ranges = row_ranges(n_rows, *sizes)
    assert ranges == (2040064, 112640, 2040064, 2152704)
    line = describe_split(ranges, n_rows)
    assert (
        f"2040064 for training, 112640 for validation, {n_rows - 2152704} left for a test" in line
    )
    assert "the original's split, because the file has at least its 2152704 rows" in line


def test_a_smaller_file_says_that_it_is():
    line = describe_split(row_ranges(2152703, 128, 1280), 2152703)
    assert "2045056 for training, 107520 for validation: a twentieth" in line
    assert "fewer rows than the original's 2152704" in line


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2040065, 1280), "batch_size is 2040065; use at most 2040064 with 2267008 rows"),
        ((128, 112641), "m_batch_size is 112641; use at most 112640"),
    ],
)
def test_batches_larger_than_the_original_s_ranges(sizes, message):
    with pytest.raises(UserError, match=message):
        row_ranges(2267008, *sizes)


SIZES = [(8, 8), (7, 5), (3, 8), (128, 1280), (100, 100), (128, 1000)]


@pytest.mark.parametrize("n_rows", [16, 17, 24, 100, 192, 1000, 5000, 2152703, 2152704, 2500000])
@pytest.mark.parametrize(("batch_size", "m_batch_size"), SIZES)
def test_passes_are_whole_batches_and_do_not_overlap(n_rows, batch_size, m_batch_size):
    try:
        ranges = row_ranges(n_rows, batch_size, m_batch_size)
    except UserError:
        assert n_rows < m_batch_size + -(-m_batch_size // batch_size) * batch_size + batch_size
        return
    train, monitor, valid = passes(n_rows, batch_size, m_batch_size)
    assert {size for _, size in train} == {batch_size}
    assert {size for _, size in monitor + valid} == {m_batch_size}
    assert len(valid) >= 1
    assert train[0][0] == monitor[0][0] == 0
    assert 0 <= ranges.train_end - sum(size for _, size in train) < batch_size
    assert valid[0][0] == ranges.train_end == ranges.valid_start
    assert valid[-1][0] + m_batch_size <= ranges.valid_end <= n_rows
    assert ranges.valid_end - valid[-1][0] < 2 * m_batch_size
    assert monitor[-1][0] + m_batch_size <= ranges.train_end
    if n_rows < 2152704 or (batch_size, m_batch_size) == (128, 1280):
        assert len(monitor) == len(valid)
        assert sum(size for _, size in train) == ranges.train_end
        assert valid[-1][0] + m_batch_size == ranges.valid_end


@pytest.mark.parametrize(
    ("start", "end", "batch_size", "expected"),
    [
        (2040064, 2152704, 1280, 2152704),  # the original's own
        (2040064, 2152704, 100, 2152604),  # 2152704 would read 60 test rows
        (0, 45, 6, 45),
        (31, 45, 6, 45),
        (5, 45, 6, 39),
        (3, 10, 7, 10),
    ],
)
def test_whole_batches(start, end, batch_size, expected):
    assert whole_batches(start, end, batch_size) == expected


def test_validation_is_a_twentieth():
    assert row_ranges(10_000, 16, 50) == (9488, 500, 9488, 9988)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "m_batch_size"),
    [(0, 1, 1), (1, 1, 1), (15, 8, 8), (1000, 128, 1280), (1500, 128, 1280), (100, 64, 40)],
)
def test_too_few_rows(n_rows, batch_size, m_batch_size):
    with pytest.raises(UserError, match=rf"{n_rows} rows") as caught:
        row_ranges(n_rows, batch_size, m_batch_size)
    one_line(caught)


def test_what_the_error_proposes_works():
    for n_rows in range(2, 60):
        row_ranges(n_rows, n_rows // 2, n_rows // 2)
    assert row_ranges(16, 8, 8) == (8, 8, 8, 16)
    with pytest.raises(UserError, match="need 16;"):
        row_ranges(15, 8, 8)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-1, 5)])
def test_batch_sizes_must_be_positive(sizes):
    with pytest.raises(UserError, match="at least 1"):
        row_ranges(100, *sizes)


# Bad files


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.full((4, 20), np.nan), "holds float64, expected int16"),
        (np.zeros((4, 20), dtype=np.float32), "holds float32, expected int16"),
        (np.zeros((4, 20), dtype=np.int32), "holds int32, expected int16"),
        (np.zeros((4, 20), dtype=np.uint16), "holds uint16, expected int16"),
        (np.array([b"text"]), "shape"),
        (np.zeros(20, dtype=np.int16), r"has shape \(20,\)"),
        (np.zeros((2, 2, 5), dtype=np.int16), r"has shape \(2, 2, 5\)"),
        (np.int16(3), r"has shape \(\)"),
        (np.zeros((0, 20), dtype=np.int16), "is empty"),
        (np.zeros((20, 0), dtype=np.int16), "is empty"),
    ],
)
def test_wrong_content_is_refused(tmp_path, rows, message):
    write_rows(tmp_path / "x.h5", rows)
    with pytest.raises(UserError, match=message) as caught:
        Blizzard_tbptt(path=tmp_path, file_name="x", frame_size=5, **STATISTICS)
    assert "datasets.build blizzard" in one_line(caught)


def test_wrong_name_of_the_data_set(tmp_path):
    write_rows(tmp_path / "x.h5", np.zeros((4, 20), dtype=np.int16), dataset="rows")
    with pytest.raises(UserError, match="no data set named 'data'"):
        HDF5Rows(tmp_path / "x.h5")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("data")
    with pytest.raises(UserError, match="no data set named 'data'"):
        HDF5Rows(tmp_path / "group.h5")


@pytest.mark.parametrize("frame_size", [3, 7, 40])
def test_frames_must_divide_the_row(frame_size):
    with pytest.raises(UserError, match="does not divide the 20 samples"):
        original(frame_size=frame_size)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"frame_size": 0}, "at least 1"),
        ({"frame_size": 6, "use_spec": 1}, "no power of two"),
        ({"statistics": "guess"}, "'running' or 'true'"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(UserError, match=message):
        original(**kwargs)


@pytest.mark.parametrize("folder", ["none", ""])
def test_missing_data_path(tmp_path, folder):
    with pytest.raises(UserError, match=r"check the path|datasets\.build blizzard") as caught:
        Blizzard_tbptt(path=tmp_path / folder, **STATISTICS)
    one_line(caught)
    assert list(tmp_path.iterdir()) == []


def test_missing_compression_filter(monkeypatch):
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(UserError, match="blosc; `pip install hdf5plugin`"):
        original()


@pytest.fixture
def small_file(tmp_path):
    rows = np.random.default_rng(0).integers(-999, 999, (64, 20)).astype(np.int16)
    with RowWriter(tmp_path / "small.h5", 20, batch_size=4) as writer:
        writer.append(rows)
        writer.finish()
        writer.commit()
    return tmp_path / "small.h5", rows


def read_damaged(tmp_path, content, name):
    """Read all rows of a damaged file; return None after an error."""
    path = tmp_path / name
    path.write_bytes(content)
    try:
        rows = HDF5Rows(path)
        read = rows[0:64]
        rows.close()
        return read
    except UserError as error:
        message = str(error)
    assert "\n" not in message
    assert str(path) in message
    return None


def test_truncated_files_are_refused(small_file, tmp_path):
    path, _ = small_file
    whole = path.read_bytes()
    for length in [*range(0, 600, 13), *range(600, len(whole), 311), len(whole) - 1]:
        assert read_damaged(tmp_path, whole[:length], f"cut{length}.h5") is None
    original_file = (BLIZZARD / "tbptt" / "blizzard_unseg_tbptt.h5").read_bytes()
    for length in range(0, len(original_file), 997):
        assert read_damaged(tmp_path, original_file[:length], f"old{length}.h5") is None


def test_flipped_bits_in_the_samples_are_noticed(small_file, tmp_path):
    path, rows = small_file
    whole = path.read_bytes()
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info(0)
    for position in range(chunk.byte_offset, chunk.byte_offset + chunk.size, 37):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        assert read_damaged(tmp_path, bytes(damaged), f"flip{position}.h5") is None
    np.testing.assert_array_equal(read_damaged(tmp_path, whole, "whole.h5"), rows)


def test_flipped_bits_anywhere_end_in_no_other_error(small_file, tmp_path):
    whole = small_file[0].read_bytes()
    for position in range(0, len(whole), 29):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        read_damaged(tmp_path, bytes(damaged), f"flip{position}.h5")


def test_missing_chunks_are_noticed(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        rows = file.create_dataset("data", (8, 20), dtype="i2", chunks=(2, 20))
        rows[:6] = 1
    with pytest.raises(UserError, match="3 of 4 chunks"):
        HDF5Rows(tmp_path / "x.h5")


def test_no_handle_stays_open_on_a_refused_file(tmp_path):
    path = write_rows(tmp_path / "x.h5", np.zeros((4, 20)))
    with pytest.raises(UserError) as caught:  # its traceback keeps the object alive
        HDF5Rows(path)
    assert caught
    with h5py.File(path, "a"):  # HDF5 refuses this while the file is open for reading
        pass


# Files from data_*.npy


def copy_npy(source, folder):
    for path in (BLIZZARD / source).glob("*.npy"):
        (folder / path.name).write_bytes(path.read_bytes())


def save_items(path, *items):
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    np.save(path, array, allow_pickle=True)


def test_streams_are_the_originals(tmp_path):
    copy_npy("tbptt", tmp_path)
    data = Blizzard_tbptt(
        path=tmp_path, seq_len=20, batch_size=4, frame_size=5, file_name="x", **STATISTICS
    )
    np.testing.assert_array_equal(data.data[0:400], REFERENCE["tbptt/rows"])
    assert data.batch_size_of_file == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_rows_are_the_originals(tmp_path):
    copy_npy("full", tmp_path)
    data = Blizzard(path=tmp_path, seq_len=64, frame_size=16, **STATISTICS)
    np.testing.assert_array_equal(data.data[0:30], REFERENCE["full/rows"])


def test_shuffled_rows_are_the_originals(tmp_path):
    copy_npy("full", tmp_path)
    rng = np.random.RandomState(int(REFERENCE["full/shuffled_seed"]))
    rows = fetch_blizzard(tmp_path, shuffle=True, sz=64, rng=rng, quiet=True)
    np.testing.assert_array_equal(rows[0:30], REFERENCE["full/shuffled_rows"])


def test_first_channel_of_the_first_item_too(tmp_path):
    sound = np.arange(41, dtype=np.int16)
    save_items(tmp_path / "data_0.npy", np.stack([sound, -sound], axis=1), np.zeros(3, np.int16))
    rows = fetch_blizzard_tbptt(tmp_path, sz=10, batch_size=2, quiet=True)
    assert rows[0:9][:, 0].tolist() == [0, 22, 10, 32]


def test_order_of_files(tmp_path):
    for name in ("data_2", "data_10", "b/data_1", "a/data_1", "x_data_3", "data_x_03"):
        path = tmp_path / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = [str(path.relative_to(tmp_path)) for path in find_npy(tmp_path)]
    assert names == ["data_x_03.npy", "data_10.npy", "a/data_1.npy", "b/data_1.npy", "data_2.npy"]


@pytest.mark.parametrize("name", ["data_a.npy", "data_.npy", "data_1_x.npy"])
def test_names_without_a_digit(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="a digit follows"):
        find_npy(tmp_path)


@pytest.mark.parametrize(
    "items",
    [
        (np.zeros(50), np.zeros(50)),
        (np.zeros(50, np.int32), np.zeros(40, np.int32)),
        (np.zeros((2, 2, 50), np.int16), None),
        (np.zeros((50, 0), np.int16), None),
        ("text", [1, 2]),
        (None, None),
    ],
)
@pytest.mark.parametrize("fetch", [fetch_blizzard, fetch_blizzard_tbptt])
def test_items_that_are_no_recordings(tmp_path, items, fetch):
    save_items(tmp_path / "data_0.npy", *items)
    with pytest.raises(UserError, match="item 0 is no recording") as caught:
        fetch(tmp_path, sz=4, quiet=True)
    one_line(caught)
    assert [path.name for path in tmp_path.iterdir()] == ["data_0.npy"]


def test_plain_arrays_of_recordings(tmp_path):
    np.save(tmp_path / "data_0.npy", np.arange(60, dtype=np.int16).reshape(2, 30))
    np.save(tmp_path / "data_1.npy", np.arange(100, 130, dtype=np.int16))
    rows = fetch_blizzard(tmp_path, sz=20, quiet=True)
    assert rows[0:9][:, 0].tolist() == [0, 20, 30, 50, 100, 120]
    assert rows[1:2][0].tolist() == [*range(20, 30), *[0] * 10]


def test_one_recording_many_times_over_is_refused(tmp_path):
    save_items(tmp_path / "data_0.npy", *[np.zeros(10_000, np.int16)] * 1000)
    with pytest.raises(UserError, match="unfolds to 20000000 bytes"):
        fetch_blizzard(tmp_path, sz=20, quiet=True)


def test_too_short_for_one_row(tmp_path):
    np.save(tmp_path / "data_0.npy", np.zeros(40, dtype=np.int16))
    with pytest.raises(UserError, match="cannot fill 2 streams"):
        fetch_blizzard_tbptt(tmp_path, sz=20, batch_size=2, quiet=True)
    assert len(fetch_blizzard_tbptt(tmp_path, sz=19, batch_size=2, quiet=True)) == 2


def test_interrupted_writing_leaves_nothing(tmp_path):
    copy_npy("tbptt", tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowWriter, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch_blizzard_tbptt(tmp_path, sz=20, batch_size=4, quiet=True)
    assert sorted(tmp_path.iterdir()) == before


def test_interrupted_creation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(h5py.File, "create_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        RowWriter(tmp_path / "x.h5", 20)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        RowWriter(tmp_path / "none" / "x.h5", 20)


def test_writer_keeps_exact_statistics(small_file, tmp_path):
    _, rows = small_file
    with RowWriter(tmp_path / "y.h5", 20) as writer:
        writer.append(rows[:10])
        writer.append(rows[10:])
        assert writer.moments.mean == pytest.approx(rows.mean(), rel=1e-14)
        assert writer.moments.std == pytest.approx(rows.std(), rel=1e-14)
        assert writer.moments.peak == np.abs(rows).max()
    assert not (tmp_path / "y.h5").exists()
