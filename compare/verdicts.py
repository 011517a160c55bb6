"""Hold a repeated run against its recording, quantity by quantity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compare import tolerances
from compare.differences import (
    Comparison,
    Difference,
    Section,
    compare,
    compare_summaries,
    distance_of,
    noise_of,
    size_of,
    with_signs_of,
)
from compare.recording import below, scalar, text
from compare.replay import LAST, CompiledProgram, RepeatedRun, label_of, n_recorded

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
    prog: CompiledProgram, run: RepeatedRun, path: str = "", tolerance: float | None = None
) -> Comparison:
    """Compare a repeated run with its recording.

    Parameters
    ----------
    prog : CompiledProgram
    run : RepeatedRun
        From `compare.replay.repeat_run`.
    path : str
        The recording, for the report.
    tolerance : float, optional
        See `compare.tolerances.of_run`.

    Returns
    -------
    Comparison
    """
    allowed = tolerances.of_run(run.kind, run.lower_precision, tolerance)
    if tolerance is not None:
        run = replace(run, allows_noise=False)
    sections = [
        seed(prog, run),
        batches(run),
        drawn_noise(run, allowed),
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


def facts(prog: CompiledProgram, run: RepeatedRun) -> dict[str, str]:
    """Say what is compared with what."""
    recording = run.recording
    sizes = prog.mainloop.about["settings"]
    shown = ["batch_size", "x_dim", "rnn_dim"]
    shown += ["z_dim"] * ("update/000/eps" in recording) + ["num_k"] * ("b_coeff" in prog.initial)
    lr = text(recording, "config/names", "config/values")["lr"]
    return {
        "program": label_of(recording).replace("_", " ", 1),
        "run": f"{run.kind}, {n_recorded(recording)} updates, "
        f"{scalar(recording, 'meta/epoch_seen')} epochs",
        "sizes": ", ".join([*(f"{key} {sizes[key]}" for key in shown), f"lr {lr}"]),
        "original": f"{scalar(recording, 'meta/floatX')}; {scalar(recording, 'meta/versions')}",
        "port": f"{prog.floatX}; {prog.mainloop.compiler.backend} backend",
    }


def seed(prog: CompiledProgram, run: RepeatedRun) -> Section:
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


def batches(run: RepeatedRun) -> Section:
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


def drawn_noise(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
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


def carried_state(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
    """State carried from batch to batch; on IAM-OnDB there is none."""
    rows = []
    for name in (str(variable.name) for variable in run.mainloop.model.updates):
        rows += by_update(
            run,
            name,
            partial(state_before, name),
            key=f"{name}_before",
            limit=0.0 if name == "step_count" else allowed.get("state"),
            place=f"before update {{}}: {name}",
            order=(Stage.STATE,),
        )
    return Section("state carried over", rows)


def state_before(name: str, n: int, run: RepeatedRun) -> NDArray:
    """Look up the carried state before an update."""
    return run.before.get(n, {}).get(name, missing)


def outputs(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
    """Outputs of the nodes in the first update, in the order in which they are computed."""
    rows = []
    limit = allowed.get("forward")
    recorded = below(run.recording, "forward/000")
    n_frame, n_sequence = run.recording["update/000/x"].shape[:2]
    for i, name in enumerate(in_order_of_flow(recorded)):
        theirs = recorded[name].reshape((n_frame, n_sequence, -1))
        value = partial(output_of, name, n_frame)
        frame = first_frame(value(run), theirs, limit)
        rows.append(
            row(
                run,
                name,
                value,
                theirs,
                limit,
                place=f"update 0, frame {frame}: output of node {name}",
                order=(0, Stage.FORWARD, frame, i),
            )
        )
    return Section("outputs of the first update", rows)


def output_of(name: str, n_frame: int, run: RepeatedRun) -> NDArray:
    """Look up the output of a node in the first update, without padding."""
    value = run.first.get("forward", {}).get(name, missing)
    return value[:n_frame] if value.ndim == 3 else value


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


def row(
    run: RepeatedRun,
    name: str,
    value: Callable[[RepeatedRun], ArrayLike],
    theirs: ArrayLike,
    limit: float | None,
    *,
    unit: float = 0.0,
    n_updates: int = 0,
    **where: Any,
) -> Difference:
    """Compare one quantity of a run, with the noise of rounding that the moved runs show.

    Parameters
    ----------
    run : RepeatedRun
    name : str
    value : callable
        Looks the quantity up in a run.
    theirs : array_like
        What is recorded.
    limit : float or None
        Relative difference allowed whatever the noise is.
    unit : float
        See `noise`.
    n_updates : int
        Updates of the port that it is computed after.
    **where
        Further arguments of `compare.differences.compare`.
    """
    return compare(
        name,
        value(run),
        theirs,
        limit,
        noise=noise(run, value, unit),
        multiple=run.multiple(n_updates),
        **where,
    )


def by_update(
    run: RepeatedRun,
    name: str,
    value: Callable[[int, RepeatedRun], ArrayLike],
    *,
    key: str,
    limit: float | None,
    place: str,
    order: Sequence[int],
    unit: float = 0.0,
    first_only: bool = False,
) -> list[Difference]:
    """Compare a quantity of each update; see `row`.

    The noise at an update is the largest up to there: what rounding did to the parameters
    stays, while the noise of a single number may be small by chance.

    Parameters
    ----------
    run, name, limit, unit
        See `row`.
    value : callable
        Looks the quantity of an update up in a run.
    key : str
        Its name in the recording, below that of the update.
    place : str
        Where it is computed, with {} for the number of the update.
    order : sequence of int
        See `compare.differences.Difference`, behind the number of the update.
    first_only : bool
        Judge the first update alone.
    """
    rows = []
    so_far = 0.0
    for n in range(n_recorded(run.recording)):
        so_far = max(so_far, noise(run, partial(value, n), unit))
        rows.append(
            compare(
                name,
                value(n, run),
                run.recording[f"update/{n:03d}/{key}"],
                None if first_only and n else limit,
                noise=so_far,
                multiple=run.multiple(n),
                at=n,
                place=place.format(n),
                order=(n, *order),
            )
        )
    return rows


def noise(run: RepeatedRun, value: Callable[[RepeatedRun], ArrayLike], unit: float = 0.0) -> float:
    """Absolute noise of rounding of a quantity.

    Parameters
    ----------
    run : RepeatedRun
    value : callable
        Looks the quantity up in a run.
    unit : float
        Size of the numbers that it is a sum or a difference of, if that is known: the noise
        is at least one unit in their last place.
    """
    measured = noise_of(value(run), (value(moved) for moved in run.moved))
    return max(measured, run.epsilon * unit)


def term(name: str, n: int, run: RepeatedRun) -> float:
    """Look up a term of the cost, or the gradients' norm, at an update."""
    return run.terms[n][name] if n < len(run.terms) else np.nan


def terms(run: RepeatedRun, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Cost and its terms, update by update; each is a sum of numbers of size 1."""
    cost = str(run.mainloop.cost.name)
    titles = {"cost": cost, "recon_term": "recon_term", "kl_term": "kl_term"}
    for i, (key, name) in enumerate(titles.items()):
        if f"update/000/{key}" not in run.recording:
            continue
        rows = by_update(
            run,
            name,
            partial(term, name),
            key=key,
            limit=allowed.get("kl" if key == "kl_term" else "cost"),
            place=f"update {{}}: {name}",
            order=(Stage.TERM, -i),  # the cost is the sum of its terms
            unit=1.0,
        )
        yield Section(name, rows, by_update=True)


def grad_norms(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
    """Norm of the raw gradients; in small float32 runs of the first update only.

    There the parameters themselves are noise after an update, and the norm
    follows them; `restarted` covers further updates.
    """
    noisy = run.lower_precision == "float32" and run.kind == "small"
    rows = by_update(
        run,
        "grad_norm",
        partial(term, "grad_norm"),
        key="grad_norm",
        limit=allowed.get("grad_norm"),
        place="update {}: norm of the gradients",
        order=(Stage.NORM,),
        first_only=noisy,
    )
    note = "in single precision, parameters of small runs are noise after an update"
    return Section("gradient norm", rows, by_update=True, note=note if noisy else "")


def restarted(run: RepeatedRun, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Cost and gradient norm of one update from every recorded state."""
    cost = str(run.mainloop.cost.name)
    keys = {
        "cost": (cost, Stage.TERM, cost, 1.0),
        "grad_norm": ("grad_norm", Stage.NORM, "gradient norm", 0.0),
    }
    for key, (name, stage, title, unit) in keys.items():
        rows = [
            row(
                run,
                name,
                partial(restart_of, name, n),
                run.recording[f"update/{n:03d}/{key}"],
                allowed.get(key),
                unit=unit,
                place=f"update {n} from the recorded state: {title}",
                at=n,
                order=(n, stage, 1),
            )
            for n in run.restarted
        ]
        yield Section(f"{title} from recorded states", rows, by_update=True)


def restart_of(name: str, n: int, run: RepeatedRun) -> float:
    """Look up a number computed from the recorded state before an update."""
    return run.restarted.get(n, {}).get(name, np.nan)


def gradients(run: RepeatedRun, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Gradients of the first update, as clipping received them and left them.

    A gradient is a sum of what comes back from the cost.  Where that cancels, its rounding
    is that of the largest gradient.
    """
    kinds = {"grad_raw": (Stage.GRADIENT, "raw"), "grad_clipped": (Stage.CLIPPED, "clipped")}
    for family, (stage, word) in kinds.items():
        recorded = below(run.recording, f"{family}/000")
        largest = max((size_of(value) for value in recorded.values()), default=0.0)
        names = list(run.mainloop.model.params)
        rows = [
            row(
                run,
                name,
                partial(gradient_of, family, name),
                recorded[name],
                allowed.get("grad"),
                unit=largest,
                place=f"update 0: {word} gradient of {name}",
                order=(0, stage, len(names) - i),  # the decoder's come first
            )
            for i, name in enumerate(names)
        ]
        yield Section(f"{word} gradients of the first update", rows)


def gradient_of(family: str, name: str, run: RepeatedRun) -> NDArray:
    """Look up a gradient of the first update."""
    return run.first.get(family, {}).get(name, missing)


def parameters(run: RepeatedRun, allowed: Mapping[str, float], family: str) -> Section:
    """Parameters, or moments of Adam, after the updates that are recorded."""
    recording = run.recording
    names = list(run.mainloop.model.params)
    stage = Stage.PARAMETER if family == "param" else Stage.MOMENT
    limit = allowed.get("param")
    rows: list[Difference] = []
    for number in (int(n) for n in recording["meta/snapshots"]):
        n = n_recorded(recording) if number == LAST else number
        values = {name: partial(state_after, family, name, n) for name in names}
        ours = {name: value(run) for name, value in values.items()}
        place = f"after update {n - 1}: {FAMILIES[family].removesuffix('s')}"
        order = (n - 1, stage)
        recorded = below(recording, f"{family}/{number:03d}")
        largest = max(map(size_of, (recorded or ours).values()), default=0.0)
        units = {name: unit_of(family, size_of(ours[name]), largest, run) for name in names}
        rows += [
            row(
                run,
                name,
                values[name],
                recorded[name],
                limit,
                unit=units[name],
                n_updates=n,
                place=f"{place} {name}",
                at=n,
                order=(*order, i),
            )
            for i, name in enumerate(names)
            if name in recorded
        ]
        if f"check/{family}/{number:03d}" in recording:
            rows += compare_summaries(
                ours,
                recording[f"check/{family}/{number:03d}"],
                limit,
                place=place,
                at=n,
                order=order,
                noises={name: noise(run, values[name], units[name]) for name in names},
                multiple=run.multiple(n),
            )
        if family == "adam_m":
            rows.append(
                compare(
                    "adam_counter",
                    run.snapshots.get(n, {}).get("adam_counter", missing),
                    recording[f"adam_counter/{number:03d}"],
                    0.0,
                    place=f"after update {n - 1}: adam_counter",
                    at=n,
                    order=(*order, len(names)),
                )
            )
    noisy = rows and limit is None
    note = "in single precision, parameters of small runs are noise after an update"
    return Section(FAMILIES[family], rows, note=note if noisy else "")


def state_after(family: str, name: str, n: int, run: RepeatedRun) -> NDArray:
    """Look up a parameter or a moment of it after so many updates."""
    key = name if family == "param" else f"{family}/{name}"
    return run.snapshots.get(n, {}).get(key, missing)


def unit_of(family: str, size: float, largest: float, run: RepeatedRun) -> float:
    """Size of the numbers whose rounding a parameter or moment of a given size has.

    A first moment has that of the largest gradient, as `gradients` says; a second moment is
    a square, whose rounding is twice its root's times that; a parameter has its own.
    """
    if family == "param":
        return size
    if family == "adam_m":
        return largest
    return 2 * (size * largest) ** 0.5 + run.epsilon * largest


def monitored(run: RepeatedRun, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Monitored channels at every pass, and the log of the updates' outputs.

    A mean of differing signs, a cost and the KL term are sums of numbers of size 1 or more.
    """
    recorded = below(run.recording, "trainlog")
    passes = run.recording["monitor/passes_at"].tolist()
    rows: list[Difference] = []
    for i, (name, theirs) in enumerate(recorded.items()):
        quantity = "bound" if name.endswith(BOUND) or name == "update" else "channel"
        per_update = name == "update"
        for n, their in enumerate(theirs):
            at = n if per_update else int(passes[n]) if n < len(passes) else n
            place = f"update {at}: logged cost" if per_update else f"monitoring at {at}: {name}"
            rows.append(
                row(
                    run,
                    "logged cost" if per_update else name,
                    partial(logged, name, n),
                    their,
                    allowed.get(quantity),
                    n_updates=at,
                    place=place,
                    at=at,
                    order=(at, Stage.MONITOR, i),
                    least=max(size_of(theirs), 1.0),
                )
            )
    yield Section("monitored channels", rows, note="relative to the channel's largest value, or 1")


def logged(name: str, n: int, run: RepeatedRun) -> NDArray:
    """Look up an entry of the log, NaN where the port did not come to it."""
    values = run.log.monitor.get(name, [])
    return np.asarray(values[n] if n < len(values) else np.nan, dtype=float)


def end(run: RepeatedRun) -> Section:
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
