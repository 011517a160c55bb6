"""Whole runs of the programs agree with recordings of the original.

`compare` repeats every recorded run with its initial parameters, batches and
noise: 21 updates with all monitoring passes.  It also repeats the runs from the
scripts' own weights from their seeds, with only the data and the signs of
orthogonal columns from the recording.  `compare.tolerances` has the allowed
differences.  These tests check that all recorded quantities are compared and
agree.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytensor
import pytest

from cle_port.train.ext import EarlyStopping
from compare import tolerances
from compare.differences import Comparison, Section
from compare.recording import SCRIPTS, Recording
from compare.replay import (
    DATASETS,
    N_MOVED,
    CompiledProgram,
    compile_program,
    digest,
    repeat_run,
)
from compare.verdicts import compare_run
from models.parts import TRANSITIONS
from tests.recordings import FOLDERS, PROJECT, below, read

# The original's scripts, also with other layers where they make their LSTM.
RNNS = ["", *(f"_{rnn}" for rnn in TRANSITIONS if rnn != "lstm")]
LABELS = [f"{dataset}_{name}{rnn}" for dataset in DATASETS for name in SCRIPTS for rnn in RNNS]

pytestmark = pytest.mark.full


def load(label: str, floatX: str, kind: str) -> dict[str, np.ndarray]:
    return read(f"model_{label}_{kind}_{floatX}.npz")


@cache
def compiled(label: str, floatX: str) -> CompiledProgram:
    """Compile a program with the recorded sizes, for all kinds of runs."""
    folder = Path(tempfile.mkdtemp(prefix=f"{label}_{floatX}_"))
    return compile_program(any_kind(label, floatX), floatX, folder)


RUNS: list[tuple[str, ...]] = [
    (label, floatX, kind)
    for label in LABELS
    for floatX in ("float64", "float32")
    for kind in tolerances.KINDS
    if any((folder / f"model_{label}_{kind}_{floatX}.npz").exists() for folder in FOLDERS)
]
SEEDED: list[tuple[str, ...]] = [(*case, "seeds") for case in RUNS if case[2] == "small"]


def marked(cases: list[tuple[str, ...]]) -> list:
    """Mark as slow what CI leaves out: float32, except for one program; rarer recurrences."""
    left_out = [
        (case[1] == "float32" and "zard_vrnn_gmm" not in case[0])
        or case[0].endswith(tuple(rnn for rnn in RNNS if rnn not in ("", "_gru")))
        for case in cases
    ]
    return [
        pytest.param(case, marks=[pytest.mark.slow] if slow else [], id="-".join(case))
        for case, slow in zip(cases, left_out)
    ]


def any_kind(label: str, floatX: str) -> dict[str, np.ndarray]:
    """Return a recording of the program; sizes, data and seed are the same in all."""
    kind = next(kind for kind in tolerances.KINDS if (label, floatX, kind) in RUNS)
    return load(label, floatX, kind)


@contextmanager
def screen() -> Iterator[list[str]]:
    """Collect the lines that the library logs in a block."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("cle_port")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class ComparedRun:
    """A recorded run that the port has repeated, and the comparison."""

    def __init__(self, label: str, floatX: str, kind: str, start: str = "recorded") -> None:
        self.floatX, self.kind, self.from_seeds = floatX, kind, start == "seeds"
        self.recording = load(label, floatX, kind)
        program = compiled(label, floatX)
        assert digest(self.recording) == digest(any_kind(label, floatX))
        with screen() as lines:
            repeated = repeat_run(program, self.recording, from_seeds=self.from_seeds)
        self.lines = lines[: lines.index("Terminating main loop") + 1]  # without moved numbers
        extensions = program.mainloop.find_extension("ext_save")
        self.folder = next(str(ext.path) for ext in extensions if isinstance(ext, EarlyStopping))
        self.moved = repeated.moved
        self.comparison: Comparison = compare_run(program, repeated)
        self.n_updates = int(self.recording["meta/n_updates"])

    def section(self, title: str) -> Section:
        """Return the section of this title."""
        return next(s for s in self.comparison.sections if s.title == title)

    def updates(self, title: str) -> list[int]:
        """Return the updates that a section compares."""
        return [difference.update for difference in self.section(title).differences]

    def check(self, title: str, names: set[str], quantity: str | None = None) -> None:
        """Check that a section compares exactly these names, judges them, and agrees."""
        section = self.section(title)
        assert {difference.name for difference in section.differences} == names
        table = tolerances.of_run(self.kind, self.floatX)
        is_judged = quantity is None or quantity in table
        for difference in section.differences:
            assert (difference.allowed is not None) == is_judged, difference.place
            assert difference.ok, difference


@pytest.fixture(scope="module", params=marked(RUNS + SEEDED))
def run(request) -> ComparedRun:
    """Repeat and compare a recorded run."""
    return ComparedRun(*request.param)


def test_everything_agrees(run):
    assert run.comparison.ok
    assert run.comparison.first() is None


def test_initial_parameters_of_the_seed(run):
    """The seed alone gives the original's parameters, up to signs of U's columns."""
    run.check("initial parameters of the seed", set(run.recording["param_names"].tolist()))
    differences = run.section("initial parameters of the seed").differences
    if run.floatX == "float64":
        assert all(d.absolute == 0 for d in differences if not d.name.startswith("U_"))
        assert all(d.absolute <= 1e-12 for d in differences)


def test_batches(run):
    """The numbers are equal to the last bit."""
    run.check("batches", {"x"})
    assert run.updates("batches") == list(range(run.n_updates))
    assert all(d.absolute == 0 for d in run.section("batches").differences)


def test_noise_of_the_seed(run):
    if not run.from_seeds or "update/000/eps" not in run.recording:
        pytest.skip("the run uses recorded noise, or none")
    run.check("noise of the seed", {"eps"}, "noise")
    assert run.updates("noise of the seed") == list(range(run.n_updates))


def test_carried_state(run):
    if "update/000/rnn_tm1_before" not in run.recording:
        pytest.skip("IAM-OnDB carries no state over")
    section = run.section("state carried over")
    counts = [d for d in section.differences if d.name == "step_count"]
    assert len(counts) == run.n_updates
    assert all(d.absolute == 0 for d in counts)
    section.differences = [d for d in section.differences if d.name != "step_count"]
    assert len(section.differences) == run.n_updates
    run.check("state carried over", {"rnn_tm1"}, "state")


def cost_name(run: ComparedRun) -> str:
    return "nll_upper_bound" if "update/000/kl_term" in run.recording else "nll"


def test_costs(run):
    titles = [cost_name(run)]
    titles += ["recon_term"] * ("update/000/recon_term" in run.recording)
    for title in titles:
        run.check(title, {title}, "cost")
        assert run.updates(title) == list(range(run.n_updates))


def test_kl_terms(run):
    """In small runs they are differences of nearly equal numbers, so their noise matters."""
    if "update/000/kl_term" not in run.recording:
        pytest.skip("no latent variable")
    run.check("kl_term", {"kl_term"}, "kl")
    assert run.updates("kl_term") == list(range(run.n_updates))


def test_gradient_norms(run):
    """All updates get a verdict; in small float32 runs only the first."""
    section = run.section("gradient norm")
    assert run.updates("gradient norm") == list(range(run.n_updates))
    if (run.floatX, run.kind) == ("float32", "small"):
        section.differences = section.differences[:1]
    run.check("gradient norm", {"grad_norm"}, "grad_norm")


def test_restarted(run):
    """The next cost and gradient norm from every recorded state."""
    name = cost_name(run)
    run.check(f"{name} from recorded states", {name}, "cost")
    run.check("gradient norm from recorded states", {"grad_norm"}, "grad_norm")
    updates = run.updates("gradient norm from recorded states")
    assert 1 in updates
    assert 20 in updates or run.kind == "clipped"


def test_outputs_of_the_first_update(run):
    recorded = set(below(run.recording, "forward/000"))
    run.check("outputs of the first update", recorded, "forward")
    assert {"s", "x_1", "theta_mu", "theta_sig"} <= recorded


@pytest.mark.parametrize(("which", "title"), [("grad_raw", "raw"), ("grad_clipped", "clipped")])
def test_gradients_of_the_first_update(run, which, title):
    recorded = set(below(run.recording, f"{which}/000"))
    assert recorded == set(run.recording["param_names"].tolist())
    run.check(f"{title} gradients of the first update", recorded, "grad")


@pytest.mark.parametrize(
    ("family", "title"),
    [("param", "parameters"), ("adam_m", "first moments"), ("adam_v", "second moments")],
)
def test_parameters_and_moments(run, family, title):
    names = set(run.recording["param_names"].tolist())
    section = run.section(title)
    n_parts = 0
    for n in run.recording["meta/snapshots"]:
        whole = f"{family}/{n:03d}/{min(names)}" in run.recording
        n_parts += whole + (f"check/{family}/{n:03d}" in run.recording)
    counters = [d for d in section.differences if d.name == "adam_counter"]
    section.differences = [d for d in section.differences if d.name != "adam_counter"]
    assert len(section.differences) == n_parts * len(names)
    assert len(counters) == (len(run.recording["meta/snapshots"]) if family == "adam_m" else 0)
    assert all(d.absolute == 0 for d in counters)
    run.check(title, names, "param")


def test_monitored_channels(run):
    differences = run.section("monitored channels").differences
    recorded = below(run.recording, "trainlog")
    table = tolerances.of_run(run.kind, run.floatX)
    n_passes = len(run.recording["monitor/passes_at"])
    for name, values in recorded.items():
        is_log = name == "update"
        is_bound = is_log or name.endswith(("nll", "nll_upper_bound", "recon_term"))
        title = "logged cost" if is_log else name
        of_channel = [d for d in differences if d.name == title]
        assert len(of_channel) == len(values) == (run.n_updates if is_log else n_passes)
        assert all(d.ok for d in of_channel), name
        is_judged = ("bound" if is_bound else "channel") in table
        assert all((d.allowed is not None) == is_judged for d in of_channel), name
    assert len(differences) == run.n_updates + (len(recorded) - 1) * n_passes


def test_end_of_the_run(run):
    """Updates, epochs, order of parameters and channels, and saved files are the same."""
    differences = run.section("end of the run").differences
    assert len(differences) == 5
    assert all(d.absolute == 0 for d in differences)


# Lines that the port spells differently.  All other lines are the original's.
SPELLING = {
    " ----------------": " ---------------",
    " Traininig basics": " Training basics",
    " ................": " ...............",
}
ONLY_IN_PORT = ("Frames added to reach a compiled length", "Compiling for sequences of up to")
SECONDS = re.compile(r"( Elapsed time(?: for monitoring)?: )\d+\.\d+")


def expected_screen(run: ComparedRun) -> list[str]:
    """Return the recorded lines with the port's spelling and file names, without times."""
    lines = [SPELLING.get(line, line) for line in run.recording["log_lines"].tolist()]
    lines = [line.replace("SAVE_PATH", run.folder).replace(".pkl", ".npz") for line in lines]
    return [SECONDS.sub(r"\1seconds", line) for line in lines]


def test_the_screen_is_the_originals(run):
    """All lines are the same, and numbers differ by at most one in the last printed decimal."""
    theirs = expected_screen(run)
    ours = [SECONDS.sub(r"\1seconds", line) for line in run.lines]
    ours = [line for line in ours if not line.startswith(ONLY_IN_PORT)]
    assert len(ours) == len(theirs)
    single = run.floatX == "float32"
    for our, their in zip(ours, theirs):
        if our != their:
            (our_name, our_number), (name, number) = our.split(": "), their.split(": ")
            assert our_name == name
            digits = 1e-4 * max(1.0, abs(float(number))) if single else 0.0
            assert abs(float(our_number) - float(number)) <= 1.01e-6 + digits, their


def test_noise_of_rounding_is_measured(run):
    """Runs with moved numbers differ from the run by rounding only."""
    assert len(run.moved) == N_MOVED
    differences = run.section(cost_name(run)).differences
    eps = np.finfo(run.floatX).eps
    assert all(d.noise > 0 for d in differences)
    assert differences[0].noise <= 100 * eps
    if run.floatX == "float64":
        assert all(d.allowed < 1e-9 for d in differences)


OTHERS = sorted((PROJECT / "tests" / "reference" / "others").glob("*.npz"))


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_other_seeds_and_sizes(path, tmp_path):
    """The recordings have gates beyond 19, or batches of 3 and one mixture component."""
    with Recording(path) as recording:
        program = compile_program(recording, "float64", tmp_path)
        comparison = compare_run(program, repeat_run(program, recording))
        assert comparison.first() is None
        names = set(recording["param_names"].tolist())
        section = next(s for s in comparison.sections if s.title == "parameters")
        assert {d.name for d in section.differences} == names


@pytest.mark.slow
@pytest.mark.parametrize("label", ["blizzard_vrnn_gmm", "iamondb_vrnn_gmm"])
@pytest.mark.parametrize("backend", ["c", "numba"])
def test_other_backends(backend, label, tmp_path):
    """The graph is the same, but each backend compiles it for minutes."""
    if backend == "c" and not pytensor.config.cxx:
        pytest.skip("no C++ compiler is installed")
    recording = load(label, "float64", "strong")
    program = compile_program(recording, "float64", tmp_path, backend)
    comparison = compare_run(program, repeat_run(program, recording))
    assert program.mainloop.compiler.backend == backend
    assert comparison.first() is None
    assert comparison.ok
