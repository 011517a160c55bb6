"""Compare a repeated run with its recording, quantity by quantity.

`compare.replay` repeats the run; this module compares and judges.

No counterpart in the original.
"""

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

BOUND_CHANNELS = ("nll", "nll_upper_bound", "recon_term")  # endings of their names
ABSENT = "the recording has none"
STATE_TITLES = {"param": "parameters", "adam_m": "first moments", "adam_v": "second moments"}
NOISY_PARAMETERS = "in single precision, parameters of small runs are noise after an update"

MISSING = np.array(np.nan)  # a quantity that the port did not reach


class Stage(IntEnum):
    """The order in which one update computes its quantities."""

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
    program: CompiledProgram, run: RepeatedRun, path: str = "", tolerance: float | None = None
) -> Comparison:
    """Compare a repeated run with its recording.

    Parameters
    ----------
    program : CompiledProgram
    run : RepeatedRun
        From `compare.replay.repeat_run`.
    path : str
        Path of the recording, for the report.
    tolerance : float, optional
        See `compare.tolerances.of_run`.  The noise of rounding then has no effect.

    Returns
    -------
    Comparison
    """
    allowed = tolerances.of_run(run.kind, run.lower_precision, tolerance)
    if tolerance is not None:
        run = replace(run, allows_noise=False)
    sections = [
        initial_parameters(program, run),
        batches(run),
        drawn_noise(run, allowed),
        carried_state(run, allowed),
        outputs(run, allowed),
        *terms(run, allowed),
        grad_norms(run, allowed),
        *restarted(run, allowed),
        *gradients(run, allowed),
        *(parameters(run, allowed, family) for family in STATE_TITLES),
        monitored(run, allowed),
        end(run),
    ]
    compared = [section for section in sections if section.differences]
    absent = {section.title: ABSENT for section in sections if not section.differences}
    return Comparison(path, facts(program, run), compared, absent)


def facts(program: CompiledProgram, run: RepeatedRun) -> dict[str, str]:
    """Describe the two programs."""
    recording = run.recording
    sizes = program.mainloop.about["settings"]
    shown = ["batch_size", "x_dim", "rnn_dim"]
    shown += ["z_dim"] * ("update/000/eps" in recording)
    shown += ["num_k"] * ("b_coeff" in program.initial)
    lr = text(recording, "config/names", "config/values")["lr"]
    return {
        "program": label_of(recording).replace("_", " ", 1),
        "run": f"{run.kind}, {n_recorded(recording)} updates, "
        f"{scalar(recording, 'meta/epoch_seen')} epochs",
        "sizes": ", ".join([*(f"{key} {sizes[key]}" for key in shown), f"lr {lr}"]),
        "original": f"{scalar(recording, 'meta/floatX')}; {scalar(recording, 'meta/versions')}",
        "port": f"{program.floatX}; {program.mainloop.compiler.backend} backend",
    }


def initial_parameters(program: CompiledProgram, run: RepeatedRun) -> Section:
    """Compare the parameters that the port draws from the recorded seed.

    Columns of orthogonal matrices take the recorded signs, because an SVD may
    return either sign.
    """
    recording = run.recording
    recorded = below(recording, "init") or below(recording, "param/000")
    is_double = run.lower_precision == "float64"
    differences = []
    for i, (name, theirs) in enumerate(recorded.items()):
        ours = program.initial.get(name, MISSING)
        is_orthogonal = name.startswith("U_")
        if is_orthogonal:
            ours = with_signs_of(ours, theirs)
        # Another LAPACK rounds the SVD differently.  All other draws are equal.
        absolute = (1e-12 if is_orthogonal else 0.0) if is_double else 1e-7
        differences.append(
            compare(
                name,
                ours,
                theirs,
                absolute / (size_of(theirs) or 1.0),
                place=f"initial parameters of the seed: {name}",
                order=(-1, 0, i),
            )
        )
    note = "U up to the signs of its columns"
    return Section("initial parameters of the seed", differences, note=note)


def batches(run: RepeatedRun) -> Section:
    """Compare the batches that the port reads with the recorded ones; they must be equal."""
    is_same = run.floatX == scalar(run.recording, "meta/floatX") or not run.mainloop.model.updates
    differences = [
        compare(
            "x",
            run.before.get(n, {}).get("x", MISSING),
            run.recording[f"update/{n:03d}/x"],
            0.0 if is_same else 2.0**-23,
            place=f"update {n}: the batch x",
            update=n,
            order=(n, Stage.BATCH),
        )
        for n in range(n_recorded(run.recording))
    ]
    return Section("batches", differences)


def drawn_noise(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
    """Compare the noise that the port draws from the recorded seed with the recorded noise."""
    differences = [
        compare(
            "eps",
            run.before.get(n, {}).get("eps", MISSING),
            run.recording[f"update/{n:03d}/eps"],
            allowed["noise"],
            place=f"update {n}: the noise eps",
            update=n,
            order=(n, Stage.BATCH, 1),
        )
        for n in range(n_recorded(run.recording) if run.from_seeds else 0)
        if f"update/{n:03d}/eps" in run.recording
    ]
    return Section("noise of the seed", differences)


def carried_state(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
    """Compare the state that is carried from batch to batch; IAM-OnDB has none."""
    differences = []
    for name in (str(variable.name) for variable in run.mainloop.model.updates):
        differences += compare_updates(
            run,
            name,
            partial(state_before, name),
            key=f"{name}_before",
            limit=0.0 if name == "step_count" else allowed.get("state"),
            place=f"before update {{}}: {name}",
            order=(Stage.STATE,),
        )
    return Section("state carried over", differences)


def state_before(name: str, n: int, run: RepeatedRun) -> NDArray:
    """Look up the carried state before an update."""
    return run.before.get(n, {}).get(name, MISSING)


def outputs(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
    """Compare the outputs of the nodes in the first update, in the order of computation."""
    differences = []
    limit = allowed.get("forward")
    recorded = below(run.recording, "forward/000")
    n_frame, n_sequence = run.recording["update/000/x"].shape[:2]
    for i, name in enumerate(in_order_of_flow(recorded)):
        theirs = recorded[name].reshape((n_frame, n_sequence, -1))
        look_up = partial(output_of, name, n_frame)
        frame = first_frame(look_up(run), theirs, limit)
        differences.append(
            compare_quantity(
                run,
                name,
                look_up,
                theirs,
                limit,
                place=f"update 0, frame {frame}: output of node {name}",
                order=(0, Stage.FORWARD, frame, i),
            )
        )
    return Section("outputs of the first update", differences)


def output_of(name: str, n_frame: int, run: RepeatedRun) -> NDArray:
    """Look up the output of a node in the first update, without padding."""
    value = run.first.get("forward", {}).get(name, MISSING)
    return value[:n_frame] if value.ndim == 3 else value


def in_order_of_flow(names: Mapping[str, NDArray]) -> list[str]:
    """Sort outputs in the order in which a frame computes them: x, phi, prior, z, s, decoder."""
    last = ("phi_mu", "phi_sig", "prior_mu", "prior_sig", "z_last", "s", "theta", "coeff")
    ranks = {name: i for i, name in enumerate(last)}

    def rank(name: str) -> tuple[int, str]:
        if name.startswith("x_"):
            return -1, name
        # The layers theta_1, ... precede the heads theta_mu, ...: digits sort before letters.
        group = "theta" if name.startswith("theta_") else name
        return ranks.get(group, len(ranks)), name

    return sorted(names, key=rank)


def first_frame(ours: NDArray, theirs: NDArray, limit: float | None) -> int:
    """Return the first frame whose difference is too large, or else that of the largest one."""
    if ours.shape != theirs.shape:
        return 0
    distances = distance_of(ours, theirs).max(axis=(1, 2))
    large = ~(distances <= (np.inf if limit is None else limit) * (size_of(theirs) or 1.0))
    return int(np.argmax(large) if large.any() else np.argmax(distances))


def compare_quantity(
    run: RepeatedRun,
    name: str,
    look_up: Callable[[RepeatedRun], ArrayLike],
    theirs: ArrayLike,
    limit: float | None,
    *,
    unit: float = 0.0,
    n_updates: int = 0,
    **where: Any,
) -> Difference:
    """Compare one quantity of a run; the moved runs give its noise of rounding.

    Parameters
    ----------
    run : RepeatedRun
    name : str
    look_up : callable
        Returns the quantity of a run.
    theirs : array_like
        The recorded quantity.
    limit : float or None
        Relative difference that is allowed even without noise.
    unit : float
        See `rounding_noise`.
    n_updates : int
        Number of the port's updates that the quantity depends on.
    **where
        Further arguments of `compare.differences.compare`.
    """
    return compare(
        name,
        look_up(run),
        theirs,
        limit,
        noise=rounding_noise(run, look_up, unit),
        multiple=run.multiple(n_updates),
        **where,
    )


def compare_updates(
    run: RepeatedRun,
    name: str,
    look_up: Callable[[int, RepeatedRun], ArrayLike],
    *,
    key: str,
    limit: float | None,
    place: str,
    order: Sequence[int],
    unit: float = 0.0,
    first_only: bool = False,
) -> list[Difference]:
    """Compare a quantity of each update; see `compare_quantity`.

    The noise at an update is the largest noise up to that update.  Rounding errors of
    parameters persist, while the noise of a single number may be small by chance.

    Parameters
    ----------
    run, name, limit, unit
        See `compare_quantity`.
    look_up : callable
        Returns the quantity of an update of a run.
    key : str
        Recorded name of the quantity, without that of the update.
    place : str
        Template of `Difference.place`; {} stands for the number of the update.
    order : sequence of int
        `compare.differences.Difference.order` without the number of the update.
    first_only : bool
        Judge the first update only.
    """
    differences = []
    noise = 0.0
    for n in range(n_recorded(run.recording)):
        noise = max(noise, rounding_noise(run, partial(look_up, n), unit))
        differences.append(
            compare(
                name,
                look_up(n, run),
                run.recording[f"update/{n:03d}/{key}"],
                None if first_only and n else limit,
                noise=noise,
                multiple=run.multiple(n),
                update=n,
                place=place.format(n),
                order=(n, *order),
            )
        )
    return differences


def rounding_noise(
    run: RepeatedRun, look_up: Callable[[RepeatedRun], ArrayLike], unit: float = 0.0
) -> float:
    """Return the absolute noise of rounding of a quantity.

    Parameters
    ----------
    run : RepeatedRun
    look_up : callable
        Returns the quantity of a run.
    unit : float
        Size of the numbers whose sum or difference the quantity is, or 0.  The noise is at
        least one unit in their last place.
    """
    measured = noise_of(look_up(run), (look_up(moved) for moved in run.moved))
    return max(measured, run.epsilon * unit)


def term(name: str, n: int, run: RepeatedRun) -> float:
    """Look up a term of the cost, or the norm of the gradients, at an update."""
    return run.terms[n][name] if n < len(run.terms) else np.nan


def terms(run: RepeatedRun, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Compare the cost and its terms update by update; each is a sum of numbers of size 1."""
    cost = str(run.mainloop.cost.name)
    names = {"cost": cost, "recon_term": "recon_term", "kl_term": "kl_term"}
    for i, (key, name) in enumerate(names.items()):
        if f"update/000/{key}" not in run.recording:
            continue
        differences = compare_updates(
            run,
            name,
            partial(term, name),
            key=key,
            limit=allowed.get("kl" if key == "kl_term" else "cost"),
            place=f"update {{}}: {name}",
            order=(Stage.TERM, -i),  # the cost is the sum of its terms, so it comes last
            unit=1.0,
        )
        yield Section(name, differences, by_update=True)


def grad_norms(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
    """Compare the norm of the raw gradients update by update.

    Small runs in single precision get a verdict for the first update only: after it
    their parameters are noise, and the norm follows them.  `restarted` judges later
    updates.
    """
    is_noisy = run.lower_precision == "float32" and run.kind == "small"
    differences = compare_updates(
        run,
        "grad_norm",
        partial(term, "grad_norm"),
        key="grad_norm",
        limit=allowed.get("grad_norm"),
        place="update {}: norm of the gradients",
        order=(Stage.NORM,),
        first_only=is_noisy,
    )
    note = NOISY_PARAMETERS if is_noisy else ""
    return Section("gradient norm", differences, by_update=True, note=note)


def restarted(run: RepeatedRun, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Compare the cost and the gradient norm of one update from every recorded state."""
    cost = str(run.mainloop.cost.name)
    quantities = {
        "cost": (cost, Stage.TERM, cost, 1.0),
        "grad_norm": ("grad_norm", Stage.NORM, "gradient norm", 0.0),
    }
    for key, (name, stage, title, unit) in quantities.items():
        differences = [
            compare_quantity(
                run,
                name,
                partial(restart_of, name, n),
                run.recording[f"update/{n:03d}/{key}"],
                allowed.get(key),
                unit=unit,
                place=f"update {n} from the recorded state: {title}",
                update=n,
                order=(n, stage, 1),
            )
            for n in run.restarted
        ]
        yield Section(f"{title} from recorded states", differences, by_update=True)


def restart_of(name: str, n: int, run: RepeatedRun) -> float:
    """Look up a number computed from the recorded state before an update."""
    return run.restarted.get(n, {}).get(name, np.nan)


def gradients(run: RepeatedRun, allowed: Mapping[str, float]) -> Iterator[Section]:
    """Compare the gradients of the first update before and after clipping.

    Backpropagation sums contributions to a gradient.  If they cancel, the
    rounding error is that of the largest gradient.
    """
    kinds = {"grad_raw": (Stage.GRADIENT, "raw"), "grad_clipped": (Stage.CLIPPED, "clipped")}
    for family, (stage, word) in kinds.items():
        recorded = below(run.recording, f"{family}/000")
        largest = max((size_of(value) for value in recorded.values()), default=0.0)
        names = list(run.mainloop.model.params)
        differences = [
            compare_quantity(
                run,
                name,
                partial(gradient_of, family, name),
                recorded[name],
                allowed.get("grad"),
                unit=largest,
                place=f"update 0: {word} gradient of {name}",
                order=(0, stage, len(names) - i),  # backpropagation begins at the decoder
            )
            for i, name in enumerate(names)
        ]
        yield Section(f"{word} gradients of the first update", differences)


def gradient_of(family: str, name: str, run: RepeatedRun) -> NDArray:
    """Look up a gradient of the first update."""
    return run.first.get(family, {}).get(name, MISSING)


def parameters(run: RepeatedRun, allowed: Mapping[str, float], family: str) -> Section:
    """Compare parameters, or moments of Adam, after each recorded update.

    Parameters
    ----------
    run : RepeatedRun
    allowed : mapping of str to float
    family : {'param', 'adam_m', 'adam_v'}
    """
    limit = allowed.get("param")
    differences: list[Difference] = []
    for number in (int(n) for n in run.recording["meta/snapshots"]):
        differences += compare_snapshot(run, family, number, limit)
    is_noisy = differences and limit is None
    note = NOISY_PARAMETERS if is_noisy else ""
    return Section(STATE_TITLES[family], differences, note=note)


def compare_snapshot(
    run: RepeatedRun, family: str, number: int, limit: float | None
) -> list[Difference]:
    """Compare parameters, or moments of Adam, with one recorded snapshot.

    Parameters
    ----------
    run : RepeatedRun
    family : {'param', 'adam_m', 'adam_v'}
    number : int
        Number of the snapshot in the recording.
    limit : float or None
        Relative difference that is allowed even without noise.
    """
    recording = run.recording
    names = list(run.mainloop.model.params)
    n = n_recorded(recording) if number == LAST else number
    order = (n - 1, Stage.PARAMETER if family == "param" else Stage.MOMENT)
    place = f"after update {n - 1}: {STATE_TITLES[family].removesuffix('s')}"
    look_ups = {name: partial(state_after, family, name, n) for name in names}
    ours = {name: look_up(run) for name, look_up in look_ups.items()}
    recorded = below(recording, f"{family}/{number:03d}")
    largest = max(map(size_of, (recorded or ours).values()), default=0.0)
    units = {name: unit_of(family, size_of(ours[name]), largest, run) for name in names}
    differences = [
        compare_quantity(
            run,
            name,
            look_ups[name],
            recorded[name],
            limit,
            unit=units[name],
            n_updates=n,
            place=f"{place} {name}",
            update=n,
            order=(*order, i),
        )
        for i, name in enumerate(names)
        if name in recorded
    ]
    if f"check/{family}/{number:03d}" in recording:
        differences += compare_summaries(
            ours,
            recording[f"check/{family}/{number:03d}"],
            limit,
            place=place,
            update=n,
            order=order,
            noises={name: rounding_noise(run, look_ups[name], units[name]) for name in names},
            multiple=run.multiple(n),
        )
    if family == "adam_m":
        differences.append(compare_counter(run, n, recording[f"adam_counter/{number:03d}"]))
    return differences


def compare_counter(run: RepeatedRun, n: int, theirs: NDArray) -> Difference:
    """Compare Adam's counter after ``n`` updates; it must be equal."""
    return compare(
        "adam_counter",
        run.snapshots.get(n, {}).get("adam_counter", MISSING),
        theirs,
        0.0,
        place=f"after update {n - 1}: adam_counter",
        update=n,
        order=(n - 1, Stage.MOMENT, len(run.mainloop.model.params)),
    )


def state_after(family: str, name: str, n: int, run: RepeatedRun) -> NDArray:
    """Look up a parameter, or one of its moments, after ``n`` updates."""
    key = name if family == "param" else f"{family}/{name}"
    return run.snapshots.get(n, {}).get(key, MISSING)


def unit_of(family: str, size: float, largest: float, run: RepeatedRun) -> float:
    """Return the size of the numbers whose rounding a parameter or a moment has.

    Parameters
    ----------
    family : {'param', 'adam_m', 'adam_v'}
    size : float
        Largest absolute entry of the parameter or moment.
    largest : float
        Largest absolute entry of the family.
    run : RepeatedRun

    Returns
    -------
    float
        For a parameter, its own size.  For a first moment, the size of the largest
        gradient, see `gradients`.  A second moment is a square, so its rounding is that
        of the largest gradient times twice its root.
    """
    if family == "param":
        return size
    if family == "adam_m":
        return largest
    return 2 * (size * largest) ** 0.5 + run.epsilon * largest


def monitored(run: RepeatedRun, allowed: Mapping[str, float]) -> Section:
    """Compare the monitored channels at every pass, and the logged cost of every update.

    A channel is a sum of numbers of size 1 or more, so its scale is at least 1.
    """
    passes = run.recording["monitor/passes_at"].tolist()
    differences: list[Difference] = []
    for i, (name, channel) in enumerate(below(run.recording, "trainlog").items()):
        is_cost = name == "update"
        quantity = "bound" if is_cost or name.endswith(BOUND_CHANNELS) else "channel"
        for n, theirs in enumerate(channel):
            update = int(passes[n]) if not is_cost and n < len(passes) else n
            title = "logged cost" if is_cost else name
            differences.append(
                compare_quantity(
                    run,
                    title,
                    partial(logged, name, n),
                    theirs,
                    allowed.get(quantity),
                    n_updates=update,
                    place=f"{'update' if is_cost else 'monitoring at'} {update}: {title}",
                    update=update,
                    order=(update, Stage.MONITOR, i),
                    least=max(size_of(channel), 1.0),
                )
            )
    note = "relative to the channel's largest value, or 1"
    return Section("monitored channels", differences, note=note)


def logged(name: str, n: int, run: RepeatedRun) -> NDArray:
    """Look up an entry of the log, or NaN if the port did not reach it."""
    values = run.log.monitor.get(name, [])
    return np.asarray(values[n] if n < len(values) else np.nan, dtype=float)


def end(run: RepeatedRun) -> Section:
    """Compare counts of updates and epochs, order of parameters and channels, and saved files."""
    recording, log = run.recording, run.log
    n = n_recorded(recording)
    monitor = run.mainloop.find_extension("ext_monitor")[0]
    # The original monitors scalars only; the port's vectors have no counterpart.
    channels = [variable.name for variable in getattr(monitor, "ddout", ()) if not variable.ndim]
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
    differences = [
        compare(name, *pair, 0.0, place=f"at the end: {name}", update=n, order=(n, Stage.END))
        for name, pair in numbers.items()
    ]
    return Section("end of the run", differences, note=run.ended)
