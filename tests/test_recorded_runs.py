"""Whole runs of the programs against recordings of the original.

Every recorded run is repeated with its initial parameters, batches and noise:
21 updates with all monitoring passes.  Runs that began with the scripts' own
weights are repeated from their seeds, too, with nothing given but the data and
the signs that LAPACK chooses.  `compare` repeats and compares; what is
allowed stands in `compare.tolerances`.  Here is held that everything
recorded is compared, and agrees.
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

from compare import tolerances
from compare.differences import Comparison, Section
from compare.recording import Recording
from compare.replay import (
    DATASETS,
    N_MOVED,
    CompiledProgram,
    compile_program,
    digest,
    repeat_run,
)
from compare.verdicts import compare_run
from models.programs import PROGRAMS
from tests.recordings import FOLDERS, PROJECT, below, read

LABELS = [f"{dataset}_{name}" for dataset in DATASETS for name in PROGRAMS]

pytestmark = pytest.mark.full


def load(label: str, floatX: str, kind: str) -> dict[str, np.ndarray]:
    return read(f"model_{label}_{kind}_{floatX}.npz")


@cache
def compiled(label: str, floatX: str) -> CompiledProgram:
    """Compile a program with the recorded sizes; all kinds of runs share it."""
    folder = Path(tempfile.mkdtemp(prefix=f"{label}_{floatX}_"))
    return compile_program(any_kind(label, floatX), floatX, folder)


RUNS = [
    (label, floatX, kind)
    for label in LABELS
    for floatX in ("float64", "float32")
    for kind in tolerances.KINDS
    if any((folder / f"model_{label}_{kind}_{floatX}.npz").exists() for folder in FOLDERS)
]
SEEDED = [(*case, "seeds") for case in RUNS if case[2] == "small"]


def marked(cases: list[tuple[str, ...]]) -> list:
    """CI runs all in float64 and one program in float32; the rest is slow."""
    return [
        pytest.param(
            case,
            marks=[pytest.mark.slow]
            if case[1] == "float32" and "zard_vrnn_gmm" not in case[0]
            else [],
            id="-".join(case),
        )
        for case in cases
    ]


def any_kind(label: str, floatX: str) -> dict[str, np.ndarray]:
    """A recording of the program; sizes, data and seed are the same in all."""
    return load(label, floatX, next(k for k in tolerances.KINDS if (label, floatX, k) in RUNS))


@contextmanager
def screen() -> Iterator[list[str]]:
    """Collect the lines that the library logs meanwhile."""
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


class Repeated:
    """A recorded run, repeated and compared."""

    def __init__(self, label: str, floatX: str, kind: str, start: str = "recorded") -> None:
        self.floatX, self.kind, self.from_seeds = floatX, kind, start == "seeds"
        self.recording = load(label, floatX, kind)
        program = compiled(label, floatX)
        assert digest(self.recording) == digest(any_kind(label, floatX))
        with screen() as lines:
            repeated = repeat_run(program, self.recording, from_seeds=self.from_seeds)
        self.lines = lines[: lines.index("Terminating main loop") + 1]  # of the first repetition
        self.folder = str(program.mainloop.extension[3].path)
        self.moved = repeated.moved
        self.comparison: Comparison = compare_run(program, repeated)
        self.n_updates = int(self.recording["meta/n_updates"])

    def section(self, title: str) -> Section:
        """The section of this title, which every recording has but for what its program lacks."""
        return next(s for s in self.comparison.sections if s.title == title)

    def check(self, title: str, names: set[str], quantity: str | None = None) -> None:
        """All of these names are compared, everything is judged and agrees."""
        section = self.section(title)
        assert {difference.name for difference in section.differences} == names
        table = tolerances.of_run(self.kind, self.floatX)
        is_judged = quantity is None or quantity in table
        for difference in section.differences:
            assert (difference.allowed is not None) == is_judged, difference.place
            assert difference.ok, difference


@pytest.fixture(scope="module", params=marked(RUNS + SEEDED))
def run(request) -> Repeated:
    """Repeat a recorded run."""
    return Repeated(*request.param)


def test_everything_agrees(run):
    assert run.comparison.ok
    assert run.comparison.first() is None


def test_initial_parameters_of_the_seed(run):
    """The seed alone gives the original's parameters; SVD may turn signs of U's columns."""
    run.check("initial parameters of the seed", set(run.recording["param_names"].tolist()))
    rows = run.section("initial parameters of the seed").differences
    if run.floatX == "float64":
        assert all(row.absolute == 0 for row in rows if not row.name.startswith("U_"))
        assert all(row.absolute <= 1e-12 for row in rows)


def test_batches(run):
    """The same numbers, to the last bit."""
    run.check("batches", {"x"})
    rows = run.section("batches").differences
    assert [row.at for row in rows] == list(range(run.n_updates))
    assert all(row.absolute == 0 for row in rows)


def test_noise_of_the_seed(run):
    if not run.from_seeds or "update/000/eps" not in run.recording:
        pytest.skip("recorded noise, or none")
    run.check("noise of the seed", {"eps"}, "noise")
    assert [row.at for row in run.section("noise of the seed").differences] == list(
        range(run.n_updates)
    )


def test_carried_state(run):
    if "update/000/rnn_tm1_before" not in run.recording:
        pytest.skip("nothing is carried over on IAM-OnDB")
    section = run.section("state carried over")
    counts = [row for row in section.differences if row.name == "step_count"]
    assert len(counts) == run.n_updates
    assert all(row.absolute == 0 for row in counts)
    section.differences = [row for row in section.differences if row.name != "step_count"]
    assert len(section.differences) == run.n_updates
    run.check("state carried over", {"rnn_tm1"}, "state")


def cost_name(run: Repeated) -> str:
    return "nll_upper_bound" if "update/000/kl_term" in run.recording else "nll"


def test_costs(run):
    for title in {
        cost_name(run),
        *(["recon_term"] if "update/000/recon_term" in run.recording else []),
    }:
        run.check(title, {title}, "cost")
        assert [row.at for row in run.section(title).differences] == list(range(run.n_updates))


def test_kl_terms(run):
    """In small runs differences of nearly equal numbers, whose noise is measured."""
    if "update/000/kl_term" not in run.recording:
        pytest.skip("no latent variable")
    run.check("kl_term", {"kl_term"}, "kl")
    assert [row.at for row in run.section("kl_term").differences] == list(range(run.n_updates))


def test_gradient_norms(run):
    """Of all updates; in small float32 runs of those that start from recorded parameters."""
    section = run.section("gradient norm")
    assert [row.at for row in section.differences] == list(range(run.n_updates))
    if (run.floatX, run.kind) == ("float32", "small"):
        section.differences = section.differences[:1]
    run.check("gradient norm", {"grad_norm"}, "grad_norm")


def test_restarted(run):
    """From every recorded state, the next cost and gradient norm."""
    name = cost_name(run)
    run.check(f"{name} from recorded states", {name}, "cost")
    run.check("gradient norm from recorded states", {"grad_norm"}, "grad_norm")
    updates = {row.at for row in run.section("gradient norm from recorded states").differences}
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
    rows = [row for row in section.differences if row.name != "adam_counter"]
    assert len(rows) == n_parts * len(names)
    if family == "adam_m":
        counters = [row for row in section.differences if row.name == "adam_counter"]
        assert len(counters) == len(run.recording["meta/snapshots"])
        assert all(row.absolute == 0 for row in counters)
    section.differences = rows
    run.check(title, names, "param")


def test_monitored_channels(run):
    rows = run.section("monitored channels").differences
    recorded = below(run.recording, "trainlog")
    table = tolerances.of_run(run.kind, run.floatX)
    n_passes = len(run.recording["monitor/passes_at"])
    for name, values in recorded.items():
        is_log = name == "update"
        is_bound = is_log or name.endswith(("nll", "nll_upper_bound", "recon_term"))
        found = [row for row in rows if row.name == ("logged cost" if is_log else name)]
        assert len(found) == len(values) == (run.n_updates if is_log else n_passes)
        assert all(row.ok for row in found), name
        is_judged = ("bound" if is_bound else "channel") in table
        assert all((row.allowed is not None) == is_judged for row in found), name
    assert len(rows) == run.n_updates + (len(recorded) - 1) * n_passes


def test_end_of_the_run(run):
    """Updates, epochs, order of parameters and channels, files left behind."""
    rows = run.section("end of the run").differences
    assert len(rows) == 5
    assert all(row.absolute == 0 for row in rows)


# What may differ on the screen; every other line is the original's.
SPELT = {
    " ----------------": " ---------------",
    " Traininig basics": " Training basics",
    " ................": " ...............",
}
OURS_ALONE = ("Frames added to reach a compiled length", "Compiling for sequences of up to")
SECONDS = re.compile(r"( Elapsed time(?: for monitoring)?: )\d+\.\d+")


def expected_screen(run: Repeated) -> list[str]:
    """The recorded lines as the port writes them: spelling, names of files, times."""
    lines = [SPELT.get(line, line) for line in run.recording["log_lines"].tolist()]
    lines = [line.replace("SAVE_PATH", run.folder).replace(".pkl", ".npz") for line in lines]
    return [SECONDS.sub(r"\1seconds", line) for line in lines]


def test_the_screen_is_the_originals(run):
    """Line by line; numbers within one in the sixth decimal, to which they are printed."""
    theirs = expected_screen(run)
    ours = [SECONDS.sub(r"\1seconds", line) for line in run.lines]
    ours = [line for line in ours if not line.startswith(OURS_ALONE)]
    assert len(ours) == len(theirs)
    single = run.floatX == "float32"
    for our, their in zip(ours, theirs):
        if our != their:
            (our_name, our_number), (name, number) = our.split(": "), their.split(": ")
            assert our_name == name
            digits = 1e-4 * max(1.0, abs(float(number))) if single else 0.0
            assert abs(float(our_number) - float(number)) <= 1.01e-6 + digits, their


def test_noise_of_rounding_is_measured(run):
    """Runs with moved numbers differ from the run, and by rounding alone."""
    assert len(run.moved) == N_MOVED
    rows = run.section(cost_name(run)).differences
    eps = np.finfo(run.floatX).eps
    assert all(row.noise > 0 for row in rows)
    assert rows[0].noise <= 100 * eps
    if run.floatX == "float64":
        assert all(row.allowed < 1e-9 for row in rows)


OTHERS = sorted((PROJECT / "tests" / "reference" / "others").glob("*.npz"))


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_other_seeds_and_sizes(path, tmp_path):
    """Recordings that are not of the series: gates beyond 19, batches of 3, one component."""
    with Recording(path) as recording:
        program = compile_program(recording, "float64", tmp_path)
        comparison = compare_run(program, repeat_run(program, recording))
        assert comparison.first() is None
        names = set(recording["param_names"].tolist())
        section = next(s for s in comparison.sections if s.title == "parameters")
        assert {row.name for row in section.differences} == names


@pytest.mark.slow
@pytest.mark.parametrize("label", ["blizzard_vrnn_gmm", "iamondb_vrnn_gmm"])
@pytest.mark.parametrize("backend", ["c", "numba"])
def test_other_backends(backend, label, tmp_path):
    """The graph is the same; each compiles it for minutes."""
    if backend == "c" and not pytensor.config.cxx:
        pytest.skip("there is no C++ compiler")
    recording = load(label, "float64", "strong")
    program = compile_program(recording, "float64", tmp_path, backend)
    comparison = compare_run(program, repeat_run(program, recording))
    assert program.mainloop.compiler.backend == backend
    assert comparison.first() is None
    assert comparison.ok
