"""What the training programs have in common: from the command line to the main loop."""

from __future__ import annotations

import hashlib
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Iterator as IteratorType
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytensor
import pytensor.tensor as pt
from filelock import FileLock, Timeout
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port import blas, checkpoint
from cle_port.backend import choose, compile_function
from cle_port.command_line import ended
from cle_port.data import Iterator
from cle_port.errors import UserError
from cle_port.files import replace_file
from cle_port.layers import StemCell
from cle_port.layers.recurrent import LSTM
from cle_port.models import Model
from cle_port.mrg import MRG_RandomStreams
from cle_port.parallel import (
    check_devices,
    from_each_device,
    is_first_process,
    join_processes,
    part_of_batch,
    whole_batch,
)
from cle_port.progress import elapsed_time
from cle_port.rng import Batches, MRGNoise, Noise, NormalNoise, WithNoise
from cle_port.train import Training, TrainLog, check_resumable
from cle_port.train.ext import (
    EarlyStopping,
    EpochCount,
    GradientClipping,
    Monitoring,
    Picklize,
    WeightNorm,
    make_folder,
)
from cle_port.train.log import set_aside
from cle_port.train.opt import Adam
from cle_port.utils import sharedX
from datasets import demo_blizzard, demo_iamondb, iamondb
from datasets.blizzard import (
    Blizzard_tbptt,
    RowRanges,
    describe_split,
    load_statistics,
    row_ranges,
    whole_batches,
)
from models.settings import LAST, Settings, check_changes, parse

logger = logging.getLogger(__name__)

FILE_NAME = "blizzard_unseg_tbptt"


class Net(Protocol):
    """What a script defines: see `models.vrnn_gmm.VRNN_GMM`."""

    nodes: list[StemCell]
    params: dict[str, TensorSharedVariable]
    rnn: LSTM
    noise_dim: int

    @property
    def fprop(self) -> Callable[..., dict[str, TensorVariable]]:
        """From frames, initial state and noise, if any, to distributions by name."""

    @property
    def cost(self) -> Callable[..., dict[str, TensorVariable]]:
        """Scalars by name; the first is trained."""

    @property
    def monitored(self) -> Callable[..., list[TensorVariable]]:
        """Further scalars to monitor."""


class BlizzardData(NamedTuple):
    """Both views of the file, and which rows each takes."""

    train: Blizzard_tbptt
    valid: Blizzard_tbptt
    rows: RowRanges
    origin: str


class IAMOnDBData(NamedTuple):
    """Training and validation lines."""

    train: iamondb.IAMOnDB
    valid: iamondb.IAMOnDB
    origin: str


def run(
    name: str,
    make_net: Callable[[Settings], Net],
    widths: Mapping[str, Mapping[str, Any]],
    doc: str | None,
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
        Exit status: 0, 2 after a `UserError` or for want of memory, 128 plus the signal's number
        after a signal.
    """

    def train() -> int:
        with terminable():
            args = resolve(name, widths, doc or "", sys.argv[1:] if argv is None else argv)
            args = join(args)
            set_up(args)
            announce(name, args)
            with one_at_a_time(args, name):
                mainloop = make_mainloop(name, make_net, args)
                if args.resume:
                    mainloop.resume(args.resume)
                    write_settings(files_of(args, name).config, args)
                mainloop.run()
        return 128 + mainloop.interrupted if mainloop.interrupted else 0

    return ended(train, "checkpoints written so far are whole", "use smaller sizes")


@contextmanager
def terminable() -> IteratorType[None]:
    """Let SIGTERM end the program as SIGINT does, while it compiles, say.

    In the main loop `cle_port.train.Training` has its own way with both.
    """

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def resolve(
    name: str, widths: Mapping[str, Mapping[str, Any]], doc: str, argv: Sequence[str]
) -> Settings:
    """Resolve the settings of a run, which are its checkpoint's if it is a resumed one.

    Parameters
    ----------
    name, widths, doc, argv
        See `run`.

    Returns
    -------
    Settings
        ``resume`` is the path of the checkpoint, or None.

    Raises
    ------
    UserError
        If a setting is wrong, or the checkpoint cannot be resumed with it.
    """
    args = parse(argv, doc, widths)
    own = files_of(args, name).checkpoint
    if args.resume is None:
        return args
    path = own if args.resume == LAST else Path(args.resume)
    _, meta = checkpoint.load(path)  # all of it: a damaged one is refused before all else
    if str(meta.get("program")).rpartition("_")[0] != name:
        raise UserError(f"{path} is a checkpoint of {meta.get('program')}, not of {name}")
    check_resumable(path, meta)
    saved = meta.get("settings")
    if not isinstance(saved, dict):
        raise checkpoint.damaged(path, "it has no settings")
    merged = parse(argv, doc, widths, saved)
    set_up(merged)
    for key, change in check_changes(saved, merged).items():
        logger.info("Resuming with %s %s", key, change)
    return replace(merged, save_path=args.save_path or str(path.parent), resume=str(path))


class Files(NamedTuple):
    """What a run writes and is known by; the best models and those to keep stand beside."""

    checkpoint: Path
    log: Path
    config: Path
    lock: Path


def files_of(args: Settings, name: str) -> Files:
    """Paths of the files of a run."""
    folder = Path(args.save_path or default_save_path(args))
    stem = f"{name}_{args.trial}"
    names = (f"{stem}.npz", f"{stem}.jsonl", f"{stem}_config.txt", f".{stem}.lock")
    checkpoint, log, config, lock = (folder / name for name in names)
    return Files(checkpoint, log, config, lock)


@contextmanager
def one_at_a_time(args: Settings, name: str) -> IteratorType[None]:
    """Keep other processes from writing the files of this run.

    The system lets go of the lock when the process ends, however it ends.

    Raises
    ------
    UserError
        If another process has the lock, or the folder cannot be written to.
    """
    if not is_first_process():
        yield  # the first process has the lock, and writes
        return
    path = files_of(args, name).lock
    make_folder(path.parent)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"another process is training {name}_{args.trial} in {path.parent}; "
            "give another --trial or --save_path, or wait for its end"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write into {path.parent} ({error.strerror}); choose another --save_path"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # while it is still locked; Windows keeps open files
            path.unlink()
        lock.release()


def join(args: Settings) -> Settings:
    """Find the other processes, if the settings name any; all but the first one are quiet.

    Raises
    ------
    UserError
        If they cannot be found, or the backend is not JAX.
    """
    if args.coordinator is None:
        return args
    backend = choose(args.backend).backend
    if backend != "jax":
        raise UserError(f"--coordinator needs --backend jax, not {backend}")
    join_processes(args.coordinator, args.processes, args.process)
    return args if is_first_process() else replace(args, quiet=True)


def announce(name: str, args: Settings) -> None:
    """Log the first lines of a run, as the original prints them."""
    files = files_of(args, name)
    logger.info("trial no. %d", args.trial)
    logger.info("batch size %d", args.batch_size)
    logger.info("learning rate %f", args.lr)
    logger.info("saving npz file '%s'", files.checkpoint.stem)
    logger.info("to the save path '%s'", files.checkpoint.parent)


def set_up(args: Settings) -> None:
    """Set precision and logging as the settings say."""
    pytensor.config.floatX = args.floatX
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    for package in ("cle_port", "models", "datasets"):
        logging.getLogger(package).setLevel(logging.WARNING if args.quiet else logging.INFO)


def make_mainloop(name: str, make_net: Callable[[Settings], Net], args: Settings) -> Training:
    """Open the data that the settings name and build the program for it.

    Raises
    ------
    UserError
        If data or settings are unusable.
    """
    if args.dataset == "iamondb":
        return iamondb_mainloop(name, make_net, args, open_iamondb(args))
    return blizzard_mainloop(name, make_net, args, open_blizzard(args))


def open_blizzard(args: Settings, rows: RowRanges | None = None) -> BlizzardData:
    """Open the data that the settings name, or the demo corpus.

    Parameters
    ----------
    args : Settings
    rows : RowRanges, optional
        Which rows to train on; default is `datasets.blizzard.row_ranges`.

    Raises
    ------
    UserError
        If it is missing, damaged or does not fit the settings.
    """
    folder, origin = _folder_of(args, demo_blizzard)
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
    if rows is None:
        rows = row_ranges(train.num_examples(), args.batch_size, args.m_batch_size)
        valid_end = whole_batches(rows.valid_start, rows.valid_end, args.m_batch_size)
        rows = rows._replace(valid_end=valid_end)
    return BlizzardData(train, valid, rows, origin)


def open_iamondb(args: Settings) -> IAMOnDBData:
    """Open the data that the settings name, or the demo corpus.

    Raises
    ------
    UserError
        If it is missing, damaged or does not fit the settings.
    """
    folder, origin = _folder_of(args, demo_iamondb)
    train, valid = iamondb.open_iamondb(folder, batch_size=args.batch_size)
    if args.x_dim != 3:
        raise UserError(f"x_dim is {args.x_dim}, but a point of the pen has 3 numbers; give 3")
    return IAMOnDBData(train, valid, origin)


def _folder_of(args: Settings, demo: Any) -> tuple[Path, str]:
    """Folder of the data and what to call it: the demo corpus unless one is given."""
    if args.data_path is None:
        logger.info("%s", demo.STAND_IN_NOTICE)
        return demo.ensure(quiet=args.quiet), "the built-in demo corpus"
    folder = Path(args.data_path)
    if not folder.is_dir():
        raise UserError(f"--data_path {folder} is not a folder; give the one with the data")
    return folder, str(folder)


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
    save_path = make_folder(args.save_path or default_save_path(args))
    check_machine(args)
    trainlog = start_log(save_path, name, args)
    logger.info("Drawing initial parameters")
    net = make_net(args)
    frames, frame_size = data.train.frames_shape
    rows = data.rows
    describe(
        name,
        net,
        args,
        save_path,
        data=data.origin,
        rows=describe_split(rows, data.train.num_examples()),
        batch=f"{args.batch_size} rows of {frames} frames of {frame_size} samples",
    )

    # The graph that is trained.  Rows of consecutive batches follow each other
    # in the recordings, so the state is carried over: truncated backpropagation.
    x = data.train.theano_vars(args.batch_size)
    eps = noise_for(x, net)
    s_0, step_count, rnn_tm1 = carried_state(
        net.rnn, args.batch_size, args.reset_freq, args.devices
    )
    part_x, *part_eps = (part_of_batch(variable, args.devices) for variable in (x, *eps))
    v = net.fprop(part_x, s_0, *part_eps)
    terms = net.cost(part_x, v)

    # The graph that is monitored: another batch size, from a state of zeros.
    # Each device takes whole batches.
    m_x = data.valid.theano_vars(args.m_batch_size * args.devices)
    m_eps = noise_for(m_x, net)
    own_x, *own_eps = (part_of_batch(variable, args.devices) for variable in (m_x, *m_eps))
    m_v = net.fprop(own_x, net.rnn.get_init_state(args.m_batch_size), *own_eps)
    ddout = named_all(net.cost(own_x, m_v)) + net.monitored(own_x, m_v)
    with elapsed_time("Compiling the monitoring", args.quiet):
        monitor_fn = compile_function(
            [m_x, *m_eps], from_each_device(ddout, args.devices), None, args.backend, args.devices
        )

    # Two streams of noise, as in the original, where each scan has its own.
    train_noise, monitor_noise = noise_streams(args, net.noise_dim, 2)
    train_rows = Iterator(data.train, args.batch_size, start=0, end=rows.train_end)
    monitored_rows = [
        Iterator(data.train, args.m_batch_size, start=0, end=rows.monitor_rows),
        Iterator(data.valid, args.m_batch_size, start=rows.valid_start, end=rows.valid_end),
    ]

    return make_training(
        name,
        net,
        args,
        save_path,
        trainlog=trainlog,
        model=Model(
            inputs=[x, *eps],
            params=net.params,
            nodes=net.nodes,
            updates={
                step_count: step_count + 1,
                rnn_tm1: whole_batch(v["s"][-1], args.devices, axis=0),
            },
            forward={**v, **terms},
        ),
        cost=named_all(terms)[0],
        data=with_noise(train_rows, train_noise),
        data_id=data_id(train_rows, monitored_rows[1]),
        noise={"train": train_noise, "monitor": monitor_noise},
        monitoring=Monitoring(
            freq=args.monitoring_freq,
            monitor_fn=monitor_fn,
            ddout=ddout,
            data=[with_noise(part, monitor_noise) for part in monitored_rows],
            devices=args.devices,
        ),
        check_nan=1,
        force_save_freq=args.force_saving_freq,
    )


def iamondb_mainloop(
    name: str, make_net: Callable[[Settings], Net], args: Settings, data: IAMOnDBData
) -> Training:
    """Build a program for IAM-OnDB up to the compiled main loop.

    Parameters
    ----------
    name : str
        The program's name.
    make_net : callable
        Makes the model from the settings.
    args : Settings
    data : IAMOnDBData

    Returns
    -------
    Training
        Ready to `run`.

    Notes
    -----
    Counterpart: the second half of ``main`` in ``models/iamondb/*.py``.
    """
    save_path = make_folder(args.save_path or default_save_path(args))
    check_machine(args)
    trainlog = start_log(save_path, name, args)
    logger.info("Drawing initial parameters")
    net = make_net(args)
    describe(
        name,
        net,
        args,
        save_path,
        data=data.origin,
        lines=f"{data.train.num_examples()} for training, "
        f"{data.valid.num_examples()} for validation",
        batch=f"{args.batch_size} lines, padded to the longest of them",
    )

    def graph(batch_size: int) -> Any:
        """Inputs, all tensors and all channels; every line starts from a state of zeros."""
        x, mask = data.train.theano_vars(batch_size)
        inputs = [x, mask, *noise_for(x, net)]
        x, mask, *eps = (part_of_batch(variable, args.devices) for variable in inputs)
        v = net.fprop(x, net.rnn.get_init_state(batch_size // args.devices), *eps)
        terms = net.cost(x, v, mask)
        return inputs, v | terms, named_all(terms) + net.monitored(x, v, mask)

    # Training and monitoring share one graph; but of several devices each monitors whole batches.
    inputs, forward, ddout = graph(args.batch_size)
    m_inputs, _, m_ddout = (
        (inputs, forward, ddout) if args.devices == 1 else graph(args.batch_size * args.devices)
    )

    # One stream of noise: the original's monitoring draws from the training's.
    (noise,) = noise_streams(args, net.noise_dim, 1)
    train_lines = Iterator(data.train, args.batch_size)
    valid_lines = Iterator(data.valid, args.batch_size)
    return make_training(
        name,
        net,
        args,
        save_path,
        trainlog=trainlog,
        model=Model(
            inputs=inputs,
            params=net.params,
            nodes=net.nodes,
            forward=forward,
        ),
        cost=ddout[0],
        data=with_noise(train_lines, noise),
        data_id=data_id(train_lines, valid_lines),
        noise={"train": noise},
        monitoring=Monitoring(
            freq=args.monitoring_freq,
            ddout=m_ddout,
            inputs=m_inputs,
            data=[with_noise(valid_lines, noise)],
            devices=args.devices,
        ),
        check_nan=0,
    )


def default_save_path(args: Settings) -> Path:
    """Folder of a run that names none: apart for demo corpora and for VRNN-I."""
    demo = [] if args.data_path else ["demo"]
    prior = [] if args.prior == "recurrent" else [args.prior]
    return Path("runs") / "_".join([args.dataset, *demo, *prior])


def make_training(
    name: str,
    net: Net,
    args: Settings,
    save_path: Path,
    *,
    trainlog: TrainLog,
    model: Model,
    cost: TensorVariable,
    data: Batches,
    data_id: str,
    noise: Mapping[str, Noise],
    monitoring: Monitoring,
    check_nan: int,
    force_save_freq: int | None = None,
) -> Training:
    """Put the main loop together as all scripts of the original do.

    Parameters
    ----------
    check_nan : int
        See `GradientClipping`; the scripts for Blizzard check, the others do not.
    force_save_freq : int, optional
        See `Picklize` and `EarlyStopping`; only the scripts for Blizzard have it.
    """
    forced = {} if force_save_freq is None else {"force_save_freq": force_save_freq}
    extension = [
        GradientClipping(batch_size=args.batch_size, check_nan=check_nan),
        EpochCount(args.epoch),
        monitoring,
        Picklize(freq=args.monitoring_freq, path=save_path, keep=args.keep, **forced),
        EarlyStopping(
            freq=args.monitoring_freq, path=save_path, channel=f"valid_{cost.name}", **forced
        ),
        WeightNorm(),
    ]
    return Training(
        name=f"{name}_{args.trial}",
        data=data,
        model=model,
        optimizer=Adam(lr=args.lr),
        cost=cost,
        outputs=[cost],
        extension=extension,
        trainlog=trainlog,
        backend=args.backend,
        devices=args.devices,
        max_updates=args.max_updates,
        noise=noise if net.noise_dim else {},
        settings=args.as_dict(),
        data_id=data_id,
        on_nan=args.on_nan,
        quiet=args.quiet,
    )


def carried_state(
    rnn: LSTM, batch_size: int, reset_freq: int, devices: int = 1
) -> tuple[TensorVariable, TensorSharedVariable, TensorSharedVariable]:
    """State before the first frame of a batch, carried over from the batch before.

    Parameters
    ----------
    rnn : LSTM
    batch_size : int
    reset_freq : int
        The state is zero instead at every ``reset_freq``-th update.
    devices : int
        Number of devices that share the batch.

    Returns
    -------
    s_0 : tensor of shape (batch_size // devices, state_dim)
    step_count : TensorSharedVariable
        Number of updates so far, dtype floatX as in the original.
    rnn_tm1 : TensorSharedVariable
        Last state of the batch before, shape (batch_size, state_dim).
    """
    step_count = sharedX(0, name="step_count")
    rnn_tm1 = sharedX(np.zeros((batch_size, rnn.state_dim)), name="rnn_tm1")
    s_0 = pt.switch(
        pt.eq(pt.mod(step_count, reset_freq), 0),
        rnn.get_init_state(batch_size // devices),
        part_of_batch(rnn_tm1, devices, axis=0),
    )
    return s_0, step_count, rnn_tm1


def noise_for(x: TensorVariable, net: Net) -> list[TensorVariable]:
    """Symbolic noise that a model takes with frames of shape (T, B, x_dim): one or none."""
    if not net.noise_dim:
        return []
    shape = (*x.type.shape[:2], net.noise_dim)
    return [pt.tensor("eps", dtype=pytensor.config.floatX, shape=shape)]


def noise_streams(args: Settings, dim: int, n: int) -> list[Noise]:
    """Streams of the noise that the settings ask for, independent of each other.

    In the original one generator serves a process, and each scan takes its next block
    of streams while the graph is built: training first, then monitoring if it has a
    graph of its own.
    """
    if args.noise == "mrg":
        generator = MRG_RandomStreams(args.seed if args.mrg_seed is None else args.mrg_seed)
        return [MRGNoise(dim, generator.block()) for _ in range(n)]
    seeds = np.random.SeedSequence(args.seed).spawn(n)
    return [NormalNoise(dim, seed) for seed in seeds]


def with_noise(data: Batches, noise: Noise) -> Batches:
    """Batches with the noise that a model takes, if it takes any."""
    return WithNoise(data, noise) if noise.dim else data


def named_all(scalars: Mapping[str, TensorVariable]) -> list[TensorVariable]:
    """Name each scalar by its key and return them in order."""
    for name, scalar in scalars.items():
        scalar.name = name
    return list(scalars.values())


def check_machine(args: Settings) -> None:
    """Refuse a backend or devices that are not there, before anything takes time.

    Raises
    ------
    UserError
        See `choose` and `check_devices`.
    """
    check_devices(args.devices, choose(args.backend).backend, batch_size=args.batch_size)


def describe(name: str, net: Net, args: Settings, save_path: Path, **facts: str) -> None:
    """Log what is about to be trained on what, with what, to where."""
    n_param = sum(p.get_value(borrow=True).size for p in net.params.values())
    backend, reason = choose(args.backend)
    if backend == "c":
        reason += f"; BLAS: {blas.link() or 'none'}"
    logger.info("%s: %d parameters in %d arrays", name, n_param, len(net.params))
    facts |= {
        "learning": f"{args.epoch} epochs, rate {args.lr:g}",
        "backend": f"{backend} ({reason}), {args.floatX}",
        "writes to": str(save_path),
    }
    for what, fact in facts.items():
        logger.info("  %-9s %s", what, fact)


def start_log(save_path: Path, name: str, args: Settings) -> TrainLog:
    """Write the resolved settings and start an empty log beside them, before anything is compiled.

    For a resumed run the log is left as it is, see `cle_port.train.Training.resume`.
    Files of another run are not replaced.

    Raises
    ------
    UserError
        If the folder cannot be written to, or has a checkpoint of another run.
    """
    if not is_first_process():
        return TrainLog()
    files = files_of(replace(args, save_path=str(save_path)), name)
    try:
        _check_free(files, args)
        for leftover in _leftovers(files.checkpoint):
            leftover.unlink()
        if args.resume is None:  # else only when it is known that it can be resumed
            write_settings(files.config, args)
            if files.log.is_file() and files.log.stat().st_size:
                logger.warning("%s is kept as %s", files.log, set_aside(files.log))
            files.log.write_bytes(b"")
    except OSError as error:
        raise UserError(
            f"cannot write into {save_path} ({error.strerror}); choose another --save_path"
        ) from error
    return TrainLog(files.log)


def write_settings(path: Path, args: Settings) -> None:
    """Write the resolved settings beside the checkpoints of a run.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    if not is_first_process():
        return
    text = args.as_text().encode()
    try:
        replace_file(path, lambda file: file.write(text))
    except OSError as error:
        raise UserError(
            f"cannot write into {path.parent}: {path.name} ({error.strerror}); "
            "choose another --save_path"
        ) from error


def _check_free(files: Files, args: Settings) -> None:
    path = files.checkpoint
    if path.is_dir():
        raise UserError(f"{path} is a folder; remove it or choose another --save_path")
    if not path.exists() or (args.resume and path.samefile(args.resume)):
        return
    raise UserError(
        f"{path.parent} has a run of this name, whose {path.name} would be replaced: "
        "go on with it by --resume, or give another --trial or --save_path"
    )


def _leftovers(path: Path) -> list[Path]:
    """Temporary files of a run that was killed while it wrote checkpoints."""
    name = re.escape(path.stem)
    pattern = re.compile(rf"\.{name}(_[^.]*)?\.(npz|txt|jsonl)\.\d+\.tmp")
    return [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)]


def data_id(train: Iterator, valid: Iterator) -> str:
    """Tell these data from others: a digest of their number and of their first and last batch."""
    digest = hashlib.sha256()
    for part in (train, valid):
        starts = (part.start, max(part.start, part.end - part.batch_size))
        digest.update(f"{part.data.num_examples()} {part.start} {part.end}".encode())
        for start in starts:
            for array in part.data.slices(start, start + part.batch_size):
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
