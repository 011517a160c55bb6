"""Extensions: what the original's did on the same occasions."""

import json
import logging
import math
import signal
from types import SimpleNamespace

import numpy as np
import pytensor
import pytest

from cle_port.errors import UserError
from cle_port.train import TrainLog, checkpoint
from cle_port.train.ext import (
    EarlyStopping,
    Extension,
    LrCosine,
    LrExponentialDecay,
    LrLinearDecay,
    Monitoring,
    Picklize,
    WeightDecay,
    WeightNorm,
    make_folder,
)
from cle_port.train.opt import Adam
from cle_port.train.screen import Screen
from cle_port.utils import sharedX
from compare.units.optimizers import (
    HEADING,
    MONITORING_TIME,
    SCHEDULES,
    NamedData,
    Saves,
    clipping,
    early_stopping,
    epoch_count,
    monitored_run,
    monitoring_of,
    named,
    picklize,
    schedule,
    weight_decay,
    weight_norm,
    weight_norm_of_zeros,
)
from tests.recordings import below, largest_difference
from tests.test_opt import assert_same, double, make  # noqa: F401
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


@pytest.mark.parametrize("floatX", FLOATS)
def test_WeightNorm_of_zeros(floatX):
    with pytensor.config.change_flags(floatX=floatX):
        ours = weight_norm_of_zeros()["out"]
    theirs = recorded("optim", "WeightNorm/zero", floatX)["out"]
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_WeightNorm_limits_twice_what_two_keys_name():
    W = sharedX(np.full((4, 1), 10.0), "W_U")
    mainloop = SimpleNamespace(updates={W: W})
    WeightNorm(keys=["W", "U"]).exe(mainloop)
    once = 10 * 1.9365 / (1e-7 + 20)
    twice = once * 2 * once / (1e-7 + 2 * once)  # its norm, 2 * once, is within the limit now
    np.testing.assert_allclose(evaluate(mainloop.updates[W]), twice, rtol=1e-6)


# WeightDecay


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", case_names("optim", "WeightDecay"))
def test_WeightDecay(name, floatX):
    case = recorded("optim", name, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = weight_decay(case, recorded("optim", "optimizer/start", floatX))
    assert set(ours) == set(case) - {"settings"}
    for key, value in ours.items():
        assert value.dtype == floatX
        assert largest_difference(value, case[key]) <= RTOL[floatX], key


def test_WeightDecay_counts_twice_what_two_keys_name():
    W, b = sharedX([1.0, 2.0], "W_U"), sharedX([3.0], "b")
    mainloop = SimpleNamespace(model=SimpleNamespace(params={"W_U": W, "b": b}), cost=0.5)
    WeightDecay(lambd=0.25, keys=["W", "U"]).exe(mainloop)
    assert evaluate(mainloop.cost) == 0.5 + 2 * 0.25 * 5


@pytest.mark.usefixtures("double")
def test_WeightDecay_is_in_the_gradients_but_not_in_the_log(tmp_path):
    """The gradient of the decay of W is 2 lambd W."""
    plain, decayed = make(tmp_path, Adam(lr=0.1)), make(tmp_path, Adam(lr=0.1), WeightDecay(0.25))
    (batch,) = next(iter(plain.data))
    values = {
        run: evaluate([*run.grads.values(), *run.outputs], {run.inputs[0]: batch})
        for run in (plain, decayed)
    }
    (dW, db, cost), (dW_decayed, db_decayed, cost_decayed) = values.values()
    W = plain.model.params["W"].get_value()
    np.testing.assert_allclose(dW_decayed - dW, 2 * 0.25 * W, rtol=1e-12)
    np.testing.assert_array_equal(db_decayed, db)
    assert cost_decayed == cost


# Learning rates


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", case_names("optim", "schedule"))
def test_schedules(name, floatX):
    """To the last bit."""
    case = recorded("optim", name, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = schedule(name.split("/")[1], case)
    np.testing.assert_array_equal(ours["lr"], case["lr"])


def rates(extension, n, lr=0.5):
    """Learning rates after each of n updates."""
    mainloop = SimpleNamespace(optimizer=Adam(lr=lr))
    values = []
    for _ in range(n):
        extension.exe(mainloop)
        values.append(float(mainloop.optimizer.lr.get_value()))
    return values


def test_LrExponentialDecay_keeps_the_least_rate():
    """Even where the factor would raise it again."""
    assert rates(LrExponentialDecay(0.5, min_lr=1.0), 3) == [1.0, 1.0, 1.0]
    assert rates(LrExponentialDecay(0.5, min_lr=0.25), 3) == [1.0, 2.0, 4.0]


def test_LrExponentialDecay_without_end():
    assert rates(LrExponentialDecay(2.0, min_lr=0.0), 1100)[-1] == 0.0


def test_LrCosine():
    """A loop: up to the rate in four updates, down to a tenth of it along half a cosine."""
    expected = []
    for n in range(11):
        if n < 4:
            expected.append(0.5 * (n + 1) / 4)
        elif n < 8:
            expected.append(0.05 + 0.45 * (1 + math.cos(math.pi * (n - 4) / 4)) / 2)
        else:
            expected.append(0.05)
    mainloop = SimpleNamespace(optimizer=Adam(lr=0.5))
    extension = LrCosine(4, 8, 0.1)
    extension.begin(mainloop)
    ours = [float(mainloop.optimizer.lr.get_value())]
    for _ in range(10):
        extension.exe(mainloop)
        ours.append(float(mainloop.optimizer.lr.get_value()))
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    assert ours[3] == ours[4] == 0.5
    assert rates(LrCosine(0, 2), 3, lr=1.0) == pytest.approx([0.5, 0.0, 0.0], abs=1e-15)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (LrCosine, (-1, 5), "warmup is -1 and end 5; give 0 <= warmup < end"),
        (LrCosine, (5, 5), "warmup is 5 and end 5; give 0 <= warmup < end"),
        (LrCosine, (0, 5, -0.1), "decay_factor is -0.1; give one that is not negative"),
        (LrLinearDecay, (0, 5, 0.1), "start is 0 and end 5; give 0 < start < end"),
        (LrLinearDecay, (5, 5, 0.1), "start is 5 and end 5; give 0 < start < end"),
        (LrLinearDecay, (1, 5, 0), "decay_factor is 0; give a number above 0"),
        (LrExponentialDecay, (-1.5, 0.1), "decay_factor is -1.5; give a number above 0"),
    ],
)
def test_schedules_refuse(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(*arguments)


def test_LrLinearDecay_of_a_rate_that_is_not_positive():
    with pytest.raises(ValueError, match="the learning rate is 0; start from one above 0"):
        rates(LrLinearDecay(1, 5, 0.1), 1, lr=0.0)


@pytest.mark.parametrize("n", range(12))
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_state_of_a_schedule(name, n):
    """It goes through a checkpoint's JSON at any time."""
    first, second = SCHEDULES[name](), SCHEDULES[name]()
    mainloop = SimpleNamespace(optimizer=Adam(lr=0.1))
    for _ in range(n):
        first.exe(mainloop)
    lr = float(mainloop.optimizer.lr.get_value())
    second.resume(mainloop, json.loads(json.dumps(first.state())))
    assert vars(second) == vars(first)
    assert rates(second, 12 - n, lr) == rates(SCHEDULES[name](), 12, 0.1)[n:]


@pytest.mark.usefixtures("double")
def test_a_schedule_that_begins_with_a_resumed_run(tmp_path):
    """Its first update has the first rate of the schedule."""
    make(tmp_path, Adam(lr=0.1), max_updates=2).run()
    extension = LrCosine(4, 8)
    resumed = make(tmp_path, Adam(lr=0.1), extension, max_updates=2)
    resumed.resume(tmp_path / "m.npz")
    extension.begin(resumed)
    np.testing.assert_allclose(resumed.optimizer.lr.get_value(), 0.1 / 4)
    extension.begin(resumed)  # only once
    np.testing.assert_allclose(resumed.optimizer.lr.get_value(), 0.1 / 4)


@pytest.mark.usefixtures("double")
def test_a_resumed_run_with_schedules_is_the_whole_run(tmp_path):
    """Of two schedules of a kind the checkpoint holds both."""

    def schedules():
        exponential = LrExponentialDecay(1.5, 0.05), LrExponentialDecay(1.25, 0.02)
        return LrCosine(3, 8), *exponential, LrLinearDecay(2, 7, 2)

    whole = make(tmp_path / "whole", Adam(lr=0.1), *schedules())
    whole.run()
    make(tmp_path / "two", Adam(lr=0.1), *schedules(), max_updates=4).run()
    resumed = make(tmp_path / "two", Adam(lr=0.1), *schedules())
    resumed.resume(tmp_path / "two" / "m.npz")
    resumed.run()
    assert_same(resumed, whole)


@pytest.mark.usefixtures("double")
def test_a_schedule_that_the_checkpoint_does_not_hold_begins_with_it(tmp_path, caplog):
    caplog.set_level(logging.INFO, "cle_port")
    make(tmp_path, Adam(lr=0.1), LrExponentialDecay(1.5, 0.0), max_updates=2).run()
    extension = LrExponentialDecay(2.0, 0.0)
    resumed = make(tmp_path, Adam(lr=0.1), extension, max_updates=3)
    resumed.resume(tmp_path / "m.npz")
    assert "LrExponentialDecay(2.0, 0.0) begins here" in caplog.text
    lr = float(resumed.optimizer.lr.get_value())
    assert lr == 0.1 / 1.5**2
    resumed.run()
    assert (extension.count, float(resumed.optimizer.lr.get_value())) == (1, lr / 2)


@pytest.mark.parametrize(
    "damaged",
    [{}, {"count": "many", "base_lr": 0.1, "min_": True}, {"count": 2, "base_lr": [], "min_": 1}],
)
@pytest.mark.usefixtures("double")
def test_a_damaged_schedule_is_refused(damaged, tmp_path):
    """Nothing is taken over then."""
    make(tmp_path, Adam(lr=0.1), LrExponentialDecay(1.5, 0.0), max_updates=2).run()
    arrays, meta = checkpoint.load(tmp_path / "m.npz")
    meta["schedule"] = {"LrExponentialDecay(1.5, 0.0)": damaged}
    checkpoint.save(tmp_path / "m.npz", arrays, meta)
    extension = LrExponentialDecay(1.5, 0.0)
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        make(tmp_path, Adam(lr=0.1), extension).resume(tmp_path / "m.npz")
    assert (extension.count, extension.base_lr, extension.min_) == (0, None, False)


# EpochCount


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("num_epoch", [1, 3])
def test_EpochCount(num_epoch, floatX):
    ends = recorded("optim", "EpochCount", floatX)[f"num{num_epoch}"]
    np.testing.assert_array_equal(epoch_count(num_epoch, len(ends)), ends)


# Monitoring


def recorded_monitoring(name, floatX="float64"):
    """The recorded case, and the extension as it was recorded."""
    case = recorded("optim", f"Monitoring/{name}", floatX)
    return case, monitoring_of(name, case)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", ["plain", "objective"])
def test_Monitoring_logs_the_same_lines(name, floatX, caplog):
    caplog.set_level(logging.INFO, "cle_port")
    case, extension = recorded_monitoring(name, floatX)
    monitored_run(extension)
    ours = [line for line in caplog.messages if not line.startswith(MONITORING_TIME)]
    assert [HEADING.get(line, line) for line in ours] == case["log_lines"].tolist()
    assert len(caplog.messages) - len(ours) == 5


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", ["plain", "objective"])
def test_Monitoring_fills_the_log(name, floatX):
    case, extension = recorded_monitoring(name, floatX)
    log = monitored_run(extension)
    theirs = below(case, "trainlog")
    assert set(log.monitor) == {*theirs, "monitoring_time"}
    for channel, values in theirs.items():
        np.testing.assert_allclose(log.monitor[channel], values, rtol=RTOL[floatX], err_msg=channel)


def test_the_norm_of_the_gradients_is_the_mean_of_what_is_known():
    """After an older checkpoint is resumed, the norms of its updates are missing."""
    log = TrainLog()
    log.batch_seen = 7
    extension, recent = Monitoring(freq=3), slice(4, 7)
    assert extension._recent_grad_norm(log, recent) == {}
    for norm, mean in ((2.0, 2.0), (math.nan, 2.0), (4.0, 3.0), (5.0, 4.5)):
        log.monitor["grad_norm"].append(norm)
        assert extension._recent_grad_norm(log, recent) == {"grad_norm": mean}


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
    always = {"batch_seen", "epoch_seen", "elapsed_time", "learning_rate"}
    assert set(first) == channels | always | {"monitoring_time", "wall_time"}
    assert set(second) == set(first) | {"this_batch_cost"}
    assert (first["batch_seen"], second["batch_seen"], second["epoch_seen"]) == (0, 2, 1)
    assert second["elapsed_time"] == 0.75
    assert second["this_batch_cost"] == 1.5
    assert first["train_nll"] == second["train_nll"] == mainloop.trainlog.monitor["train_nll"][1]


def monitoring_one(value, **kwargs):
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
        extension=[],
        screen=Screen(),
        trainlog=log or TrainLog(),
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.1e8])
def test_Monitoring_ends_a_run_that_has_diverged(value):
    with pytest.raises(UserError, match=r"training has diverged; .*--lr$") as error:
        monitoring_one(value).exe(empty_mainloop())
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
    monitoring_one(value).exe(mainloop)
    np.testing.assert_array_equal(mainloop.trainlog.monitor["valid_nll"], [value])
    assert mainloop.trainlog.not_finite == count


@pytest.mark.parametrize(("on_nan", "value"), [("original", math.inf), ("skip", 1.1e8)])
def test_explosion_is_the_originals(on_nan, value):
    with pytest.raises(UserError, match="training has diverged"):
        monitoring_one(value).exe(empty_mainloop(on_nan=on_nan))


def test_the_limit_is_on_channels_not_on_what_is_made_of_them():
    """A perplexity is large at first, though its logarithm is not."""
    mainloop = empty_mainloop()
    monitoring_one(100.0, obj_monitor_fn=np.exp2, obj_monitor_ch=["perplexity"]).exe(mainloop)
    assert mainloop.trainlog.monitor["valid_perplexity"] == [2.0**100]


# Saving


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", case_names("optim", "Picklize"))
def test_Picklize(name, floatX):
    case = recorded("optim", name, floatX)
    assert picklize(name.split("/")[1], case)["files"].tolist() == case["files"].tolist()


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", case_names("optim", "EarlyStopping"))
def test_EarlyStopping(name, floatX):
    case = recorded("optim", name, floatX)
    ours = early_stopping(name.split("/")[1], case)
    assert set(ours) == set(case) - {"values"}
    for key, value in ours.items():
        assert value.tolist() == case[key].tolist(), key


@pytest.mark.parametrize("kind", [Picklize, EarlyStopping])
def test_the_folder_is_made(kind, tmp_path):
    kind(path=tmp_path / "new", freq=1)
    assert (tmp_path / "new").is_dir()


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
