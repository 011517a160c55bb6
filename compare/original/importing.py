"""``python -m compare import``: turn a checkpoint of the original into one of the port.

The original pickles its main loop.  The file contains the model with its
parameters and carried state, and the training log.  It does not contain the
optimizer's moments.  Reading needs neither Theano nor ``cle`` and executes
nothing from the file: see `cle_port.files.unpickle.load_objects`.

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
from cle_port.train.log import TrainLog
from compare.original.command_line import add_files, save
from compare.recording import SCRIPTS

PACKAGES = ("cle", "nips2015_vrnn", "theano")
# Parameter and axis that give each size among the settings of the port.
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
MOST_OUTPUTS = 100  # allowed outputs of an update; the original's programs have one
CARRIED = ("step_count", "rnn_tm1")  # state that the Blizzard programs carry over
# A pickle of a GPU array calls one of these functions of Theano with an array.
GPU_ARRAYS = ("CudaNdarray_unpickler", "GpuArray_unpickler")


class MainLoop(NamedTuple):
    """The content of a checkpoint of the original.

    Attributes
    ----------
    name : str
        Script and trial, such as ``vrnn_gmm_1``.
    params : dict of str to ndarray
        Parameters in the script's order.
    nodes : list of str
        Names of the layers in the script's order.
    recurrence : str
        Class of the layer ``rnn``: ``LSTM`` in the original's scripts.
    state : dict of str to ndarray
        ``step_count`` and ``rnn_tm1`` of the Blizzard programs.
    log : dict of str to ndarray
        ``update``: shape (n_updates, n_outputs); ``time``: seconds of each
        update; ``<data>_<channel>``: one number for each monitoring pass.
    epoch_seen, batch_seen : int
        Number of finished epochs and updates.
    """

    name: str
    params: dict[str, NDArray]
    nodes: list[str]
    recurrence: str
    state: dict[str, NDArray]
    log: dict[str, NDArray]
    epoch_seen: int
    batch_seen: int


def main(argv: Sequence[str]) -> int:
    """Turn a checkpoint of the original into one of the port.

    Parameters
    ----------
    argv : list of str
        Arguments after ``import``; see ``--help``.

    Returns
    -------
    int
        0

    Raises
    ------
    UserError
        If CHECKPOINT.pkl is not a checkpoint of a program that the port has, or OUT.npz cannot
        be written.
    """
    parser = Parser(
        prog="python -m compare import",
        description="Turn a pickle that the original's training saved into a checkpoint of the "
        "port, for models/sample.py and for more training. This does not need Theano and executes "
        "nothing from the pickle.",
    )
    add_files(parser, "CHECKPOINT.pkl")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="config.txt of that training, for settings that the pickle does not contain, such as "
        "the learning rate; default: the original's config.txt",
    )
    args = parser.parse_args(argv)
    mainloop = read(args.checkpoint)
    arrays, meta = convert(args.checkpoint, mainloop, args.config)
    save(args.out, arrays, meta)
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
        A file that the original's ``Picklize`` or ``EarlyStopping`` wrote.

    Returns
    -------
    MainLoop

    Raises
    ------
    UserError
        If the file is missing or damaged, is no checkpoint of the original, or
        refers to objects that such a checkpoint does not contain.  Nothing in
        the file is executed.

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
            raise ValueError("its parameters unfold to more bytes than the file has")
    except UNREADABLE as error:
        raise UserError(
            f"{path} is no checkpoint of the original ({one_line(error)[:200]}); give a .pkl that "
            "its training saved"
        ) from error
    return mainloop


def _interpret(loaded: Any) -> MainLoop:
    """Read the content of a pickled main loop; raise one of `UNREADABLE` if it is unexpected."""
    if not isinstance(loaded, Instance) or loaded.path != "cle.cle.train.Training":
        raise ValueError("it contains no cle.cle.train.Training")
    mainloop = dict(_pairs(loaded.state))
    model, trainlog = (dict(_pairs(mainloop[key].state)) for key in ("model", "trainlog"))
    params = {_text(name): variable for name, variable in _pairs(model["params"])}
    updated = {variable.state["name"]: variable for variable, _ in _pairs(model["updates"])}
    carried = {name: updated[name] for name in CARRIED if name in updated}
    values = _values([*params.values(), *carried.values()])
    nodes = {_text(node.state["name"]): node.path.rpartition(".")[2] for node in model["nodes"]}
    return MainLoop(
        name=_text(mainloop["name"]),
        params=dict(zip(params, values)),
        nodes=list(nodes),
        recurrence=nodes["rnn"],
        state=dict(zip(carried, values[len(params) :])),
        log=dict(_channels(trainlog["monitor"])),
        epoch_seen=_count(trainlog["epoch_seen"]),
        batch_seen=_count(trainlog["batch_seen"]),
    )


def _pairs(loaded: Any) -> list[tuple[Any, Any]]:
    """Return keys and values of any dictionary; an ordered one is pickled with a list of pairs."""
    if isinstance(loaded, Instance):
        from_args = [pair for pairs in loaded.args if isinstance(pairs, list) for pair in pairs]
        return [(key, value) for key, value in from_args + loaded.items]
    return list(loaded.items())


def _text(loaded: Any) -> str:
    """Return a text, or raise ValueError if it is something else."""
    if not isinstance(loaded, str):
        raise ValueError("a name is not a text")
    return loaded


def _count(loaded: Any) -> int:
    """Return a number of epochs or updates, or raise ValueError if it is none."""
    value = finished(loaded)
    if not isinstance(value, int | np.integer) or value < 0:
        raise ValueError("a number of epochs or updates is not a whole number of at least 0")
    return int(value)


def _values(variables: Sequence[Instance]) -> list[NDArray]:
    """Return the values of shared variables of the CPU or a GPU.

    One call of `finished` reads all of them, so that it does not copy shared arrays.
    """
    stored = []
    for variable in variables:
        (value,) = variable.state["container"].state["storage"]
        if isinstance(value, Instance) and value.path.rpartition(".")[2] in GPU_ARRAYS:
            value = value.args[0]
        stored.append(value)
    arrays = finished(stored)
    if not all(isinstance(array, np.ndarray) and array.dtype.kind == "f" for array in arrays):
        raise ValueError("a parameter is not an array of floating-point numbers")
    return arrays


def _channels(monitor: Instance) -> Iterator[tuple[str, NDArray]]:
    """Yield the channels of the log by name.

    The original keeps a single number as ``monitoring_time``, which is left out.
    """
    for name, values in _pairs(monitor):
        if name == "update":
            yield name, np.array([_outputs(outputs) for outputs in values]).reshape(len(values), -1)
        elif isinstance(values, list):
            yield _text(name), np.array([float(finished(value)) for value in values])


def _outputs(outputs: list) -> list[float]:
    """Return the outputs of an update as numbers."""
    if len(outputs) > MOST_OUTPUTS:
        raise ValueError("an update has too many outputs")
    return [float(finished(value)) for value in outputs]


def convert(
    path: Path, mainloop: MainLoop, config: Path | None = None
) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Turn the content of a checkpoint of the original into that of a checkpoint of the port.

    Parameters
    ----------
    path : pathlib.Path
        The original's checkpoint, for messages.
    mainloop : MainLoop
        Its content.
    config : pathlib.Path, optional
        See `find_settings`.

    Returns
    -------
    arrays : dict of str to ndarray
    meta : dict
        See `cle_port.train.checkpoint`.

    Raises
    ------
    UserError
        If the port does not have the program, or `find_settings` refuses the model.
    """
    program = mainloop.name.rpartition("_")[0]
    if program not in SCRIPTS:
        raise UserError(
            f"{path} is a checkpoint of {mainloop.name}, but the port has only "
            f"{', '.join(SCRIPTS)}; compare.original.importing.read still returns its parameters"
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
        "data_id": None,  # the original's file does not identify its data
        "params": list(mainloop.params),
        "nodes": mainloop.nodes,
        "epoch_seen": log.epoch_seen,
        "batch_seen": log.batch_seen,
        "best": best(log),
        **log.position(),
        "noise": None,  # the noise starts from the beginning of its stream
    }
    return arrays, meta


def train_log(mainloop: MainLoop) -> TrainLog:
    """Return the log of a training that continues with a new epoch.

    The original's file does not tell how many batches of the current epoch the
    training has used.
    """
    log = TrainLog()
    for name, values in mainloop.log.items():
        log.monitor[name] = values.tolist()
    log.epoch_seen, log.batch_seen = mainloop.epoch_seen, mainloop.batch_seen
    log.monitored_at = mainloop.batch_seen  # the original saves right after it monitors
    return log


def best(log: TrainLog) -> dict[str, float]:
    """Return the best value of the channel that selects the best model, by the channel's name.

    Notes
    -----
    Counterpart: ``EarlyStopping.exe``, which ignores the monitoring pass before
    the first update.
    """
    channel = "valid_nll" if "valid_nll" in log.monitor else "valid_nll_upper_bound"
    return {channel: min(log.monitor[channel][1:], default=sys.float_info.max)}


def find_settings(path: Path, mainloop: MainLoop, config: Path | None = None) -> dict[str, Any]:
    """Find the settings of the port that give a model with these parameters.

    Parameters
    ----------
    path : pathlib.Path
        The original's checkpoint, for messages.
    mainloop : MainLoop
        Main loop of one of `SCRIPTS`.
    config : pathlib.Path, optional
        A ``config.txt`` with settings that the parameters do not determine, such
        as the learning rate; default is the original's.

    Returns
    -------
    dict of str to int, float or str
        Settings of the port.

    Raises
    ------
    UserError
        If the parameters do not fit the program, or are not finite.
    """
    from models.parts import TRANSITIONS, Init
    from models.programs import PROGRAMS
    from models.sampling.loading import check_params
    from models.settings import CONFIG_FOLDER, Settings, read_config

    program, _, trial = mainloop.name.rpartition("_")
    dataset = "iamondb" if "corr" in mainloop.nodes else "blizzard"
    params = mainloop.params
    found = {key: params[name].shape[axis] for key, (name, axis) in SIZES.items() if name in params}
    if "rnn_tm1" in mainloop.state:
        found["batch_size"] = len(mainloop.state["rnn_tm1"])
    configured = read_config(config or CONFIG_FOLDER / f"{dataset}.txt")
    for key in ("save_path", "sample_path"):  # these are folders of the original's authors
        configured.pop(key, None)
    recurrences = {layer.__name__: rnn for rnn, layer in TRANSITIONS.items()}
    try:
        args = Settings(
            **{
                **configured,
                "rnn": recurrences[mainloop.recurrence],
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
            f"{path} contains another model than {program} ({one_line(error)[:200]}); import "
            "cannot convert it, but compare.original.importing.read returns its content"
        ) from error
    check_params(path, params, net)
    return args.as_dict()
