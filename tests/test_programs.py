"""Every program on both data sets, from its command line, with tiny settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytensor
import pytest

from cle_port.data.noise import NormalNoise
from cle_port.errors import UserError
from cle_port.graph import GRAPHS
from cle_port.train import checkpoint
from datasets.demo import blizzard as demo_blizzard
from datasets.demo import iamondb as demo_iamondb
from datasets.hdf5.lines import FILE_NAME, Line, LineWriter
from models import sample
from models.parts import TRANSITIONS, StandardGaussian
from models.programs import PROGRAMS
from models.running import run as running_run
from models.running import run_program
from models.settings import RNNS
from tests.uncompiled import Uncompiled

WIDTHS = ("x2s_dim", "z2s_dim", "q_z_dim", "p_z_dim", "p_x_dim", "rnn_dim")
TINY = {
    **dict.fromkeys(WIDTHS, 8),
    "depth": 1,
    "batch_size": 20,
    "z_dim": 3,
    "num_k": 2,
    "monitoring_freq": 4,
    "max_updates": 8,
    "lr": 0.01,
}
OF_DATASET = {"blizzard": {"m_batch_size": 20, "x_dim": 40}, "iamondb": {}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small corpora of both kinds."""
    blizzard, iamondb = (tmp_path_factory.mktemp(name) for name in OF_DATASET)
    demo_blizzard.build(blizzard, minutes=0.4, seq_len=480, n_streams=20)
    write_short_lines(iamondb)
    return {"blizzard": blizzard, "iamondb": iamondb}


def write_short_lines(folder: Path) -> None:
    """Beginnings of lines of the demo, in batches of two of the lengths that are compiled."""
    n_lines = {"train": 160, "valid": 60}
    lines = iter(demo_iamondb.write_lines(sum(n_lines.values())))
    with LineWriter(folder / FILE_NAME) as file:
        for split, n in n_lines.items():
            for number in range(n):
                line = next(lines)
                points = line.points[: 90 if number < 80 else 60].copy()
                points[-1, 0] = 1
                file.append(split, Line(points, line.text))
        file.commit()


def flags(dataset: str, folder, save_path, **more) -> list[str]:
    settings = {**TINY, **OF_DATASET[dataset], **more}
    settings |= {"dataset": dataset, "data_path": folder, "save_path": save_path}
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


@pytest.mark.full
@pytest.mark.parametrize("dataset", OF_DATASET)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_trains(name, dataset, folders, tmp_path):
    check_training(name, dataset, folders, tmp_path)


@pytest.mark.full
def test_independent_prior_trains(folders, tmp_path):
    """The paper's VRNN-I."""
    check_training("vrnn_gmm", "blizzard", folders, tmp_path, prior="independent")
    arrays, _ = checkpoint.load(tmp_path / "vrnn_gmm_1.npz")
    assert not [name for name in arrays if "prior" in name and not name.startswith("log/")]
    np.testing.assert_array_equal(arrays["log/valid_max_prior_sig"], 1.0)
    np.testing.assert_array_equal(arrays["log/valid_min_prior_sig"], 1.0)


def marked_rnns() -> list:
    """The recurrences but the LSTM, all but the GRU marked as slow."""
    return [
        pytest.param(rnn, marks=[] if rnn == "gru" else [pytest.mark.slow])
        for rnn in TRANSITIONS
        if rnn != "lstm"
    ]


@pytest.mark.full
@pytest.mark.parametrize("dataset", OF_DATASET)
@pytest.mark.parametrize("rnn", marked_rnns())
def test_other_recurrences_train(rnn, dataset, folders, tmp_path):
    check_training("vrnn_gmm", dataset, folders, tmp_path, rnn=rnn)


def test_every_recurrence_is_a_setting():
    assert tuple(TRANSITIONS) == RNNS


@pytest.mark.full
@pytest.mark.parametrize("dataset", OF_DATASET)
def test_plain_graph_gives_the_same_numbers(dataset, folders, tmp_path):
    """PyTensor's own rewritings alone: parameters, moments and channels after three updates."""
    saved = {}
    for graph in GRAPHS:
        argv = flags(dataset, folders[dataset], tmp_path / graph, graph=graph, floatX="float64")
        assert run_program(PROGRAMS["vrnn_gmm"], [*argv, "--max_updates", "3"]) == 0
        saved[graph], _ = checkpoint.load(tmp_path / graph / "vrnn_gmm_1.npz")
    fast, plain = (saved[graph] for graph in GRAPHS)
    assert list(fast) == list(plain)
    for name in set(fast) - {"log/time", "log/monitoring_time", "log_lines"}:
        scale = np.abs(fast[name]).max(initial=0)
        np.testing.assert_allclose(
            plain[name], fast[name], rtol=0, atol=1e-12 * scale, err_msg=name
        )


def check_training(name, dataset, folders, tmp_path, **more) -> None:
    """Run to the end; bound falls, checkpoints and log are whole and agree; then generate."""
    argv = flags(dataset, folders[dataset], tmp_path, **more)
    assert run_program(PROGRAMS[name], argv) == 0

    lines = [json.loads(line) for line in (tmp_path / f"{name}_1.jsonl").read_text().splitlines()]
    assert [line["batch_seen"] for line in lines] == [0, 4, 8]
    channel = "valid_nll" if name.startswith("rnn") else "valid_nll_upper_bound"
    assert lines[-1][channel] < lines[0][channel]

    arrays, meta = checkpoint.load(tmp_path / f"{name}_1.npz")
    assert meta["program"] == f"{name}_1"
    assert meta["batch_seen"] == 8
    assert set(meta["params"]) < set(arrays)
    assert arrays[f"log/{channel}"][-1] == pytest.approx(lines[-1][channel], rel=0, abs=0)
    assert all(np.isfinite(array).all() for array in arrays.values())

    out = tmp_path / "samples"
    best = str(tmp_path / f"{name}_1_best.npz")
    assert sample.main([best, "--number", "2", "--length", "8", "--out", str(out), "--quiet"]) == 0
    kinds = {"blizzard": {"*.wav": 2}, "iamondb": {"*.svg": 1, "*.npz": 2}}[dataset]
    assert {kind: len(list(out.glob(kind))) for kind in kinds} == kinds


@pytest.mark.parametrize(
    ("name", "dataset", "expected"),
    [
        ("rnn_gauss", "blizzard", {"depth": 4, "x2s_dim": 800, "p_x_dim": 800}),
        ("rnn_gmm", "blizzard", {"depth": 4, "x2s_dim": 700, "p_x_dim": 700, "rnn_dim": 4000}),
        ("vrnn_gauss", "blizzard", {"depth": 4, "x2s_dim": 600, "p_x_dim": 600, "z2s_dim": 500}),
        ("vrnn_gmm", "blizzard", {"depth": 4, "x2s_dim": 500, "q_z_dim": 500, "p_z_dim": 500}),
        ("rnn_gauss", "iamondb", {"depth": 1, "x2s_dim": 340, "p_x_dim": 340, "rnn_dim": 1200}),
        ("rnn_gmm", "iamondb", {"depth": 1, "x2s_dim": 300, "p_x_dim": 300, "epoch": 1000}),
        ("vrnn_gauss", "iamondb", {"x2s_dim": 250, "z2s_dim": 150, "p_x_dim": 250, "z_dim": 50}),
        ("vrnn_gmm", "iamondb", {"q_z_dim": 150, "p_z_dim": 150, "batch_size": 20, "num_k": 20}),
    ],
)
def test_full_settings_are_the_originals(name, dataset, expected):
    args = PROGRAMS[name].run_of(["--dataset", dataset, "--data_path", "somewhere"]).args
    assert {key: getattr(args, key) for key in expected} == expected


@pytest.mark.parametrize("name", ["vrnn_gauss", "vrnn_gmm"])
def test_independent_prior_has_no_nodes(name):
    program = PROGRAMS[name]
    net = program.make_net(program.run_of(["--prior", "independent"]).args)
    assert isinstance(net.prior, StandardGaussian)
    assert not [node.name for node in net.nodes if node.name.startswith("prior")]


class SpoiledOnce(NormalNoise):
    """Noise whose third batch is not a number."""

    n_drawn = 0

    def draw(self, n_step, batch_size):
        self.n_drawn += 1
        return super().draw(n_step, batch_size) * (np.nan if self.n_drawn == 3 else 1)


SPOILED = [("vrnn_gmm", {}), ("vrnn_gmm", {"rnn": "gru"}), ("storn", {}), ("vae", {})]


@pytest.fixture
def spoiled(folders, tmp_path, monkeypatch):
    """A main loop, interpreted, whose third update is not finite."""

    def make(name, on_nan, more):
        program = PROGRAMS[name]
        argv = flags(
            "blizzard", folders["blizzard"], tmp_path, on_nan=on_nan, monitoring_freq=100, **more
        )
        run = program.run_of([*argv, "--max_updates", "4", "--quiet", "--floatX", "float64"])
        run.compiler = Uncompiled()
        return program.mainloop(run)

    def streams(args, dim, n):
        first, *more = (NormalNoise(dim, seed) for seed in range(n))
        first.__class__ = SpoiledOnce
        return [first, *more]

    monkeypatch.setattr(running_run, "noise_streams", streams)
    with pytensor.config.change_flags(floatX="float64"):
        yield make


@pytest.mark.parametrize(("name", "more"), SPOILED)
def test_stops_before_an_update_that_is_not_finite(name, more, spoiled, tmp_path):
    mainloop = spoiled(name, "stop", more)
    with pytest.raises(UserError, match=r"^update 3: nll_upper_bound is nan; the state before it"):
        mainloop.run()
    arrays, meta = checkpoint.load(tmp_path / f"{name}_1.npz")
    assert meta["batch_seen"] == 2
    kept = [key for key in arrays if key in meta["params"] or key.startswith("state/")]
    assert all(np.isfinite(arrays[key]).all() for key in kept)
    assert ("state/rnn_tm1" in arrays) == (name != "vae")


@pytest.mark.parametrize(("name", "more"), SPOILED)
def test_skips_an_update_that_is_not_finite(name, more, spoiled):
    """What is carried on stays free of it, STORN's x_t included."""
    mainloop = spoiled(name, "skip", more)
    mainloop.run()
    assert (mainloop.trainlog.batch_seen, mainloop.trainlog.not_finite) == (4, 1)
    values = [p.get_value() for p in mainloop.model.params.values()]
    assert all(np.isfinite(value).all() for value in values)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_teaches(name, capsys):
    with pytest.raises(SystemExit) as end:
        run_program(PROGRAMS[name], ["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "arxiv.org/abs/1506.02216" in text
    assert f"python models/{name}.py --dataset iamondb" in text
