"""Loading the model of a checkpoint."""

from __future__ import annotations

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
from models.settings import Settings


@contextmanager
def precision_of(net: Net) -> Iterator[None]:
    """Let ``pytensor.config.floatX`` be the precision of a model's parameters, for a while."""
    with pytensor.config.change_flags(floatX=floatX_of(net)):
        yield


def floatX_of(net: Net) -> str:
    """Return the precision of a model's parameters, such as ``'float32'``."""
    return next(iter(net.params.values())).dtype


def load_model(path: str | Path) -> tuple[str, Settings, Net]:
    """Build the model of a checkpoint, with its parameters.

    Parameters
    ----------
    path : path
        Written by one of the programs.

    Returns
    -------
    name : str
        Name of the program, such as ``'vrnn_gmm'``.
    args : Settings
        Settings that it was trained with.
    net : VRNN or RNN
        Its parameters have the checkpoint's precision, whatever
        ``pytensor.config.floatX`` is: see `precision_of`.

    Raises
    ------
    UserError
        If the file is missing, no checkpoint, damaged, of an unknown model, or
        its parameters do not fit its settings.
    """
    arrays, meta = checkpoint.load(path)
    try:
        name = meta["program"].rpartition("_")[0]
        make_net = PROGRAMS[name].make_net
        args = Settings(**meta["settings"])
        names = set(meta["params"])
        with pytensor.config.change_flags(floatX=args.floatX):
            net = make_net(args, Init(None, sum(array.size for array in arrays.values())))
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a checkpoint of {', '.join(PROGRAMS)} ({reason}); give one that these "
            "wrote"
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
