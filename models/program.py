"""What the training programs have in common: from the command line to the main loop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.backend import choose, compile_function
from cle_port.data import Iterator
from cle_port.errors import UserError
from cle_port.layers import StemCell
from cle_port.layers.recurrent import LSTM
from cle_port.models import Model
from cle_port.progress import elapsed_time
from cle_port.rng import NormalNoise, WithNoise
from cle_port.train import Training, TrainLog
from cle_port.train.ext import (
    EarlyStopping,
    EpochCount,
    GradientClipping,
    Monitoring,
    Picklize,
    WeightNorm,
    make_folder,
)
from cle_port.train.opt import Adam
from cle_port.utils import sharedX
from datasets import demo_blizzard
from datasets.blizzard import Blizzard_tbptt, RowRanges, load_statistics, row_ranges
from models.parts import named, stats
from models.settings import Settings, parse

logger = logging.getLogger(__name__)

FILE_NAME = "blizzard_unseg_tbptt"


class Net(Protocol):
    """What a script defines: see `models.vrnn_gmm.VRNN_GMM`."""

    nodes: list[StemCell]
    params: dict[str, TensorSharedVariable]
    rnn: LSTM
    noise_dim: int

    def fprop(
        self, x: TensorVariable, eps: TensorVariable, s_0: TensorVariable
    ) -> dict[str, TensorVariable]:
        """From frames to distributions, by name."""

    def cost(self, x: TensorVariable, v: dict[str, TensorVariable]) -> dict[str, TensorVariable]:
        """Scalars by name; the first is trained."""

    def monitored(
        self, x: TensorVariable, v: dict[str, TensorVariable]
    ) -> dict[str, TensorVariable]:
        """Tensors to monitor, by name."""


class BlizzardData(NamedTuple):
    """Both views of the file, and which rows each takes."""

    train: Blizzard_tbptt
    valid: Blizzard_tbptt
    rows: RowRanges
    origin: str


def run(
    name: str,
    make_net: Callable[[Settings], Net],
    widths: Mapping[str, Mapping[str, Any]],
    doc: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Run a training program from its command line.

    Parameters
    ----------
    name : str
        The program's name, first part of the files it writes.
    make_net : callable
        Makes the model from the settings.
    widths : mapping of str to mapping
        The program's own constants, by data set.
    doc : str
        The script's docstring, for ``--help``.
    argv : list of str, optional
        Arguments; default are those of the process.

    Returns
    -------
    int
        Exit status: 0, 2 after a `UserError`, 128 plus the signal's number
        after a signal.
    """
    try:
        args = parse(sys.argv[1:] if argv is None else argv, doc, widths["blizzard"])
        set_up(args)
        mainloop = blizzard_mainloop(name, make_net, args, open_blizzard(args))
        mainloop.run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; checkpoints written so far are whole", file=sys.stderr)
        return 130
    return 128 + mainloop.interrupted if mainloop.interrupted else 0


def set_up(args: Settings) -> None:
    """Set precision and logging as the settings say."""
    pytensor.config.floatX = args.floatX
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    for package in ("cle_port", "models", "datasets"):
        logging.getLogger(package).setLevel(logging.WARNING if args.quiet else logging.INFO)


def open_blizzard(args: Settings) -> BlizzardData:
    """Open the data that the settings name, or the demo corpus.

    Raises
    ------
    UserError
        If it is missing, damaged or does not fit the settings.
    """
    if args.data_path is None:
        folder = demo_blizzard.ensure(quiet=args.quiet)
        logger.info("%s", demo_blizzard.STAND_IN_NOTICE)
        origin = "the built-in demo corpus"
    else:
        folder = Path(args.data_path)
        if not folder.is_dir():
            raise UserError(f"--data_path {folder} is not a folder; give the one with the data")
        origin = str(folder)
    X_mean, X_std = load_statistics(folder, FILE_NAME)
    train, valid = (
        Blizzard_tbptt(
            name=name,
            path=folder,
            frame_size=args.x_dim,
            file_name=FILE_NAME,
            X_mean=X_mean,
            X_std=X_std,
        )
        for name in ("train", "valid")
    )
    rows = row_ranges(train.num_examples(), args.batch_size, args.m_batch_size)
    return BlizzardData(train, valid, rows, origin)


def blizzard_mainloop(
    name: str, make_net: Callable[[Settings], Net], args: Settings, data: BlizzardData
) -> Training:
    """Build a program for Blizzard up to the compiled main loop.

    Parameters
    ----------
    name : str
        The program's name.
    make_net : callable
        Makes the model from the settings.
    args : Settings
    data : BlizzardData

    Returns
    -------
    Training
        Ready to `run`.

    Notes
    -----
    Counterpart: the second half of ``main`` in ``models/blizzard/*.py``.
    """
    name = f"{name}_{args.trial}"
    save_path = make_folder(args.save_path or Path("runs") / args.dataset)
    net = make_net(args)
    describe(name, net, args, data, save_path)

    # The graph that is trained.  Rows of consecutive batches follow each other
    # in the recordings, so the state is carried over: truncated backpropagation.
    x = data.train.theano_vars(args.batch_size)
    eps = noise_like(x, net.noise_dim)
    s_0, step_count, rnn_tm1 = carried_state(net.rnn, args.batch_size, args.reset_freq)
    v = net.fprop(x, eps, s_0)
    terms = net.cost(x, v)
    cost = named_all(terms)[0]

    # The graph that is monitored: another batch size, from a state of zeros.
    m_x = data.valid.theano_vars(args.m_batch_size)
    m_eps = noise_like(m_x, net.noise_dim)
    m_v = net.fprop(m_x, m_eps, net.rnn.get_init_state(args.m_batch_size))
    ddout = named_all(net.cost(m_x, m_v))
    for channel, tensor in net.monitored(m_x, m_v).items():
        ddout += stats(channel, tensor)
    with elapsed_time("Compiling the monitoring", args.quiet):
        monitor_fn = compile_function([m_x, m_eps], ddout, None, args.backend)

    train_seed, monitor_seed = np.random.SeedSequence(args.seed).spawn(2)
    noise = {
        "train": NormalNoise(net.noise_dim, train_seed),
        "monitor": NormalNoise(net.noise_dim, monitor_seed),
    }
    rows = data.rows
    monitored_data = [
        Iterator(data.train, args.m_batch_size, start=0, end=rows.monitor_rows),
        Iterator(data.valid, args.m_batch_size, start=rows.valid_start, end=rows.valid_end),
    ]

    extension = [
        GradientClipping(batch_size=args.batch_size, check_nan=1),
        EpochCount(args.epoch),
        Monitoring(
            freq=args.monitoring_freq,
            monitor_fn=monitor_fn,
            ddout=ddout,
            data=[WithNoise(part, noise["monitor"]) for part in monitored_data],
        ),
        Picklize(freq=args.monitoring_freq, force_save_freq=args.force_saving_freq, path=save_path),
        EarlyStopping(
            freq=args.monitoring_freq,
            force_save_freq=args.force_saving_freq,
            path=save_path,
            channel=f"valid_{cost.name}",
        ),
        WeightNorm(),
    ]
    train_batches = Iterator(data.train, args.batch_size, start=0, end=rows.train_end)
    return Training(
        name=name,
        data=WithNoise(train_batches, noise["train"]),
        model=Model(
            inputs=[x, eps],
            params=net.params,
            nodes=net.nodes,
            updates={step_count: step_count + 1, rnn_tm1: v["s"][-1]},
            forward={**v, **terms},
        ),
        optimizer=Adam(lr=args.lr),
        cost=cost,
        outputs=[cost],
        extension=extension,
        trainlog=start_log(save_path, name, args),
        backend=args.backend,
        max_updates=args.max_updates,
        noise=noise,
        settings=args.as_dict(),
        quiet=args.quiet,
    )


def carried_state(
    rnn: LSTM, batch_size: int, reset_freq: int
) -> tuple[TensorVariable, TensorSharedVariable, TensorSharedVariable]:
    """State before the first frame of a batch, carried over from the batch before.

    Parameters
    ----------
    rnn : LSTM
    batch_size : int
    reset_freq : int
        The state is zero instead at every ``reset_freq``-th update.

    Returns
    -------
    s_0 : tensor of shape (batch_size, state_dim)
    step_count : TensorSharedVariable
        Number of updates so far, dtype floatX as in the original.
    rnn_tm1 : TensorSharedVariable
        Last state of the batch before, shape (batch_size, state_dim).
    """
    step_count = sharedX(0, name="step_count")
    rnn_tm1 = sharedX(np.zeros((batch_size, rnn.state_dim)), name="rnn_tm1")
    s_0 = pt.switch(
        pt.eq(pt.mod(step_count, reset_freq), 0), rnn.get_init_state(batch_size), rnn_tm1
    )
    return s_0, step_count, rnn_tm1


def noise_like(x: TensorVariable, dim: int) -> TensorVariable:
    """Symbolic noise for frames of shape (T, B, x_dim): shape (T, B, dim)."""
    shape = (*x.type.shape[:2], dim)
    return pt.tensor("eps", dtype=pytensor.config.floatX, shape=shape)


def named_all(scalars: Mapping[str, TensorVariable]) -> list[TensorVariable]:
    """Name each scalar by its key and return them in order."""
    return [named(scalar, name) for name, scalar in scalars.items()]


def describe(name: str, net: Net, args: Settings, data: BlizzardData, save_path: Path) -> None:
    """Log what is about to be trained on what, with what, to where."""
    n_param = sum(p.get_value(borrow=True).size for p in net.params.values())
    backend, reason = choose(args.backend)
    frames, frame_size = data.train.frames_shape
    rows = data.rows
    logger.info("%s: %d parameters in %d arrays", name, n_param, len(net.params))
    logger.info("  data      %s", data.origin)
    logger.info(
        "  rows      %d for training, %d for validation",
        rows.train_end,
        rows.valid_end - rows.valid_start,
    )
    logger.info(
        "  batch     %d rows of %d frames of %d samples", args.batch_size, frames, frame_size
    )
    logger.info("  learning  %d epochs, rate %g", args.epoch, args.lr)
    logger.info("  backend   %s (%s), %s", backend, reason, args.floatX)
    logger.info("  writes to %s", save_path)


def start_log(save_path: Path, name: str, args: Settings) -> TrainLog:
    """Write the resolved settings and start an empty log beside them.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """
    log = TrainLog(save_path / f"{name}.jsonl")
    try:
        (save_path / f"{name}_config.txt").write_text(args.as_text(), encoding="utf-8")
        (save_path / f"{name}.jsonl").write_text("", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write into {save_path} ({error.strerror}); choose another --save_path"
        ) from error
    return log
