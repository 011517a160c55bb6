"""Settings of the programs: what they are, where they come from, how they are checked.

Four layers, each over the one before: the program's own constants, the data
set's file in ``models/config``, the file given by ``--config``, flags.  The
files have the format of the original's ``config.txt``: one ``key value`` a
line, here with comments after ``#``.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cle_port.backend import BACKENDS
from cle_port.errors import UserError
from cle_port.mrg import M2

CONFIG_FOLDER = Path(__file__).resolve().parent / "config"
COMMENT = re.compile(r"(^|\s)#.*")  # a path may have a # inside
MAX_SEED = 2**32 - 1  # of NumPy's RandomState


def _setting(default: Any, help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass(frozen=True)
class Settings:
    """Resolved settings of one run; ``--help`` shows what each one means.

    Keys up to ``debug`` are those of the original's ``config.txt``; the widths
    are literals in its scripts; the rest is ours.
    """

    dataset: str = _setting("blizzard", "data set to train on", choices=("blizzard", "iamondb"))
    trial: int = _setting(1, "number in the names of the files written")
    data_path: str | None = _setting(
        None, "folder with the data; default is the built-in demo corpus", metavar="DIR"
    )
    save_path: str | None = _setting(
        None,
        "folder for checkpoints, log and settings; default below runs/, by data set",
        metavar="DIR",
    )
    sample_path: str | None = _setting(None, "folder for samples", metavar="DIR")
    monitoring_freq: int = _setting(2000, "updates between two monitoring steps", least=1)
    force_saving_freq: int = _setting(10000, "updates between two checkpoints to keep", least=1)
    reset_freq: int = _setting(4, "updates after which the carried state is zeroed", least=1)
    epoch: int = _setting(10, "passes through the training data", least=1)
    batch_size: int = _setting(128, "sequences in a batch", least=1)
    m_batch_size: int = _setting(1280, "sequences in a batch while monitoring", least=1)
    x_dim: int = _setting(200, "size of a frame x_t (Blizzard: samples)", least=1)
    z_dim: int = _setting(200, "size of the latent variable z_t", least=1)
    num_k: int = _setting(20, "components of a Gaussian mixture", least=1)
    rnn_dim: int = _setting(4000, "size of the LSTM's hidden state h_t", least=1)
    lr: float = _setting(3e-4, "learning rate of Adam", above=0)
    debug: int = _setting(
        0, "accepted for the original's files; shapes are always checked here", choices=(0, 1)
    )
    x2s_dim: int = _setting(500, "width of the layers on x", least=1)
    z2s_dim: int = _setting(500, "width of the layers on z", least=1)
    q_z_dim: int = _setting(500, "width of the posterior's layers (phi)", least=1)
    p_z_dim: int = _setting(500, "width of the prior's layers", least=1)
    p_x_dim: int = _setting(500, "width of the decoder's layers (theta)", least=1)
    depth: int = _setting(4, "layers in each of these stacks", least=1)
    prior: str = _setting(
        "recurrent",
        "prior of z_t in the VRNN programs: from h_{t-1}, or N(0, 1) as in the paper's VRNN-I",
        choices=("recurrent", "independent"),
    )
    seed: int = _setting(1, "seed of initial parameters and noise", least=0, most=MAX_SEED)
    noise: str = _setting(
        "numpy",
        "generator of the noise: NumPy's PCG64, or the original's MRG31k3p for its numbers",
        choices=("numpy", "mrg"),
    )
    mrg_seed: int | None = _setting(
        None,
        "seed of --noise mrg, if it is not to be that of --seed",
        metavar="N",
        least=1,
        most=M2 - 1,
    )
    max_updates: int | None = _setting(None, "stop after so many updates", metavar="N", least=1)
    backend: str = _setting("auto", "compiler to use", choices=BACKENDS)
    devices: int = _setting(
        1, "devices that share each batch, in all processes together (docs/devices.md)", least=1
    )
    floatX: str = _setting("float32", "precision", choices=("float32", "float64"))
    quiet: bool = _setting(False, "print nothing but errors")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        if self.noise != "mrg" and self.mrg_seed is not None:
            raise UserError(f"mrg_seed is {self.mrg_seed}; it needs --noise mrg")
        if self.noise == "mrg" and self.mrg_seed is None and not 1 <= self.seed < M2:
            raise UserError(
                f"seed is {self.seed}, which --noise mrg cannot take; give it a --mrg_seed"
            )

    def as_text(self) -> str:
        """Settings in the format of ``--config``, one ``key value`` a line."""
        return "".join(
            f"{key} {value}\n" for key, value in self.as_dict().items() if value is not None
        )

    def as_dict(self) -> dict[str, Any]:
        """Settings by key."""
        return dataclasses.asdict(self)


def _check(key: str, value: Any, limits: Mapping[str, Any]) -> None:
    if value is None:
        return
    if "choices" in limits and value not in limits["choices"]:
        options = ", ".join(str(choice) for choice in limits["choices"])
        raise UserError(f"{key} is {value!r}; choose one of: {options}")
    if value == "":
        raise UserError(f"{key} is empty; give a path or leave it out")
    if "least" in limits and value < limits["least"]:
        raise UserError(f"{key} is {value}; it must be at least {limits['least']}")
    if "most" in limits and value > limits["most"]:
        raise UserError(f"{key} is {value}; it must be at most {limits['most']}")
    if "above" in limits and not limits["above"] < value < float("inf"):
        raise UserError(f"{key} is {value}; it must be a number above {limits['above']}")


def _types() -> dict[str, type]:
    """Type of each setting's value, by key."""
    by_name = {"int": int, "float": float, "str": str, "bool": bool}
    return {
        item.name: by_name[str(item.type).split(" | ")[0]] for item in dataclasses.fields(Settings)
    }


def parse(
    argv: Sequence[str], description: str, constants: Mapping[str, Mapping[str, Any]]
) -> Settings:
    """Resolve the settings of a run from its command line.

    Parameters
    ----------
    argv : list of str
        Arguments after the program's name.
    description : str
        What the program does, for ``--help``.
    constants : mapping of str to mapping
        The program's own values of settings, such as its widths, by data set.

    Returns
    -------
    Settings

    Raises
    ------
    UserError
        If a file, a key or a value is wrong.
    """
    flags = vars(_parser(description).parse_args(argv))
    config = flags.pop("config")
    dataset = flags.get("dataset", Settings.dataset)
    from_user = {**(read_config(config) if config is not None else {}), **flags}
    dataset = from_user.get("dataset", dataset)
    size = "" if from_user.get("data_path") else "_demo"
    own = CONFIG_FOLDER / f"{dataset}{size}.txt"
    from_dataset = read_config(own) if own.is_file() else {}
    return Settings(**{**constants.get(dataset, {}), **from_dataset, **from_user})


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a file of ``key value`` lines.

    Parameters
    ----------
    path : path
        Text in the format of the original's ``config.txt``.

    Returns
    -------
    dict of str to int, float, str or bool

    Raises
    ------
    UserError
        If the file cannot be read, or a line has an unknown or repeated key or
        a value of the wrong type; the message names file, line and fix.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the settings file {path} ({error}); check --config"
        ) from error
    values: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = COMMENT.sub("", line).split(maxsplit=1)
        if not words:
            continue
        where = f"{path} line {number}"
        if len(words) == 1:
            raise UserError(f"{where}: {words[0]!r} has no value; write: key value")
        if words[0] in values:
            raise UserError(f"{where}: {words[0]} is given twice; remove one")
        values[words[0]] = _convert(words[0], words[1].strip(), where)
    return values


def _convert(key: str, text: str, where: str) -> Any:
    types = _types()
    if key not in types:
        near = difflib.get_close_matches(key, types, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(types)}"
        raise UserError(f"{where}: unknown key {key!r}; {hint}")
    wanted = types[key]
    if wanted is bool:
        if text not in ("True", "False", "1", "0"):
            raise UserError(f"{where}: {key} is {text!r}; it must be 1 or 0")
        return text in ("True", "1")
    try:
        return wanted(text)
    except ValueError:
        article = {"int": "a whole number", "float": "a number"}[wanted.__name__]
        raise UserError(f"{where}: {key} is {text!r}; it must be {article}") from None


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are `UserError`s and suggest the nearest flag."""

    def error(self, message: str) -> Any:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        near = difflib.get_close_matches(unknown, self._option_string_actions, n=1)
        hint = f"; did you mean {near[0]}?" if unknown.startswith("-") and near else ""
        raise UserError(f"{message}{hint} (--help shows all options)")


def _parser(description: str) -> argparse.ArgumentParser:
    parser = _Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=None,
        help="settings file, one 'key value' a line; flags win over it",
    )
    types = _types()
    for item in dataclasses.fields(Settings):
        kind = types[item.name]
        text = item.metadata["help"]
        if kind is bool:
            parser.add_argument(f"--{item.name}", action="store_true", help=text)
            continue
        parser.add_argument(
            f"--{item.name}",
            type=kind,
            choices=item.metadata.get("choices"),
            metavar=item.metadata.get("metavar", None if "choices" in item.metadata else "N"),
            help=text,
        )
    return parser
