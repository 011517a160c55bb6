"""The tutorials: a few updates of each, run in Python; marked slow, their full length as files."""

from __future__ import annotations

import ast
import importlib
import logging
import re
import subprocess
import sys

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cle_port.data import Iterator
from cle_port.layers.recurrent import GFLSTM, LSTM
from cle_port.train import checkpoint
from datasets.bouncing_balls import BouncingBalls
from datasets.digits import Digits, open_digits
from tests.recordings import PROJECT
from tests.uncompiled import Uncompiled
from tests.units import compile_plainly, evaluate
from tutorials import bouncingball, draw, mnist, mnist_dropout, music
from tutorials.running import as_text, options

# First part of the names of the files, and the number that the page promises: this channel ends
# below it.
TUTORIALS = {
    "mnist": ("toy_mnist", "error_rate", 0.12),
    "mnist_dropout": ("toy_mnist_dropout", "error_rate", 0.12),
    "bouncingball": ("toy_bb", "mse", 4.5),
    "bouncingball_lstm": ("toy_bb_lstm", "mse", 4.0),
    "bouncingball_gflstm": ("toy_bb_gflstm", "mse", 5.0),
    "bouncingball_gfgru": ("toy_bb_gfgru", "mse", 6.5),
    "music": ("toy_music", "nll", 4.5),
    "draw": ("draw", "cost", 26.0),
}
FILES = sorted(path for path in (PROJECT / "tutorials").glob("*.py") if path.stem in TUTORIALS)
HEAD = """
if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
"""


@pytest.fixture
def _small(monkeypatch):
    """No compiler, fewer units, less data.

    Python would compute Theano's sigmoid number by number; the plain one is NumPy's.
    """
    monkeypatch.setattr("cle_port.train.Compiler", Uncompiled)
    monkeypatch.setattr("cle_port.layers.NonlinCell.saturate", False)
    monkeypatch.setattr(draw, "sigmoid", pt.sigmoid)
    for module in (bouncingball, draw):
        monkeypatch.setattr(module, "compile_function", compile_plainly)
    for module in (mnist, mnist_dropout, bouncingball, music, draw):
        monkeypatch.setattr(module, "n_hidden", 20)
        monkeypatch.setattr(module, "batch_size", 10)
    monkeypatch.setattr(draw, "n_steps", 3)
    monkeypatch.setattr(bouncingball, "BouncingBalls", short_videos)
    monkeypatch.setattr("datasets.music.N_PIECES", {"train": 80, "valid": 10})
    for module in (mnist, mnist_dropout, draw):
        monkeypatch.setattr(module, "open_digits", few_digits)


def few_digits(unsupervised: int = 0) -> tuple[Digits, Digits]:
    """The first images of both parts."""
    parts = open_digits(unsupervised)
    for part in parts:
        part.data = [array[:80] for array in part.data]
    return parts


def short_videos(name: str) -> BouncingBalls:
    """Six frames of few videos."""
    part = BouncingBalls(name=name, n_sequence=100)
    part.data = [array[:, :6] for array in part.data]
    return part


def learned(out: str) -> dict[str, tuple[float, float]]:
    """First and last value of each channel, from what a tutorial prints at its end."""
    lines = re.findall(r"^  valid_(\w+): (\S+) -> (\S+)$", out, re.MULTILINE)
    return {name: (float(first), float(last)) for name, first, last in lines}


def main(name: str, *argv: object) -> int:
    return importlib.import_module(f"tutorials.{name}").main(list(map(str, argv)))


# --- a few updates of each ----------------------------------------------------------------------


@pytest.mark.full  # PyTensor 3.0 warns of graphs of this size in Python
@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_few_updates(name, tmp_path, capsys):
    floatX, level = pytensor.config.floatX, logging.getLogger("cle_port").level
    handlers = list(logging.getLogger().handlers)
    if name.endswith(("mnist", "dropout", "draw")):
        pytest.importorskip("sklearn")
    assert main(name, "--max_updates", 3, "--out", tmp_path, "--quiet") == 0
    out = capsys.readouterr().out
    toy_name, channel, _ = TUTORIALS[name]
    assert out.startswith(f"{toy_name}: ")
    channels = learned(out)
    first, last = channels["cross_entropy" if channel == "error_rate" else channel]
    assert last < first
    if name == "draw":
        assert_allclose(last, channels["recon_term"][1] + channels["kl_term"][1], atol=2e-4)
    arrays, meta = checkpoint.load(tmp_path / f"{toy_name}.npz")
    assert meta["batch_seen"] == 3
    assert {array.dtype for key, array in arrays.items() if key.startswith("W")} == {
        np.dtype("float32")
    }
    assert pytensor.config.floatX == floatX
    assert logging.getLogger("cle_port").level == level
    assert logging.getLogger().handlers == handlers


@pytest.mark.usefixtures("_small")
def test_what_is_printed(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # pytest has its own
    argv = ["--max_updates", 2, "--epoch", 3, "--out", tmp_path]
    assert main("mnist", *argv) == 0
    loud = capsys.readouterr().out
    assert main("mnist", *argv, "--quiet") == 0
    quiet = capsys.readouterr().out
    assert loud.endswith(quiet)
    assert "Monitoring step" in loud
    assert "Monitoring step" not in quiet
    assert root.handlers == []
    assert set(learned(quiet)) == {"cross_entropy", "error_rate"}


@pytest.mark.usefixtures("_small")
def test_predicted_frames_are_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bouncingball, "n_shown", 3)
    argv = ["--max_updates", 1, "--out", tmp_path, "--quiet", "--draw", 2]
    assert main("bouncingball", *argv) == 0
    _, video, model = re.split(r"\nThe video goes on:\n|\nThe model:\n", capsys.readouterr().out)
    expected = short_videos("test").data[0][0, 3:5]
    assert video.rstrip("\n") == as_text(expected.reshape(2, 16, 16))
    assert re.fullmatch(r"(.{16}\|.{16}\n){16}", model)


def test_images_as_text():
    images = np.array([[[0, 1], [0.49, 0.51], [0.11, 0.9]], np.full((3, 2), 0.3)])
    assert as_text(images) == " @|--\n=+|--\n.%|--"


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--epoch", "0"], "at least 1"),
        (["--max_updates", "-3"], "at least 1"),
        (["--max_update", "few"], "at least 1"),
        (["--epochs", "3"], "did you mean --epoch"),
    ],
)
def test_wrong_options(argv, reason, capsys):
    assert main("mnist", *argv) == 2
    assert reason in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main("music", "--out", tmp_path / "file" / "folder") == 2
    assert "choose another folder" in capsys.readouterr().err


def test_without_scikit_learn(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main("mnist", "--out", tmp_path) == 2
    assert "pip install scikit-learn" in capsys.readouterr().err


def test_a_folder_of_its_own_for_each():
    assert options("mnist", "Text.", 3).parse_args([]).out == PROJECT / "runs/tutorials/mnist"


# --- parts of the tutorials ---------------------------------------------------------------------


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(("layer", "feedback"), [(LSTM, False), (GFLSTM, True)])
def test_each_frame_is_predicted_from_the_predictions_before(layer, feedback):
    balls = bouncingball.Balls(layer, feedback)
    assert list(balls.h2.recurrent) == (["h2", "h1", "h3"] if feedback else ["h2"])
    shown = np.random.default_rng(0).random((3, 2, 256))
    x = pt.as_tensor(shown)
    frames = evaluate(balls.go_on(x, 4))
    assert frames.shape == (4, 2, 256)
    *_, y_hat = balls.fprop(pt.as_tensor(np.concatenate([shown, frames[:-1]])))
    assert_allclose(evaluate(y_hat)[2:], frames, rtol=1e-12)
    assert np.abs(np.diff(frames, axis=0)).max() > 1e-6


@pytest.mark.parametrize(("layer", "feedback"), [(LSTM, False), (GFLSTM, True)])
def test_each_layer_gets_its_own_state_first(layer, feedback, monkeypatch):
    monkeypatch.setattr(bouncingball, "n_hidden", 2)
    balls = bouncingball.Balls(layer, feedback)
    got = {}
    for node in (balls.h1, balls.h2, balls.h3):

        def fprop(XH, params, node=node):
            got[node.name] = dict(zip(node.recurrent, XH[1], strict=True))
            return node.get_init_state(5)

        monkeypatch.setattr(node, "fprop", fprop)
    states = {name: pt.matrix(name) for name in ("h1", "h2", "h3")}
    balls.inner_fn(pt.matrix("x"), *states.values())
    for name in states:
        assert got[name] == (states if feedback else {name: states[name]})


@pytest.mark.usefixtures("_small")
def test_DRAW_generates_as_it_is_trained():
    """If the encoder always says N(0, 1), the canvas is that of the noise."""
    model = draw.Draw()
    for name, p in model.params.items():
        if name.endswith(("phi_mu", "phi_sig")):
            p.set_value(0 * p.get_value())
    model.params["b_phi_sig"].set_value(np.full(draw.latent_dim, np.log(np.e - 1)))
    rng = np.random.default_rng(0)
    eps = pt.as_tensor(rng.normal(size=(3, draw.batch_size, draw.latent_dim)))
    x = pt.as_tensor(rng.random((draw.batch_size, 64)))
    canvas, kl = model.fprop(x, eps)
    canvas, kl, images = evaluate([pt.sigmoid(canvas[-1]), kl, model.generate(eps)])
    assert images.shape == (draw.batch_size, 64)
    assert kl.shape == (3, draw.batch_size)
    assert_allclose(canvas, images, rtol=1e-12)
    assert_allclose(kl, 0, atol=1e-12)
    assert images.std(axis=0).max() > 1e-6


def test_batches_with_dropout():
    pytest.importorskip("sklearn")
    train = few_digits()[0]
    batches = mnist_dropout.WithDropout(
        Iterator(train, 40), u={"x": (40, 64), "h1": (40, 5)}, eps={"W": (64, 5)}, seed=1
    )
    assert len(batches) == 2
    assert batches.name == "train"
    first, second = batches
    for batch in (first, second):
        assert [array.shape for array in batch] == [(40, 64), (40,), (40, 64), (40, 5), (64, 5)]
        assert min(batch[2].min(), batch[3].min()) >= 0
        assert max(batch[2].max(), batch[3].max()) < 1
        assert batch[4].min() < -1
    assert_array_equal(second[0], train.data[0][40:])
    for n in (2, 3, 4):
        assert not np.array_equal(first[n], second[n])
    states = {name: noise.state for name, noise in batches.noise.items()}
    third = next(iter(batches))
    for name, noise in batches.noise.items():
        noise.state = states[name]
    batches.go_to(0, 1)
    again = next(iter(batches))
    assert_array_equal(again[0], second[0])
    for n in (2, 3, 4):
        assert_array_equal(again[n], third[n])


# --- as files -----------------------------------------------------------------------------------


def test_all_tutorials_are_here():
    assert len(FILES) == len(TUTORIALS)
    others = {path.stem for path in (PROJECT / "tutorials").glob("*.py")} - set(TUTORIALS)
    assert others == {"__init__", "running"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_finds_the_project_and_imports_only_what_it_may(path):
    code = path.read_text(encoding="utf-8")
    assert HEAD in code
    assert code.endswith('if __name__ == "__main__":\n    sys.exit(main())\n')
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    packages = {str(node.module).split(".")[0] for node in imports}
    assert packages.isdisjoint({"models", "compare", "benchmarks", "tests"})


def test_a_file_starts_in_any_folder(tmp_path):
    command = [sys.executable, str(PROJECT / "tutorials" / "bouncingball_lstm.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "--max_updates" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_full_length(name, tmp_path):
    """As docs/tutorials.md says."""
    if name.endswith(("mnist", "dropout", "draw")):
        pytest.importorskip("sklearn")
    path = PROJECT / "tutorials" / f"{name}.py"
    command = [sys.executable, str(path), "--quiet", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    toy_name, channel, limit = TUTORIALS[name]
    assert learned(done.stdout)[channel][1] < limit
    assert (tmp_path / "out" / f"{toy_name}.npz").is_file()
