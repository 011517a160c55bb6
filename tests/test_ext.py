"""Extensions: what the original's did on the same occasions."""

import json
import logging
import math
import signal
from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.errors import UserError
from cle_port.train import TrainLog
from cle_port.train.ext import (
    EarlyStopping,
    Extension,
    Monitoring,
    Picklize,
    WeightNorm,
    make_folder,
)
from cle_port.train.opt import Adam
from cle_port.utils import sharedX
from compare.units import clipping, epoch_count, weight_norm
from tests.recordings import below, largest_difference
from tests.uncompiled import Uncompiled
from tests.units import FLOATS, case_names, evaluate, recorded

# Twice what the recordings' README says of float32 in the optimizers.
RTOL = {"float64": 1e-14, "float32": 2 * 5e-7}


# GradientClipping


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", case_names("optim", "GradientClipping"))
def test_GradientClipping(name, floatX):
    """Without ``check_nan`` one NaN spoils all gradients, there as here."""
    case = recorded("optim", name, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = clipping(case, recorded("optim", "optimizer/start", floatX))
    assert set(ours) == {name for name in case if name.startswith("out/")}
    for name, value in ours.items():
        theirs = case[name]
        assert value.dtype == floatX
        np.testing.assert_array_equal(np.isnan(value), np.isnan(theirs))
        if not np.isnan(theirs).any():
            assert largest_difference(value, theirs) <= RTOL[floatX], name


def test_all_recorded_clippings_are_there():
    names = {name.split("/")[1] for name in case_names("optim", "GradientClipping")}
    assert {"above", "below", "above_batch", "check_nan_nan", "check_nan_inf"} < names
    assert len(names) == 10


# WeightNorm


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize(
    "name", [name for name in case_names("optim", "WeightNorm") if not name.endswith("/zero")]
)
def test_WeightNorm(name, floatX):
    """The recorded updates are the parameters times ``scale``, and 9 for one without a name."""
    case = recorded("optim", name, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = weight_norm(case, recorded("optim", "optimizer/start", floatX))
    assert set(ours) == {name for name in case if name.startswith("out/")}
    for key, value in ours.items():
        theirs = case[key]
        assert value.dtype == floatX
        assert largest_difference(value, theirs) <= RTOL[floatX], key


def test_WeightNorm_of_zeros():
    W = sharedX(np.zeros((3, 4)), "W")
    mainloop = SimpleNamespace(updates={W: W})
    WeightNorm().exe(mainloop)
    theirs = recorded("optim", "WeightNorm/zero")["out"]
    np.testing.assert_array_equal(evaluate(mainloop.updates[W]), theirs)


def test_WeightNorm_limits_twice_what_two_keys_name():
    W = sharedX(np.full((4, 1), 10.0), "W_U")
    mainloop = SimpleNamespace(updates={W: W})
    WeightNorm(keys=["W", "U"]).exe(mainloop)
    once = 10 * 1.9365 / (1e-7 + 20)
    twice = once * 2 * once / (1e-7 + 2 * once)  # its norm, 2 * once, is within the limit now
    np.testing.assert_allclose(evaluate(mainloop.updates[W]), twice, rtol=1e-6)


# EpochCount


@pytest.mark.parametrize("num_epoch", [1, 3])
def test_EpochCount(num_epoch):
    ends = recorded("optim", "EpochCount")[f"num{num_epoch}"]
    np.testing.assert_array_equal(epoch_count(num_epoch, len(ends)), ends)


# Monitoring


class NamedData(list):
    """A data set: batches with a name."""

    def __init__(self, batches, name):
        super().__init__((batch,) for batch in batches)
        self.name = name


def named(*names):
    return [pt.scalar(name) for name in names]


def monitored_run(case, monitoring, n_updates=7):
    """The recorded run: after n updates these outputs are n and n squared."""
    mainloop = SimpleNamespace(
        endloop=0,
        interrupted=None,
        compiler=Uncompiled(),
        on_nan="stop",
        outputs=named("cost", "other"),
        optimizer=Adam(lr=0.001),
        trainlog=TrainLog(),
    )
    log = mainloop.trainlog
    for n in range(n_updates):
        monitoring.exe(mainloop)
        log.monitor["time"].append(0.25)
        log.monitor["update"].append([float(n), float(n) ** 2])
        log.batch_seen += 1
    mainloop.endloop = 1
    monitoring.exe(mainloop)
    return log


# Our block has the right spelling, and lines under it that are as long.
HEADING = {
    " ----------------": " ---------------",
    " Traininig basics": " Training basics",
    " ................": " ...............",
}
OBJECTIVE = {
    "plain": {},
    "objective": {"obj_monitor_fn": np.exp2, "obj_monitor_ch": ["perplexity"]},
}


def recorded_monitoring(name):
    """The extension as it was recorded: a sum and a greatest entry of each batch."""
    case = recorded("optim", f"Monitoring/{name}")
    data = [NamedData(case[f"{data}_batches"], data) for data in ("train", "valid")]
    extension = Monitoring(
        freq=2,
        ddout=named("nll", "max_x"),
        data=data,
        monitor_fn=lambda x: [np.sum(x), np.max(x)],
        **OBJECTIVE[name],
    )
    return case, extension


@pytest.mark.parametrize("name", ["plain", "objective"])
def test_Monitoring_logs_the_same_lines(name, caplog):
    caplog.set_level(logging.INFO, "cle_port")
    case, extension = recorded_monitoring(name)
    monitored_run(case, extension)
    ours = [line for line in caplog.messages if not line.startswith(" Elapsed time for monitoring")]
    assert ours == [HEADING.get(line, line) for line in case["log_lines"].tolist()]
    assert len(caplog.messages) - len(ours) == 5


@pytest.mark.parametrize("name", ["plain", "objective"])
def test_Monitoring_fills_the_log(name):
    case, extension = recorded_monitoring(name)
    log = monitored_run(case, extension)
    theirs = below(case, "trainlog")
    assert set(log.monitor) == {*theirs, "monitoring_time"}
    for channel, values in theirs.items():
        np.testing.assert_allclose(log.monitor[channel], values, rtol=1e-14, err_msg=channel)


def test_Monitoring_writes_lines_of_json(tmp_path):
    _, extension = recorded_monitoring("plain")
    path = tmp_path / "log.jsonl"
    mainloop = empty_mainloop(TrainLog(path))
    extension.exe(mainloop)
    mainloop.trainlog.batch_seen, mainloop.trainlog.epoch_seen = 2, 1
    mainloop.trainlog.monitor["update"] += [[1.0], [2.0]]
    mainloop.trainlog.monitor["time"] += [0.5, 0.25]
    extension.exe(mainloop)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    channels = {f"{data}_{name}" for data in ("train", "valid") for name in ("nll", "max_x")}
    assert set(first) == channels | {"batch_seen", "epoch_seen", "elapsed_time", "monitoring_time"}
    assert set(second) == set(first) | {"this_batch_cost"}
    assert (first["batch_seen"], second["batch_seen"], second["epoch_seen"]) == (0, 2, 1)
    assert second["elapsed_time"] == 0.75
    assert second["this_batch_cost"] == 1.5
    assert first["train_nll"] == second["train_nll"] == mainloop.trainlog.monitor["train_nll"][1]


def monitoring_of(value, **kwargs):
    """An extension whose only channel has this value."""
    data = [NamedData([0, 0], "valid")]
    return Monitoring(freq=1, ddout=named("nll"), data=data, monitor_fn=lambda x: [value], **kwargs)


def empty_mainloop(log=None, on_nan="stop"):
    return SimpleNamespace(
        endloop=0,
        interrupted=None,
        compiler=Uncompiled(),
        on_nan=on_nan,
        outputs=named("cost"),
        optimizer=Adam(lr=0.1),
        trainlog=log or TrainLog(),
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.1e8])
def test_Monitoring_ends_a_run_that_has_diverged(value):
    with pytest.raises(UserError, match=r"training has diverged; .*--lr$") as error:
        monitoring_of(value).exe(empty_mainloop())
    assert str(error.value).startswith(f"valid_nll is {value:g}: ")


@pytest.mark.parametrize(
    ("on_nan", "value", "count"),
    [
        ("stop", 0.9e8, 0),
        ("original", math.nan, 1),
        ("original", -math.inf, 1),
        ("skip", math.nan, 1),
        ("skip", math.inf, 1),
    ],
)
def test_Monitoring_lets_other_values_pass(on_nan, value, count):
    mainloop = empty_mainloop(on_nan=on_nan)
    monitoring_of(value).exe(mainloop)
    np.testing.assert_array_equal(mainloop.trainlog.monitor["valid_nll"], [value])
    assert mainloop.trainlog.not_finite == count


@pytest.mark.parametrize(("on_nan", "value"), [("original", math.inf), ("skip", 1.1e8)])
def test_explosion_is_the_originals(on_nan, value):
    with pytest.raises(UserError, match="training has diverged"):
        monitoring_of(value).exe(empty_mainloop(on_nan=on_nan))


def test_the_limit_is_on_channels_not_on_what_is_made_of_them():
    """A perplexity is large at first, though its logarithm is not."""
    mainloop = empty_mainloop()
    monitoring_of(100.0, obj_monitor_fn=np.exp2, obj_monitor_ch=["perplexity"]).exe(mainloop)
    assert mainloop.trainlog.monitor["valid_perplexity"] == [2.0**100]


# Saving


class Saves:
    """A main loop that notes the files it is told to write."""

    name = "m"

    def __init__(self, values=()):
        self.trainlog = TrainLog()
        self.values = values
        self.endloop = 0
        self.interrupted = None
        self.files = []
        self.saving = self

    def save(self, path, kind="model"):
        self.files.append(path.name.replace(".npz", ".pkl"))
        return True

    def new_files(self):
        files, self.files = " ".join(self.files), []
        return files


@pytest.mark.parametrize(
    ("case", "arguments"),
    [("plain", {"freq": 2}), ("force", {"freq": 3, "force_save_freq": 4})],
)
def test_Picklize(case, arguments, tmp_path):
    mainloop, extension = Saves(), Picklize(path=tmp_path / "new", **arguments)
    assert (tmp_path / "new").is_dir()
    files = []
    for n in range(10):
        mainloop.trainlog.batch_seen = n
        mainloop.endloop = int(n == 9)
        extension.exe(mainloop)
        files.append(mainloop.new_files())
    assert files == recorded("optim", f"Picklize/{case}")["files"].tolist()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("min", {}),
        ("max", {"minimize": 0}),
        ("freq2", {"freq": 2}),
        ("force", {"force_save_freq": 3}),
    ],
)
def test_EarlyStopping(name, arguments, tmp_path):
    case = recorded("optim", f"EarlyStopping/{name}")
    mainloop, extension = Saves(), EarlyStopping(path=tmp_path, **arguments)
    best, files = [], []
    for n, value in enumerate(case["values"].tolist()):
        mainloop.trainlog.batch_seen = n
        mainloop.trainlog.monitor["valid_nll"].append(value)
        extension.exe(mainloop)
        best.append(extension.best)
        files.append(mainloop.new_files())
    assert best == case["best"].tolist()
    assert files == case["files"].tolist()


def test_EarlyStopping_at_the_end(tmp_path):
    mainloop = Saves()
    extension = EarlyStopping(path=tmp_path, channel="valid_bound", freq=100)
    mainloop.trainlog.batch_seen = 7
    mainloop.trainlog.monitor["valid_bound"].append(1.0)
    extension.exe(mainloop)
    assert mainloop.files == []
    mainloop.endloop = 1
    extension.exe(mainloop)
    assert mainloop.files == ["m_best.pkl"]


@pytest.mark.parametrize("batch_seen", [7, 100])
@pytest.mark.parametrize("monitored_at", [0, 7, 100])
def test_EarlyStopping_after_a_signal(batch_seen, monitored_at, tmp_path):
    """Only a value that was monitored with the parameters of now can be the best."""
    mainloop, extension = Saves(), EarlyStopping(path=tmp_path, freq=100)
    mainloop.trainlog.batch_seen = batch_seen
    mainloop.trainlog.monitored_at = monitored_at
    mainloop.trainlog.monitor["valid_nll"].append(1.0)
    mainloop.endloop, mainloop.interrupted = 1, signal.SIGINT
    extension.exe(mainloop)
    assert bool(mainloop.files) == (monitored_at == batch_seen)


def test_EarlyStopping_on_a_channel_that_is_not_monitored(tmp_path):
    """The original's IndexError, with a reason; nothing is added to the log."""
    mainloop, extension = Saves(), EarlyStopping(path=tmp_path, channel="valid_nil")
    mainloop.trainlog.batch_seen = 1
    mainloop.trainlog.monitor["valid_nll"].append(1.0)
    with pytest.raises(ValueError, match=r"no channel 'valid_nil'; there are: valid_nll$"):
        extension.exe(mainloop)
    assert list(mainloop.trainlog.monitor) == ["valid_nll"]


@pytest.mark.parametrize("kind", [Picklize, EarlyStopping])
def test_a_file_in_the_place_of_the_folder(kind, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match=r"cannot create the folder .*new \(.*--save_path$"):
        kind(path=tmp_path / "runs" / "new", freq=1)


def test_make_folder_makes_all_of_a_path(tmp_path):
    folder = make_folder(str(tmp_path / "a" / "b"))
    assert folder.is_dir()
    assert make_folder(folder) == folder


def test_Extension_leaves_exe_to_its_kinds():
    with pytest.raises(NotImplementedError):
        Extension().exe(None)
