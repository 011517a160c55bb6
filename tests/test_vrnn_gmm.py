"""The program as its users run it: from the command line to checkpoint, log and exit status."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytensor
import pytest
from pytensor.graph.basic import Apply
from pytensor.tensor.elemwise import Elemwise

from cle_port.train import Training, checkpoint
from datasets.demo import blizzard as demo_blizzard
from models import vrnn_gmm
from models.running import Run, run_program
from models.settings import Settings, parse, read_config
from models.vrnn_gmm import PROGRAM, WIDTHS
from tests.recordings import PROJECT, read

SCRIPT = PROJECT / "models" / "vrnn_gmm.py"
FILE_NAME = demo_blizzard.FILE_NAME
TINY = {
    "batch_size": 4,
    "m_batch_size": 4,
    "x_dim": 40,
    "z_dim": 3,
    "num_k": 2,
    "rnn_dim": 8,
    "x2s_dim": 8,
    "z2s_dim": 8,
    "q_z_dim": 8,
    "p_z_dim": 8,
    "p_x_dim": 8,
    "depth": 1,
    "monitoring_freq": 2,
}
SHORT = {**TINY, "max_updates": 4, "lr": 0.01}
LIMIT = 300  # seconds that a program may take, most of them compiling on a busy machine


def as_flags(settings: dict) -> list[str]:
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A corpus of 9 seconds: 300 rows of 12 frames in 4 streams."""
    folder = tmp_path_factory.mktemp("data")
    return demo_blizzard.build(folder, minutes=0.15, seq_len=480, n_streams=4)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """One in which other packages called `datasets` and `models` are found first."""
    decoys = tmp_path_factory.mktemp("decoys")
    for name in ("datasets", "models"):
        (decoys / name).mkdir()
        (decoys / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    return {**os.environ, "PYTHONPATH": str(decoys), "COLUMNS": "100"}


# --- whole runs -----------------------------------------------------------------------------


@dataclass
class Finished:
    """What a run left behind."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def log(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in self.file("jsonl").read_text().splitlines()]

    def file(self, suffix: str) -> Path:
        return self.folder / f"vrnn_gmm_1.{suffix}"


def finish(command: list[str], cwd: Path, environment: dict[str, str], folder: Path) -> Finished:
    done = subprocess.run(
        [sys.executable, *command, "--save_path", str(folder)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return Finished(done.returncode, done.stdout, done.stderr, folder)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, environment) -> Finished:
    """The command of the README, made small, started as a file from another folder."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    command = [str(SCRIPT), "--dataset", "blizzard", *as_flags(SHORT)]
    return finish(command, elsewhere, environment, elsewhere / "new" / "results")


@pytest.fixture(scope="module")
def again(tmp_path_factory, environment, demo) -> Finished:
    """Once more from the settings that the first run wrote, as a module."""
    config = demo.folder / "vrnn_gmm_1_config.txt"
    command = ["-m", "models.vrnn_gmm", "--config", str(config), "--quiet"]
    return finish(command, PROJECT, environment, tmp_path_factory.mktemp("again"))


@pytest.mark.full
def test_demo_ends_well(demo):
    assert demo.status == 0, demo.err
    assert "Traceback" not in demo.err + demo.out
    assert sorted(path.name for path in demo.folder.iterdir()) == [
        "vrnn_gmm_1.jsonl",
        "vrnn_gmm_1.npz",
        "vrnn_gmm_1_best.npz",
        "vrnn_gmm_1_best_before_10000updates.npz",
        "vrnn_gmm_1_config.txt",
    ]


@pytest.mark.full
def test_screen_of_the_demo(demo):
    """What is trained on what, that the data are a stand-in, compilation, monitoring, progress."""
    args = settings_of(demo)
    assert demo.out.splitlines()[:5] == [
        "trial no. 1",
        f"batch size {args.batch_size}",
        f"learning rate {args.lr:g}",
        "saving npz file 'vrnn_gmm_1'",
        f"to the save path '{demo.folder}'",
    ]
    n_param = sum(value.size for value in model_arrays(demo).values())
    assert f"vrnn_gmm: {n_param} parameters in " in demo.out
    assert demo_blizzard.STAND_IN_NOTICE in demo.out
    assert re.search(r"^Elapsed compilation time: \d+\.\d+$", demo.out, re.MULTILINE)
    steps = re.findall(r"^ +(\d+)  train  bound +-?\d+\.\d+ .* z \d/\d ", demo.out, re.MULTILINE)
    assert steps == ["0", "2", "4"]
    assert len(re.findall(r"^ +valid  bound +-?\d+\.\d+ ", demo.out, re.MULTILINE)) == 3
    assert re.search(r"^Best: bound .* updates, in .*vrnn_gmm_1_best\.npz$", demo.out, re.MULTILINE)
    assert str(demo.folder) in demo.out
    assert "Compiling" in demo.err
    assert re.search(r"4/4 .*update.*nll_upper_bound", demo.err)


@pytest.mark.full
def test_log_of_the_demo(demo):
    """Before the first update, after the second, and at the end."""
    recording = read("model_blizzard_vrnn_gmm_small_float64.npz")
    channels = recording["monitor_channels"].tolist()
    names = [f"{data}_{channel}" for data in ("train", "valid") for channel in channels]
    assert len(channels) == 18
    assert [entry["batch_seen"] for entry in demo.log] == [0, 2, 4]
    for entry in demo.log:
        assert [key for key in entry if key in names] == names
        assert all(np.isfinite(entry[name]) for name in names)
        assert entry["monitoring_time"] > 0
        bound = entry["valid_recon_term"] + entry["valid_kl_term"]
        assert entry["valid_nll_upper_bound"] == pytest.approx(bound, rel=1e-5)
    assert "this_batch_nll_upper_bound" not in demo.log[0]
    assert "this_batch_nll_upper_bound" in demo.log[-1]


@pytest.mark.full
def test_checkpoint_of_the_demo(demo):
    arrays, meta = checkpoint.load(demo.file("npz"))
    args = settings_of(demo)
    initial = vrnn_gmm.vrnn_gmm(args).params
    assert meta["params"] == list(initial)
    assert meta["settings"] == args.as_dict()
    assert (meta["program"], meta["batch_seen"], meta["epoch_seen"]) == ("vrnn_gmm_1", 4, 0)
    for name, value in initial.items():
        assert arrays[name].dtype == np.float32
        assert not np.array_equal(arrays[name], value.get_value()), f"{name} was not trained"
        assert arrays[f"adam_m/{name}"].shape == arrays[f"adam_v/{name}"].shape
    assert arrays["state/step_count"] == arrays["adam_counter"] == 4
    assert arrays["state/rnn_tm1"].shape == (4, 16)
    assert arrays["log/update"].shape == (4, 1)


@pytest.mark.full
def test_config_of_the_demo(demo):
    """Every setting stands in it; those of the command line as they were given."""
    written = read_config(demo.folder / "vrnn_gmm_1_config.txt")
    assert written | SHORT == written
    unset = {key for key, value in settings_of(demo).as_dict().items() if value is None}
    assert unset | set(written) == set(Settings().as_dict())


@pytest.mark.full
def test_same_settings_give_the_same_run(demo, again):
    """From a checkout folder, as a module, with the first run's settings; bit for bit."""
    assert again.status == 0, again.err
    assert (again.out, again.err) == ("", "")
    first, second = (checkpoint.load(run.file("npz"))[0] for run in (demo, again))
    assert list(first) == list(second)
    timed = {"log/time", "log/monitoring_time", "log_lines"}
    for name in set(first) - timed:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    for ours, theirs in zip(demo.log, again.log, strict=True):
        assert {k: v for k, v in ours.items() if not k.endswith("_time")} == {
            k: v for k, v in theirs.items() if not k.endswith("_time")
        }


def test_another_seed_is_another_run():
    first, second = (vrnn_gmm.vrnn_gmm(Settings(**TINY, seed=seed)).params for seed in (1, 2))
    assert any(
        not np.array_equal(first[name].get_value(), second[name].get_value()) for name in first
    )


@pytest.mark.full
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_signal_ends_the_run_with_a_checkpoint(number, status, data, environment, tmp_path):
    command = [sys.executable, str(SCRIPT), "--data_path", str(data), "--save_path", str(tmp_path)]
    settings = as_flags({**TINY, "monitoring_freq": 1, "epoch": 10**6})
    log = tmp_path / "vrnn_gmm_1.jsonl"
    with subprocess.Popen(
        [*command, *settings], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            wait_for_lines(log, 3, process)
            process.send_signal(number)
            out = process.communicate(timeout=60)[0].decode()
        finally:
            process.kill()
    assert process.returncode == status, out
    assert "Traceback" not in out
    assert f"{number.name}: stopping after this update" in out
    arrays, meta = checkpoint.load(tmp_path / "vrnn_gmm_1.npz")
    assert meta["batch_seen"] >= 2
    assert meta["batch_seen"] == arrays["adam_counter"] == len(arrays["log/update"])
    assert not list(tmp_path.glob(".*"))


def wait_for_lines(log: Path, n_lines: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0].decode()
        with contextlib.suppress(OSError):
            if len(log.read_text().splitlines()) >= n_lines:
                return
        time.sleep(0.05)
    raise AssertionError(f"no update within {LIMIT} seconds")


def model_arrays(run: Finished) -> dict[str, np.ndarray]:
    arrays, meta = checkpoint.load(run.file("npz"))
    return {name: arrays[name] for name in meta["params"]}


def settings_of(run: Finished) -> Settings:
    config = run.folder / "vrnn_gmm_1_config.txt"
    return parse(["--config", str(config)], "", WIDTHS)


# --- bad input: one line that names the fix, and nothing compiled before ---------------------


@pytest.fixture
def nothing_is_compiled(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the program compiles before it has checked its input")

    monkeypatch.setattr(pytensor, "function", refuse)


@pytest.fixture
def refused(nothing_is_compiled, capsys, tmp_path, monkeypatch):
    """Run the program in this process; returns the one line it ends with."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str | Path) -> str:
        with pytensor.config.change_flags(floatX="float32"):
            status = run_program(PROGRAM, [str(word) for word in argv])
        shown = capsys.readouterr()
        assert status == 2, shown.err
        (line,) = shown.err.splitlines()
        assert line.startswith("error: ")
        return line

    return run


def with_rows(folder: Path, rows: np.ndarray, **statistics: object) -> Path:
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / f"{FILE_NAME}.h5", "w") as file:
        file["data"] = rows
    np.savez(folder / f"{FILE_NAME}_normal.npz", **({"X_mean": 0.0, "X_std": 9.0} | statistics))
    return folder


ROWS = np.arange(12 * 80, dtype=np.int16).reshape(12, 80)


def test_good_input_gets_as_far_as_compiling(nothing_is_compiled, tmp_path):
    """Else the tests below could pass for another reason than theirs."""
    folder = with_rows(tmp_path / "data", ROWS)
    argv = ["--data_path", str(folder), "--save_path", str(tmp_path / "out"), *as_flags(TINY)]
    with (
        pytensor.config.change_flags(floatX="float32"),
        pytest.raises(AssertionError, match="compiles before"),
    ):
        run_program(PROGRAM, argv)


def test_missing_data_path(refused):
    line = refused("--data_path", "no/such/folder")
    assert "no/such/folder is not a folder" in line
    assert "give the one with the data" in line


def test_data_path_that_is_a_file(refused, tmp_path):
    (tmp_path / "file.h5").write_bytes(b"")
    assert "is not a folder" in refused("--data_path", tmp_path / "file.h5")


def test_folder_without_data(refused, tmp_path):
    assert "python -m datasets.build blizzard" in refused("--data_path", tmp_path, *as_flags(TINY))


def test_missing_rows(refused, tmp_path):
    with_rows(tmp_path, ROWS)
    (tmp_path / f"{FILE_NAME}.h5").unlink()
    line = refused("--data_path", tmp_path, *as_flags(TINY))
    assert str(tmp_path) in line
    assert "python -m datasets.build blizzard" in line


def test_truncated_rows(refused, tmp_path):
    path = with_rows(tmp_path, ROWS) / f"{FILE_NAME}.h5"
    os.truncate(path, path.stat().st_size - 400)
    line = refused("--data_path", tmp_path, *as_flags(TINY))
    assert str(path) in line
    assert "build it again" in line


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (np.full((12, 80), np.nan), "holds float64, expected int16 samples"),
        (ROWS.astype(np.float32) / 7, "holds float32, expected int16 samples"),
        (ROWS.astype(np.uint16), "holds uint16, expected int16 samples"),
        (ROWS[0], "has shape (80,), expected (rows, samples)"),
        (ROWS[None], "has shape (1, 12, 80), expected (rows, samples)"),
        (ROWS[:0], "is empty"),
    ],
    ids=["nan", "float", "unsigned", "rank 1", "rank 3", "empty"],
)
def test_rows_that_are_no_samples(refused, tmp_path, rows, complaint):
    with_rows(tmp_path, rows)
    line = refused("--data_path", tmp_path, *as_flags(TINY))
    assert complaint in line
    assert "build it again" in line


@pytest.mark.parametrize(
    "statistics",
    [{"X_mean": np.nan}, {"X_std": np.nan}, {"X_std": 0.0}, {"X_std": -1.0}, {"X_std": [1.0, 2.0]}],
    ids=str,
)
def test_statistics_that_cannot_be_used(refused, tmp_path, statistics):
    with_rows(tmp_path, ROWS, **statistics)
    line = refused("--data_path", tmp_path, *as_flags(TINY))
    assert f"{FILE_NAME}_normal.npz" in line
    assert "compute them with `python -m datasets.build blizzard`" in line


def test_missing_statistics(refused, tmp_path):
    with_rows(tmp_path, ROWS)
    (tmp_path / f"{FILE_NAME}_normal.npz").unlink()
    line = refused("--data_path", tmp_path, *as_flags(TINY))
    assert f"no statistics {tmp_path / FILE_NAME}_normal.npz" in line
    assert "python -m datasets.build blizzard" in line


def test_frame_size_that_does_not_divide_the_row(refused, tmp_path):
    with_rows(tmp_path, ROWS)
    line = refused("--data_path", tmp_path, *as_flags({**TINY, "x_dim": 30}))
    assert "frame size 30 does not divide the 80 samples" in line
    assert "use a divisor of 80" in line


@pytest.mark.parametrize("key", ["batch_size", "m_batch_size"])
def test_batch_larger_than_the_data(refused, tmp_path, key):
    with_rows(tmp_path, ROWS)
    line = refused("--data_path", tmp_path, *as_flags({**TINY, key: 13}))
    assert "the data has 12 rows" in line
    assert "of at most 6" in line


def test_unknown_flag(refused):
    assert "did you mean --rnn_dim?" in refused("--rnn-dim", "5")


def test_unknown_key(refused, tmp_path):
    (tmp_path / "config.txt").write_text("rnn_dims 5\n")
    assert "did you mean rnn_dim?" in refused("--config", "config.txt")


@pytest.mark.parametrize("below", ["file", "file/results"])
def test_save_path_that_is_or_lies_below_a_file(refused, tmp_path, below):
    with_rows(tmp_path / "data", ROWS)
    (tmp_path / "file").write_text("")
    line = refused("--data_path", "data", *as_flags(TINY), "--save_path", below)
    assert f"cannot create the folder {below}" in line
    assert "choose another --save_path" in line


@pytest.mark.parametrize("name", ["vrnn_gmm_1.jsonl", "vrnn_gmm_1_config.txt"])
def test_save_path_where_a_file_cannot_be_written(refused, tmp_path, name):
    with_rows(tmp_path / "data", ROWS)
    (tmp_path / "out" / name).mkdir(parents=True)
    line = refused("--data_path", "data", *as_flags(TINY), "--save_path", "out")
    assert "cannot write into out" in line
    assert "choose another --save_path" in line


def test_backend_that_is_not_installed(refused, tmp_path, monkeypatch):
    with_rows(tmp_path, ROWS)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = refused("--data_path", tmp_path, *as_flags(TINY), "--backend", "jax")
    assert "pip install jax" in line


@pytest.mark.parametrize(
    ("size", "message"),
    [(10**6, r"not enough memory .* smaller"), (10**18, r"rnn_dim is 10*; .* at most 10*$")],
)
def test_model_larger_than_the_memory(size, message, refused, tmp_path):
    with_rows(tmp_path, ROWS)
    line = refused("--data_path", tmp_path, *as_flags({**TINY, "rnn_dim": size}))
    assert re.search(message, line)


# --- the program in this process --------------------------------------------------------------


@pytest.fixture(scope="module")
def mainloop(data, tmp_path_factory) -> Iterator[Training]:
    """The program for float32, compiled for two epochs of 70 updates."""
    settings = {**TINY, "lr": 0.005, "epoch": 2, "monitoring_freq": 100, "quiet": True}
    folder = tmp_path_factory.mktemp("float32")
    args = Settings(**settings, data_path=str(data), save_path=str(folder))
    with pytensor.config.change_flags(floatX=args.floatX):
        yield PROGRAM.mainloop(Run("vrnn_gmm", args))


def float64_nodes(fgraph) -> list[Apply]:
    """Nodes, also those inside scans and fused operations, that give float64."""
    found = []
    for node in fgraph.toposort():
        inner = getattr(node.op, "fgraph", None)
        if isinstance(node.op, Elemwise):
            inner = getattr(node.op.scalar_op, "fgraph", None)
        if inner is not None:
            found += float64_nodes(inner)
        if any(getattr(out.type, "dtype", None) == "float64" for out in node.outputs):
            found.append(node)
    return found


@pytest.mark.full
@pytest.mark.parametrize("which", ["update", "monitoring"])
def test_no_float64_in_a_float32_program(mainloop, which):
    """Else a run costs twice the time and memory.  Sums may accumulate in float64 (acc_dtype)."""
    monitoring, *_ = mainloop.find_extension("ext_monitor")
    fn = mainloop.cost_fn if which == "update" else monitoring.monitor_fn
    assert [str(node) for node in float64_nodes(fn.maker.fgraph)] == []
    assert len(fn.maker.fgraph.apply_nodes) > 20


@pytest.mark.full
def test_learns(mainloop):
    with pytensor.config.change_flags(floatX="float32"):
        mainloop.run()
    bounds = mainloop.trainlog.monitor["valid_nll_upper_bound"]
    assert len(bounds) == 3
    assert bounds[-1] < bounds[0] - 5


def test_float64_is_seen_inside_a_scan():
    """The test above can fail."""
    x = pytensor.tensor.vector("x", dtype="float32")
    y = pytensor.scan(
        lambda x_t: (x_t * np.float64(0.5)).astype("float32"), x, return_updates=False
    )
    graph = pytensor.graph.FunctionGraph([x], [y])
    assert float64_nodes(graph)


def test_module_names_the_equations():
    """A reader who knows the paper finds its way."""
    for equation in ("(5)", "(6)", "(7)", "(9)", "(11)"):
        assert equation in (vrnn_gmm.__doc__ or "")
