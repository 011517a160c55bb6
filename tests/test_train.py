"""The main loop: order of events, its end, signals, checkpoints; with a graph of one parameter."""

import json
import logging
import os
import signal
import threading

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import cle_port.train
from cle_port import checkpoint
from cle_port.backend import compile_function
from cle_port.errors import UserError
from cle_port.layers import StemCell
from cle_port.models import Model
from cle_port.rng import NormalNoise, WithNoise
from cle_port.train import Training, TrainLog
from cle_port.train.ext import (
    EarlyStopping,
    EpochCount,
    Extension,
    GradientClipping,
    Monitoring,
    Picklize,
    WeightNorm,
)
from cle_port.train.opt import Adam, Optimizer
from cle_port.utils import sharedX
from tests.units import compile_plainly

HOOKS = ("ext_monitor", "ext_save", "ext_schedule", "ext_term")


class Batches(list):
    """Batches of one number each."""

    name = "train"

    def __init__(self, n=3):
        super().__init__((np.array(float(i)),) for i in range(n))


class SGD(Optimizer):
    """The simplest optimizer, with a counter as its state."""

    def get_updates(self, grads):
        self.state["counter"] = count = sharedX(0.0)
        return {p: p - self.lr * g for p, g in grads.items()} | {count: count + 1}


class Note(Extension):
    """Notes when it is run, and what was seen until then."""

    def __init__(self, name, events):
        self.name = name
        self.events = events

    def exe(self, mainloop):
        log = mainloop.trainlog
        self.events.append((self.name, log.epoch_seen, log.batch_seen))


class At(Extension):
    """Does something after so many updates."""

    def __init__(self, name, n, action):
        self.name = name
        self.n = n
        self.action = action

    def exe(self, mainloop):
        if mainloop.trainlog.batch_seen == self.n:
            self.action(mainloop)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Double precision, and no compiler."""
    monkeypatch.setattr(cle_port.train, "compile_function", compile_plainly)
    with pytensor.config.change_flags(floatX="float64"):
        yield


def mainloop_with(extension, n_batch=3, optimizer=None, **kwargs):
    """A main loop that minimises (w - x)**2 over a number w, and carries on a sum of x."""
    x, w, total = pt.dscalar("x"), sharedX(1.0, "w"), sharedX(0.0, "total")
    cost = (w - x) ** 2
    cost.name = "cost"
    model = Model(
        inputs=[x],
        nodes=[StemCell(name="node", lr_scaler=0.25)],
        params={"w": w},
        updates={total: total + x},
    )
    kwargs.setdefault("data", Batches(n_batch))
    return Training(
        name="m",
        model=model,
        optimizer=optimizer or SGD(lr=0.25),
        cost=cost,
        outputs=cost,
        extension=extension,
        quiet=True,
        **kwargs,
    )


def test_order_of_events():
    """Monitor, save, update, schedule; after the last epoch monitor and save once more."""
    events = []
    mainloop = mainloop_with([*(Note(name, events) for name in HOOKS), EpochCount(2)], n_batch=2)
    assert events == []
    update = mainloop.update

    def noted(batch):
        events.append(("update", *events[-1][1:]))
        return update(batch)

    mainloop.update = noted
    mainloop.run()
    expected = []
    for epoch in (0, 1):
        for n in (2 * epoch, 2 * epoch + 1):
            expected += [(what, epoch, n) for what in ("ext_monitor", "ext_save", "update")]
            expected.append(("ext_schedule", epoch, n + 1))
        expected.append(("ext_term", epoch + 1, 2 * epoch + 2))
    expected += [("ext_monitor", 2, 4), ("ext_save", 2, 4)]
    assert events == expected
    assert mainloop.endloop
    assert mainloop.interrupted is None


def test_extensions_on_gradients_and_updates_run_while_the_graph_is_built():
    events = []
    names = ("ext_regularize_pre_grad", "ext_grad", "ext_regularize_post_grad")

    class Look(Note):
        def exe(self, mainloop):
            has_grads, n = hasattr(mainloop, "grads"), len(mainloop.updates)
            self.events.append((self.name, has_grads, n))

    mainloop = mainloop_with([Look(name, events) for name in reversed(names)])
    # The model's own update comes first; those of parameters and state are added to it.
    assert events == [(names[0], False, 1), (names[1], True, 1), (names[2], True, 3)]
    assert [v.name for v in mainloop.updates] == ["total", "w", None]


def test_updates():
    """Two steps of gradient descent by hand; outputs are those before the update."""
    mainloop = mainloop_with([EpochCount(1)], n_batch=2)
    mainloop.run()
    w = 1.0
    costs = []
    for x in (0.0, 1.0):
        costs.append([(w - x) ** 2])
        w -= 0.25 * 2 * (w - x)
    log = mainloop.trainlog
    assert log.monitor["update"] == costs
    assert len(log.monitor["time"]) == 2
    assert all(seconds >= 0 for seconds in log.monitor["time"])
    assert mainloop.model.params["w"].get_value() == w
    assert (log.batch_seen, log.epoch_seen) == (2, 1)


def test_update_returns_its_outputs():
    assert mainloop_with([]).update((np.array(3.0),)) == [4.0]


def test_raw_gradients_are_kept():
    mainloop = mainloop_with([GradientClipping(scaler=1)])
    w = mainloop.model.params["w"]
    fn = compile_plainly(mainloop.inputs, [mainloop.raw_grads[w], mainloop.grads[w]])
    raw, clipped = fn(np.array(-2.0))
    assert (raw, clipped) == (6.0, 1.0)


def test_lr_scalers_are_those_of_the_nodes_and_find_no_parameter():
    mainloop = mainloop_with([], optimizer=Adam(lr=0.5))
    assert mainloop.optimizer.lr_scalers == {"node": 0.25}
    mainloop.update((np.array(0.0),))
    np.testing.assert_allclose(mainloop.model.params["w"].get_value(), 0.5, rtol=1e-7)


@pytest.mark.parametrize(
    ("max_updates", "n_update", "epochs"),
    [(1, 1, 0), (3, 3, 1), (4, 4, 1), (100, 6, 2), (None, 6, 2)],
)
def test_max_updates(max_updates, n_update, epochs):
    events = []
    mainloop = mainloop_with(
        [Note("ext_monitor", events), Note("ext_save", events), EpochCount(2)],
        max_updates=max_updates,
    )
    mainloop.run()
    log = mainloop.trainlog
    assert (log.batch_seen, log.epoch_seen) == (n_update, epochs)
    assert [event for event, *_ in events].count("ext_monitor") == n_update + 1
    assert events[-1] == ("ext_save", epochs, n_update)


def test_EpochCount_ends_at_multiples():
    """A log continued after the first epoch: the end is the second, not the third."""
    log = TrainLog()
    log.epoch_seen, log.batch_seen = 1, 3
    mainloop = mainloop_with([EpochCount(2)], trainlog=log)
    mainloop.run()
    assert (log.epoch_seen, log.batch_seen) == (2, 6)


def kill(number):
    return lambda mainloop: os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_after_the_update(number, tmp_path):
    """Nothing more is monitored, a checkpoint is written; handlers are those of before."""
    events = []
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    mainloop = mainloop_with(
        [
            Note("ext_monitor", events),
            Picklize(freq=1000, path=tmp_path),
            At("ext_schedule", 2, kill(number)),
            EpochCount(5),
        ]
    )
    mainloop.run()
    assert mainloop.interrupted is number
    assert mainloop.trainlog.batch_seen == 2
    assert [n for *_, n in events] == [0, 1]
    arrays, meta = checkpoint.load(tmp_path / "m.npz")
    assert meta["batch_seen"] == 2
    assert arrays["w"] == mainloop.model.params["w"].get_value()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_signal_during_an_update_lets_it_finish(tmp_path):
    mainloop = mainloop_with([Picklize(freq=1000, path=tmp_path), EpochCount(5)])
    cost_fn = mainloop.cost_fn

    def slow(x):
        os.kill(os.getpid(), signal.SIGINT)
        return cost_fn(x)

    mainloop.cost_fn = slow
    mainloop.run()
    assert mainloop.trainlog.batch_seen == 1
    assert checkpoint.load(tmp_path / "m.npz")[0]["counter"] == 1


def test_signal_while_monitoring(tmp_path):
    """No further update is made."""
    mainloop = mainloop_with(
        [
            At("ext_monitor", 0, kill(signal.SIGINT)),
            Picklize(freq=1000, path=tmp_path),
            EpochCount(5),
        ]
    )
    mainloop.run()
    assert mainloop.interrupted is signal.SIGINT
    assert mainloop.trainlog.batch_seen == 0
    assert (tmp_path / "m.npz").exists()


def test_signal_that_comes_doubled_is_one(tmp_path):
    """As from `timeout`, which signals the process and its group."""

    def twice(mainloop):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    mainloop = mainloop_with(
        [Picklize(freq=1000, path=tmp_path), At("ext_schedule", 1, twice), EpochCount(5)]
    )
    mainloop.run()
    assert mainloop.interrupted is signal.SIGTERM
    assert checkpoint.load(tmp_path / "m.npz")[1]["batch_seen"] == 1


def test_second_signal_stops_at_once(monkeypatch):
    monkeypatch.setattr(cle_port.train, "SAME_SIGNAL_SECONDS", -1.0)

    def twice(mainloop):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    mainloop = mainloop_with([At("ext_schedule", 1, twice), EpochCount(5)])
    with pytest.raises(KeyboardInterrupt):
        mainloop.run()
    assert signal.getsignal(signal.SIGINT) is handler


def test_other_threads_leave_signals_alone():
    mainloop = mainloop_with([EpochCount(1)])
    thread = threading.Thread(target=mainloop.run)
    thread.start()
    thread.join()
    assert mainloop.trainlog.batch_seen == 3


def test_checkpoint_holds_everything(tmp_path):
    noise = NormalNoise(2, seed=1)
    mainloop = mainloop_with(
        [EpochCount(1)], noise={"train": noise}, settings={"lr": 0.25, "data_path": None}
    )
    mainloop.run()
    mainloop.save(tmp_path / "m.npz")
    arrays, meta = checkpoint.load(tmp_path / "m.npz")
    log = mainloop.trainlog
    log_arrays = ["log/time", "log/update", "log_lines"]
    assert list(arrays) == ["w", "counter", "optimizer/lr", "state/total", *log_arrays]
    assert arrays["w"] == mainloop.model.params["w"].get_value()
    assert arrays["counter"] == 3
    assert arrays["state/total"] == 0 + 1 + 2
    np.testing.assert_array_equal(arrays["log/update"], log.monitor["update"])
    assert meta == {
        "format_version": checkpoint.FORMAT_VERSION,
        "program": "m",
        "settings": {"lr": 0.25, "data_path": None},
        "data_id": "",
        "params": ["w"],
        "best": {},
        "epoch_seen": 1,
        "batch_seen": 3,
        "batch_in_epoch": 0,
        "monitored_at": -1,
        "not_finite": 0,
        "n_line": 0,
        "n_logged": {"time": 3, "update": 3},
        "noise": {"train": noise.state},
    }


def test_all_extensions_together(tmp_path, monkeypatch, caplog):
    """As the programs put them together, compiled as the programs do."""
    monkeypatch.setattr(cle_port.train, "compile_function", compile_function)
    caplog.set_level(logging.INFO, logger="cle_port")
    x, W = pt.dscalar("x"), sharedX([[0.3, 0.0], [0.4, 0.1]], "W")
    cost = pt.sum((W - x) ** 2)
    cost.name = "cost"
    train, valid = Batches(), Batches()
    train[:] = valid[:] = [(np.array(3.0),)] * 4
    valid.name = "valid"
    mainloop = Training(
        name="m",
        data=train,
        model=Model(inputs=[x], params={"W": W}),
        optimizer=Adam(lr=0.01),
        cost=cost,
        outputs=cost,
        extension=[
            GradientClipping(batch_size=2, check_nan=1),
            EpochCount(2),
            Monitoring(freq=4, ddout=[cost], data=[valid]),
            Picklize(freq=4, path=tmp_path, force_save_freq=4),
            EarlyStopping(freq=4, path=tmp_path, channel="valid_cost"),
            WeightNorm(weight_norm=0.5),
        ],
        trainlog=TrainLog(tmp_path / "m.jsonl"),
        quiet=True,
    )
    mainloop.run()
    log = mainloop.trainlog
    norms = np.linalg.norm(W.get_value(), axis=0)
    np.testing.assert_allclose(norms[0], 0.5, rtol=1e-6)
    assert 0.15 < norms[1] < 0.5
    bound = log.monitor["valid_cost"]
    np.testing.assert_allclose(bound[0], 2.7**2 + 2.6**2 + 3**2 + 2.9**2, rtol=1e-14)
    assert len(bound) == 3
    assert bound[2] < bound[1] < bound[0]
    # Nothing is best before the first update; the file to keep comes after both fours.
    assert sorted(os.listdir(tmp_path)) == [
        "m.jsonl",
        "m.npz",
        "m_4updates.npz",
        "m_8updates.npz",
        "m_best.npz",
    ]
    entries = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [entry["valid_cost"] for entry in entries] == bound
    assert [entry["batch_seen"] for entry in entries] == [0, 4, 8]
    arrays, _ = checkpoint.load(tmp_path / "m_best.npz")
    np.testing.assert_array_equal(arrays["W"], W.get_value())
    assert {"adam_m/W", "adam_v/W", "adam_counter", "log/valid_cost"} < set(arrays)
    lines = [record.message for record in caplog.records if record.name.startswith("cle_port")]
    assert lines[0].startswith("Elapsed compilation time: ")
    assert lines[1:3] == ["Entering main loop", ""]
    assert lines[-1] == "Terminating main loop"
    assert f" Saving best model to: {tmp_path / 'm_best.npz'}" in lines


def test_planned_updates():
    """What the progress bar counts up to."""
    planned = [
        mainloop_with(extension, max_updates=n)._planned_updates()
        for extension in ([EpochCount(2)], [])
        for n in (None, 4, 100)
    ]
    assert planned == [6, 4, 6, None, 4, 100]


def test_default_log_is_new():
    assert mainloop_with([]).trainlog is not mainloop_with([]).trainlog


def test_debug_print(capsys):
    """The graphs of the cost, the model's own update, the parameter's and the counter's."""
    mainloop_with([], debug_print=1)
    tree = capsys.readouterr().out
    assert "cost" in tree
    assert "total" in tree


def test_data_with_noise():
    """Noise comes as the last input; a run goes on in its stream at each epoch."""
    x, eps = pt.dtensor3("x"), pt.dtensor3("eps")
    w = sharedX(0.0, "w")
    cost = pt.mean(x * w) + pt.sum(eps)
    cost.name = "cost"
    data = Batches(0)
    data += [(np.zeros((2, 3, 1)),)] * 2
    mainloop = Training(
        name="m",
        data=WithNoise(data, NormalNoise(4, seed=1)),
        model=Model(inputs=[x, eps], params={"w": w}),
        optimizer=SGD(lr=0.0),
        cost=cost,
        outputs=[cost],
        extension=[EpochCount(2)],
        quiet=True,
    )
    mainloop.run()
    noise = NormalNoise(4, seed=1)
    expected = [[noise.draw(2, 3).sum()] for _ in range(4)]
    np.testing.assert_allclose(mainloop.trainlog.monitor["update"], expected, rtol=1e-13)


def test_a_checkpoint_has_the_noise_before_the_next_batch():
    """So that whoever continues from it draws what this run draws next."""
    x, eps = pt.dtensor3("x"), pt.dtensor3("eps")
    w = sharedX(0.0, "w")
    cost = pt.mean(x * w) + pt.sum(eps)
    cost.name = "cost"
    data = Batches(0)
    data += [(np.zeros((2, 3, 1)),)] * 3
    noise = NormalNoise(4, seed=1)
    drawn_after = []

    class Saving(Extension):
        name = "ext_save"

        def exe(self, mainloop):
            copy = NormalNoise(4, seed=0)
            copy.state = mainloop.state()[1]["noise"]["train"]
            drawn_after.append([copy.draw(2, 3).sum()])

    mainloop = Training(
        name="m",
        data=WithNoise(data, noise),
        model=Model(inputs=[x, eps], params={"w": w}),
        optimizer=SGD(lr=0.0),
        cost=cost,
        outputs=[cost],
        extension=[Saving(), EpochCount(1)],
        noise={"train": noise},
        quiet=True,
    )
    mainloop.run()
    np.testing.assert_allclose(drawn_after[:3], mainloop.trainlog.monitor["update"], rtol=1e-13)


def test_TrainLog_has_no_numbers_that_JSON_lacks(tmp_path):
    log = TrainLog(tmp_path / "m.jsonl")
    log.write({"a": float("nan"), "b": float("-inf"), "c": 1.0})
    line = json.loads((tmp_path / "m.jsonl").read_text(), parse_constant=pytest.fail)
    assert (line["a"], line["b"], line["c"]) == (None, None, 1.0)


def test_TrainLog_that_cannot_be_written(tmp_path, caplog):
    """Warned of once; an error at the end; written as soon as that is possible."""
    log = TrainLog(tmp_path / "m.jsonl")
    log.write({"a": 1.0})
    (tmp_path / "m.jsonl").unlink()
    (tmp_path / "m.jsonl").mkdir()
    log.write({"a": 2.0})
    log.flush()
    assert caplog.text.count("training goes on") == 1
    with pytest.raises(UserError, match="choose another --save_path"):
        log.flush(last=True)
    (tmp_path / "m.jsonl").rmdir()
    log.flush(last=True)
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    assert [json.loads(line)["a"] for line in lines] == [1.0, 2.0]


def test_TrainLog_appends_lines(tmp_path):
    log = TrainLog(tmp_path / "m.jsonl")
    log.write({"a": 1.5})
    log.batch_seen, log.epoch_seen = 3, 1
    log.write({"b": 2})
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"batch_seen": 0, "epoch_seen": 0, "a": 1.5},
        {"batch_seen": 3, "epoch_seen": 1, "b": 2},
    ]


def test_TrainLog_without_a_file_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TrainLog().write({"a": 1})
    assert os.listdir(tmp_path) == []
