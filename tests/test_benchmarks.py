"""Benchmarks: that they compare what they say.  They measure speed; these tests do not."""

import argparse
import ast
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmarks import compare, data, demo, gap, left_behind, memory, problem
from benchmarks.__main__ import TITLES, commands
from benchmarks.common import NAMED, table, write_between
from benchmarks.growth import Figures, report
from benchmarks.peers.gemm import products, with_numpy
from cle_port.errors import UserError
from compare.original import recorder
from datasets.hdf5.rows import HDF5Rows
from models.settings import Settings
from models.vrnn_gmm import vrnn_gmm
from tests.recordings import PROJECT

TINY = {**compare.TOY, "x_dim": 8}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folder of a problem for each data set."""
    folders = {}
    for dataset, x_dim in (("blizzard", 8), ("iamondb", 3)):
        folders[dataset] = tmp_path_factory.mktemp(dataset) / "problem"
        settings = Settings(**{**TINY, "dataset": dataset, "x_dim": x_dim})
        problem.write(folders[dataset], settings, n_batch=2, n_step=5)
    return folders


MODULES = sorted((PROJECT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_every_module_is_importable(path):
    importlib.import_module(f"benchmarks.{path.stem}")


@pytest.mark.parametrize("part", TITLES)
def test_the_report_runs_valid_commands(part, monkeypatch, capsys):
    args = argparse.Namespace(backend="auto", python=["theano=PYTHON"], original="DIR")
    for module, *options in commands(part, args):
        monkeypatch.setattr(sys, "argv", [module, *options, "--help"])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(module).main()
        assert ended.value.code == 0, capsys.readouterr().err


def test_the_original_peer_calls_the_recorder_correctly():
    """It runs beside Theano only, so this test checks its calls without running them."""
    path = PROJECT / "benchmarks" / "peers" / "original_theano.py"
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    names = [re.fullmatch(r"driver\.(\w+)", ast.unparse(call.func)) for call in calls]
    assert sum(name is not None for name in names) >= 6
    for call, name in zip(calls, names):
        if name is None:
            continue
        function = getattr(recorder, name[1])
        inspect.signature(function).bind(*call.args, **{k.arg: k.value for k in call.keywords})


def test_problem_has_the_parameters_of_the_model(written):
    read = problem.read(written["iamondb"])
    net = vrnn_gmm(read.settings, problem.QuickInit(1))
    assert {k: v.shape for k, v in read.params.items()} == {
        k: v.get_value().shape for k, v in net.params.items()
    }


def test_batches_differ_and_are_cast(written):
    first, second = problem.read_batches(written["blizzard"], [0, 1], "float32")
    assert first["x"].shape == (5, 4, 8)
    assert first["eps"].dtype == np.float32
    assert not np.allclose(first["x"], second["x"])


def test_lines_have_lengths_of_their_own():
    rng = np.random.default_rng(0)
    lengths = problem.draw_lengths(rng, 2000, 0)
    assert 600 < lengths.mean() < 660
    assert lengths.min() >= problem.LINE_RANGE[0]
    batch = problem.draw_batch(rng, Settings(**{**TINY, "x_dim": 3, "dataset": "iamondb"}), lengths)
    np.testing.assert_array_equal(batch["mask"].sum(axis=0), lengths)
    assert not batch["x"][batch["mask"] == 0].any()


def test_products_of_an_update(written):
    """Six times weights times rows, less the gradient with respect to the data."""
    read = problem.read(written["blizzard"])
    weights = sum(p.size for p in read.params.values() if p.ndim == 2)
    n_row = 5 * read.settings.batch_size
    unused = 2 * n_row * read.params["W_x_t__x_1"].size
    todo = products(read, n_step=5)
    assert todo.gflop(5) * 1e9 == pytest.approx(6 * n_row * weights - unused)
    # phi_1 from h, phi_2, both heads, z_1, z_2, LSTM from z and h; forward and backward.
    assert len(todo.frame_by_frame) == 2 * 8
    with_numpy(todo, 5, np.dtype("float32"))()


def test_ratios_are_to_the_best_of_a_kind():
    seconds = {"ours": 2.0, "pytorch:eager": 4.0, "pytorch:compiled": 2.5, "gemm:numpy": 1.5}
    peers = {k: {"seconds": [[v], [v], [9 * v]]} for k, v in seconds.items()}
    rows = {row[0]: row[1] for row in compare.ratios({"peers": peers})}
    assert rows == {"pytorch": "0.80 (pytorch:compiled)", "gemm": "0.75 (gemm:numpy)"}


def test_per_update_is_over_batches_of_different_length():
    assert compare.per_update([[1.0, 10.0], [2.0, 20.0], [9.0, 90.0]]) == 11.0


def test_growth_in_proportion_has_power_one():
    figures = [Figures(n, 0.1 * n, 20.0, 500.0) for n in (1, 10, 100)]
    assert "to the power 1.00" in report("frames", figures)


def test_large_file_is_whole(tmp_path):
    path = tmp_path / "rows.h5"
    data.write_rows(path, n_rows=100, n_noisy=20)
    rows = HDF5Rows(path)
    assert rows.shape == (100, data.ROW)
    assert rows[:20].std() == pytest.approx(data.LOUDNESS, rel=0.05)
    assert not rows[48:].any()
    rows.close()
    with h5py.File(path) as file:
        assert file["data"].id.get_num_chunks() == 7


def test_the_load_of_the_machine_cancels_out():
    """After the run the machine is twice as slow; NumPy is as fast as before beside it."""
    quiet, busy = [[1e-4, 5e-5]] * 3, [[2e-4, 1e-4]] * 3
    moments = {"before": quiet, "during": quiet, "after": busy}
    measured = {m: dict.fromkeys(left_behind.TASKS, times) for m, times in moments.items()}
    lines = left_behind.report({"kept": [measured, measured]}).splitlines()
    assert len(lines) == 2 + len(left_behind.TASKS)
    cells = [cell.strip() for cell in lines[-1].split("|")[-6:-1]]
    assert cells == ["100.00", "100.00", "200.00", "1.00 (1.00-1.00)", "1.00 (1.00-1.00)"]


def test_every_task_is_timed():
    times = left_behind.time_tasks(2)
    assert set(times) == set(left_behind.TASKS)
    assert all(len(pairs) == 2 and min(min(p) for p in pairs) > 0 for pairs in times.values())


def test_kept_memory_is_compared_turn_by_turn():
    def turn(seconds, faults):
        return {"seconds": [seconds] * 4, "faults": faults, "system": 0.4, "peak": 500.0}

    kept, plain = [turn(0.8, 40), turn(1.6, 40)], [turn(1.0, 4000), turn(2.0, 4000)]
    lines = memory.report({"A-small": {"kept": kept, "plain": plain}}).splitlines()
    assert [cell.strip() for cell in lines[-1].split("|")[1:-1]] == [
        *("A-small", "0.80", "0.80-0.80", "0.80")
    ]
    assert "| A-small  | plain  | 1.5000" in lines[3]
    assert " 1000 " in lines[3]


def test_table_is_aligned():
    assert table(("a", "bb"), [("1", "2")]) == "| a | bb |\n| - | -- |\n| 1 | 2  |"


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["blizzard", "iamondb"])
def test_peers_compute_what_ours_does(dataset, tmp_path):
    peers = [name for name in ("jax", "torch") if importlib.util.find_spec(name)]
    options = {"jax": "jax", "torch": "pytorch:eager"}
    args = argparse.Namespace(
        peers=[options[name] for name in peers], backend="auto", python=[], original=None
    )
    compare.check(tmp_path / "problem", dataset, args)


def test_settings_are_of_the_programs():
    for values in NAMED.values():
        Settings(**values)


# --- the demo's table --------------------------------------------------------------------

# Bound at the best of three steps, by model and seed; the last step is never the best.
DEMO_BOUNDS = {
    "rnn_gauss": (9.0, 11.0),
    "vrnn_gauss": (4.0, 5.0),
    "rnn_gmm": (3.0, 2.0),
    "vrnn_gmm": (1.0, 2.5),
}


@pytest.fixture
def demo_runs(tmp_path):
    """Folder of complete runs of two seeds, as `benchmarks.demo` leaves them."""
    for program, bounds in DEMO_BOUNDS.items():
        for seed, best in enumerate(bounds, start=1):
            name = "nll_upper_bound" if program.startswith("v") else "nll"
            folder = demo.folder_of(tmp_path, "blizzard", program, seed)
            folder.mkdir(parents=True)
            steps = [
                {"batch_seen": 10 * step, f"valid_{name}": best + off, f"train_{name}": best - 2}
                for step, off in enumerate((-5.0, 0.0, 0.5))
            ]
            if program.startswith("v"):
                for step in steps:
                    step |= {"valid_kl_term": 1.5, "valid_kl_by_dim": [1.49, 0.01, 0.0, 0.02]}
            text = "".join(json.dumps(step) + "\n" for step in steps)
            (folder / f"{program}_1.jsonl").write_text(text)
            (folder / f"{program}_1_config.txt").write_text("dataset blizzard\nz_dim 4\n")
            facts = {"seconds": 60.0 + seed, "machine": "CPU, load 1.2", "versions": "numpy 2"}
            (folder / demo.FACTS).write_text(json.dumps(facts))
    return tmp_path


def test_demo_compares_the_best_steps_seed_by_seed(demo_runs):
    facts, title, models, gaps = demo.tables(demo_runs, ["blizzard"], 2)
    assert facts.endswith("CPU; numpy 2.")  # once, without the load
    assert title == "**Speech, nats a frame**"
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in models.splitlines()[2:]]
    assert cells[0] == [
        *("rnn_gauss", "10.00 ± 1.00", "8.00 ± 1.00", "-", "-", "10, 10 of 20", "61 to 62")
    ]
    assert cells[3][:5] == ["vrnn_gmm", "1.75 ± 0.75", "-0.25 ± 0.75", "1.50 ± 0.00", "2, 2 of 4"]
    # Differences of 5 and 6: their error is less than that of either mean.
    assert gaps.splitlines()[0].endswith("by 5.50 ± 0.50 nats, 11.0 standard errors.")
    assert gaps.splitlines()[1].endswith("by 0.75 ± 1.25 nats, 0.6 standard errors.")


def test_demo_trains_only_what_is_missing(demo_runs, monkeypatch, tmp_path):
    started = []

    def train(command, **_):
        started.append(command)
        folder = Path(command[command.index("--save_path") + 1])
        folder.mkdir()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(demo, "describe_machine", lambda: "CPU")  # which may run programs, too
    monkeypatch.setattr(subprocess, "run", train)
    missing = demo.folder_of(demo_runs, "blizzard", "rnn_gmm", 2)
    (missing / demo.FACTS).unlink()  # so it counts as unfinished
    for program in demo.PROGRAMS:
        for seed in (1, 2):
            demo.train(demo_runs, "blizzard", program, seed)
    (command,) = started
    assert Path(command[1]).name == "rnn_gmm.py"
    assert command[command.index("--seed") + 1] == "2"
    assert [path.name for path in missing.iterdir()] == [demo.FACTS]  # the old files are gone


def test_demo_keeps_nothing_of_a_run_that_fails(tmp_path, monkeypatch):
    def fail(command, **_):
        return subprocess.CompletedProcess(command, 1, stderr="out of memory")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(UserError, match="vrnn_gmm on iamondb with seed 1: out of memory"):
        demo.train(tmp_path, "iamondb", "vrnn_gmm", 1)
    assert not demo.folder_of(tmp_path, "iamondb", "vrnn_gmm", 1).exists()


def test_demo_writes_between_the_marks_only(tmp_path):
    page = tmp_path / "demo.md"
    page.write_text(f"before\n{demo.BEGIN}\nold\n{demo.END}\nafter\n")
    for _ in range(2):
        write_between(page, demo.BEGIN, "new", demo.END)
        assert page.read_text() == f"before\n{demo.BEGIN}\n\nnew\n\n{demo.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(UserError, match="lacks the marks"):
        write_between(page, demo.BEGIN, "new", demo.END)
    with pytest.raises(UserError, match="give another --page"):
        write_between(tmp_path / "gone.md", demo.BEGIN, "new", demo.END)


def test_gap_compares_at_equal_loudness():
    """The bound is the level here, and 3 more on rows that no model has seen."""
    rng = np.random.default_rng(0)
    level = {gap.TRAIN: rng.uniform(-60, -10, 4000), gap.VALID: rng.uniform(-60, -30, 500)}
    level[gap.VALID][0] = -10.0  # each class of loudness has a frame
    level[gap.VALID] = np.append(level[gap.VALID], np.linspace(-60, -10, 400))
    of_run = {"run": {gap.TRAIN: level[gap.TRAIN], gap.VALID: level[gap.VALID] + 3.0}}
    cells = gap.report(of_run, level).splitlines()[-1].split("|")
    run, train, valid, by_heart = (cell.strip() for cell in cells[1:-1])
    assert run == "run"
    assert train.split()[0] == train.split()[1].strip("()")
    assert float(valid.split()[0]) < float(train.split()[0])  # quieter
    # The table has one decimal.
    assert_allclose(float(by_heart), 3.0, atol=0.1)


def test_gap_takes_each_part_of_the_corpus_where_it_is(monkeypatch):
    monkeypatch.setattr(gap, "speak", lambda n, seed: np.zeros(n, np.int16))
    rows = np.repeat(np.arange(1920, dtype=np.int16)[:, None], 400, axis=1)
    parts = gap.parts_of(rows)
    first = {name: part[:, 0].tolist() for name, part in parts.items()}
    assert first["training, as monitored"] == list(range(96))
    assert first[gap.TRAIN] == list(range(0, 1824, gap.EVERY))
    assert {row % 16 for row in first[gap.TRAIN]} == set(range(16))
    assert first[gap.VALID] == list(range(1824, 1920))
    assert parts["a corpus of another seed"].shape == (384, 400)


@pytest.mark.parametrize("wrong", [{"dataset": "iamondb"}, {"data_path": "x"}, {"x_dim": 40}])
def test_gap_is_of_the_demo(wrong):
    with pytest.raises(UserError, match=r"c\.npz is not of the speech demo"):
        gap.check(Path("c.npz"), Settings(**{"dataset": "blizzard", "x_dim": 200, **wrong}))
