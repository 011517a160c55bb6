"""A run that was stopped and resumed is the run that was not: a small graph, and the programs."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.data import DesignMatrix, Iterator
from cle_port.data.noise import NormalNoise, WithNoise
from cle_port.errors import UserError
from cle_port.models import Model
from cle_port.train import Training, TrainLog, checkpoint, resuming
from cle_port.train.ext import (
    EarlyStopping,
    EpochCount,
    Extension,
    GradientClipping,
    Monitoring,
    Picklize,
    UpdateCount,
)
from cle_port.train.opt import Adam
from cle_port.utils import sharedX
from models import vrnn_gmm
from models.programs import PROGRAMS
from models.running import Run, run_program
from models.running.files import RunFiles, one_at_a_time, start_log, write_settings
from models.settings import Settings, parse
from tests.recordings import PROJECT
from tests.test_programs import OF_DATASET, flags, folders, marked_rnns  # noqa: F401
from tests.uncompiled import Uncompiled

FREQ = 3
N_BATCH = 5
N_UPDATE = 2 * N_BATCH
TIMES = ("log/time", "log/monitoring_time", "log_lines")


@pytest.fixture
def quick():
    """Double precision; `make` compiles nothing."""
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
        *([] if max_updates is None else [UpdateCount(max_updates)]),
    ]
    return Training(
        name=name,
        compiler=Uncompiled(),
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run that nobody stops."""
    folder = tmp_path_factory.mktemp("finished")
    with pytensor.config.change_flags(floatX="float64"):
        make(folder).run()
    assert [line["batch_seen"] for line in log_of(folder)] == [0, 3, 6, 9, 10]
    return folder


@pytest.fixture
def whole(quick, finished, tmp_path):
    """Files of that run, for a test of its own."""
    return shutil.copytree(finished, tmp_path / "whole")


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


def test_a_run_that_was_complete_repeats_its_end(whole, tmp_path, caplog):
    """Neither an update nor a line is added, whatever the original's modulo would make of it."""
    shutil.copytree(whole, tmp_path / "again")
    resume(make(tmp_path / "again"), tmp_path / "again" / "m.npz")
    assert "the run is complete: 2 epochs, 10 updates" in caplog.text
    assert_same(tmp_path / "again", whole, best=False)


def test_more_epochs(whole, tmp_path):
    """Three epochs after two are three, and the log has no trace of the end in between."""
    make(tmp_path / "three", epoch=3).run()
    resume(make(whole, epoch=3), whole / "m.npz")
    assert [line["batch_seen"] for line in log_of(whole)] == [0, 3, 6, 9, 12, 15]
    assert_same(whole, tmp_path / "three", best=False)


def test_the_best_model_is_not_replaced_by_a_worse_one(whole):
    """Not even if it is from the pass at the end of a run that went on."""
    best = checkpoint.load_meta(whole / "m_best.npz")["best"]["valid_cost"]
    assert best == min(line["valid_cost"] for line in log_of(whole))
    resumed = make(whole, epoch=3)
    resumed.resume(whole / "m.npz")
    (extension,) = (ext for ext in resumed.extension if ext.state())
    assert extension.best == best


def test_a_best_model_that_could_not_be_written_is_sought_again(whole):
    """The checkpoint knows a better value than the file has."""
    arrays, meta = checkpoint.load(whole / "m_best.npz")
    worse = meta | {"best": {"valid_cost": 1e6}, "batch_seen": 1, "monitored_at": 1}
    checkpoint.save(whole / "m_best.npz", arrays, worse)
    resumed = make(whole, epoch=3)
    resumed.resume(whole / "m.npz")
    (extension,) = (ext for ext in resumed.extension if ext.state())
    assert extension.best == 1e6


def test_without_a_file_of_the_best_model_the_next_one_is_written(whole):
    (whole / "m_best.npz").unlink()
    (whole / "m_best_before_12updates.npz").write_bytes(b"")
    resume(make(whole, epoch=3), whole / "m.npz")
    assert checkpoint.load_meta(whole / "m_best.npz")["batch_seen"] > 10


# --- what resuming refuses ------------------------------------------------------------------


def change(arrays, meta, key, value):
    """Replace an entry, or take it out."""
    where = arrays if key in arrays else meta
    if value is None:
        del where[key]
    else:
        where[key] = value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("w", None),
        ("w", np.zeros(3)),
        ("w", np.float32(1)),
        ("adam_m/w", None),
        ("state/total", np.zeros((2, 2))),
        ("log_lines", None),
        ("log_lines", np.zeros(3)),
        ("log/time", np.zeros(3)),
        ("log/update", np.zeros(10)),
        ("log/valid_cost", np.array(["a"])),
        ("noise", None),
        ("noise", {"train": {"bit_generator": "PCG64"}}),
        ("noise", {"train": 3}),
        ("noise", []),
        ("best", {}),
        ("best", {"valid_cost": "low"}),
        ("batch_seen", -1),
        ("batch_seen", 1e300),
        ("batch_in_epoch", 5),
        ("batch_in_epoch", True),
        ("n_line", "3"),
        ("n_logged", []),
        ("n_logged", {"time": 10, "update": 10, "valid_cost": 99}),
        ("n_logged", {}),
        ("data_id", "other"),
        ("epoch_seen", None),
    ],
    ids=str,
)
def test_nothing_is_set_from_a_checkpoint_that_does_not_fit(key, value, whole):
    arrays, meta = checkpoint.load(whole / "m.npz")
    change(arrays, meta, key, value)
    checkpoint.save(whole / "other.npz", arrays, meta)
    mainloop = make(whole)
    before, log = resuming.state(mainloop), (whole / "m.jsonl").read_bytes()
    with pytest.raises(UserError) as error:
        mainloop.resume(whole / "other.npz")
    assert str(error.value).startswith(str(whole / "other.npz"))
    assert "\n" not in str(error.value)
    after = resuming.state(mainloop)
    assert before[1] == after[1]
    for name, array in before[0].items():
        np.testing.assert_array_equal(array, after[0][name])
    assert (whole / "m.jsonl").read_bytes() == log


def test_extra_arrays_are_refused(whole):
    arrays, meta = checkpoint.load(whole / "m.npz")
    checkpoint.save(whole / "other.npz", arrays | {"W_more": np.zeros(2)}, meta)
    with pytest.raises(UserError, match="1 arrays differ, W_more is float64 of shape"):
        make(whole).resume(whole / "other.npz")


def test_a_log_of_another_run_is_kept(whole, caplog):
    (whole / "m.jsonl").write_text("other\n" * 1000)
    resume(make(whole), whole / "m.npz")
    assert (whole / "m.jsonl.1").read_text() == "other\n" * 1000
    assert "has other lines than the checkpoint: kept as" in caplog.text
    assert len(log_of(whole)) == 5


@pytest.mark.parametrize("left", [None, 0, 100])
def test_a_log_that_has_lost_lines_gets_them_back(left, whole):
    text = (whole / "m.jsonl").read_bytes()
    if left is None:
        (whole / "m.jsonl").unlink()
    else:
        (whole / "m.jsonl").write_bytes(text[:left])
    make(whole).resume(whole / "m.npz")
    lines = text.splitlines(keepends=True)
    assert (whole / "m.jsonl").read_bytes() == b"".join(lines[:-1])  # that of the end comes again


class OfAUser(Extension):
    """Counts updates, ends the run after five, and has its own place in checkpoints."""

    name = "ext_schedule"

    def __init__(self):
        self.n = 0

    def exe(self, mainloop):
        self.n += 1
        mainloop.endloop = int(self.n == 5)

    def planned_updates(self, n_batch):
        return 5

    def is_complete(self, log):
        return log.batch_seen >= 5

    def state(self):
        return {"of a user": {"n": self.n}}

    def resume(self, mainloop, meta):
        self.n = int(meta["of a user"]["n"])


def test_the_main_loop_treats_all_extensions_alike(quick, tmp_path, caplog):
    """One that it has never heard of: planned, saved, resumed, complete."""
    extension = OfAUser()
    mainloop = make(tmp_path, extension, At("ext_schedule", 3, interrupt))
    assert mainloop.planned_updates() == 5
    mainloop.run()
    assert extension.n == 3
    resumed = OfAUser()
    resume(make(tmp_path, resumed), tmp_path / "m.npz")
    assert resumed.n == 5
    again = OfAUser()
    resume(make(tmp_path, again), tmp_path / "m.npz")
    assert again.n == 5
    assert "the run is complete" in caplog.text
    with pytest.raises(UserError, match="of a user"):
        make(tmp_path, OfAUser()).resume(foreign(tmp_path))


def test_extensions_resume_all_or_none(quick, tmp_path):
    """The second one does not find its state; the first one is as it was before."""
    make(tmp_path, max_updates=3).run()
    mainloop = make(tmp_path, OfAUser())
    best = [extension.state() for extension in mainloop.extension]
    with pytest.raises(UserError, match="of a user"):
        mainloop.resume(tmp_path / "m.npz")
    assert [extension.state() for extension in mainloop.extension] == best


def foreign(folder: Path) -> Path:
    """A checkpoint without the extension's state."""
    arrays, meta = checkpoint.load(folder / "m.npz")
    del meta["of a user"]
    checkpoint.save(folder / "other.npz", arrays, meta)
    return folder / "other.npz"


SAVED = {"batch_size": 4, "lr": 0.01, "epoch": 3, "seed": 7, "max_updates": 5, "depth": 1}


@pytest.fixture
def saved(tmp_path) -> Path:
    """What `resolve` reads of a checkpoint."""
    settings = Settings(dataset="iamondb", data_path="data", trial=2, **SAVED).as_dict()
    meta = {"program": "vrnn_gmm_2", "settings": settings, "n_logged": {}}
    checkpoint.save(tmp_path / "vrnn_gmm_2.npz", {}, meta)
    return tmp_path / "vrnn_gmm_2.npz"


def resolved(*argv) -> Run:
    return vrnn_gmm.PROGRAM.run_of([str(word) for word in argv])


def resolve(*argv) -> Settings:
    return resolved(*argv).args


def test_settings_are_those_of_the_checkpoint(saved):
    args = resolve("--resume", saved)
    assert {key: getattr(args, key) for key in SAVED} == {**SAVED, "max_updates": None}
    assert (args.dataset, args.data_path) == ("iamondb", "data")
    assert (args.save_path, args.resume) == (str(saved.parent), str(saved))


def test_resume_without_a_path_is_of_the_run_itself(saved):
    args = resolve("--save_path", saved.parent, "--trial", 2, "--resume")
    assert (args.resume, args.lr) == (str(saved), 0.01)
    with pytest.raises(UserError, match=r"there is no checkpoint .*vrnn_gmm_1\.npz$"):
        resolve("--save_path", saved.parent, "--resume")


@pytest.mark.parametrize("key", ["epoch", "monitoring_freq", "trial", "keep"])
def test_what_may_change(key, saved, caplog):
    caplog.set_level(logging.INFO)
    run = resolved("--resume", saved, f"--{key}", 9)
    assert getattr(run.args, key) == 9
    run.announce()
    assert f"Resuming with {key} 9 (checkpoint: " in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "old"),
    [
        ("lr", 0.02, 0.01),
        ("seed", 8, 7),
        ("prior", "independent", "recurrent"),
        ("rnn", "gru", "lstm"),
        ("depth", 2, 1),
    ],
)
def test_what_may_not_change(key, value, old, saved):
    with pytest.raises(UserError) as error:
        resolve("--resume", saved, f"--{key}", value)
    assert str(error.value).startswith(f"{key} is {value}, the checkpoint has {old}: ")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"program": "rnn_gmm_1"}, "is a checkpoint of rnn_gmm_1, not of vrnn_gmm"),
        ({"program": None}, "not of vrnn_gmm"),
        ({"program": "vrnn_gmm_1"}, "it has no settings"),
        ({"program": "vrnn_gmm_1", "settings": {"lr": "x"}}, "no setting of this program"),
        ({"program": "vrnn_gmm_1", "settings": {"magic": 1}}, "no setting of this program"),
    ],
)
def test_checkpoints_of_something_else(meta, message, tmp_path):
    checkpoint.save(tmp_path / "m.npz", {}, {"n_logged": {}, **meta})
    with pytest.raises(UserError, match=message):
        resolve("--resume", tmp_path / "m.npz")


@pytest.mark.parametrize("meta", [{"format_version": 1, "n_logged": {}}, {}])
def test_checkpoints_without_all_that_resuming_needs(meta, tmp_path):
    """Of an older version, or imported."""
    settings = Settings().as_dict()
    checkpoint.save(tmp_path / "m.npz", {}, {"program": "vrnn_gmm_1", "settings": settings, **meta})
    with pytest.raises(UserError, match="older version or holds parameters only; start a new run"):
        resolve("--resume", tmp_path / "m.npz")


# --- two runs in one folder -----------------------------------------------------------------


def test_a_run_is_not_replaced(saved):
    args = parse(["--save_path", str(saved.parent), "--trial", "2"], "", vrnn_gmm.WIDTHS)
    before = sorted(saved.parent.iterdir())
    with pytest.raises(UserError, match="go on with it by --resume, or give another --trial"):
        start_log(RunFiles.of("vrnn_gmm", args), args)
    assert sorted(saved.parent.iterdir()) == before


def test_an_older_checkpoint_does_not_replace_a_newer_one(saved):
    old = shutil.copy(saved, saved.with_name("vrnn_gmm_2_recent_3updates.npz"))
    args = resolve("--resume", old)
    with pytest.raises(UserError, match=r"vrnn_gmm_2\.npz would be replaced"):
        start_log(RunFiles.of("vrnn_gmm", args), args)
    elsewhere = resolve("--resume", old, "--trial", 3)
    start_log(RunFiles.of("vrnn_gmm", elsewhere), elsewhere)
    config = saved.parent / "vrnn_gmm_3_config.txt"
    assert not config.exists()  # the run may still be refused, for other data say
    write_settings(config, elsewhere)
    assert "trial 3\n" in config.read_text()


def test_what_a_killed_run_left_is_cleared_away_but_its_log(tmp_path):
    """Temporary files go, those of other runs stay; a log without a checkpoint is kept."""
    others = [".vrnn_gmm_11.npz.77.tmp", ".vrnn_gmm_1.npz.tmp", "vrnn_gmm_1.npz.77.tmp"]
    own = [".vrnn_gmm_1.npz.77.tmp", ".vrnn_gmm_1_best_before_9updates.npz.77.tmp"]
    for name in [*others, *own]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "vrnn_gmm_1.jsonl").write_text("{}\n")
    args = Settings(save_path=str(tmp_path))
    start_log(RunFiles.of("vrnn_gmm", args), args)
    new = ["vrnn_gmm_1.jsonl", "vrnn_gmm_1.jsonl.1", "vrnn_gmm_1_config.txt"]
    assert sorted(os.listdir(tmp_path)) == sorted([*others, *new])
    assert (tmp_path / "vrnn_gmm_1.jsonl.1").read_text() == "{}\n"


def test_one_process_at_a_time(tmp_path):
    args = Settings(save_path=str(tmp_path / "new"))
    files = RunFiles.of("m", args)
    with one_at_a_time(files):
        refused = pytest.raises(UserError, match="another process is training m_1 in")
        with refused, one_at_a_time(files):
            pass
        with one_at_a_time(RunFiles.of("other", args)):
            pass
    with one_at_a_time(files):
        pass
    assert os.listdir(tmp_path / "new") == []


HOLD = """
import sys, time
from models.running.files import RunFiles, one_at_a_time
from models.settings import Settings
with one_at_a_time(RunFiles.of("m", Settings(save_path=sys.argv[1]))):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        files = RunFiles.of("m", Settings(save_path=str(tmp_path)))
        with pytest.raises(UserError, match="another process"), one_at_a_time(files):
            pass
        process.kill()
    with one_at_a_time(files):
        pass


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_graphs_are_compiled(number, status, tmp_path, capsys):
    """The lock and the handlers are those of before."""
    handler = signal.getsignal(signal.SIGTERM)
    # Python leaves it alone where a shell has started the tests in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    program = vrnn_gmm.PROGRAM._replace(
        mainloops={"blizzard": lambda *args: os.kill(os.getpid(), number)}
    )
    argv = ["--save_path", str(tmp_path), "--quiet"]
    assert run_program(program, argv) == status
    assert capsys.readouterr().err == "interrupted; checkpoints written so far are whole\n"
    assert signal.getsignal(signal.SIGTERM) is handler
    assert os.listdir(tmp_path) == []


# --- the programs ---------------------------------------------------------------------------


def check_program(program, dataset, folders, folder, **more):  # noqa: F811
    """Compiled once: stopped and resumed; then all over from the checkpoint before any update.

    It stops within an epoch, where the state is carried on and nothing is monitored.
    """
    name = program.name
    run = program.run_of(flags(dataset, folders[dataset], folder, max_updates=5, keep=9, **more))
    with pytensor.config.change_flags(floatX="float32"):
        mainloop = program.mainloop(run)
        mainloop.run()
        mainloop.extension[-1].num_update = 9
        for start, copy in (("", "two"), ("_recent_0updates", "whole")):
            mainloop.endloop = 0
            resume(mainloop, folder / f"{name}_1{start}.npz")
            (folder / copy).mkdir()
            for file in folder.glob(f"{name}_1.*"):
                shutil.copy(file, folder / copy)
    assert_same(folder / "two", folder / "whole", f"{name}_1.npz", best=False)


KNOBS = {
    "lr_schedule": "cosine:3:8:0.1",
    "kl_anneal": 7,
    "free_bits": 0.01,
    "clip": 0.5,
    "patience": 9,
}


@pytest.mark.full
def test_program_resumes(folders, tmp_path):  # noqa: F811
    """With every knob on; `test_every_recurrence_resumes` has all of them off."""
    check_program(vrnn_gmm.PROGRAM, "blizzard", folders, tmp_path, **KNOBS)
    arrays, meta = checkpoint.load(tmp_path / "whole" / "vrnn_gmm_1.npz")
    assert arrays["state/kl_count"] == 9
    np.testing.assert_allclose(arrays["optimizer/lr"], 0.001, rtol=1e-6)  # a tenth of the test's
    assert meta["settings"]["patience"] == 9


@pytest.mark.full
@pytest.mark.parametrize("rnn", marked_rnns())
def test_every_recurrence_resumes(rnn, folders, tmp_path):  # noqa: F811
    check_program(PROGRAMS["rnn_gauss"], "blizzard", folders, tmp_path, rnn=rnn)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", OF_DATASET)
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_resumes(name, dataset, folders, tmp_path):  # noqa: F811
    check_program(PROGRAMS[name], dataset, folders, tmp_path)


@pytest.mark.slow
def test_other_processes_go_on(folders, tmp_path):  # noqa: F811
    """As users do it, on handwriting, with the original's noise, and the paths of --resume."""

    def train(folder, *argv, **settings):
        fixed = flags("iamondb", folders["iamondb"], folder, noise="mrg", **settings)
        command = [sys.executable, "-m", "models.vrnn_gauss", *(fixed if settings else []), *argv]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    train(tmp_path / "whole", max_updates=9)
    train(tmp_path / "two", max_updates=3)
    last = str(tmp_path / "two" / "vrnn_gauss_1.npz")
    out = train(tmp_path / "two", "--resume", last, "--max_updates", "6", "--epoch", "50")
    assert "Resuming with epoch 50 (checkpoint: " in out
    train(tmp_path / "two", "--resume", max_updates=9)
    assert_same(tmp_path / "two", tmp_path / "whole", "vrnn_gauss_1.npz", best=False)
