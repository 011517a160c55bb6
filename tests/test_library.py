"""The examples of docs/library.md: the code that the page shows is run as a reader would run it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest

from cle_port.errors import UserError
from cle_port.train.ext import Extension
from models import sample
from models.parts import Init
from models.running import run_program
from models.sampling.loading import load_model, load_program
from models.settings import Settings
from models.vrnn_gmm import PROGRAM
from tests.recordings import PROJECT
from tests.test_vrnn_gmm import SHORT, TINY, as_flags
from tests.test_vrnn_gmm import data as data  # a fixture
from tests.units import evaluate

EXAMPLE = re.compile(r"<!-- file: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
LIMIT = 300  # seconds


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    """A folder with the examples in files."""
    folder = tmp_path_factory.mktemp("examples")
    page = (PROJECT / "docs" / "library.md").read_text(encoding="utf-8")
    for name, code in EXAMPLE.findall(page):
        (folder / name).write_text(code, encoding="utf-8")
    assert len(list(folder.iterdir())) == 4
    return folder


def run(folder: Path, *command: str) -> str:
    """Run an example in its folder, the project on the path; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(out: str, channel: str) -> list[float]:
    """Values of a monitored channel, in order."""
    return [float(value) for value in re.findall(rf"\b{channel}: (-?[\d.]+)", out)]


def test_sine(examples):
    out = run(examples, "sine.py", "5")
    nll = numbers(out, "valid_nll")
    assert nll[-1] < nll[0] - 0.5
    assert (examples / "runs" / "sine" / "sine_best.npz").is_file()


class Note(Extension):
    """An extension that this project does not have."""

    name = "ext_save"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def exe(self, mainloop) -> None:
        self.seen.append(mainloop.trainlog.batch_seen)


def module_of(path: Path) -> Any:
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def laplace(examples, data, tmp_path_factory) -> tuple[Path, Note]:
    """A short run of VRNN-Laplace with an extension of the caller's."""
    program = load_program(examples / "vrnn_laplace.py")
    folder = tmp_path_factory.mktemp("laplace")
    note = Note()
    writer = module_of(examples / "watched.py").TensorBoard(folder / "tensorboard")
    settings = SHORT | {"dataset": "blizzard", "data_path": data, "save_path": folder}
    assert run_program(program, [*as_flags(settings), "--quiet"], extensions=[note, writer]) == 0
    return folder, note


@pytest.mark.full
def test_vrnn_laplace_trains_and_generates(examples, laplace, tmp_path):
    folder, _ = laplace
    lines = [
        json.loads(line) for line in (folder / "vrnn_laplace_1.jsonl").read_text().splitlines()
    ]
    assert lines[-1]["valid_nll_upper_bound"] < lines[0]["valid_nll_upper_bound"]
    checkpoint, script = str(folder / "vrnn_laplace_1.npz"), str(examples / "vrnn_laplace.py")
    argv = [checkpoint, "--number", "2", "--length", "4", "--out", str(tmp_path), "--quiet"]
    assert sample.main([*argv, "--program", script]) == 0
    assert len(list(tmp_path.glob("*.wav"))) == 2
    assert sample.main(argv) == 2  # without the script


@pytest.mark.full
def test_an_extension_of_the_callers_runs_at_its_point(laplace):
    _, note = laplace
    assert note.seen == [0, 1, 2, 3, 4]


@pytest.mark.full
def test_tensorboard_has_what_the_log_has(laplace):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = laplace
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    lines = (folder / "vrnn_laplace_1.jsonl").read_text().splitlines()
    for tag, name in (("valid/kl_term", "valid_kl_term"), ("grad/norm", "grad_norm")):
        written = [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors(tag)]
        logged = [json.loads(line) for line in lines if name in line]
        assert [step for step, _ in written] == [entry["batch_seen"] for entry in logged]
        np.testing.assert_allclose([v for _, v in written], [e[name] for e in logged], rtol=1e-6)
        assert len(written) >= 2


def test_laplace_draws_have_the_densitys_scale(examples):
    program = load_program(examples / "vrnn_laplace.py")
    decoder = program.make_net(Settings(**TINY, dataset="blizzard"), Init(1)).theta
    eps = np.random.default_rng(0).standard_normal((200_000, 1))
    theta = {"theta_mu": pt.full((1, 1), 3.0), "theta_sig": pt.full((1, 1), 0.5)}
    x, mean = evaluate(list(decoder.sample(theta, pt.as_tensor(eps), None)))
    np.testing.assert_array_equal(mean, 3.0)
    np.testing.assert_allclose(np.median(x), 3.0, atol=0.01)
    np.testing.assert_allclose(np.abs(x - 3.0).mean(), 0.5, rtol=0.01)


@pytest.mark.full
def test_notebook(examples, laplace, data):
    """The notebook's cell on a checkpoint of the default program."""
    settings = SHORT | {"dataset": "blizzard", "data_path": data}
    argv = as_flags(settings | {"save_path": examples / "runs" / "blizzard_demo"})
    assert run_program(PROGRAM, [*argv, "--quiet"]) == 0
    out = run(examples, "notebook.py")
    assert "bound of each frame, in nats: (12, 4) mean" in out
    assert "z: (12, 4, 3) means of x_t, all components of the mixture: (12, 4, 80)" in out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "is not a Python file"),
        ("x = 1\n", "has no PROGRAM"),
        ("PROGRAM = 3\n", "has no PROGRAM"),
        ("import no_such_package\n", "fails with ModuleNotFoundError"),
        ("def f(:\n", "fails with SyntaxError"),
    ],
)
def test_unusable_scripts(text, reason, tmp_path):
    path = tmp_path / "model.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=reason):
        load_program(path)


@pytest.mark.full
def test_a_checkpoint_of_an_unknown_program_names_the_option(laplace):
    with pytest.raises(UserError, match="--program"):
        load_model(laplace[0] / "vrnn_laplace_1.npz")
