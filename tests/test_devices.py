"""Several devices: the numbers of one device, one all-reduce an update, errors that name the fix.

JAX fixes the number of its CPU devices when it starts, so whole programs are
compared in processes of their own, for which this file is a program too.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.fg import FunctionGraph

from cle_port.errors import UserError
from cle_port.graph import devices
from cle_port.graph.devices import check_devices, divided_axes, part_of_batch, whole_batch
from cle_port.graph.lengths import PerLength
from cle_port.train import checkpoint, resuming
from datasets.demo import blizzard as demo_blizzard
from models.running import run_program
from models.vrnn_gmm import PROGRAM
from tests.recordings import PROJECT
from tests.test_programs import write_short_lines

DEVICES = 4
N_UPDATE = 4
# The library under JAX that connects CPUs reports so, piece by piece, from several threads at once.
OF_GLOO = (
    r"\[Gloo\] Rank |\d+| is connected to |"
    r" peer ranks\. Expected number of connected peer ranks is : "
)
LIMIT = 300  # seconds that a process may take on a busy machine
WIDTHS = ("x2s_dim", "z2s_dim", "q_z_dim", "p_z_dim", "p_x_dim", "rnn_dim")
TINY = {
    **dict.fromkeys(WIDTHS, 8),
    "depth": 1,
    "batch_size": 8,
    "m_batch_size": 8,
    "z_dim": 3,
    "num_k": 2,
    "reset_freq": 3,  # the carried state is used, and zeroed once
    "monitoring_freq": 2,
    "max_updates": N_UPDATE,
    "lr": 0.01,
    "floatX": "float64",
    "backend": "jax",
}


def flags(dataset: str, folder: Path, **more) -> list[str]:
    settings = {**TINY, "dataset": dataset, "data_path": folder, **more}
    if dataset == "blizzard":
        settings["x_dim"] = 40
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def environment(devices: int) -> dict[str, str]:
    return {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": str(PROJECT),
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    blizzard, iamondb = (tmp_path_factory.mktemp(name) for name in ("blizzard", "iamondb"))
    demo_blizzard.build(blizzard, minutes=0.2, seq_len=480, n_streams=8)
    write_short_lines(iamondb)
    return {"blizzard": blizzard, "iamondb": iamondb}


# --- in a process with four devices ----------------------------------------------------------


def compare_with_one_device(dataset: str, folder: Path) -> dict:
    """Make the same updates on one device and on several; largest differences of everything."""
    loops = []
    for n in (1, DEVICES):
        argv = flags(dataset, folder, save_path=folder / f"runs{n}", devices=n)
        run = PROGRAM.run_of([*argv, "--quiet"])
        pytensor.config.floatX = run.args.floatX  # of a process of its own
        loops.append(PROGRAM.mainloop(run))
    one, several = loops
    differences: dict[str, float] = {"cost": 0.0, "state": 0.0, "channel": 0.0}

    def note(kind, ours, theirs):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            value, other = np.asarray(value), np.asarray(theirs[name])
            scale = np.abs(other).max() + 1e-300
            difference = float(np.abs(value - other).max() / scale)
            differences[kind] = max(differences[kind], difference)

    def monitored(loop):
        monitoring, *_ = loop.find_extension("ext_monitor")
        return monitoring.monitor_data_based_channels(loop)

    def state(loop):
        arrays, _ = resuming.state(loop)
        return {k: v for k, v in arrays.items() if not k.startswith("log")}

    for batches in itertools.islice(zip(*(iter(loop.data) for loop in loops)), N_UPDATE):
        costs = [{"cost": np.array(loop.update(batch))} for loop, batch in zip(loops, batches)]
        note("cost", costs[1], costs[0])
        note("state", state(several), state(one))
    note("channel", monitored(several), monitored(one))
    return {**differences, "communication": communication(several, batches[1])}


def communication(loop, batch) -> list[str]:
    """Operations between devices in the compiled update."""
    fn = loop.cost_fn
    if isinstance(fn, PerLength):
        length, fn = next(iter(fn.functions.items()))
        batch = [np.zeros((length, *array.shape[1:])) for array in batch]
    given = iter(batch)
    thunk = getattr(fn.vm, "thunks", [fn.vm])[0]  # PyTensor runs a lone thunk without a machine
    arguments = [s[0] if s[0] is not None else next(given) for s in thunk.inputs]
    text = thunk.jit_fn.lower(*arguments).compile().as_text()
    return re.findall(r"(all-[a-z]+|reduce-scatter|collective-[a-z]+)(?:-start)?\(", text)


@pytest.mark.full
@pytest.mark.parametrize("dataset", ["blizzard", "iamondb"])
def test_several_devices_give_the_numbers_of_one(dataset, folders):
    done = subprocess.run(
        [sys.executable, __file__, dataset, str(folders[dataset])],
        env=environment(DEVICES),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("communication") == ["all-reduce"]
    # Adam divides gradients by their size, so that of a zero only rounding is left.
    assert found == pytest.approx({"cost": 0, "state": 0, "channel": 0}, abs=1e-11)
    assert found["cost"] > 0 or found["state"] > 0, "nothing was divided"


# --- two processes ---------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("dataset", ["blizzard", pytest.param("iamondb", marks=pytest.mark.slow)])
def test_two_processes_leave_the_files_of_one(dataset, folders, tmp_path):
    command = [sys.executable, str(PROJECT / "models" / "vrnn_gmm.py")]
    alone = flags(dataset, folders[dataset], save_path=tmp_path / "one")
    subprocess.run([*command, *alone], env=environment(1), check=True, timeout=LIMIT)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = flags(
        dataset,
        folders[dataset],
        save_path=tmp_path / "two",
        devices=4,
        coordinator=address,
        processes=2,
    )
    pair = [
        subprocess.Popen(
            [*command, *together, "--process", str(i)],
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        ends = [process.communicate(timeout=LIMIT) for process in pair]
    finally:
        for process in pair:
            process.kill()
    assert [process.returncode for process in pair] == [0, 0], ends
    assert "\nBest: bound " in ends[0][0]
    assert re.sub(OF_GLOO, "", ends[1][0]).strip() == "", "only the first process speaks"

    names = [sorted(p.name for p in (tmp_path / kind).iterdir()) for kind in ("one", "two")]
    assert names[0] == names[1]
    (one, _), (two, _) = (
        checkpoint.load(tmp_path / kind / "vrnn_gmm_1.npz") for kind in ("one", "two")
    )
    assert set(one) == set(two)
    for name in set(one) - {n for n in one if "time" in n or n == "log_lines"}:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-10, atol=1e-12, err_msg=name)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "backend", "batch_size", "message"),
    [
        (4, "c", 8, "^--devices 4 needs --backend jax, not c$"),
        (3, "jax", 8, "^batch_size is 8, which 3 devices cannot share equally; give a multiple"),
        (1000, "jax", 1000, r"needs 1000 of JAX's devices, but there are \d+ .*; give fewer"),
    ],
)
def test_unusable_devices(devices, backend, batch_size, message):
    with pytest.raises(UserError, match=message):
        check_devices(devices, backend, batch_size=batch_size)


def test_one_device_needs_nothing():
    check_devices(1, "numba", batch_size=7)


def test_several_processes_need_a_device_each(monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(devices, "is_among_others", lambda: True)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="--devices 1 cannot be shared equally by 2 processes"):
        check_devices(1, "jax", batch_size=8)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"devices": 3}, "batch_size is 8, which 3 devices"),
        ({"devices": 60, "batch_size": 60}, "give fewer, or on CPU set XLA"),
        ({"coordinator": "here"}, "--coordinator is 'here'; give HOST:PORT, or auto"),
        ({"coordinator": "here:1"}, "--coordinator here:1 needs --processes and --process, too"),
        ({"coordinator": "here:1", "processes": 2, "process": 2}, "--process is 2; give 0 to 1"),
        ({"coordinator": "here:1", "backend": "numba"}, "--coordinator needs --backend jax"),
    ],
)
def test_error_of_a_program(more, message, folders, tmp_path, capsys):
    argv = flags("iamondb", folders["iamondb"], save_path=tmp_path / "new", **more)
    argv = [*argv, "--quiet"]
    assert run_program(PROGRAM, argv) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_alone():
    """Without other processes nothing is asked of JAX."""
    assert devices.is_first_process()
    assert devices.greatest(2) == 2


# --- graphs ----------------------------------------------------------------------------------


def test_operations_on_parts():
    x = pt.tensor("x", shape=(5, 8, 2), dtype="float64")
    assert part_of_batch(x, 1) is x
    assert whole_batch(x, 1) is x
    part = part_of_batch(x, 4)
    assert part.type.shape == (5, 2, 2)
    assert whole_batch(part, 4).type.shape == x.type.shape
    assert whole_batch(part[-1], 4, axis=0).type.shape == (8, 2)
    y = pt.tensor("y", shape=(None, 8))
    assert part_of_batch(y, 4).type.shape == (None, 2)


def test_divided_axes():
    """A whole batch may be used entry by entry, for a choice between new and old state, say."""
    state, go = pt.tensor("state", shape=(8, 2)), pt.scalar("go")
    new = whole_batch(part_of_batch(state, 4, axis=0) + 1, 4, axis=0)
    fgraph = FunctionGraph([state, go], [pt.switch(go, new, state), go + 1], clone=False)
    axes = divided_axes(fgraph)
    assert axes[state] == axes[fgraph.outputs[0]] == 0
    assert go not in axes
    assert fgraph.outputs[1] not in axes


def test_a_sum_over_a_whole_batch_is_refused():
    state = pt.tensor("state", shape=(8, 2))
    outputs = [part_of_batch(state, 4, axis=0), state.sum()]
    with pytest.raises(ValueError, match="uses a whole batch, but each device holds only its part"):
        divided_axes(FunctionGraph([state], outputs, clone=False))


def test_part_of_what_is_no_input_is_refused():
    """Each device would have the whole of it."""
    x = pt.tensor("x", shape=(5, 8, 2))
    with pytest.raises(ValueError, match=r"part_of_batch of .*, which is neither an input"):
        divided_axes(FunctionGraph([x], [part_of_batch(pt.exp(x), 4)], clone=False))


def test_batches_are_joined_to_the_longest():
    a, b = (np.full((n, 2, 3), float(n)) for n in (4, 2))
    (x, mask) = devices._joined([(a, a[..., 0]), (b, b[..., 0])])
    np.testing.assert_array_equal(x[:, :2], a)
    np.testing.assert_array_equal(x[:2, 2:], b)
    np.testing.assert_array_equal(x[2:, 2:], 0)
    assert mask.shape == (4, 4)


def test_over_batches_drops_what_fills_up():
    """Five batches on two devices: the last is given to both and counts once."""
    calls = []

    def fn(x):
        calls.append(x)
        return [x.reshape(3, 2, 2).sum(axis=(0, 2))[:, None]]

    batches = [(np.full((3, 2), float(i)),) for i in range(5)]
    values = devices.over_batches(fn, batches, 2)
    np.testing.assert_array_equal(values, [[6.0 * i] for i in range(5)])
    assert len(calls) == 3


if __name__ == "__main__":
    pytensor.config.floatX = "float64"
    print(json.dumps(compare_with_one_device(sys.argv[1], Path(sys.argv[2]))))
