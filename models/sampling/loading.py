"""Loading the model of a checkpoint."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytensor
from numpy.typing import NDArray

from cle_port.errors import UserError
from cle_port.train import checkpoint
from cle_port.utils import zipp
from models.parts import Init
from models.programs import PROGRAMS, Net
from models.running import Program
from models.settings import Settings


@contextmanager
def precision_of(net: Net) -> Iterator[None]:
    """Let ``pytensor.config.floatX`` be the precision of a model's parameters, for a while."""
    with pytensor.config.change_flags(floatX=floatX_of(net)):
        yield


def floatX_of(net: Net) -> str:
    """Return the precision of a model's parameters, such as ``'float32'``."""
    return next(iter(net.params.values())).dtype


def load_program(path: str | Path) -> Program:
    """Run a script that defines a program and return its ``PROGRAM``.

    Parameters
    ----------
    path : path
        A Python file, such as a model of the user's own (docs/library.md).

    Raises
    ------
    UserError
        If there is no such file, it fails, or it has no ``PROGRAM``.
    """
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if not Path(path).is_file() or spec is None or spec.loader is None:
        raise UserError(f"--program {path} is not a Python file; give the script of the model")
    script = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(script)
    except Exception as error:  # a user's script may fail in any way
        raise UserError(
            f"--program {path} fails with {type(error).__name__}: {error}; mend the script"
        ) from error
    program = getattr(script, "PROGRAM", None)
    if not isinstance(program, Program):
        raise UserError(f"--program {path} has no PROGRAM; define one, as models/vrnn_gmm.py does")
    return program


def load_model(path: str | Path, program: Program | None = None) -> tuple[str, Settings, Net]:
    """Build the model of a checkpoint, with its parameters.

    Parameters
    ----------
    path : path
        Written by one of the programs.
    program : Program, optional
        The program, if it is none of `PROGRAMS`.

    Returns
    -------
    name : str
        Name of the program, such as ``'vrnn_gmm'``.
    args : Settings
        Settings that it was trained with.
    net : Net
        Its parameters have the checkpoint's precision, whatever
        ``pytensor.config.floatX`` is: see `precision_of`.

    Raises
    ------
    UserError
        If the file is missing, no checkpoint, damaged, of an unknown model, or
        its parameters do not fit its settings.
    """
    arrays, meta = checkpoint.load(path)
    programs = PROGRAMS if program is None else {program.name: program}
    try:
        name = meta["program"].rpartition("_")[0]
        make_net = programs[name].make_net
        args = Settings(**meta["settings"])
        names = set(meta["params"])
        with pytensor.config.change_flags(floatX=args.floatX):
            net = make_net(args, Init(None, sum(array.size for array in arrays.values())))
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a checkpoint of {', '.join(programs)} ({reason}); give one that these "
            "wrote, or with --program the script of another model"
        ) from error
    check_params(path, {key: arrays[key] for key in arrays if key in names}, net)
    with precision_of(net):
        zipp({key: arrays[key] for key in net.params}, net.params)
    return name, args, net


def check_params(path: str | Path, arrays: dict[str, NDArray], net: Net) -> None:
    """Make sure that the arrays are the model's parameters, before any is set.

    Raises
    ------
    UserError
        If names or shapes differ, or an entry is no finite number.
    """
    wanted = {key: p.get_value(borrow=True).shape for key, p in net.params.items()}
    found = {key: array.shape for key, array in arrays.items()}
    different = [
        key for key in [*wanted, *(found.keys() - wanted)] if wanted.get(key) != found.get(key)
    ]
    if different:
        key = different[0]
        has, needs = (shapes.get(key, "nothing") for shapes in (found, wanted))
        raise UserError(
            f"{path} is of another model: {len(different)} parameters differ, {key} has shape "
            f"{has} where its settings need {needs}; give a whole checkpoint of the programs"
        )
    for key, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise UserError(
                f"{path} has entries in {key} that are no finite numbers; "
                "give an earlier checkpoint, from before training went wrong"
            )
