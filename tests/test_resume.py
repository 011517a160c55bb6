"""A run that was stopped and resumed is the run that was not: a small graph, and the programs."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import cle_port.train
import cle_port.train.ext
from cle_port import checkpoint
from cle_port.data import DesignMatrix, Iterator
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
)
from cle_port.train.opt import Adam
from cle_port.utils import sharedX
from models import program, vrnn_gmm
from models.settings import parse
from tests.test_programs import NETS, OF_DATASET, flags, folders, name_of  # noqa: F401
from tests.units import compile_plainly

FREQ = 3
N_BATCH = 5
N_UPDATE = 2 * N_BATCH
TIMES = ("log/time", "log/monitoring_time", "log_lines")


@pytest.fixture
def quick(monkeypatch):
    """Double precision, and no compiler."""
    for module in (cle_port.train, cle_port.train.ext):
        monkeypatch.setattr(module, "compile_function", compile_plainly)
    with pytensor.config.change_flags(floatX="float64"):
        yield


class Frames(DesignMatrix):
    """Batches (2, 3, 1), in a new order at each pass if they are shuffled."""

    def __init__(self, name):
        super().__init__(name)

    def load(self, path):
        return [np.random.default_rng(0).normal(size=(2 * N_BATCH, 3, 1))]


class At(Extension):
    """Does something after so many updates."""

    def __init__(self, name, n, action):
        self.name = name
        self.n = n
        self.action = action

    def exe(self, mainloop):
        if mainloop.trainlog.batch_seen == self.n:
            self.action(mainloop)


def interrupt(mainloop):
    os.kill(os.getpid(), signal.SIGTERM)


def make(folder: Path, *more: Extension, name="m", max_updates=None, epoch=2, **kwargs) -> Training:
    """A main loop with all that a run carries on.

    The parameter learns from data in random order, noise and a state that is reset at
    every second update; monitoring takes its noise from the same stream.
    """
    x, eps, w = pt.dtensor3("x"), pt.dtensor3("eps"), sharedX(0.5, "w")
    step_count, total = sharedX(0.0, "step_count"), sharedX(0.0, "total")
    carried = pt.switch(pt.eq(pt.mod(step_count, 2), 0), 0.0, total)
    cost = pt.mean((w * x + 0.1 * carried - eps) ** 2)
    cost.name = "cost"
    noise = NormalNoise(1, seed=3)
    train = Iterator(Frames("train"), 2, shuffle=True, rng=np.random.default_rng(5))
    valid = Iterator(Frames("valid"), 5)
    folder.mkdir(exist_ok=True)
    extension = [
        GradientClipping(batch_size=2),
        EpochCount(epoch),
        Monitoring(freq=FREQ, ddout=[cost], data=[WithNoise(valid, noise)]),
        Picklize(freq=FREQ, path=folder, force_save_freq=4),
        EarlyStopping(freq=FREQ, path=folder, channel="valid_cost", force_save_freq=6),
        *more,
    ]
    return Training(
        name=name,
        data=WithNoise(train, noise),
        model=Model(
            inputs=[x, eps],
            params={"w": w},
            updates={step_count: step_count + 1, total: x.sum() + 0.5 * total},
        ),
        optimizer=Adam(lr=0.1),
        cost=cost,
        outputs=[cost],
        extension=extension,
        trainlog=TrainLog(folder / f"{name}.jsonl"),
        noise={"train": noise},
        max_updates=max_updates,
        quiet=True,
        **kwargs,
    )


def resume(mainloop: Training, path: Path) -> Training:
    mainloop.resume(path)
    mainloop.run()
    return mainloop


def log_of(folder: Path, name="m") -> list[dict]:
    """The lines of the log, without what takes a different time each time."""
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith("_time")} for line in lines]


def assert_same(folder: Path, other: Path, file="m.npz", best=True) -> None:
    """Bit for bit, but for times."""
    (ours, our_meta), (theirs, their_meta) = (checkpoint.load(at / file) for at in (folder, other))
    assert set(ours) == set(theirs)
    for name in set(ours) - set(TIMES):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert {**our_meta, "settings": 0, "best": 0} == {**their_meta, "settings": 0, "best": 0}
    assert not best or our_meta["best"] == their_meta["best"]
    name = file.removesuffix(".npz")
    assert log_of(folder, name) == log_of(other, name)


@pytest.fixture
def whole(quick, tmp_path):
    """The run that nobody stops."""
    make(tmp_path / "whole").run()
    assert [line["batch_seen"] for line in log_of(tmp_path / "whole")] == [0, 3, 6, 9, 10]
    return tmp_path / "whole"


@pytest.mark.parametrize("n", range(1, N_UPDATE + 1))
def test_two_runs_are_one(n, whole, tmp_path):
    """Stopped by a limit: within an epoch, between two, at a monitoring step, at the end."""
    make(tmp_path / "two", max_updates=n).run()
    assert log_of(tmp_path / "two")[-1]["batch_seen"] == n
    resume(make(tmp_path / "two"), tmp_path / "two" / "m.npz")
    assert_same(tmp_path / "two", whole, best=False)


@pytest.mark.parametrize("n", [0, 2, 3, 5, 10])
@pytest.mark.parametrize("point", ["ext_monitor", "ext_save", "ext_schedule"])
def test_a_signal_at_any_time(n, point, whole, tmp_path):
    first = make(tmp_path / "two", At(point, n, interrupt))
    # Before the pass instead of behind it: the signal comes while it goes on.
    first.extension.insert(0, first.extension.pop())
    first.run()
    assert first.interrupted or (n, point) == (0, "ext_schedule")
    resume(make(tmp_path / "two"), tmp_path / "two" / "m.npz")
    assert_same(tmp_path / "two", whole)
    assert sorted(os.listdir(tmp_path / "two")) == sorted(os.listdir(whole))
    for file in ("m_best.npz", "m_best_before_6updates.npz", "m_4updates.npz"):
        arrays, expected = (checkpoint.load(at / file)[0]["w"] for at in (tmp_path / "two", whole))
        assert arrays == expected


class Killed(BaseException):
    """Nothing is done any more, as after SIGKILL."""


def kill(mainloop):
    raise Killed


@pytest.mark.parametrize("n", [1, 3, 5, 10])
@pytest.mark.parametrize("point", ["ext_monitor", "ext_save", "ext_schedule"])
def test_killed_at_any_time(n, point, whole, tmp_path, caplog):
    """Lines after the checkpoint are dropped, a torn one, too, and written again."""
    with pytest.raises(Killed):
        make(tmp_path / "two", At(point, n, kill)).run()
    with (tmp_path / "two" / "m.jsonl").open("a") as log:
        log.write('{"batch_seen": 99}\n{"batch_se')
    resume(make(tmp_path / "two"), tmp_path / "two" / "m.npz")
    assert " and a torn one" in caplog.text
    assert_same(tmp_path / "two", whole)


# --- the programs ---------------------------------------------------------------------------


def train(script, dataset, folders, save_path, *more, **settings) -> Path:  # noqa: F811
    name = name_of(script)
    argv = [*flags(dataset, folders[dataset], save_path, **settings), *more]
    assert program.run(name, NETS[script], script.WIDTHS, "", argv) == 0
    return save_path


def check_program(script, dataset, folders, tmp_path):  # noqa: F811
    """Stopped within an epoch where the state is carried on and nothing is monitored."""
    name = name_of(script)
    whole = train(script, dataset, folders, tmp_path / "whole", max_updates=9)
    two = train(script, dataset, folders, tmp_path / "two", max_updates=5)
    argv = ["--resume", str(two / f"{name}_1.npz"), "--max_updates", "9"]
    assert program.run(name, NETS[script], script.WIDTHS, "", argv) == 0
    assert_same(two, whole, f"{name}_1.npz", best=False)


@pytest.mark.full
def test_program_resumes(folders, tmp_path):  # noqa: F811
    """Compiled once: stopped and resumed; then all over from the checkpoint before any update."""
    argv = flags("blizzard", folders["blizzard"], tmp_path, max_updates=5, keep=9)
    args = parse(argv, "", vrnn_gmm.WIDTHS)
    with pytensor.config.change_flags(floatX="float32"):
        mainloop = program.make_mainloop("vrnn_gmm", NETS[vrnn_gmm], args)
        mainloop.run()
        mainloop.max_updates = 9
        for start, folder in (("", "two"), ("_recent_0updates", "whole")):
            mainloop.endloop = 0
            resume(mainloop, tmp_path / f"vrnn_gmm_1{start}.npz")
            (tmp_path / folder).mkdir()
            for file in tmp_path.glob("vrnn_gmm_1.*"):
                shutil.copy(file, tmp_path / folder)
    assert_same(tmp_path / "two", tmp_path / "whole", "vrnn_gmm_1.npz", best=False)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", OF_DATASET)
@pytest.mark.parametrize("script", NETS, ids=name_of)
def test_every_program_resumes(script, dataset, folders, tmp_path):  # noqa: F811
    check_program(script, dataset, folders, tmp_path)
