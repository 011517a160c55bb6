"""``python -m compare import``: checkpoints of the original become ours.

The original pickles its main loop.  In the file are the model with its
parameters and carried state, and the training log; the optimizer is left out
by the original.  Reading needs neither Theano nor ``cle`` and executes nothing:
see `cle_port.files.unpickle.load_objects`.

Counterpart: ``cle.utils.unpickle`` and ``cle.utils.initialize_from_pkl``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytensor
from numpy.typing import NDArray

from cle_port.console.command_line import Parser
from cle_port.errors import UserError, one_line
from cle_port.files.unpickle import UNREADABLE, Instance, finished, load_objects
from cle_port.train import checkpoint
from cle_port.train.log import TrainLog

PACKAGES = ("cle", "nips2015_vrnn", "theano")
SCRIPTS = ("rnn_gauss", "rnn_gmm", "vrnn_gauss", "vrnn_gmm")
# Where the settings of the port that are sizes show: a parameter and its axis.
SIZES = {
    "x_dim": ("W_x_t__x_1", 0),
    "x2s_dim": ("W_x_t__x_1", 1),
    "z_dim": ("W_z_t__z_1", 0),
    "z2s_dim": ("W_z_t__z_1", 1),
    "q_z_dim": ("W_s_tm1__phi_1", 1),
    "p_z_dim": ("W_s_tm1__prior_1", 1),
    "p_x_dim": ("W_s_tm1__theta_1", 1),
    "rnn_dim": ("U_rnn__rnn", 0),
    "num_k": ("b_coeff", 0),
}
MOST_OUTPUTS = 100  # of an update; the original's programs have one
CARRIED = ("step_count", "rnn_tm1")  # of the Blizzard programs
# What stands for an array of a GPU: a function of Theano's that is called with an array.
GPU_ARRAYS = ("CudaNdarray_unpickler", "GpuArray_unpickler")


class MainLoop(NamedTuple):
    """What a checkpoint of the original holds.

    Attributes
    ----------
    name : str
        Script and trial, such as ``vrnn_gmm_1``.
    params : dict of str to ndarray
        Parameters in the script's order.
    nodes : list of str
        Names of the layers in the script's order.
    state : dict of str to ndarray
        ``step_count`` and ``rnn_tm1`` of the Blizzard programs.
    log : dict of str to ndarray
        ``update``: (updates, outputs); ``time``: seconds of each update;
        ``<data>_<channel>``: one number for each monitoring step.
    epoch_seen, batch_seen : int
        Epochs and updates finished.
    """

    name: str
    params: dict[str, NDArray]
    nodes: list[str]
    state: dict[str, NDArray]
    log: dict[str, NDArray]
    epoch_seen: int
    batch_seen: int


def main(argv: Sequence[str]) -> int:
    """Turn a checkpoint of the original into one of the port.

    Parameters
    ----------
    argv : list of str
        Arguments of the command line; see ``--help``.

    Returns
    -------
    int
        0

    Raises
    ------
    UserError
        If the checkpoint is unusable or OUT cannot be written.
    """
    parser = Parser(
        prog="python -m compare import",
        description="Turn a pickle that the original's training saved into a checkpoint of the "
        "port, for models/sample.py and for more training. Theano is not needed and nothing in "
        "the pickle is executed.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT.pkl")
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="config.txt of that training, for what the pickle does not say, such as the learning "
        "rate; default: the one that the original comes with",
    )
    args = parser.parse_args(argv)
    mainloop = read(args.checkpoint)
    arrays, meta = convert(args.checkpoint, mainloop, args.config)
    try:
        checkpoint.save(args.out, arrays, meta)
    except OSError as error:
        raise UserError(
            f"cannot write {args.out} ({error.strerror}); give another OUT.npz"
        ) from error
    n_param = sum(value.size for value in mainloop.params.values())
    print(
        f"{args.out}: {mainloop.name} of {meta['settings']['dataset']}, {len(mainloop.params)} "
        f"arrays with {n_param} parameters after {mainloop.batch_seen} updates.\n"
        "The optimizer's moments are not in files of the original; they start from zero."
    )
    return 0


def read(path: str | Path) -> MainLoop:
    """Read a checkpoint of the original.

    Parameters
    ----------
    path : path
        Written by its ``Picklize`` or ``EarlyStopping``.

    Returns
    -------
    MainLoop

    Raises
    ------
    UserError
        If the file is missing, damaged, refers to what such a checkpoint does
        not have, or is none.  Nothing in it is executed.

    Notes
    -----
    Counterpart: ``cle.utils.unpickle``.
    """
    path = Path(path)
    loaded = load_objects(path, PACKAGES)
    try:
        mainloop = _interpret(loaded)
        size = sum(value.nbytes for value in [*mainloop.params.values(), *mainloop.state.values()])
        if size > path.stat().st_size:
            raise ValueError("its parameters unfold to more than it has")
    except UNREADABLE as error:
        raise UserError(
            f"{path} is no checkpoint of the original ({one_line(error)[:200]}); give a .pkl that "
            "its training saved"
        ) from error
    return mainloop


def _interpret(loaded: Any) -> MainLoop:
    """Take what there is out of a main loop; anything unexpected raises one of `UNREADABLE`."""
    if not isinstance(loaded, Instance) or loaded.path != "cle.cle.train.Training":
        raise ValueError("it holds no cle.cle.train.Training")
    mainloop = dict(_pairs(loaded.state))
    model, trainlog = (dict(_pairs(mainloop[key].state)) for key in ("model", "trainlog"))
    params = {_text(name): variable for name, variable in _pairs(model["params"])}
    updated = {variable.state["name"]: variable for variable, _ in _pairs(model["updates"])}
    carried = {name: updated[name] for name in CARRIED if name in updated}
    values = _values([*params.values(), *carried.values()])
    return MainLoop(
        name=_text(mainloop["name"]),
        params=dict(zip(params, values)),
        nodes=[_text(node.state["name"]) for node in model["nodes"]],
        state=dict(zip(carried, values[len(params) :])),
        log=dict(_channels(trainlog["monitor"])),
        epoch_seen=_count(trainlog["epoch_seen"]),
        batch_seen=_count(trainlog["batch_seen"]),
    )


def _pairs(loaded: Any) -> list[tuple[Any, Any]]:
    """Keys and values of a dictionary of any kind; an ordered one was made from its pairs."""
    if isinstance(loaded, Instance):
        made_from = [pair for pairs in loaded.args if isinstance(pairs, list) for pair in pairs]
        return [(key, value) for key, value in made_from + loaded.items]
    return list(loaded.items())


def _text(loaded: Any) -> str:
    if not isinstance(loaded, str):
        raise ValueError("a name is no text")
    return loaded


def _count(loaded: Any) -> int:
    value = finished(loaded)
    if not isinstance(value, int | np.integer) or value < 0:
        raise ValueError("a number of epochs or updates is none")
    return int(value)


def _values(variables: Sequence[Instance]) -> list[NDArray]:
    """Values of shared variables, of the CPU or of a GPU; all at once, so that none is copied."""
    stored = []
    for variable in variables:
        (value,) = variable.state["container"].state["storage"]
        if isinstance(value, Instance) and value.path.rpartition(".")[2] in GPU_ARRAYS:
            value = value.args[0]
        stored.append(value)
    arrays = finished(stored)
    if not all(isinstance(array, np.ndarray) and array.dtype.kind == "f" for array in arrays):
        raise ValueError("a parameter is no array of floating-point numbers")
    return arrays


def _channels(monitor: Instance) -> Iterator[tuple[str, NDArray]]:
    """Lists of numbers by name; of ``monitoring_time`` the original keeps one number only."""
    for name, values in _pairs(monitor):
        if name == "update":
            yield name, np.array([_row(row) for row in values]).reshape(len(values), -1)
        elif isinstance(values, list):
            yield _text(name), np.array([float(finished(value)) for value in values])


def _row(outputs: list) -> list[float]:
    if len(outputs) > MOST_OUTPUTS:
        raise ValueError("an update has too many outputs")
    return [float(finished(value)) for value in outputs]


def convert(
    path: Path, mainloop: MainLoop, config: Path | None = None
) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Make the content of a checkpoint of the port.

    Parameters
    ----------
    path : Path
        Where it comes from.
    mainloop : MainLoop
    config : Path, optional
        See `find_settings`.

    Returns
    -------
    arrays : dict of str to ndarray
    meta : dict
        See `cle_port.train.checkpoint`.

    Raises
    ------
    UserError
        If it is not of a program that the port has.
    """
    program = mainloop.name.rpartition("_")[0]
    if program not in SCRIPTS:
        raise UserError(
            f"{path} is of {mainloop.name}, and the port has only {', '.join(SCRIPTS)}; to have "
            "its parameters all the same, read it with compare.original.importing.read"
        )
    settings = find_settings(path, mainloop, config)
    zeros = {
        f"{moment}/{name}": np.zeros_like(value)
        for moment in ("adam_m", "adam_v")
        for name, value in mainloop.params.items()
    }
    log = train_log(mainloop)
    arrays = {
        **mainloop.params,
        **zeros,
        "adam_counter": np.zeros((), settings["floatX"]),
        "optimizer/lr": np.asarray(settings["lr"], settings["floatX"]),
        **{f"state/{name}": value for name, value in mainloop.state.items()},
        **log.arrays(),
    }
    meta = {
        "program": mainloop.name,
        "settings": settings,
        "data_id": None,  # of which data nobody knows
        "params": list(mainloop.params),
        "nodes": mainloop.nodes,
        "epoch_seen": log.epoch_seen,
        "batch_seen": log.batch_seen,
        "best": best(log),
        **log.position(),
        "noise": None,  # it goes on at the beginning
    }
    return arrays, meta


def train_log(mainloop: MainLoop) -> TrainLog:
    """Make the log of a training that goes on with a new pass through the data.

    How many batches were seen of the current one is not in the file.
    """
    log = TrainLog()
    for name, values in mainloop.log.items():
        log.monitor[name] = values.tolist()
    log.epoch_seen, log.batch_seen = mainloop.epoch_seen, mainloop.batch_seen
    log.monitored_at = mainloop.batch_seen  # it saves right after it monitors
    return log


def best(log: TrainLog) -> dict[str, float]:
    """Find the best value of the channel that the best model is chosen by.

    Notes
    -----
    Counterpart: ``EarlyStopping.exe``, which passes over the monitoring before
    the first update.
    """
    channel = "valid_nll" if "valid_nll" in log.monitor else "valid_nll_upper_bound"
    return {channel: min(log.monitor[channel][1:], default=sys.float_info.max)}


def find_settings(path: Path, mainloop: MainLoop, config: Path | None = None) -> dict[str, Any]:
    """Find the settings of a model that has these parameters.

    Parameters
    ----------
    path : Path
        For messages.
    mainloop : MainLoop
        Of one of `SCRIPTS`.
    config : Path, optional
        A ``config.txt`` for what the parameters do not tell, such as the
        learning rate; default is the one that the original comes with.

    Returns
    -------
    dict of str to int, float or str
        Settings of the port.

    Raises
    ------
    UserError
        If the parameters are not those of the program, or not finite.
    """
    from models.parts import Init
    from models.programs import PROGRAMS
    from models.sampling.loading import check_params
    from models.settings import CONFIG_FOLDER, Settings, read_config

    program, _, trial = mainloop.name.rpartition("_")
    dataset = "iamondb" if "corr" in mainloop.nodes else "blizzard"
    params = mainloop.params
    found = {key: params[name].shape[axis] for key, (name, axis) in SIZES.items() if name in params}
    if "rnn_tm1" in mainloop.state:
        found["batch_size"] = len(mainloop.state["rnn_tm1"])
    told = read_config(config or CONFIG_FOLDER / f"{dataset}.txt")
    for key in ("save_path", "sample_path"):  # folders of the original
        told.pop(key, None)
    try:
        args = Settings(
            **{
                **told,
                **found,
                "dataset": dataset,
                "trial": int(trial),
                "depth": len({name for name in mainloop.nodes if re.fullmatch(r"x_\d+", name)}),
                "floatX": str(params["U_rnn__rnn"].dtype),
            }
        )
        init = Init(None, sum(value.size for value in params.values()))
        with pytensor.config.change_flags(floatX=args.floatX):
            net = PROGRAMS[program].make_net(args, init)
    except (LookupError, ValueError) as error:
        raise UserError(
            f"{path} is of another model than {program} ({one_line(error)[:200]}); a changed one "
            "cannot be imported, but compare.original.importing.read gives what it holds"
        ) from error
    check_params(path, params, net)
    return args.as_dict()
