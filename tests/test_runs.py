"""``models/runs.py``: tables and page of runs, from logs made by hand."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from html.parser import HTMLParser

import numpy as np
import pytest
from filelock import FileLock

from cle_port.errors import UserError
from cle_port.train import checkpoint
from models.report import charts, samples
from models.report.charts import Curve, chart, thinned, y_scale
from models.report.logs import Run, read_log, read_runs
from models.report.page import page
from models.report.serving import make_server, watch
from models.report.summary import (
    best_step,
    different_settings,
    digits,
    duration,
    groups,
    seconds_per_update,
    state,
)
from models.report.svg import Scale, band, curve, label, round_numbers, spread
from models.report.terminal import shortened, tables
from models.runs import main, parse, render
from tests.recordings import PROJECT

HOSTILE = "<script>alert(1)</script>&\"'"


def step(n, bound, kl=0.5, **more):
    """A monitoring step of a VRNN, 10 updates after the one before; two dimensions are active."""
    return {
        "batch_seen": 10 * n,
        "epoch_seen": n // 2,
        "elapsed_time": 2.0 if n else 0.0,
        "train_nll_upper_bound": 1.0,
        "valid_nll_upper_bound": bound,
        "valid_recon_term": None if bound is None else bound - kl,
        "valid_kl_term": kl,
        "valid_mean_phi_sig": 1.0,
        "valid_max_phi_sig": 2.0,
        "valid_min_phi_sig": 0.5,
        "valid_kl_by_dim": [0.011, 0.0, 0.4, 0.01],
        **more,
    }


def lines(steps):
    return "".join(json.dumps(entry) + "\n" for entry in steps)


def config(dataset="blizzard", **settings):
    known = {"dataset": dataset, "epoch": 2, "x_dim": 40, "lr": 0.001, **settings}
    return "".join(f"{key} {value}\n" for key, value in known.items())


def write_run(folder, name="vrnn_gmm_1", bounds=(50.0, 12.0, 11.0, 11.5, 11.25), **settings):
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.jsonl"
    log.write_text(lines(step(n, bound) for n, bound in enumerate(bounds)))
    (folder / f"{name}_config.txt").write_text(config(**settings))
    return log


def write_checkpoint(path, bounds, **settings):
    text = lines(step(n, bound) for n, bound in enumerate(bounds)).encode()
    arrays = {
        "W": np.zeros((3, 4)),
        "b": np.zeros(4),
        "adam_m/W": np.zeros((3, 4)),
        "log_lines": np.frombuffer(text, np.uint8),
    }
    meta = {"program": "vrnn_gmm_1", "params": ["W", "b"], "settings": {"dataset": "blizzard"}}
    checkpoint.save(path, arrays, {**meta, "settings": {"dataset": "blizzard", **settings}})


def read(*paths):
    runs, warnings = read_runs(paths)
    assert warnings == []
    return runs


def run_main(capsys, *args):
    status = main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return status, out, err


# --- the table ------------------------------------------------------------------------------


def test_the_table_shows_the_best_step(capsys, tmp_path):
    write_run(tmp_path)
    status, out, err = run_main(capsys, tmp_path)
    assert (status, err) == (0, "")
    title, heads, cells = out.splitlines()
    assert title == "blizzard, demo corpus, frames of 40 samples: nats a frame"
    assert heads.split()[:3] == ["run", "bound", "update"]
    # The third step is best; 4 times 10 updates took 2 s; two of four dimensions are active.
    expected = ["1", "vrnn_gmm_1", "11.00", "20", "1", "10.50", "0.5000", "2/4", "–", "8.0", "s"]
    assert cells.split() == [*expected, "finished"]


def test_an_old_log_and_an_rnn_have_fewer_numbers(tmp_path):
    entry = {"batch_seen": 4, "epoch_seen": 1, "elapsed_time": 1.0, "valid_nll": -3.0}
    (tmp_path / "rnn_gmm_1.jsonl").write_text(lines([entry]))
    table = tables(groups(read(tmp_path)))
    assert table.startswith("data set unknown, bounds may not be comparable: nats\n")
    assert "rnn_gmm_1  -3.000       4      1      –   –       –           –  1.0 s      –" in table


def test_data_sets_are_not_ranked_together(tmp_path):
    write_run(tmp_path / "a", bounds=[9, 5.0])
    write_run(tmp_path / "b", bounds=[9, 1.0], dataset="iamondb")
    write_run(tmp_path / "c", bounds=[9, 3.0])
    write_run(tmp_path / "d", bounds=[9, 2.0], x_dim=200)
    write_run(tmp_path / "e", bounds=[9, 0.5], data_path="/speech")
    write_run(tmp_path / "f", bounds=[9, 0.5], dataset="digits", output="gauss")
    write_run(tmp_path / "g", bounds=[9, 0.1], dataset="digits", output="bernoulli")
    found = [(g.title, g.unit, [r.label for r in g.runs]) for g in groups(read(tmp_path))]
    assert found == [
        ("blizzard, /speech, frames of 40 samples", "nats a frame", ["e/vrnn_gmm_1"]),
        ("blizzard, demo corpus, frames of 200 samples", "nats a frame", ["d/vrnn_gmm_1"]),
        (
            "blizzard, demo corpus, frames of 40 samples",
            "nats a frame",
            ["c/vrnn_gmm_1", "a/vrnn_gmm_1"],
        ),
        ("digits, output bernoulli", "nats an image", ["g/vrnn_gmm_1"]),
        ("digits, output gauss", "nats an image", ["f/vrnn_gmm_1"]),
        ("iamondb, demo corpus", "nats a line", ["b/vrnn_gmm_1"]),
    ]


@pytest.mark.parametrize("n", [1, 20])
def test_tables_fit_120_columns(tmp_path, n):
    for i in range(n):
        many = {f"setting_{j}": f"{'x' * 130}{i}" for j in range(12)}
        write_run(tmp_path / f"{'folder' * 10}{i}", lr=i, **many)
    text = tables(groups(read(tmp_path)))
    assert max(map(len, text.splitlines())) <= 120
    assert ("setting_11" in text) == (n > 1)
    assert text.count("\n") < 10 if n == 1 else text.count("settings that differ") == 1


def test_only_settings_that_differ_are_shown(tmp_path):
    write_run(tmp_path, "a_1", lr=0.001, rnn_dim=16, trial=1)
    write_run(tmp_path, "b_1", lr=0.0003, rnn_dim=16, trial=2, mrg_seed=5)
    write_run(tmp_path, "c_1", lr=0.001, rnn_dim=16, depth=4)  # 4 is the default of the others
    log = write_run(tmp_path, "d_1")
    (tmp_path / "d_1_config.txt").unlink()
    runs = sorted(read(tmp_path), key=lambda run: run.name)
    assert log.exists()
    assert different_settings(runs) == {
        "lr": ["0.001", "0.0003", "0.001", "–"],
        "mrg_seed": ["–", "5", "–", "–"],
    }


def test_best_step():
    run = Run(None, "x", updates=[0, 10, 20, 30])
    run.channels["valid_nll"] = [1.0, math.nan, 3.0, 3.0]
    assert best_step(run) == 2  # not the one before the first update, and the first of two
    run.channels["valid_nll_upper_bound"] = [1.0] + [math.nan] * 3
    assert best_step(run) == 0
    run.channels["valid_nll_upper_bound"] = [math.nan] * 4
    assert best_step(run) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epoch": "2"}, "finished"),
        ({"epoch": "3"}, "stopped"),
        ({"epoch": "3", "max_updates": "40"}, "finished"),
        ({"epoch": "3", "max_updates": "41"}, "stopped"),
        ({"epoch": "3", "patience": "2"}, "finished"),
        ({"epoch": "3", "patience": "3"}, "stopped"),
        ({"epoch": "many"}, "stopped"),
        ({}, "–"),
    ],
)
def test_state(settings, expected):
    run = Run(None, "x", [0, 10, 20, 30, 40], [0, 0, 1, 1, 2], settings=settings)
    run.channels["valid_nll"] = [9.0, 3.0, 2.0, 2.5, 2.25]
    assert state(run) == expected


def test_a_lock_that_is_held_means_running(tmp_path):
    write_run(tmp_path)
    lock = tmp_path / ".vrnn_gmm_1.lock"
    lock.write_bytes(b"")  # a killed run leaves it
    assert state(read(tmp_path)[0]) == "finished"
    with FileLock(lock):
        assert state(read(tmp_path)[0]) == "running"
    assert state(read(tmp_path)[0]) == "finished"


def test_seconds_per_update():
    run = Run(None, "x", updates=[0, 10, 10, 14])
    run.channels["elapsed_time"] = [0.0, 5.0, 0.0, 1.0]
    np.testing.assert_array_equal(seconds_per_update(run), [math.nan, 0.5, math.nan, 0.25])


def test_numbers_as_text():
    texts = {9.7411: "9.741", -0.05672: "-0.05672", 12345.6: "12346", 0.0: "0", math.nan: "–"}
    assert {value: digits(value) for value in texts} == texts
    assert (digits(1.6e-6), digits(123456789.0)) == ("1.600e-06", "1.235e+08")
    times = {1.25: "1.2 s", 59: "59 s", 200.4: "3 min 20 s", 7500: "2 h 05 min", 1e5: "1 d 03 h"}
    assert {seconds: duration(seconds) for seconds in times} == times
    assert shortened("abcdefghij", 6) == "abc~ij"


# --- the files ------------------------------------------------------------------------------


def test_a_run_is_found_by_its_folder_its_log_or_its_checkpoint(tmp_path):
    log = write_run(tmp_path / "a")
    write_checkpoint(tmp_path / "a" / "vrnn_gmm_1.npz", [1.0])
    write_checkpoint(tmp_path / "a" / "vrnn_gmm_1_best.npz", [1.0])
    best = tmp_path / "a" / "vrnn_gmm_1_best.npz"
    for paths in ([tmp_path], [log], [best], [log, best, tmp_path, tmp_path / "a"]):
        (run,) = read(*paths)
        assert (run.name, run.updates) == ("vrnn_gmm_1", [0, 10, 20, 30, 40])
        assert run.n_param == 16
        assert run.settings["lr"] == "0.001"  # of the settings' file, which a resumed run renews


def test_the_log_inside_a_checkpoint(tmp_path):
    write_checkpoint(tmp_path / "copy.npz", [9.0, 3.0], lr=0.5, data_path=None)
    np.savez(tmp_path / "data.npz", x=np.zeros(3))  # of another kind: no warning
    for path in (tmp_path, tmp_path / "copy.npz"):
        (run,) = read(path)
        assert (run.name, run.updates, run.n_param) == ("vrnn_gmm_1", [0, 10], 16)
        assert run.settings == {"dataset": "blizzard", "lr": "0.5"}


def test_samples_are_no_runs(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path / "samples", "other_1")
    assert [run.name for run in read(tmp_path)] == ["vrnn_gmm_1"]


def test_damaged_logs():
    run = Run(None, "x")
    text = lines([step(1, None), step(0, 5.0)])
    text += '[1]\n{"batch_seen": true}\n\xff\n' + "[" * 100_000 + "\n"
    text += lines([step(2, 4.0), step(1, 4.5)]) + '{"batch_seen": 30, "valid_nll'
    read_log(run, text.encode("latin-1"))
    assert run.updates == [0, 10, 20]  # a step that was written again counts once
    assert run.channels["valid_nll_upper_bound"] == [5.0, 4.5, 4.0]
    assert run.notes == ["4 lines of its log are no monitoring steps"]


def test_numbers_that_are_none():
    run = Run(None, "x")
    text = '{"batch_seen": 0, "a": Infinity, "b": 1%s, "c": [1, null, "x"], "d": "text"}\n'
    read_log(run, (text % ("0" * 400)).encode())
    other = Run(None, "y")
    read_log(other, b'{"batch_seen": 0, "c": 3}\n{"batch_seen": 1, "c": [2]}')
    np.testing.assert_array_equal([run.channels[name] for name in "abd"], np.full((3, 1), math.nan))
    np.testing.assert_array_equal(run.vectors["c"], [[1.0, math.nan, math.nan]])
    assert other.vectors["c"] == [[], [2.0]]  # a last line may lack its end


def test_empty_logs_and_runs_without_updates(capsys, tmp_path):
    write_run(tmp_path, "zero_1", bounds=[60.0])
    (tmp_path / "empty_1.jsonl").write_text("")
    status, out, err = run_main(capsys, tmp_path, "--html", tmp_path / "page.html")
    assert (status, err) == (0, "")
    assert re.search(r"zero_1 +60.00 +0 +0 .* stopped\n", out)
    assert re.search(r"empty_1( +–){7} +0.0 s +–\n", out)
    assert "There is no monitoring step yet." in (tmp_path / "page.html").read_text()


def test_what_cannot_be_read_is_warned_of(capsys, tmp_path):
    write_run(tmp_path, "a_1", bounds=[5.0, 4.0])
    (tmp_path / "a_1.npz").write_bytes(b"PK\3\4")
    (tmp_path / "other.jsonl").write_bytes(b"\xff\n")
    write_checkpoint(tmp_path / "torn.npz", [1.0])
    (tmp_path / "torn.npz").write_bytes((tmp_path / "torn.npz").read_bytes()[:300])
    log = tmp_path / "a_1.jsonl"
    log.write_text(log.read_text() + "{}\n" + lines([step(2, 3.0, not_finite=2)]))
    status, out, err = run_main(capsys, tmp_path)
    assert status == 0
    assert "a_1  3.000" in out
    assert [line.split(": ", 1)[0] for line in err.splitlines()] == ["warning"] * 6
    assert "other.jsonl is no log of a run" in err
    assert "torn.npz is not a whole checkpoint" in err
    assert "a_1: its checkpoint a_1.npz cannot be read" in err
    assert "a_1: 2 of its costs, gradients or channels were not finite" in err
    assert "a_1: 1 lines of its log are no monitoring steps" in err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "there is no .*nothing; give a folder with runs"),
        ("nothing.npz", "there is no checkpoint"),
        ("nothing.jsonl", r"cannot read .*nothing.jsonl \(No such file or directory\)"),
        ("text.txt", "text.txt is no log or checkpoint; give"),
        ("bad.jsonl", "bad.jsonl is no log of a run"),
        ("data.npz", "data.npz is not a whole checkpoint"),
        ("program.npz", "program.npz is not a whole checkpoint .*its program is '../x'"),
        ("folder", r"there is no run in .*folder \(.*bad_1.npz is not a whole checkpoint"),
        ("empty", "there is no run in .*empty; give the --save_path of one"),
    ],
)
def test_unusable_files_are_refused(capsys, tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "bad_1.npz").write_bytes(b"")
    (tmp_path / "text.txt").write_text("")
    (tmp_path / "bad.jsonl").write_text("x\n")
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    checkpoint.save(tmp_path / "program.npz", {}, {"program": "../x"})
    status, out, err = run_main(capsys, tmp_path / name)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert re.search(message, err)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--html", "page.txt"], "--html must end in .html"),
        (["--watch"], "give its file with --html"),
        (["--serve", "--html", "a.html"], "leave --html"),
        (["--serve", "runs"], "runs is no port, 0 to 65535; give runs before --serve"),
        (["--serve", "65536"], "65536 is no port"),
        (["--htlm", "a.html"], "did you mean --html"),
    ],
)
def test_wrong_options_are_refused(argv, message):
    with pytest.raises(UserError, match=message):
        parse(argv)


# --- charts ---------------------------------------------------------------------------------


def test_scales():
    assert Scale(2.0, 4.0, 100.0, 0.0)(2.5) == 75.0
    assert Scale(1.0, 100.0, 0.0, 10.0, log=True)(10.0) == pytest.approx(5.0)
    assert Scale(10.0, 100.0, 0.0, 10.0, log=True)(0.0) == 0.0
    assert math.isnan(Scale(0.0, 1.0, 0.0, 1.0)(math.inf))
    assert Scale(3.0, 3.0, 0.0, 10.0)(3.0) == 0.0
    assert Scale(1e-3, 20.0, 0, 1, log=True).ticks(5) == pytest.approx([1e-3, 0.01, 0.1, 1, 10])
    assert Scale(1.5, 9.0, 0, 1, log=True).ticks(5) == pytest.approx([2.0, 5.0])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 124.0, [0, 50, 100]),
        (-0.3, 0.7, [-0.2, 0.0, 0.2, 0.4, 0.6]),
        (5.0, 5.0, [5.0]),
        (1e9, 1e9 + 10, [1e9 + 2 * i for i in range(6)]),
    ],
)
def test_round_numbers(low, high, expected):
    np.testing.assert_allclose(round_numbers(low, high, 5), expected, atol=1e-12)


def test_curves_and_bands_have_gaps():
    nan = math.nan
    path = curve("x", [(0, 1), (1, nan), (2, 1), (3, 2), (4, nan)])
    assert 'd="M0.0 1.0h0 M2.0 1.0h0 L3.0 2.0"' in path
    low, high = [(0, 1), (1, 1), (2, nan), (3, 1)], [(0, 2), (1, 3), (2, 3), (3, 4)]
    filled = band("x", low, high)
    assert 'd="M0.0 1.0L1.0 1.0L1.0 3.0L0.0 2.0Z M3.0 1.0L3.0 4.0Z"' in filled


def test_labels_are_text():
    assert label(1.0, 2.0, "<b>", "start") == (
        '<text class="tick" x="1.0" y="2.0" text-anchor="start">&lt;b&gt;</text>'
    )


def test_labels_do_not_cover_each_other():
    assert spread([50.0, 49.0, 0.0], 10.0, 0.0, 100.0) == [59.0, 49.0, 0.0]
    assert spread([99.0, 98.0], 10.0, 0.0, 100.0) == [100.0, 90.0]
    assert spread([5.0] * 5, 10.0, 0.0, 20.0) == [0.0, 5.0, 10.0, 15.0, 20.0]


def test_long_curves_keep_their_extremes():
    ys = [math.sin(i / 300) for i in range(5000)]
    ys[1234], ys[3333], ys[4001] = 9.0, -9.0, math.nan
    kept = thinned([ys])
    assert len(kept) <= 5 * charts.MAX_PIECES
    assert {0, 1234, 3333, 4001, 4999} <= set(kept)
    assert kept == sorted(set(kept))
    upper = [0.0] * 5000
    upper[77] = 1.0
    assert 77 in thinned([ys, ys, upper])
    assert thinned([ys[:300]]) == list(range(300))


def test_the_bound_before_training_does_not_flatten_the_rest():
    ys = [700.0, *(10.0 + math.sin(i) for i in range(99))]
    curves = [Curve(1, "x", "valid", range(100), ys, best=5)]
    assert y_scale(curves, False, None).high < 15
    assert "▲ to 700" in "".join(chart("Bound", curves))
    ys[0] = 12.0
    assert y_scale(curves, False, None).high > 12
    assert "▲" not in "".join(chart("Bound", curves))


def test_logarithmic_where_the_numbers_need_it():
    def scale(*ys):
        return y_scale([Curve(1, "x", "only", range(len(ys)), ys)], True, None)

    assert scale(0.001, 1.0).log
    assert scale(0.0, 0.001, 1.0).log
    assert not scale(0.5, 1.0).log
    assert not scale(-1.0, 0.001, 1.0).log
    assert scale(1e-30, 1.0).low > 1e-5


def test_few_bands():
    for n, expected in ((4, 4), (5, 0)):
        ys = [1.0, 2.0]
        text = "".join(chart("x", [Curve(i + 1, "x", "only", ys, ys, ys, ys) for i in range(n)]))
        assert text.count('class="band"') == expected


@pytest.mark.parametrize("ys", [[math.nan], [3.0], [0.0, 0.0], [1e99, -1e99], [1e-320, 1.0]])
def test_odd_numbers_make_no_odd_charts(ys):
    for log in (False, True):
        text = "".join(chart("x", [Curve(1, "x", "only", range(len(ys)), ys)], log))
        assert (text == "") == math.isnan(ys[0])
        assert not re.search("nan|inf", text)


# --- the page -------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Elements and text of a page."""

    VOID = ("meta", "link", "img", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag, **attributes):
        return [a for t, a in self.found if t == tag and attributes.items() <= a.items()]


@pytest.fixture
def four(tmp_path):
    """A folder with four runs on two data sets; one has other settings, one is an RNN."""
    write_run(tmp_path, "vrnn_gmm_1")
    write_run(tmp_path, "vrnn_gmm_2", bounds=[50.0, 30.0, 20.0], lr=0.5)
    write_run(tmp_path, "storn_1", dataset="iamondb")
    entries = [
        {"batch_seen": n, "epoch_seen": 0, "valid_nll": 9.0 - n, "this_batch_nll": 8.0 - n}
        for n in range(3)
    ]
    for entry in entries[1:]:
        entry |= {"grad_norm": 3.0, "learning_rate": 0.1, "best": 1}
    (tmp_path / "rnn_gmm_1.jsonl").write_text(lines(entries))
    (tmp_path / "rnn_gmm_1_config.txt").write_text(config())
    return tmp_path


def curve_names(elements):
    """What each chart shows, by its title."""
    shown, title = {}, None
    for tag, attributes in elements.found:
        if attributes.get("class") == "chart":
            title = attributes["aria-label"].split(":")[0]
            shown[title] = [*shown.get(title, []), []]
        if tag == "path" and "data-name" in attributes:
            shown[title][-1].append(attributes["data-name"])
    return shown


def test_the_page_shows_all_groups_of_channels(four):
    elements = Elements(page(read(four)))
    shown = curve_names(elements)
    both = ["training", "validation"]
    assert shown["Bound, nats a frame"] == [
        [
            *("rnn_gmm_1, training batches", "rnn_gmm_1, validation"),
            *(f"vrnn_gmm_{i}, {data}" for i in (1, 2) for data in both),
        ]
    ]
    vrnns = ["vrnn_gmm_1", "vrnn_gmm_2"]
    validation = [f"{name}, validation" for name in vrnns]
    assert shown["Reconstruction term, nats a frame"] == [validation]
    assert shown["KL term, nats a frame"] == [validation]
    assert shown["Bound, nats a line"] == [[f"storn_1, {data}" for data in both]]
    for title in ("Active dimensions of z", "KL of each dimension of z, nats a frame"):
        assert shown[title] == [vrnns, ["storn_1"]]
    assert shown["Posterior's σ (phi_sig)"] == [vrnns, ["storn_1"]]
    assert shown["Gradient norm before clipping"] == [["rnn_gmm_1"]]
    assert shown["Learning rate"] == [["rnn_gmm_1"]]
    assert shown["Seconds per update"] == [vrnns, ["storn_1"]]
    assert len(elements.all("path", **{"class": "band"})) == 3


def test_the_best_step_has_a_star(four):
    text = page(read(four / "vrnn_gmm_1.jsonl"))
    best = re.search(r'class="curve valid" d="([^"]*)" data-name="vrnn_gmm_1, validation"', text)[1]
    place = re.findall(r"[ML]([\d.]+ [\d.]+)", best)[2]
    assert f'class="star" transform="translate({place})"' in text
    assert "vrnn_gmm_1, validation, best step: update 20, 11.0000" in Elements(text).text


def test_curves_differ_without_colour(four):
    text = page(read(four))
    keys = re.findall(
        r'<svg class="key c\d".*?class="curve (d\d)".*?class="mark".*?d="(.*?)"', text
    )
    for kinds in zip(*keys[:3]):  # of the first group, in its table
        assert len(set(kinds)) == 3
    steps = "".join(chart("x", [Curve(n, "x", "only", [0, 9], [1, n]) for n in range(1, 7)]))
    assert re.findall(r'class="curve (\w+)"', steps) == [f"d{n}" for n in range(6)]
    assert len(set(re.findall(r'class="mark" .*? d="(.*?)"', steps))) == 6
    both = "".join(chart("x", [Curve(4, "x", kind, [0, 9], [1, 2]) for kind in ("train", "valid")]))
    assert re.findall(r'class="curve (\w+)"', both) == ["train", "valid"]


def test_tables_of_the_page(four):
    elements = Elements(page(read(four)))
    assert all(a["scope"] in ("col", "row") for a in elements.all("th"))
    regions = elements.all("div", role="region", tabindex="0")
    assert [region["aria-label"] for region in regions] == [
        "Runs on blizzard, demo corpus, frames of 40 samples",
        "Settings that differ",
        "All settings",
        "All channels at the best step",
        "Runs on iamondb, demo corpus",
        "All settings",
        "All channels at the best step",
    ]
    for text in ("bound, nats a frame", "bound, nats a line", "finished", "2/4", "0.5"):
        assert text in elements.text
    assert all(a["aria-label"] for a in elements.all("svg", role="img"))
    assert len(elements.all("input", type="checkbox")) == 3  # of one run there is nothing to hide


def test_nothing_of_the_page_comes_from_elsewhere(four):
    (four / "samples").mkdir()
    (four / "samples" / "vrnn_gmm_1_best_sample_0.png").write_bytes(b"picture")
    text = page(read(four))
    elements = Elements(text)
    tags = {tag for tag, _ in elements.found}
    assert tags.isdisjoint({"iframe", "object", "embed", "base", "form", "image", "use"})
    assert text.count("<script>") == 1
    (policy,) = elements.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src")
    for _, attributes in elements.found:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert elements.all("meta", **{"http-equiv": "refresh"}) == []


def test_hostile_names_and_settings_are_text(capsys, tmp_path):
    name = HOSTILE.replace("/", "") + "\x1b[31m"
    write_run(tmp_path, name, lr=HOSTILE, **{HOSTILE: HOSTILE})
    write_run(tmp_path, "other_1", lr=f"\x1b[2J{HOSTILE}")
    log = tmp_path / "other_1.jsonl"
    log.write_text(log.read_text() + lines([step(9, 5.0, **{HOSTILE: 1.0})]))
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / f"{name}_sample_0.svg").write_text(HOSTILE)
    write_run(tmp_path / "b", "x_1", data_path=HOSTILE)
    write_checkpoint(tmp_path / "b" / "y.npz", [2.0, 1.0], noise=f"\x1b{HOSTILE}")
    _, out, _ = run_main(capsys, tmp_path, "--html", tmp_path / "page.html")
    assert "\x1b" not in out
    text = (tmp_path / "page.html").read_text()
    elements = Elements(text)
    assert text.count("<script>") == 1
    assert "\x1b" not in text
    assert HOSTILE in elements.text
    assert len(elements.all("img")) == 1
    text = page(read(tmp_path / f"{name}.jsonl"), warnings=[HOSTILE])
    assert text.count("<script>") == 1
    assert HOSTILE in Elements(text).text


def test_samples(tmp_path, monkeypatch):
    write_run(tmp_path)
    folder = tmp_path / "samples"
    folder.mkdir()
    names = [f"vrnn_gmm_1_best_sample_{i}.{end}" for i in range(11) for end in ("wav", "png")]
    names += ["vrnn_gmm_1_best_reconstruction.svg", "vrnn_gmm_1_best_reconstruction.png"]
    names += ["vrnn_gmm_1_best_plane.svg", "vrnn_gmm_10_sample_0.png", "vrnn_gmm_1_sample_0.npz"]
    for name in names:
        (folder / name).write_bytes(b"x" * 9)
    (folder / "vrnn_gmm_1_best_sample_1.png").write_bytes(b"y" * 9)
    elements = Elements(page(read(tmp_path)))
    pictures = [a["alt"] for a in elements.all("img")]
    assert pictures == [
        "vrnn_gmm_1_best_plane",
        "vrnn_gmm_1_best_reconstruction",
        *(f"vrnn_gmm_1_best_sample_{i}" for i in range(3)),
    ]
    assert [a["src"].split(";")[0] for a in elements.all("img")][:2] == [
        "data:image/svg+xml",
        "data:image/png",
    ]
    assert elements.all("img")[3]["src"] == "data:image/png;base64,eXl5eXl5eXl5"
    assert len(elements.all("audio", controls=None)) == 3
    assert "16 more files are in" in elements.text

    monkeypatch.setattr(samples, "MAX_BYTES", 20)
    elements = Elements(page(read(tmp_path)))
    assert len(elements.all("img")) + len(elements.all("audio")) == 2
    assert "22 more files are in" in elements.text


def test_a_long_log_makes_a_small_page(tmp_path):
    write_run(tmp_path, bounds=[10 + math.sin(n) for n in range(5000)])
    assert len(page(read(tmp_path))) < 300_000


# --- renewing -------------------------------------------------------------------------------


def test_watching_ends_when_no_run_goes_on(tmp_path):
    write_run(tmp_path)
    path = tmp_path / "page.html"
    lock = FileLock(tmp_path / ".vrnn_gmm_1.lock")
    lock.acquire()
    texts = []

    def sleep(seconds):
        assert seconds == 5
        texts.append(path.read_text())
        if len(texts) == 2:
            lock.release()

    assert watch(path, lambda: render([tmp_path]), 5, sleep) == 3
    assert all('http-equiv="refresh" content="5"' in text for text in texts)
    assert all("running" in Elements(text).text for text in texts)
    assert "refresh" not in path.read_text()
    assert [p.name for p in tmp_path.glob("*.html*")] == ["page.html"]


def test_watch_from_the_command_line(capsys, tmp_path):
    write_run(tmp_path)
    status, out, _ = run_main(capsys, tmp_path, "--html", tmp_path / "a.html", "--watch")
    assert status == 0
    assert out.endswith(f"no run goes on; wrote {tmp_path / 'a.html'} 1 times\n")


def test_a_page_that_cannot_be_written(capsys, tmp_path):
    write_run(tmp_path)
    status, _, err = run_main(capsys, tmp_path, "--html", tmp_path / "none" / "a.html")
    assert status == 2
    assert err.startswith(f"error: cannot write {tmp_path / 'none' / 'a.html'}")


def test_the_server_renders_each_request(tmp_path):
    write_run(tmp_path)
    with make_server(0, lambda: render([tmp_path], idle=30)[0]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            host, port = server.server_address
            assert host == "127.0.0.1"
            url = f"http://127.0.0.1:{port}/"
            with urllib.request.urlopen(url) as answer:
                text = answer.read().decode()
                assert answer.headers["Cache-Control"] == "no-store"
            assert "11.00" in text
            assert 'http-equiv="refresh" content="30"' in text
            write_run(tmp_path, bounds=[5.0, 4.0])
            with urllib.request.urlopen(url) as answer:
                assert "4.000" in answer.read().decode()
            elsewhere = urllib.request.Request(url, headers={"Host": f"evil.example:{port}"})
            for request in (f"{url}../etc/passwd", elsewhere):
                with pytest.raises(urllib.error.HTTPError, match="404") as error:
                    urllib.request.urlopen(request)
                error.value.close()
            shutil.rmtree(tmp_path)
            with pytest.raises(urllib.error.HTTPError, match="500") as error:
                urllib.request.urlopen(url)
            with error.value as answer:
                assert answer.read().decode().startswith(f"there is no {tmp_path};")
            with pytest.raises(UserError, match=f"cannot serve on port {port}"):
                make_server(port, str)
        finally:
            server.shutdown()
            thread.join()


def test_an_interrupt_ends_the_server(tmp_path, monkeypatch, capsys):
    write_run(tmp_path)

    def interrupted(server, poll_interval=0.5):
        raise KeyboardInterrupt

    monkeypatch.setattr("socketserver.BaseServer.serve_forever", interrupted)
    status, out, err = run_main(capsys, tmp_path, "--serve", "0")
    assert (status, err) == (0, "")
    assert re.search(r"open http://127.0.0.1:\d+/ in a browser", out)


@pytest.mark.parametrize("start", [["-m", "models.runs"], ["models/runs.py"]])
def test_the_program_starts(tmp_path, start):
    write_run(tmp_path)
    command = [sys.executable, *start, str(tmp_path)]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "vrnn_gmm_1" in result.stdout
    assert result.stderr == ""
