"""Hold a repeated run against its recording, quantity by quantity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from cle_port.compare import tolerances
from cle_port.compare.differences import (
    Comparison,
    Difference,
    Section,
    compare,
    compare_summaries,
    distance_of,
    size_of,
    with_signs_of,
)
from cle_port.compare.recording import below, scalar, text
from cle_port.compare.replay import LAST, Program, Run, label_of, n_recorded

INITIAL_WEIGHT = 0.08  # of the scripts: what a bias of nearly zero is added to
BOUND = ("nll", "nll_upper_bound", "recon_term")
ABSENT = "the recording has none"
FAMILIES = {"param": "parameters", "adam_m": "first moments", "adam_v": "second moments"}

missing = np.array(np.nan)  # what the port did not come to


class Stage(IntEnum):
    """What is computed when, within one update: where an error shows first."""

    BATCH = 0
    STATE = 1
    FORWARD = 2
    TERM = 3
    MONITOR = 4
    GRADIENT = 5
    NORM = 6
    CLIPPED = 7
    MOMENT = 8
    PARAMETER = 9
    END = 10


def compare_run(
    prog: Program, run: Run, path: str = "", tolerance: float | None = None
) -> Comparison:
    """Compare a repeated run with its recording.

    Parameters
    ----------
    prog : Program
    run : Run
        From `cle_port.compare.replay.repeat_run`.
    path : str
        The recording, for the report.
    tolerance : float, optional
        See `cle_port.compare.tolerances.of_run`.

    Returns
    -------
    Comparison
    """
    allowed = tolerances.of_run(run.kind, run.lower_precision, tolerance)
    sections = [
        seed(prog, run),
        batches(run),
        noise(run, allowed),
        carried_state(run, allowed),
        outputs(run, allowed),
        *terms(run, allowed),
        grad_norms(run, allowed),
        *restarted(run, allowed),
        *gradients(run, allowed),
        *(parameters(run, allowed, family) for family in FAMILIES),
        *monitored(run, allowed),
        end(run),
    ]
    found = [section for section in sections if section.differences]
    absent = {section.title: ABSENT for section in sections if not section.differences}
    return Comparison(path, facts(prog, run), found, absent)


def facts(prog: Program, run: Run) -> dict[str, str]:
    """Say what is compared with what."""
    recording = run.recording
    config = text(recording, "config/names", "config/values")
    shown = ("batch_size", "x_dim", "z_dim", "rnn_dim", "num_k", "lr")
    return {
        "program": label_of(recording).replace("_", " ", 1),
        "run": f"{run.kind}, {n_recorded(recording)} updates, "
        f"{scalar(recording, 'meta/epoch_seen')} epochs",
        "sizes": ", ".join(f"{key} {config[key]}" for key in shown if key in config),
        "original": f"{scalar(recording, 'meta/floatX')}; {scalar(recording, 'meta/versions')}",
        "port": f"{prog.floatX}; {prog.mainloop.backend} backend",
    }


def seed(prog: Program, run: Run) -> Section:
    """Parameters that the seed alone gives; an SVD may turn signs of U's columns."""
    recording = run.recording
    recorded = below(recording, "init") or below(recording, "param/000")
    is_double = run.lower_precision == "float64"
    rows = []
    for i, (name, value) in enumerate(recorded.items()):
        ours = prog.initial.get(name, missing)
        is_orthogonal = name.startswith("U_")
        if is_orthogonal:
            ours = with_signs_of(ours, value)
        # Another LAPACK's SVD agrees to its rounding; draws are the same.
        absolute = (1e-12 if is_orthogonal else 0.0) if is_double else 1e-7
        place = f"initial parameters of the seed: {name}"
        order = (-1, 0, i)
        size = size_of(value) or 1.0
        rows.append(compare(name, ours, value, absolute / size, place=place, order=order))
    return Section("initial parameters of the seed", rows, note="U up to the signs of its columns")


def batches(run: Run) -> Section:
    """What the port reads, against the recorded batches; the same numbers, not similar ones."""
    is_same = run.floatX == scalar(run.recording, "meta/floatX") or not run.mainloop.model.updates
    rows = []
    for n in range(n_recorded(run.recording)):
        ours, theirs = run.before.get(n, {}).get("x"), run.recording[f"update/{n:03d}/x"]
        rows.append(
            compare(
                "x",
                missing if ours is None else ours,
                theirs,
                0.0 if is_same else 2.0**-23,
                place=f"update {n}: the batch x",
                at=n,
                order=(n, Stage.BATCH),
            )
        )
    return Section("batches", rows)


def noise(run: Run, allowed: Mapping[str, float]) -> Section:
    """Noise drawn from the recorded seed, against the recorded one."""
    rows = [
        compare(
            "eps",
            run.before.get(n, {}).get("eps", missing),
            run.recording[f"update/{n:03d}/eps"],
            allowed["noise"],
            place=f"update {n}: the noise eps",
            at=n,
            order=(n, Stage.BATCH, 1),
        )
        for n in range(n_recorded(run.recording) if run.from_seeds else 0)
        if f"update/{n:03d}/eps" in run.recording
    ]
    return Section("noise of the seed", rows)


def carried_state(run: Run, allowed: Mapping[str, float]) -> Section:
    """State carried from batch to batch; on IAM-OnDB there is none."""
    rows = []
    for n in range(n_recorded(run.recording)) if run.mainloop.model.updates else ():
        for variable in run.mainloop.model.updates:
            name = str(variable.name)
            ours = run.before.get(n, {}).get(name, missing)
            rows.append(
                compare(
                    name,
                    ours,
                    run.recording[f"update/{n:03d}/{name}_before"],
                    0.0 if name == "step_count" else allowed.get("state"),
                    place=f"before update {n}: {name}",
                    at=n,
                    order=(n, Stage.STATE),
                )
            )
    return Section("state carried over", rows)


def outputs(run: Run, allowed: Mapping[str, float]) -> Section:
    """Outputs of the nodes in the first update, in the order in which they are computed."""
    rows = []
    limit = allowed.get("forward")
    recorded = below(run.recording, "forward/000")
    n_frame, n_sequence = run.recording["update/000/x"].shape[:2]
    for i, name in enumerate(in_order_of_flow(recorded)):
        theirs = recorded[name].reshape((n_frame, n_sequence, -1))
        ours = run.first.get("forward", {}).get(name, missing)
        if ours.ndim == 3:
            ours = ours[:n_frame]  # without padding
        frame = first_frame(ours, theirs, limit)
        rows.append(
            compare(
                name,
                ours,
                theirs,
                limit,
                place=f"update 0, frame {frame}: output of node {name}",
                order=(0, Stage.FORWARD, frame, i),
            )
        )
    return Section("outputs of the first update", rows)


def in_order_of_flow(names: Mapping[str, NDArray]) -> list[str]:
    """Sort outputs as one frame computes them: x, phi, prior, z, then s, then the decoder."""
    last = ("phi_mu", "phi_sig", "prior_mu", "prior_sig", "z_last", "s", "theta", "coeff")
    ranks = {name: i for i, name in enumerate(last)}

    def rank(name: str) -> tuple[int, str]:
        if name.startswith("x_"):
            return -1, name
        # theta_1 ... before its heads, which digits sort before letters
        group = "theta" if name.startswith("theta_") else name
        return ranks.get(group, len(ranks)), name

    return sorted(names, key=rank)


def first_frame(ours: NDArray, theirs: NDArray, limit: float | None) -> int:
    """First frame with too large a difference; that of the largest if none is."""
    if ours.shape != theirs.shape:
        return 0
    distances = distance_of(ours, theirs).max(axis=(1, 2))
    large = ~(distances <= (np.inf if limit is None else limit) * (size_of(theirs) or 1.0))
    return int(np.argmax(large) if large.any() else np.argmax(distances))


def term(run: Run, n: int, name: str) -> float:
    """Look up a term that the port computed, NaN where it did not come to it."""
    return run.terms[n][name] if n < len(run.terms) else np.nan


def terms(run: Run, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Cost and its terms, update by update.

    The KL term of small runs is a difference of nearly equal numbers of size
    1, and held to that size.
    """
    cost = str(run.mainloop.cost.name)
    titles = {"cost": cost, "recon_term": "recon_term", "kl_term": "kl_term"}
    for i, (key, name) in enumerate(titles.items()):
        if f"update/000/{key}" not in run.recording:
            continue
        is_kl = key == "kl_term"
        least = 1.0 if is_kl and run.kind == "small" else 0.0
        rows = [
            compare(
                name,
                term(run, n, name),
                run.recording[f"update/{n:03d}/{key}"],
                allowed.get("kl" if is_kl else "cost"),
                place=f"update {n}: {name}",
                at=n,
                order=(n, Stage.TERM, -i),  # the cost is the sum of its terms
                least=least,
            )
            for n in range(n_recorded(run.recording))
        ]
        note = "held to 1: a difference of nearly equal numbers of that size" if least else ""
        yield Section(name, rows, by_update=True, note=note)


def grad_norms(run: Run, allowed: Mapping[str, float]) -> Section:
    """Norm of the raw gradients; in small float32 runs of the first update only.

    There the parameters themselves are noise after an update, and the norm
    follows them; `restarted` covers further updates.
    """
    noisy = run.lower_precision == "float32" and run.kind == "small"
    rows = [
        compare(
            "grad_norm",
            term(run, n, "grad_norm"),
            run.recording[f"update/{n:03d}/grad_norm"],
            None if noisy and n else allowed.get("grad_norm"),
            place=f"update {n}: norm of the gradients",
            at=n,
            order=(n, Stage.NORM),
        )
        for n in range(n_recorded(run.recording))
    ]
    note = "in single precision, parameters of small runs are noise after an update"
    return Section("gradient norm", rows, by_update=True, note=note if noisy else "")


def restarted(run: Run, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Cost and gradient norm of one update from every recorded state."""
    cost = str(run.mainloop.cost.name)
    keys = {
        "cost": (cost, Stage.TERM, cost),
        "grad_norm": ("grad_norm", Stage.NORM, "gradient norm"),
    }
    for key, (name, stage, title) in keys.items():
        rows = [
            compare(
                name,
                found[name],
                run.recording[f"update/{n:03d}/{key}"],
                allowed.get(key),
                place=f"update {n} from the recorded state: {title}",
                at=n,
                order=(n, stage, 1),
            )
            for n, found in run.restarted.items()
        ]
        yield Section(f"{title} from recorded states", rows, by_update=True)


def gradients(run: Run, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Gradients of the first update, as clipping received them and left them.

    In small runs the mixture's components are alike, so that some gradients
    are differences of nearly equal numbers: held to a thousandth of the
    largest gradient.
    """
    kinds = {"grad_raw": (Stage.GRADIENT, "raw"), "grad_clipped": (Stage.CLIPPED, "clipped")}
    for family, (stage, word) in kinds.items():
        recorded = below(run.recording, f"{family}/000")
        largest = max((size_of(value) for value in recorded.values()), default=0.0)
        ours = run.first.get(family, {})
        names = list(run.mainloop.model.params)
        rows = [
            compare(
                name,
                ours.get(name, missing),
                recorded[name],
                allowed.get("grad"),
                place=f"update 0: {word} gradient of {name}",
                order=(0, stage, len(names) - i),  # the decoder's come first
                least=1e-3 * largest,
            )
            for i, name in enumerate(names)
        ]
        yield Section(f"{word} gradients of the first update", rows)


def parameters(run: Run, allowed: Mapping[str, float], family: str) -> Section:
    """Parameters, or moments of Adam, after the updates that are recorded.

    In small runs Adam makes steps of lr * 1e-17 / eps out of the rounding of
    gradients that are differences of nearly equal numbers.  There all is held
    to the size of weights and of the largest moment, and to no more than what
    one unit in the last place of the initial weights makes; in the other runs
    each array to its own size.
    """
    recording = run.recording
    names = list(run.mainloop.model.params)
    keys = {name: name if family == "param" else f"{family}/{name}" for name in names}
    snapshots = [int(n) for n in recording["meta/snapshots"]]
    first = below(recording, f"{family}/{snapshots[0]:03d}")
    largest = max(map(size_of, first.values()), default=0.0)
    least = {"param": INITIAL_WEIGHT}.get(family, largest) if run.kind == "small" else 0.0
    stage = Stage.PARAMETER if family == "param" else Stage.MOMENT
    rows: list[Difference] = []
    for number in snapshots:
        n = n_recorded(recording) if number == LAST else number
        state = run.snapshots.get(n, {})
        ours = {name: state.get(key, missing) for name, key in keys.items()}
        moved = run.perturbed.get(n, state)
        limit = allowed.get("param")
        if least and limit is not None and state:
            conditioning = max(np.abs(moved[key] - state[key]).max() for key in keys.values())
            limit = max(limit, float(conditioning) / least)
        place = f"after update {n - 1}: {FAMILIES[family].removesuffix('s')}"
        order = (n - 1, stage)
        recorded = below(recording, f"{family}/{number:03d}")
        rows += [
            compare(
                name,
                ours[name],
                recorded[name],
                limit,
                place=f"{place} {name}",
                at=n,
                order=(*order, i),
                least=least,
            )
            for i, name in enumerate(names)
            if name in recorded
        ]
        if f"check/{family}/{number:03d}" in recording:
            summary = recording[f"check/{family}/{number:03d}"]
            rows += compare_summaries(
                ours, summary, limit, place=place, at=n, order=order, least=least
            )
        if family == "adam_m":
            rows.append(
                compare(
                    "adam_counter",
                    state.get("adam_counter", missing),
                    recording[f"adam_counter/{number:03d}"],
                    0.0,
                    place=f"after update {n - 1}: adam_counter",
                    at=n,
                    order=(*order, len(names)),
                )
            )
    note = "held to the size of weights, and to their conditioning" if least else ""
    if rows and allowed.get("param") is None:
        note = "in single precision, parameters of small runs are noise after an update"
    return Section(FAMILIES[family], rows, note=note)


def monitored(run: Run, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Monitored channels at every pass, and the log of the updates' outputs.

    Means of differing signs and the KL term are held to the size of what they
    are made of, which is 1.
    """
    recorded = below(run.recording, "trainlog")
    passes = run.recording["monitor/passes_at"].tolist()
    rows: list[Difference] = []
    for i, (name, theirs) in enumerate(recorded.items()):
        quantity = "bound" if name.endswith(BOUND) or name == "update" else "channel"
        ours = np.asarray(run.log.monitor.get(name, []), dtype=float)
        if ours.shape != theirs.shape:
            ours = np.full(theirs.shape, np.nan)
        per_update = name == "update"
        for n, (our, their) in enumerate(zip(ours, theirs)):
            at = n if per_update else int(passes[n]) if n < len(passes) else n
            place = f"update {at}: logged cost" if per_update else f"monitoring at {at}: {name}"
            rows.append(
                compare(
                    "logged cost" if per_update else name,
                    our,
                    their,
                    allowed.get(quantity),
                    place=place,
                    at=at,
                    order=(at, Stage.MONITOR, i),
                    least=max(size_of(theirs), 1.0),
                )
            )
    yield Section("monitored channels", rows, note="held to the channel's largest value, or 1")


def end(run: Run) -> Section:
    """Updates and epochs seen, order of parameters and channels, files left behind."""
    recording, log = run.recording, run.log
    n = n_recorded(recording)
    monitor = run.mainloop.find_extension("ext_monitor")[0]
    channels = [variable.name for variable in getattr(monitor, "ddout", ())]
    files = sorted(name.replace(".pkl", ".npz") for name in recording["saved_files"].tolist())
    same = {
        "parameters, in their order": list(run.mainloop.model.params)
        == recording["param_names"].tolist(),
        "channels, in their order": channels == recording["monitor_channels"].tolist(),
        "files left behind": run.files == files,
    }
    numbers = {
        "updates": (log.batch_seen, scalar(recording, "meta/batch_seen")),
        "epochs": (log.epoch_seen, scalar(recording, "meta/epoch_seen")),
        **{f"same {name}": (float(is_same), 1.0) for name, is_same in same.items()},
    }
    rows = [
        compare(name, *pair, 0.0, place=f"at the end: {name}", at=n, order=(n, Stage.END))
        for name, pair in numbers.items()
    ]
    return Section("end of the run", rows, note=run.ended)
