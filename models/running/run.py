"""One run of a program, its settings resolved once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.console.progress import elapsed_time
from cle_port.data import Iterator
from cle_port.data.noise import MRGNoise, Noise, NormalNoise
from cle_port.errors import UserError
from cle_port.files.npz import DAMAGE
from cle_port.graph import Compiler, blas
from cle_port.graph.backend import choose
from cle_port.graph.devices import (
    check_devices,
    from_each_device,
    is_first_process,
    join_processes,
    part_of_batch,
    whole_batch,
)
from cle_port.train import Training, checkpoint
from cle_port.train.checkpoint import State
from cle_port.train.ext import Extension, Patience, UpdateCount
from cle_port.train.resuming import check_resumable
from cle_port.train.screen import OriginalScreen, Screen
from cle_port.utils.mrg import MRG_RandomStreams
from datasets.blizzard import Blizzard_tbptt, RowRanges, describe_split
from datasets.digits import Digits
from datasets.iamondb import IAMOnDB
from models.running.data import (
    BlizzardData,
    DigitsData,
    IAMOnDBData,
    data_id,
    open_blizzard,
    open_digits,
    open_iamondb,
)
from models.running.files import RunFiles, start_log, write_settings
from models.running.screen import LatentWatch, ShortScreen, remedies
from models.settings import (
    LAST,
    Settings,
    check_changes,
    check_same_model,
    parse,
    schedule_of,
    settings_of_model,
)

logger = logging.getLogger(__name__)


class Run:
    """One run of a program: everything that the original's scripts do not have.

    A script is handed this object.  It opens the data, divides batches among
    devices, draws noise, and completes the arguments of `Training`.

    Parameters
    ----------
    program : str
        Name of the program, such as ``vrnn_gmm``.
    args : Settings
        Resolved settings.
    data : BlizzardData, IAMOnDBData or DigitsData, optional
        Data in place of those that the settings name.
    loaded : tuple of two dicts, optional
        Arrays and meta of the checkpoint that is resumed, ``args.resume``.
    changes : mapping of str to str, optional
        Settings that differ from that checkpoint's, see `check_changes`.
    extensions : sequence of Extension, optional
        The caller's own.
    start : mapping of str to ndarray, optional
        Parameters of the checkpoint ``args.init_from``, if it has been read already.

    Attributes
    ----------
    name : str
        First part of the names of all files, such as ``vrnn_gmm_1``.
    files : RunFiles
    compiler : Compiler
        Its backend is chosen.

    Raises
    ------
    UserError
        If the backend is not installed, or the learning rate would rise by its schedule.
    """

    def __init__(
        self,
        program: str,
        args: Settings,
        data: BlizzardData | IAMOnDBData | DigitsData | None = None,
        loaded: State | None = None,
        changes: Mapping[str, str] | None = None,
        extensions: Sequence[Extension] = (),
        start: Mapping[str, NDArray] | None = None,
    ) -> None:
        self.program = program
        self.args = args
        self.name = f"{program}_{args.trial}"
        self.files = RunFiles.of(program, args)
        schedule_of(args.lr_schedule, args.lr)  # refuses one that begins above this rate
        backend, self._why_backend = choose(args.backend)
        self.compiler = Compiler(backend, args.devices, args.graph, args.memory)
        self.changes = dict(changes or {})
        self._data = data
        self._loaded = loaded
        self._extensions = list(extensions)
        self._start = start
        self._facts: dict[str, str] = {}

    @classmethod
    def from_command_line(
        cls,
        program: str,
        widths: Mapping[str, Mapping[str, Any]],
        doc: str,
        argv: Sequence[str],
        extensions: Sequence[Extension] = (),
    ) -> Run:
        """Resolve the settings of a run; a resumed run takes those of its checkpoint.

        A run that starts from another one (``--init_from``) takes those of its model.

        Parameters
        ----------
        program : str
            Name of the program.
        widths : mapping of str to mapping
            Constants of the program, by data set.
        doc : str
            What the program does, for ``--help``.
        argv : list of str
            Arguments after the program's name.
        extensions : sequence of Extension, optional
            The caller's own.

        Raises
        ------
        UserError
            If a setting is wrong, or the checkpoint cannot be resumed or started from with it.
        """
        args = parse(argv, doc, widths)
        start = None
        # A resumed run has its own parameters, but --resume without a path needs the model's
        # settings: the default folder depends on them.
        in_default_folder = args.resume == LAST and args.save_path is None
        if args.init_from is not None and (args.resume is None or in_default_folder):
            start, of_model = starting_point(program, args.init_from)
            args = parse(argv, doc, widths, of_model)
            check_same_model(of_model, args)
        if args.resume is None:
            return cls(program, args, extensions=extensions, start=start)
        own = RunFiles.of(program, args).checkpoint
        path = own if args.resume == LAST else Path(args.resume)
        loaded = checkpoint.load(path)  # all of it, so that a damaged file is refused first
        _, meta = loaded
        check_program(program, path, meta)
        check_resumable(path, meta)
        saved = meta.get("settings")
        if not isinstance(saved, dict):
            raise checkpoint.damaged(path, "it has no settings")
        merged = parse(argv, doc, widths, saved)
        changes = check_changes(saved, merged)
        folder = args.save_path or str(path.parent)
        return cls(
            program,
            replace(merged, save_path=folder, resume=str(path)),
            loaded=loaded,
            changes=changes,
            extensions=extensions,
        )

    def join_processes(self) -> None:
        """Find the other processes, if the settings name any; only the first one prints.

        Raises
        ------
        UserError
            If they cannot be found, or the backend is not JAX.
        """
        args = self.args
        if args.coordinator is None:
            return
        if self.compiler.backend != "jax":
            raise UserError(f"--coordinator needs --backend jax, not {self.compiler.backend}")
        join_processes(args.coordinator, args.processes, args.process)
        if not is_first_process():
            self.args = replace(args, quiet=True)

    def announce(self) -> None:
        """Log the first lines of a run, as the original prints them."""
        for key, change in self.changes.items():
            logger.info("Resuming with %s %s", key, change)
        logger.info("trial no. %d", self.args.trial)
        logger.info("batch size %d", self.args.batch_size)
        logger.info("learning rate %s", self._shown_lr())
        logger.info("saving npz file '%s'", self.name)
        logger.info("to the save path '%s'", self.files.folder)

    # --- for the scripts, in the order in which they need it --------------------------------

    def open_blizzard(self) -> tuple[Blizzard_tbptt, Blizzard_tbptt, RowRanges]:
        """Open the data, then the run's own files.

        Returns
        -------
        train_data, valid_data : Blizzard_tbptt
        rows : RowRanges
            Which rows to train, monitor and validate on.

        Raises
        ------
        UserError
            If the data, the devices or the folder of the run are unusable.
        """
        args = self.args
        data = self._data if isinstance(self._data, BlizzardData) else open_blizzard(args)
        train, valid, rows, origin = data
        frames, frame_size = train.frames_shape
        self._open_files(
            data=origin,
            rows=describe_split(rows, train.num_examples()),
            batch=f"{args.batch_size} rows of {frames} frames of {frame_size} samples",
        )
        return train, valid, rows

    def open_iamondb(self) -> tuple[IAMOnDB, IAMOnDB]:
        """Open the data, then the run's own files.

        Returns
        -------
        train_data, valid_data : IAMOnDB

        Raises
        ------
        UserError
            If the data, the devices or the folder of the run are unusable.
        """
        args = self.args
        data = self._data if isinstance(self._data, IAMOnDBData) else open_iamondb(args)
        train, valid, origin = data
        self._open_files(
            data=origin,
            lines=f"{train.num_examples()} for training, {valid.num_examples()} for validation",
            batch=f"{args.batch_size} lines, padded to the longest of them",
        )
        return train, valid

    def open_digits(self) -> tuple[Digits, Digits]:
        """Open the data, then the run's own files.

        Returns
        -------
        train_data, valid_data : Digits

        Raises
        ------
        UserError
            If the data, the devices or the folder of the run are unusable.
        """
        args = self.args
        data = self._data if isinstance(self._data, DigitsData) else open_digits(args)
        train, valid, origin = data
        self._open_files(
            data=origin,
            images=f"{train.num_examples()} for training, {valid.num_examples()} for validation",
            batch=f"{args.batch_size} images",
        )
        return train, valid

    def init_from(self, params: Mapping[str, TensorSharedVariable]) -> None:
        """Set the parameters to those of the checkpoint ``--init_from``, if it is given.

        Raises
        ------
        UserError
            If names or shapes differ.
        """
        args = self.args
        if args.init_from is None or args.resume is not None:
            return
        values = self._start or starting_point(self.program, args.init_from)[0]
        self._start = None  # frees a second copy of the parameters
        like = {name: p.get_value(borrow=True).shape for name, p in params.items()}
        found = {name: value.shape for name, value in values.items()}
        different = [name for name in {**like, **found} if like.get(name) != found.get(name)]
        if different:
            name = different[0]
            raise UserError(
                f"{args.init_from} is of another model: {len(different)} arrays differ, {name} is "
                f"{found.get(name, 'not there')} where the model has {like.get(name, 'nothing')}, "
                "and the file does not name the settings that it needs; give those that it was "
                "trained with"
            )
        for name, p in params.items():
            p.set_value(values[name].astype(p.dtype))
        logger.info("Starting from %d arrays of %s", len(values), args.init_from)

    def describe(self, params: Mapping[str, TensorSharedVariable]) -> None:
        """Log what is trained, on which data, how, and to where."""
        args = self.args
        n_param = sum(p.get_value(borrow=True).size for p in params.values())
        backend, reason = self.compiler.backend, self._why_backend
        if backend == "c":
            reason += f"; BLAS: {blas.find_blas().origin or 'none'}"
        logger.info("%s: %d parameters in %d arrays", self.program, n_param, len(params))
        facts = {
            **self._facts,
            "learning": ", ".join([f"{args.epoch} epochs, rate {args.lr:g}", *self._knobs()]),
            "backend": f"{backend} ({reason}), {args.floatX}",
            "writes to": str(self.files.folder),
        }
        for key, fact in facts.items():
            logger.info("  %-9s %s", key, fact)

    def part(self, x: TensorVariable, axis: int = 1) -> TensorVariable:
        """Return the part of a batch that one device takes: of one device, all of it."""
        return part_of_batch(x, self.args.devices, axis)

    def whole(self, x: TensorVariable, axis: int) -> TensorVariable:
        """Put the parts of all devices together again."""
        return whole_batch(x, self.args.devices, axis)

    def compile(
        self, inputs: Sequence[TensorVariable], outputs: Sequence[TensorVariable]
    ) -> Callable:
        """Compile the function that monitors; each device takes whole batches."""
        with elapsed_time("Compiling the monitoring", self.args.quiet):
            return self.compiler.function(inputs, from_each_device(outputs, self.args.devices))

    def noise_streams(self, dim: int, n: int) -> list[Noise]:
        """Return ``n`` independent streams of standard normal noise of size ``dim``.

        In the original one generator serves a process.  Each scan takes its next
        block of streams while the graph is built: training first, then
        monitoring if it has a graph of its own.
        """
        return noise_streams(self.args, dim, n)

    def extensions(self, channel: str) -> list[Extension]:
        """Return the extensions that the original does not have: of the settings, of the caller.

        Parameters
        ----------
        channel : str
            Validation bound, which ``--patience`` watches.
        """
        args = self.args
        optional = (
            schedule_of(args.lr_schedule, args.lr),
            None if args.patience is None else Patience(channel, args.patience),
            None if args.max_updates is None else UpdateCount(args.max_updates),
        )
        of_settings = [extension for extension in optional if extension is not None]
        return [LatentWatch(remedies(args)), *of_settings, *self._extensions]

    def options(
        self, train: Iterator, valid: Iterator, noise: Mapping[str, Noise] | None = None
    ) -> dict[str, Any]:
        """Return the arguments of `Training` that the original does not have.

        Parameters
        ----------
        train, valid : Iterator
            Batches without noise; they identify the data in checkpoints.
        noise : mapping of str to Noise, optional
            Streams of `noise_streams`, by the names that checkpoints give them.
        """
        return {
            "trainlog": self._trainlog,
            "compiler": self.compiler,
            "noise": noise,
            "about": {"settings": self.args.as_dict(), "data_id": data_id(train, valid)},
            "on_nan": self.args.on_nan,
            "quiet": self.args.quiet,
            "screen": self._screen(),
        }

    # --- the rest -----------------------------------------------------------------------------

    def resume(self, mainloop: Training) -> None:
        """Let a main loop continue from the run's checkpoint, if there is one.

        Raises
        ------
        UserError
            If the checkpoint is of another model or of other data.
        """
        if self.args.resume:
            mainloop.resume(self.args.resume, self._loaded)
            self._loaded = None  # frees a second copy of parameters and moments
            write_settings(self.files.config, self.args)

    def _shown_lr(self) -> str:
        """As the original prints it, or so that 3e-7 is not 0.000000."""
        lr = self.args.lr
        return f"{lr:f}" if self.args.screen == "original" else f"{lr:g}"

    def _knobs(self) -> list[str]:
        """Settings that are on and that the original does not have, as text."""
        keys = ("lr_schedule", "clip", "kl_anneal", "free_bits", "patience")
        given = {key: getattr(self.args, key) for key in keys}
        return [f"{key} {v}" for key, v in given.items() if v != getattr(Settings, key)]

    def _screen(self) -> Screen:
        args = self.args
        return OriginalScreen() if args.screen == "original" else ShortScreen(args.dataset)

    def _open_files(self, **facts: str) -> None:
        """Check the machine, then start the files: whatever is wrong shows before they exist."""
        check_devices(self.args.devices, self.compiler.backend, batch_size=self.args.batch_size)
        self._trainlog = start_log(self.files, self.args)
        self._facts = facts


def check_program(program: str, path: str | Path, meta: Mapping[str, Any]) -> None:
    """Make sure that a checkpoint is of this program.

    Raises
    ------
    UserError
        If it is of another one.
    """
    if str(meta.get("program")).rpartition("_")[0] != program:
        raise UserError(f"{path} is a checkpoint of {meta.get('program')}, not of {program}")


def starting_point(
    program: str, path: str | Path
) -> tuple[dict[str, NDArray], dict[str, str | int]]:
    """Read what ``--init_from`` takes from a checkpoint.

    Returns
    -------
    params : dict of str to ndarray
    of_model : dict of str to str or int
        Settings of the model, as far as the checkpoint has them.

    Raises
    ------
    UserError
        If it is no whole checkpoint, of another program, or has parameters that are not
        finite.
    """
    arrays, meta = checkpoint.load(path)
    check_program(program, path, meta)
    try:
        of_model = settings_of_model(meta.get("settings", {}))
        params = {name: arrays[name] for name in meta["params"]}
    except (*DAMAGE, UserError) as error:
        raise checkpoint.damaged(path, error) from error
    for name, value in params.items():
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise UserError(
                f"{path} has entries in {name} that are no finite numbers; "
                "give an earlier checkpoint, from before training went wrong"
            )
    return params, of_model


def noise_streams(args: Settings, dim: int, n: int) -> list[Noise]:
    """Return streams of the noise that the settings ask for; see `Run.noise_streams`."""
    if args.noise == "mrg":
        generator = MRG_RandomStreams(args.seed if args.mrg_seed is None else args.mrg_seed)
        return [MRGNoise(dim, generator.block()) for _ in range(n)]
    seeds = np.random.SeedSequence(args.seed).spawn(n)
    return [NormalNoise(dim, seed) for seed in seeds]
