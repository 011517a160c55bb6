"""The files of a run: names, lock, settings, log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from cle_port.errors import UserError
from cle_port.files import replace_file
from cle_port.graph.devices import is_first_process
from cle_port.train import TrainLog
from cle_port.train.ext import make_folder
from cle_port.train.log import set_aside
from models.settings import DEMOS, Settings

logger = logging.getLogger(__name__)


class RunFiles(NamedTuple):
    """Paths of the files of a run; best models and kept checkpoints lie in the same folder.

    Attributes
    ----------
    folder, checkpoint, log, config, lock : Path
    """

    folder: Path
    checkpoint: Path
    log: Path
    config: Path
    lock: Path

    @classmethod
    def of(cls, name: str, args: Settings) -> RunFiles:
        """Name the files of the program ``name`` with these settings."""
        folder = Path(args.save_path) if args.save_path else default_folder(args)
        stem = f"{name}_{args.trial}"
        names = (f"{stem}.npz", f"{stem}.jsonl", f"{stem}_config.txt", f".{stem}.lock")
        return cls(folder, *(folder / file_name for file_name in names))


def default_folder(args: Settings) -> Path:
    """Folder of a run that names none; demo corpora, VRNN-I and so on have their own."""
    parts = [args.dataset]
    if args.dataset in DEMOS and not args.data_path:
        parts.append("demo")
    if args.prior != "recurrent":
        parts.append(args.prior)
    if args.rnn != "lstm":
        parts.append(args.rnn)
    if args.output != "bernoulli":
        parts.append(args.output)
    return Path("runs") / "_".join(parts)


@contextmanager
def one_at_a_time(files: RunFiles) -> Iterator[None]:
    """Keep other processes from writing the files of this run.

    The system releases the lock when the process ends, however it ends.

    Raises
    ------
    UserError
        If another process has the lock, or the folder cannot be written to.
    """
    if not is_first_process():
        yield  # the first process has the lock, and writes
        return
    make_folder(files.folder)
    lock = FileLock(files.lock, timeout=0.5)  # `models.runs` may hold it for a moment, to ask
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"another process is training {files.checkpoint.stem} in {files.folder}; "
            "give another --trial or --save_path, or wait for its end"
        ) from error
    except OSError as error:
        raise _unwritable(files.folder, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove open files
            files.lock.unlink()  # before the release, or another process could lock it in between
        lock.release()


def start_log(files: RunFiles, args: Settings) -> TrainLog:
    """Write the resolved settings and start an empty log beside them.

    This happens before anything is compiled.  A resumed run leaves its log as it
    is, see `cle_port.train.resuming.resume`.  No file of another run is replaced.

    Raises
    ------
    UserError
        If the folder cannot be written to, or has a checkpoint of another run.
    """
    make_folder(files.folder)
    if not is_first_process():
        return TrainLog()
    try:
        _check_free(files, args)
        for leftover in _leftovers(files.checkpoint):
            leftover.unlink()
        if args.resume is None:  # else only when the checkpoint has proved resumable
            write_settings(files.config, args)
            if files.log.is_file() and files.log.stat().st_size:
                logger.warning("%s is kept as %s", files.log, set_aside(files.log))
            files.log.write_bytes(b"")
    except OSError as error:
        raise _unwritable(files.folder, error) from error
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


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot write into {folder} ({error.strerror}); choose another --save_path")


def _check_free(files: RunFiles, args: Settings) -> None:
    path = files.checkpoint
    if path.is_dir():
        raise UserError(f"{path} is a folder; remove it or choose another --save_path")
    if args.init_from and not args.resume and _is_of_run(Path(args.init_from), path):
        raise UserError(
            f"this run would replace {args.init_from}, from which it starts; "
            "give another --trial or --save_path"
        )
    if not path.exists() or (args.resume and path.samefile(args.resume)):
        return
    raise UserError(
        f"{path.parent} has a run of this name, whose {path.name} would be replaced: "
        "go on with it by --resume, or give another --trial or --save_path"
    )


def _is_of_run(path: Path, checkpoint: Path) -> bool:
    """Whether a file is one of the checkpoints of the run whose newest one is ``checkpoint``."""
    path, checkpoint = path.resolve(), checkpoint.resolve()
    is_of_run = path.stem == checkpoint.stem or path.stem.startswith(f"{checkpoint.stem}_")
    return path.parent == checkpoint.parent and is_of_run


def _leftovers(path: Path) -> list[Path]:
    """Temporary files of a run that was killed while it wrote checkpoints."""
    name = re.escape(path.stem)
    pattern = re.compile(rf"\.{name}(_[^.]*)?\.(npz|txt|jsonl)\.\d+\.tmp")
    return [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)]
