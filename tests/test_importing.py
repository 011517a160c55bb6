"""Tests of importing the original's checkpoints: real, synthetic and hostile files."""

import os
import tracemalloc

import numpy as np
import pytest

from cle_port.errors import UserError
from cle_port.layers.recurrent import GRU
from cle_port.train import checkpoint
from cle_port.train.log import TrainLog
from compare.__main__ import main
from compare.original.importing import read
from models.sample import load_model
from tests import pickles
from tests.recordings import below, path_of
from tests.recordings import read as read_recording

CHECKPOINTS = [
    ("blizzard_vrnn_gauss", "vrnn_gauss_1"),
    ("blizzard_vrnn_gauss", "vrnn_gauss_1_10updates"),
    ("blizzard_vrnn_gauss", "vrnn_gauss_1_best"),
    ("iamondb_vrnn_gmm", "vrnn_gmm_1"),
    ("iamondb_vrnn_gmm", "vrnn_gmm_1_best"),
]


@pytest.fixture
def classes(monkeypatch):
    return pickles.Classes(monkeypatch)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a pickle and returns its path."""

    def write(content):
        path = tmp_path / "original.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickles.dump(content))
        return path

    return write


def assert_refused(path):
    """Check that a file is refused in one line that names it, within bounded memory."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("label", "name"), CHECKPOINTS)
def test_real_checkpoints(label, name):
    mainloop = read(path_of(f"artifacts/checkpoints/{label}/{name}.pkl"))
    content = below(read_recording(f"artifacts/checkpoints/{label}.npz"), f"{name}.pkl")
    assert mainloop.name == f"{label.partition('_')[2]}_1"
    assert list(mainloop.params) == content["param_names"].tolist()
    assert mainloop.nodes == content["node_names"].tolist()
    assert mainloop.batch_seen == content["batch_seen"]
    assert mainloop.epoch_seen == content["epoch_seen"]
    for prefix, ours in (("param", mainloop.params), ("updates", mainloop.state)):
        theirs = below(content, prefix)
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            assert ours[key].dtype == value.dtype
            np.testing.assert_array_equal(ours[key], value)
    log = below(content, "trainlog")
    assert set(log) <= set(mainloop.log)
    for key, value in log.items():
        np.testing.assert_array_equal(mainloop.log[key], value)
    assert len(mainloop.log["time"]) == mainloop.batch_seen


@pytest.mark.parametrize(("label", "name"), [CHECKPOINTS[1], CHECKPOINTS[4]])
def test_becomes_a_checkpoint_of_the_port(tmp_path, capsys, label, name):
    path = path_of(f"artifacts/checkpoints/{label}/{name}.pkl")
    content = below(read_recording(f"artifacts/checkpoints/{label}.npz"), f"{name}.pkl")
    out = tmp_path / "out.npz"
    assert main(["import", str(path), str(out)]) == 0
    assert "moments are not in files of the original" in capsys.readouterr().out
    arrays, meta = checkpoint.load(out)
    for key, value in below(content, "param").items():
        np.testing.assert_array_equal(arrays[key], value)
        assert not arrays[f"adam_m/{key}"].any()
        assert not arrays[f"adam_v/{key}"].any()
    for key, value in below(content, "updates").items():
        np.testing.assert_array_equal(arrays[f"state/{key}"], value)
    assert arrays["adam_counter"] == 0
    assert meta["batch_seen"] == content["batch_seen"]
    assert meta["nodes"] == content["node_names"].tolist()
    assert arrays["optimizer/lr"] == np.float32(meta["settings"]["lr"])
    log = TrainLog.restored(None, arrays, meta)
    assert log.monitored_at == log.batch_seen == content["batch_seen"]
    assert log.epoch_seen == content["epoch_seen"]
    assert meta["best"]["valid_nll_upper_bound"] == min(
        below(content, "trainlog")["valid_nll_upper_bound"][1:]
    )
    program, args, net = load_model(out)
    assert f"{args.dataset}_{program}" == label
    assert {k: p.get_value().shape for k, p in net.params.items()} == {
        k: value.shape for k, value in below(content, "param").items()
    }


def test_settings_are_those_of_a_config(tmp_path):
    path = path_of("artifacts/checkpoints/blizzard_vrnn_gauss/vrnn_gauss_1_10updates.pkl")
    config = tmp_path / "config.txt"
    config.write_text("lr 0.001\nm_batch_size 6\nz_dim 200\nsave_path /raid/runs/\n")
    assert main(["import", str(path), str(tmp_path / "x.npz"), "--config", str(config)]) == 0
    settings = checkpoint.load_meta(tmp_path / "x.npz")["settings"]
    assert (settings["lr"], settings["m_batch_size"]) == (0.001, 6)
    assert (settings["z_dim"], settings["batch_size"]) == (5, 4)  # the parameters override FILE
    assert settings["save_path"] is None


def test_small_checkpoint(classes, write):
    mainloop = read(write(pickles.mainloop(classes)))
    assert mainloop.log["update"].tolist() == [[2.5], [2.25]]
    assert mainloop.log["valid_nll"].tolist() == [3.5]
    assert "monitoring_time" not in mainloop.log
    assert mainloop.nodes == pickles.NODES
    for key, value in pickles.parameters().items():
        np.testing.assert_array_equal(mainloop.params[key], value)


def test_checkpoint_of_a_gpu(classes, write):
    values = pickles.parameters()
    params = {name: classes.gpu_array(value) for name, value in values.items()}
    mainloop = read(write(pickles.mainloop(classes, params)))
    for key, value in values.items():
        np.testing.assert_array_equal(mainloop.params[key], value)


# Each tuple contains the one before twice, so the hash of the last one takes 2**200 steps.
TUPLES = b"\x80\x02})q\x00" + b"0h\x00h\x00\x86q\x00" * 200


class Hostile:
    """An object whose pickle calls ``function`` when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["name", "batch_seen", "parameter"])
def test_nothing_is_executed(classes, write, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    hostile = Hostile(os.system, "touch executed")
    changes = {"params": {"W": hostile}} if place == "parameter" else {place: hostile}
    message = assert_refused(write(pickles.mainloop(classes, **changes)))
    assert "system" in message
    assert not (tmp_path / "executed").exists()


def test_call_in_a_real_checkpoint_is_refused(write):
    content = path_of("artifacts/checkpoints/iamondb_vrnn_gmm/vrnn_gmm_1_best.pkl").read_bytes()
    for name in (b"os\nsystem", b"pandas.core.frame\nDataFrame", b"__builtin__\neval"):
        changed = content.replace(b"ctheano.gof.utils\nscratchpad\n", b"c" + name + b"\n")
        assert changed != content
        assert name.decode().replace("\n", ".") in assert_refused(write(changed))


def test_every_truncation_is_refused(classes, write):
    whole = pickles.dump(pickles.mainloop(classes))
    for length in range(0, len(whole), 23):
        assert_refused(write(whole[:length]))


def test_flipped_bytes_are_refused_or_read(classes, write):
    whole = pickles.dump(pickles.mainloop(classes))
    rng = np.random.default_rng(0)
    messages = []
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        try:
            read(write(bytes(damaged)))
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)


def with_false_shape(content):
    """Change the shape of the array of 8 numbers to 10**9."""
    shape = b"K\x08\x85"
    assert shape in content
    return content.replace(shape, b"J\x00\xca\x9a\x3b\x85")


def test_false_shapes_are_refused(classes, write):
    content = with_false_shape(pickles.dump(pickles.mainloop(classes)))
    assert "do not fit its shape" in assert_refused(write(content))


def test_one_array_under_many_names_is_refused(classes, write):
    array = np.zeros(100_000, dtype=np.float32)
    params = dict.fromkeys([f"W_{n}" for n in range(1000)], array)
    assert "unfold" in assert_refused(write(pickles.mainloop(classes, params)))


def test_one_row_many_times_is_refused(classes, write):
    row = [1.0] * 10_000
    assert "outputs" in assert_refused(write(pickles.mainloop(classes, update=[row] * 10_000)))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        TUPLES + b"K\x01s.",
        b"\x80\x02" + b"".join(b"ctheano.x%d\ny\n0" % n for n in range(5000)) + b"N.",
        b"\x80\x02ccle.cle.train\nTraining\n}b.",  # sets attributes of a class
        b"\x80\x02ccle.cle.train\nTraining\n)\x81.",
        b"\x80\x02ccle.cle.train\nTraining\n)\x81q\x00h\x00b.",  # an object is its own state
        b"\x80\x02]q\x00h\x00a.",
        b"not a pickle",
        b"",
    ],
    ids=["deep", "hash", "classes", "attributes", "empty", "itself", "loop", "text", "nothing"],
)
def test_hostile_pickles_are_refused(write, content):
    assert_refused(write(content))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 5},
        {"batch_seen": -1},
        {"batch_seen": "many"},
        {"params": {"W": np.arange(3)}},
        {"params": {"W": "text"}},
        {"update": 3.5},
        {"monitor": []},
    ],
    ids=str,
)
def test_other_content_is_refused(classes, write, changes):
    assert "no checkpoint of the original" in assert_refused(
        write(pickles.mainloop(classes, **changes))
    )


def test_the_class_of_the_recurrence_is_a_setting(classes, write, tmp_path):
    params = pickles.parameters()
    for name in ("W_x_1__rnn", "U_rnn__rnn", "b_rnn"):  # three blocks of columns instead of four
        params[name] = params[name][..., : params[name].shape[-1] // 4 * 3]
    path = write(pickles.mainloop(classes, params=params, recurrence="GRU"))
    assert main(["import", str(path), str(tmp_path / "out.npz")]) == 0
    _, args, net = load_model(tmp_path / "out.npz")
    assert args.rnn == "gru"
    assert isinstance(net.rnn, GRU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recurrence": "ClockworkLayer"}, "another model"),
        ({"name": "draw_1"}, "the port has only"),
        ({"name": "rnn_gauss_x"}, "another model"),
        ({"params": {"U_rnn__rnn": np.zeros((10**6, 1), "float32")}}, "another model"),
        (
            {"params": {**pickles.parameters(), "b_x_1": np.zeros(5, "float32")}},
            "parameters differ",
        ),
        ({"params": {**pickles.parameters(), "W_more": np.zeros(5, "float32")}}, "W_more"),
        ({"params": {**pickles.parameters(), "b_rnn": np.full(8, np.nan, "float32")}}, "finite"),
    ],
    ids=["recurrence", "program", "trial", "size", "shape", "more", "nan"],
)
def test_other_models_are_refused(classes, write, tmp_path, capsys, changes, message):
    path = write(pickles.mainloop(classes, **changes))
    assert main(["import", str(path), str(tmp_path / "out.npz")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


def test_unwritable_output(classes, write, tmp_path, capsys):
    path = write(pickles.mainloop(classes))
    assert main(["import", str(path), str(tmp_path / "none" / "out.npz")]) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("floatX", ["float32", "float64"])
def test_exported_parameters_are_by_name(classes, write, tmp_path, floatX):
    ours, theirs = tmp_path / "ours.npz", tmp_path / "theirs.npz"
    assert main(["import", str(write(pickles.mainloop(classes))), str(ours)]) == 0
    assert main(["export", str(ours), str(theirs), "--floatX", floatX]) == 0
    with np.load(theirs, allow_pickle=False) as file:
        assert set(file.files) == {"meta", *pickles.SHAPES}
        for name, value in pickles.parameters().items():
            assert file[name].dtype == floatX
            np.testing.assert_array_equal(file[name], value)


def test_export_refuses_other_files(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", meta=np.array('{"format_version": 1, "params": ["W"]}'))
    for name in ("x.npz", "none.npz"):
        assert main(["export", str(tmp_path / name), str(tmp_path / "out.npz")]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out.npz").exists()
