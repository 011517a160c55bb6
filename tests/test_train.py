"""The main loop: order of events, its end, signals, checkpoints; with a graph of one parameter."""

import json
import logging
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import cle_port.train.signals
from cle_port.data.noise import NormalNoise, WithNoise
from cle_port.errors import UserError
from cle_port.graph import Compiler
from cle_port.layers import StemCell
from cle_port.models import Model
from cle_port.train import Training, TrainLog, checkpoint, resuming
from cle_port.train.ext import (
    EarlyStopping,
    EpochCount,
    Extension,
    GradientClipping,
    Monitoring,
    Patience,
    Picklize,
    UpdateCount,
    WeightNorm,
)
from cle_port.train.opt import Adam, Optimizer
from cle_port.train.saving import Failed
from cle_port.utils import sharedX
from tests.uncompiled import Uncompiled
from tests.units import compile_plainly

HOOKS = ("ext_monitor", "ext_save", "ext_schedule", "ext_term")


class NumberBatches(list):
    """NumberBatches of one number each."""

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
def double_precision():
    with pytensor.config.change_flags(floatX="float64"):
        yield


def mainloop_with(extension, n_batch=3, optimizer=None, max_updates=None, **kwargs):
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
    kwargs.setdefault("data", NumberBatches(n_batch))
    kwargs.setdefault("compiler", Uncompiled())
    counts = [] if max_updates is None else [UpdateCount(max_updates)]
    return Training(
        name="m",
        model=model,
        optimizer=optimizer or SGD(lr=0.25),
        cost=cost,
        outputs=cost,
        extension=[*extension, *counts] if counts and extension else counts or extension,
        quiet=True,
        **kwargs,
    )


def test_no_extension():
    """As the original's default; only ``max_updates`` or a signal ends it then."""
    mainloop = mainloop_with(None, max_updates=4)
    mainloop.run()
    assert mainloop.trainlog.batch_seen == 4


def test_an_epoch_without_a_bar():
    mainloop = mainloop_with(None)
    assert mainloop.run_epoch()
    assert mainloop.trainlog.batch_seen == 3


@pytest.mark.parametrize("arguments", [{}, {"ddout": [pt.dscalar("c")]}, {"data": []}])
def test_monitoring_without_data(arguments, caplog):
    """Only what the update returned is logged."""
    caplog.set_level(logging.INFO, "cle_port")
    mainloop = mainloop_with([Monitoring(2, **arguments), EpochCount(1)], n_batch=2)
    mainloop.run()
    assert caplog.messages.count(" Monitoring step") == 2
    assert sum(line.startswith(" this_batch_cost: ") for line in caplog.messages) == 1
    assert not [key for key in mainloop.trainlog.monitor if key.endswith("_c")]


@pytest.mark.parametrize("shape", [(None,), (2, 2)])
def test_monitoring_records_scalars_and_vectors_of_a_static_length(shape):
    channel = pt.tensor("c", shape=shape, dtype="float64")
    with pytest.raises(ValueError, match=r"^c is .*; give scalars, or vectors of a static length"):
        Monitoring(1, ddout=[channel], data=[NumberBatches(1)])


def test_monitoring_a_vector(tmp_path):
    """A list in the file, the mean over batches; scalars before and behind keep their columns."""
    channels = [pt.dscalar("a"), pt.tensor("v", shape=(2,), dtype="float64"), pt.dscalar("b")]

    def fn(x):
        return [x, np.array([x + 1, 2 * x]), x - 5]

    monitoring = Monitoring(2, channels, [NumberBatches(3)], monitor_fn=fn)
    mainloop = mainloop_with([monitoring, EpochCount(1)], trainlog=TrainLog(tmp_path / "m.jsonl"))
    mainloop.run()
    step = json.loads((tmp_path / "m.jsonl").read_text().splitlines()[-1])
    assert (step["train_a"], step["train_v"], step["train_b"]) == (1.0, [2.0, 2.0], -4.0)
    assert "train_v" not in mainloop.trainlog.monitor


def test_monitoring_of_data_needs_to_know_what():
    with pytest.raises(ValueError, match="Monitoring got data but no ddout"):
        Monitoring(1, data=[NumberBatches(1)])


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


def test_parameters_and_moments_are_written_in_place(monkeypatch):
    """XLA copies none of them before it updates: an update has one new value of each."""
    x, W = pt.tensor("x", shape=(5, 13), dtype="float64"), sharedX(np.eye(13, 7), "W")
    cost = pt.tanh(x @ W).sum()
    cost.name = "cost"
    mainloop = Training(
        name="m",
        data=NumberBatches(),
        model=Model(inputs=[x], nodes=[], params={"W": W}),
        optimizer=Adam(lr=0.1),
        cost=cost,
        outputs=cost,
        extension=[GradientClipping(batch_size=5, check_nan=1), WeightNorm()],
        compiler=Compiler("jax"),
        quiet=True,
    )
    mainloop.update([np.ones((5, 13))])
    stored = [container.storage[0] for container in mainloop.cost_fn.input_storage]
    arguments = [np.zeros((5, 13)) if value is None else value for value in stored]
    compiled = mainloop.cost_fn.vm.jit_fn.lower(*arguments).compile()
    program = compiled.as_text().split("ENTRY")[-1]
    assert "f64[13,7]" in program
    copies = [line for line in program.splitlines() if "f64[13,7]" in line and " copy(" in line]
    assert not copies


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
    monkeypatch.setattr(cle_port.train.signals, "SAME_SIGNAL_SECONDS", -1.0)

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
        [EpochCount(1)], noise={"train": noise}, about={"settings": {"lr": 0.25, "data_path": None}}
    )
    mainloop.run()
    mainloop.saving.save(tmp_path / "m.npz")
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
    caplog.set_level(logging.INFO, logger="cle_port")
    x, W = pt.dscalar("x"), sharedX([[0.3, 0.0], [0.4, 0.1]], "W")
    cost = pt.sum((W - x) ** 2)
    cost.name = "cost"
    train, valid = NumberBatches(), NumberBatches()
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
    assert [entry["best"] for entry in entries] == [0, 1, 1]
    assert [entry["learning_rate"] for entry in entries] == [0.01] * 3
    norms = log.monitor["grad_norm"]
    assert len(norms) == 8
    np.testing.assert_allclose(norms[0], np.sqrt(bound[0]), rtol=1e-14)  # 2 |W - x| / batch size
    assert "grad_norm" not in entries[0]
    for entry, four in zip(entries[1:], (norms[:4], norms[4:])):
        np.testing.assert_allclose(entry["grad_norm"], np.mean(four), rtol=1e-14)
    wall = [entry["wall_time"] for entry in entries]
    assert wall == sorted(wall)
    assert abs(wall[-1] - time.time()) < 60
    arrays, _ = checkpoint.load(tmp_path / "m_best.npz")
    np.testing.assert_array_equal(arrays["W"], W.get_value())
    assert {"adam_m/W", "adam_v/W", "adam_counter", "log/valid_cost"} < set(arrays)
    lines = [record.message for record in caplog.records if record.name.startswith("cle_port")]
    assert lines[0].startswith("Elapsed compilation time: ")
    assert lines[1:3] == ["Entering main loop", ""]
    assert lines[-1] == "Terminating main loop"
    assert f" Saving best model to: {tmp_path / 'm_best.npz'}" in lines


class Given:
    """Stands for `Monitoring`: the channel ``valid_cost`` has given values, one a step."""

    name = "valid"

    def __init__(self, values):
        self.values = iter(values)

    def __iter__(self):
        yield (np.array(next(self.values)),)


class OneBatch(NumberBatches):
    """An epoch of one batch, so that a resumed run is always at the beginning of one."""

    def go_to(self, n_epoch, n_batch):
        assert n_batch == 0


def patient_run(values, patience, every=1, resumed=None, **kwargs):
    """Train one batch an epoch with monitoring every few updates; return the main loop."""
    monitoring = Monitoring(every, [pt.dscalar("cost")], [Given(values)], monitor_fn=lambda x: [x])
    extension = [monitoring, *kwargs.pop("saving", []), Patience("valid_cost", patience)]
    mainloop = mainloop_with([*extension, EpochCount(20)], data=OneBatch(1), **kwargs)
    if resumed is not None:
        mainloop.resume(resumed)
    mainloop.run()
    return mainloop


@pytest.mark.parametrize(
    ("values", "patience", "n_update"),
    [
        ([9, 8, 7, 7.5, 7, 6], 2, 4),  # as good is not better
        ([9, 8, 7, 7.5, 6, 6.5, 6.1, 6.2], 3, 7),
        ([1, 8, 7, 6, 7, 8], 2, 5),  # before the first update nothing counts
        ([9, 8, np.nan, np.nan, 7], 2, 3),
        ([9, np.nan, np.nan], 2, 2),
    ],
)
def test_patience_ends_at_a_monitoring_step(values, patience, n_update, caplog):
    caplog.set_level(logging.INFO, "cle_port")
    mainloop = patient_run(values, patience, on_nan="original")
    assert mainloop.trainlog.batch_seen == n_update
    assert len(mainloop.trainlog.monitor["valid_cost"]) == n_update + 1
    message = f"valid_cost has not improved for {patience} monitoring steps: the run ends"
    assert caplog.messages.count(message) == 1


def test_a_signal_while_monitoring_for_the_first_time_with_patience(tmp_path):
    """Nothing is in the log yet; a checkpoint is written all the same."""

    class Interrupted(Given):
        def __iter__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            yield from super().__iter__()

    monitoring = Monitoring(1, [pt.dscalar("cost")], [Interrupted([9])], monitor_fn=lambda x: [x])
    extension = [monitoring, Patience("valid_cost", 2), Picklize(1, tmp_path), EpochCount(1)]
    mainloop = mainloop_with(extension)
    mainloop.run()
    assert mainloop.interrupted == signal.SIGTERM
    assert (tmp_path / "m.npz").is_file()


def test_the_end_by_patience_writes_each_checkpoint_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "cle_port")
    patient_run([9, 8, 8.5, 8.5], 2, saving=[Picklize(1, tmp_path, force_save_freq=3)])
    assert caplog.messages.count(f" Saving model to: {tmp_path / 'm.npz'}") == 4
    assert caplog.messages.count(f" Saving model to: {tmp_path / 'm_3updates.npz'}") == 1


def test_patience_counts_monitoring_steps_not_updates():
    assert patient_run([9, 8, 8.5, 8.5], 2, every=3).trainlog.batch_seen == 9


def test_patience_of_a_channel_to_be_maximised():
    values = {"valid_cost": [0.0, 1.0, 3.0, 2.0, 2.5]}
    log = TrainLog()
    log.monitor.update(values)
    assert Patience("valid_cost", 2, minimize=0).is_complete(log)
    assert not Patience("valid_cost", 3, minimize=0).is_complete(log)


def test_patience_without_its_channel():
    with pytest.raises(ValueError, match="no channel 'valid_nll'; there are: "):
        mainloop_with([Patience("valid_nll", 1), EpochCount(1)]).run()


def test_patience_goes_on_counting_when_resumed(tmp_path, caplog):
    values = [9, 8, 7, 7.1, 7.2, 7.3, 6, 5]
    picklize = Picklize(1, tmp_path)
    stop = At("ext_schedule", 3, lambda mainloop: os.kill(os.getpid(), signal.SIGTERM))
    patient_run(values, 3, saving=[picklize, stop])
    resumed = patient_run(values[3:], 3, saving=[picklize], resumed=tmp_path / "m.npz")
    assert resumed.trainlog.batch_seen == 5
    assert resumed.trainlog.monitor["valid_cost"] == values[:6]
    # Resumed once more it is complete; with more patience it goes on.
    again = patient_run([], 3, saving=[picklize], resumed=tmp_path / "m.npz")
    assert again.trainlog.batch_seen == 5
    assert "a larger --epoch, --max_updates or --patience continues it" in caplog.text
    more = patient_run([6, 5, 5.5, 5.5, 5.5, 5.5], 4, saving=[], resumed=tmp_path / "m.npz")
    assert more.trainlog.batch_seen == 11


def test_planned_updates():
    """What the progress bar counts up to."""
    planned = [
        mainloop_with(extension, max_updates=n).planned_updates()
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
    data = NumberBatches(0)
    data += [(np.zeros((2, 3, 1)),)] * 2
    mainloop = Training(
        name="m",
        compiler=Uncompiled(),
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
    data = NumberBatches(0)
    data += [(np.zeros((2, 3, 1)),)] * 3
    noise = NormalNoise(4, seed=1)
    drawn_after = []

    class Saving(Extension):
        name = "ext_save"

        def exe(self, mainloop):
            copy = NormalNoise(4, seed=0)
            copy.state = resuming.state(mainloop)[1]["noise"]["train"]
            drawn_after.append([copy.draw(2, 3).sum()])

    mainloop = Training(
        name="m",
        compiler=Uncompiled(),
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


# --- numbers that are not finite ------------------------------------------------------------


def with_bad_batch(tmp_path, value, on_nan, extension=(), **kwargs):
    """Six updates, of which the third sees ``value``; everything is saved before it."""
    data = NumberBatches(6)
    data[2] = (np.array(value),)
    return mainloop_with(
        [
            GradientClipping(check_nan=1),
            Picklize(freq=1000, path=tmp_path),
            EpochCount(1),
            *extension,
        ],
        data=data,
        optimizer=Adam(lr=0.1),
        on_nan=on_nan,
        **kwargs,
    )


BAD = pytest.mark.parametrize("value", [np.nan, np.inf, 1e200], ids=["nan", "inf", "overflow"])


def warnings_in(caplog):
    """What was logged as a warning: whether more is depends on tests that ran before."""
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@BAD
def test_stop_before_an_update_that_is_not_finite(value, tmp_path):
    """The checkpoint is of the state before it, and can be gone on from without it."""
    with pytest.raises(UserError, match=r"^update 3: cost is (nan|inf); the state before it is in"):
        with_bad_batch(tmp_path, value, "stop").run()
    arrays, meta = checkpoint.load(tmp_path / "m.npz")
    assert (meta["batch_seen"], meta["batch_in_epoch"], meta["not_finite"]) == (2, 2, 0)
    good = mainloop_with([GradientClipping(), EpochCount(1)], n_batch=2, optimizer=Adam(lr=0.1))
    good.run()
    for name, variable in resuming.variables(good).items():
        np.testing.assert_array_equal(arrays[name], variable.get_value(), err_msg=name)


def test_stop_where_only_the_gradient_is_not_finite(tmp_path):
    """(w - x)**2 is 1.69e308, twice w - x squared is not."""
    with pytest.raises(UserError, match=r"^update 3: the norm of the gradients is inf; "):
        with_bad_batch(tmp_path, 1.3e154, "stop").run()


@BAD
def test_skip_an_update_that_is_not_finite(value, tmp_path, caplog):
    """As if the batch had not been there, but that it counts as seen."""
    mainloop = with_bad_batch(tmp_path, value, "skip")
    mainloop.run()
    log = mainloop.trainlog
    assert (log.batch_seen, log.epoch_seen, log.not_finite) == (6, 1, 1)
    cost = "nan" if np.isnan(value) else "inf"
    assert warnings_in(caplog) == [f"update 3: cost is {cost}: the update is left out"]
    data = NumberBatches(6)
    del data[2]
    without = with_bad_batch(tmp_path / "without", 0.0, "skip")
    without.data = data
    without.run()
    for name, variable in resuming.variables(without).items():
        ours = resuming.variables(mainloop)[name].get_value()
        np.testing.assert_array_equal(ours, variable.get_value(), err_msg=name)


def test_original_makes_an_update_that_is_not_finite(tmp_path):
    """Gradients are replaced by a tenth of the parameters; what is carried on is spoiled."""
    mainloop = with_bad_batch(tmp_path, np.nan, "original")
    mainloop.run()
    assert mainloop.trainlog.not_finite == 1
    assert np.isfinite(mainloop.model.params["w"].get_value())
    assert np.isnan(checkpoint.load(tmp_path / "m.npz")[0]["state/total"])


def test_means_are_of_the_updates_that_were_made(tmp_path):
    x = pt.dscalar("channel")
    valid = NumberBatches(1)
    valid.name = "valid"
    monitoring = Monitoring(freq=6, ddout=[x], data=[valid], monitor_fn=lambda x: [x])
    mainloop = with_bad_batch(
        tmp_path, np.nan, "skip", [monitoring], trainlog=TrainLog(tmp_path / "m.jsonl")
    )
    mainloop.run()
    entries = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    costs = np.ravel(mainloop.trainlog.monitor["update"])
    assert entries[-1]["this_batch_cost"] == pytest.approx(np.nanmean(costs), rel=1e-15)
    assert ("not_finite" in entries[0], entries[-1]["not_finite"]) == (False, 1)


def test_no_checkpoint_is_replaced_by_one_that_is_of_no_use(tmp_path):
    """Parameters can be spoiled by finite gradients: a rate of 1e308, say."""
    mainloop = mainloop_with(
        [GradientClipping(scaler=1e3), Picklize(freq=1, path=tmp_path), EpochCount(1)],
        optimizer=SGD(lr=1e308),
    )
    with pytest.raises(UserError, match=r"^w has entries that are not finite after 1 updates"):
        mainloop.run()
    assert checkpoint.load(tmp_path / "m.npz")[0]["w"] == 1.0


def test_unknown_on_nan():
    with pytest.raises(ValueError, match="unknown on_nan 'ignore'; choose one of stop, skip, orig"):
        mainloop_with([], on_nan="ignore")


def test_the_rescue_tells_of_its_own_file_only(tmp_path):
    """The best model may wait for the disk; the state before the update is written."""
    mainloop = with_bad_batch(tmp_path, np.nan, "stop")
    mainloop.saving._note_failure(Failed(tmp_path / "b.npz", ({}, {}), OSError(28, "full")), "best")
    with pytest.raises(UserError, match=r"the state before it is in .*m\.npz"):
        mainloop.run()


# --- a disk that refuses --------------------------------------------------------------------


class Disk:
    """Stands for `checkpoint.save`; refuses while it is full, and notes what was asked of it."""

    def __init__(self, monkeypatch, full):
        self.full = full
        self.tries = []
        self.save = checkpoint.save
        monkeypatch.setattr("cle_port.train.saving.checkpoint.save", self)

    def __call__(self, path, arrays, meta):
        self.tries.append((path.name, meta["batch_seen"]))
        if self.full:
            raise OSError(28, "No space left on device")
        self.save(path, arrays, meta)


def test_a_full_disk_is_tried_again_at_the_next_update(tmp_path, monkeypatch, caplog):
    disk = Disk(monkeypatch, full=True)

    def free(mainloop):
        disk.full = False

    mainloop = mainloop_with(
        [Picklize(freq=100, path=tmp_path), At("ext_schedule", 2, free), EpochCount(1)],
        max_updates=3,
    )
    mainloop.run()
    assert disk.tries == [("m.npz", 0), ("m.npz", 0), ("m.npz", 0), ("m.npz", 3)]
    first = warnings_in(caplog)[0]
    assert "cannot write" in first
    assert "(No space left on device): training goes on and tries again" in first
    assert checkpoint.load(tmp_path / "m.npz")[1]["batch_seen"] == 3


def test_what_is_tried_again_is_what_was_to_be_written(tmp_path, monkeypatch, caplog):
    """The best model of then, not the parameters of now."""
    disk = Disk(monkeypatch, full=True)
    mainloop = mainloop_with([], max_updates=3)
    mainloop.saving.save(tmp_path / "m_best.npz", "best model")
    w = mainloop.model.params["w"].get_value()
    mainloop.update((np.array(0.0),))
    disk.full = False
    mainloop.saving.retry()
    assert checkpoint.load(tmp_path / "m_best.npz")[0]["w"] == w
    assert "written after all" in warnings_in(caplog)[-1]
    assert not mainloop.saving.failed


def test_a_file_of_one_kind_does_not_stand_for_another(tmp_path, monkeypatch, caplog):
    """Files to keep have names of their own; one that is given up for the next is told."""
    disk = Disk(monkeypatch, full=True)
    mainloop = mainloop_with([], max_updates=3)
    mainloop.saving.save(tmp_path / "m_10updates.npz", "model to keep")
    disk.full = False
    mainloop.saving.save(tmp_path / "m_20updates.npz", "model to keep")
    assert [entry.path.name for entry in mainloop.saving.failed.values()] == ["m_10updates.npz"]
    mainloop.saving.retry()
    assert sorted(os.listdir(tmp_path)) == ["m_10updates.npz", "m_20updates.npz"]
    disk.full = True
    for n in (30, 40):
        mainloop.saving.save(tmp_path / f"m_{n}updates.npz", "model to keep")
    assert warnings_in(caplog)[-1] == f"given up for the next one: {tmp_path / 'm_30updates.npz'}"


def test_tries_become_rarer(tmp_path, monkeypatch):
    """Else a full disk would be written to all the time."""
    disk = Disk(monkeypatch, full=True)
    saving = mainloop_with([]).saving
    saving._write(tmp_path / "m.npz", ({}, {"batch_seen": 0}), "model")
    tried = []
    for n in range(1, 40):
        before = len(disk.tries)
        saving.retry()
        tried += [n] * (len(disk.tries) - before)
    assert tried == [1, 3, 7, 15, 31]


def test_a_run_whose_last_checkpoint_could_not_be_written_ends_with_an_error(tmp_path, monkeypatch):
    Disk(monkeypatch, full=True)
    mainloop = mainloop_with([Picklize(freq=1, path=tmp_path), EpochCount(1)])
    with pytest.raises(UserError, match=r"m\.npz \(No space left on device\): what was trained"):
        mainloop.run()
    assert mainloop.trainlog.batch_seen == 3


def test_a_folder_in_the_place_of_the_checkpoint(tmp_path):
    (tmp_path / "m.npz" / "full").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cannot write .*m\.npz \(Is a directory\)"):
        mainloop_with([Picklize(freq=1, path=tmp_path), EpochCount(1)]).run()
    assert os.listdir(tmp_path) == ["m.npz"]


@pytest.mark.skipif(os.name != "posix", reason="Windows does not remove what is open")
def test_a_folder_that_is_removed_is_made_again(tmp_path, caplog):
    """Checkpoint and log are both whole at the end."""
    folder = tmp_path / "run"
    valid = NumberBatches(1)
    valid.name = "valid"
    monitoring = Monitoring(freq=1, ddout=[pt.dscalar("c")], data=[valid], monitor_fn=lambda x: [x])
    mainloop = mainloop_with(
        [
            monitoring,
            Picklize(freq=1, path=folder),
            At("ext_schedule", 2, lambda mainloop: shutil.rmtree(folder)),
            EpochCount(1),
        ],
        trainlog=TrainLog(folder / "m.jsonl"),
    )
    mainloop.run()
    assert f"the folder {folder} was gone; it is made again" in caplog.messages
    assert checkpoint.load(folder / "m.npz")[1]["batch_seen"] == 3
    lines = [json.loads(line) for line in (folder / "m.jsonl").read_text().splitlines()]
    assert [line["batch_seen"] for line in lines] == [0, 1, 2, 3]


def test_a_clock_that_is_set_back(tmp_path, monkeypatch):
    """No duration is taken from it."""
    mainloop = mainloop_with([Picklize(freq=1, path=tmp_path), EpochCount(1)])
    monkeypatch.setattr(time, "time", lambda: 0.0)
    mainloop.run()
    assert all(0 <= seconds < 60 for seconds in mainloop.trainlog.monitor["time"])


@pytest.mark.parametrize("links", [True, False])
def test_recent_checkpoints_are_kept(links, tmp_path, monkeypatch):
    """The last two, under names of their own; others' files are left alone."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError(95, "no")))
    foreign = ["m_recent_best.npz", "m2_recent_0updates.npz"]
    for name in foreign:
        (tmp_path / name).write_bytes(b"")
    extension = [Picklize(freq=1, path=tmp_path, keep=2), EpochCount(4)]
    mainloop_with(extension).run()
    kept = ["m_recent_11updates.npz", "m_recent_12updates.npz"]
    assert sorted(os.listdir(tmp_path)) == sorted(["m.npz", *kept, *foreign])
    for n, name in zip((11, 12), kept):
        assert checkpoint.load(tmp_path / name)[1]["batch_seen"] == n


def test_recent_checkpoints_of_a_run_that_was_given_up_go_first(tmp_path):
    """They have higher numbers than those of the run that went on from an earlier checkpoint."""
    for n in (100, 200):
        (tmp_path / f"m_recent_{n}updates.npz").write_bytes(b"")
    mainloop_with([Picklize(freq=1, path=tmp_path, keep=2), EpochCount(1)], max_updates=2).run()
    kept = ["m_recent_1updates.npz", "m_recent_2updates.npz"]
    assert sorted(os.listdir(tmp_path)) == ["m.npz", *kept]


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
