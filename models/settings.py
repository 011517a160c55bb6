"""Settings of the programs: what they are, where they come from, how they are checked.

Four layers, each over the one before: the program's own constants, the data
set's file in ``models/config``, the file given as an argument, flags.  The
files have the format of the original's ``config.txt``, one ``key value`` a
line, here with comments after ``#``; or they are TOML.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cle_port.console.command_line import Parser, nearest
from cle_port.errors import UserError
from cle_port.graph import GRAPHS, MEMORY
from cle_port.graph.backend import BACKENDS
from cle_port.train import ON_NAN
from cle_port.train.ext import LrCosine, LrExponentialDecay, LrLinearDecay
from cle_port.utils.mrg import M2

CONFIG_FOLDER = Path(__file__).resolve().parent / "config"
LONGEST_FILE = 2**20  # characters
COMMENT = re.compile(r"(^|\s)#.*")  # a path may have a # inside
MAX_SEED = 2**32 - 1  # of NumPy's RandomState
MAX_SIZE = 10**6  # of a layer or a batch: a mistake rather than a model
MAX_COUNT = 10**9  # of updates or epochs
DEMOS = ("blizzard", "iamondb")  # data sets with a built-in demo corpus
RNNS = ("lstm", "gru", "gru2", "gflstm", "gfgru", "simple")  # see models.parts.TRANSITIONS
LAST = "<last>"  # what --resume without a path stands for
Schedule = LrLinearDecay | LrExponentialDecay | LrCosine
# By name: the class, its arguments with their types, and an example.
SCHEDULES: dict[str, tuple[type[Schedule], dict[str, type], str]] = {
    "linear": (LrLinearDecay, {"START": int, "END": int, "FACTOR": float}, "linear:1000:20000:0.1"),
    "exponential": (
        LrExponentialDecay,
        {"FACTOR": float, "MIN_LR": float},
        "exponential:1.001:1e-6",
    ),
    "cosine": (LrCosine, {"WARMUP": int, "END": int, "FACTOR": float}, "cosine:500:20000:0.01"),
}
# Settings that names and shapes of the parameters depend on, and what their numbers mean.
OF_THE_MODEL = (
    "dataset",
    "x_dim",
    "z_dim",
    "num_k",
    "rnn_dim",
    "x2s_dim",
    "z2s_dim",
    "q_z_dim",
    "p_z_dim",
    "p_x_dim",
    "depth",
    "rnn",
    "prior",
    "output",
    "sigmoid",
)
GROUPS = {
    "data": ("dataset", "data_path"),
    "model": OF_THE_MODEL[1:],
    "training": (
        "epoch",
        "max_updates",
        "batch_size",
        "m_batch_size",
        "lr",
        "lr_schedule",
        "clip",
        "kl_anneal",
        "free_bits",
        "patience",
        "reset_freq",
        "on_nan",
        "init_from",
        "seed",
        "noise",
        "mrg_seed",
    ),
    "files and screen": (
        "save_path",
        "trial",
        "monitoring_freq",
        "force_saving_freq",
        "keep",
        "resume",
        "screen",
        "quiet",
    ),
    "machine": (
        "backend",
        "floatX",
        "graph",
        "memory",
        "devices",
        "coordinator",
        "processes",
        "process",
    ),
    "for the original's files": ("sample_path", "debug"),
}


def _setting(default: Any, help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass(frozen=True)
class Settings:
    """Resolved settings of one run; ``--help`` shows what each one means.

    Keys up to ``debug`` are those of the original's ``config.txt``; the widths
    are literals in its scripts; the rest is ours.

    A resumed run has the settings of its checkpoint.  Settings marked
    ``may_change`` may be given anew, because parameters do not depend on them;
    settings marked ``of_call`` are never taken over.
    """

    dataset: str = _setting(
        "blizzard",
        "data set to train on",
        choices=("blizzard", "iamondb", "digits"),
    )
    trial: int = _setting(1, "number in the names of the files written", may_change=True)
    data_path: str | None = _setting(
        None,
        "folder with the data; default is the built-in demo corpus",
        metavar="DIR",
        may_change=True,
    )
    save_path: str | None = _setting(
        None,
        "folder for checkpoints, log and settings; default below runs/, by data set",
        metavar="DIR",
        may_change=True,
    )
    sample_path: str | None = _setting(
        None,
        "accepted for the original's files; models/sample.py has --out",
        metavar="DIR",
        may_change=True,
    )
    monitoring_freq: int = _setting(
        2000, "updates between two monitoring steps", least=1, most=MAX_COUNT, may_change=True
    )
    force_saving_freq: int = _setting(
        10000,
        "updates between two checkpoints to keep (Blizzard, digits)",
        least=1,
        most=MAX_COUNT,
        may_change=True,
    )
    reset_freq: int = _setting(
        4, "updates after which the carried state is zeroed (Blizzard)", least=1, most=MAX_COUNT
    )
    epoch: int = _setting(
        10, "passes through the training data", least=1, most=MAX_COUNT, may_change=True
    )
    batch_size: int = _setting(128, "sequences in a batch", least=1, most=MAX_SIZE)
    m_batch_size: int = _setting(
        1280,
        "sequences in a batch while monitoring (IAM-OnDB takes --batch_size)",
        least=1,
        most=MAX_SIZE,
    )
    x_dim: int = _setting(200, "size of a frame x_t (Blizzard: samples)", least=1, most=MAX_SIZE)
    z_dim: int = _setting(200, "size of the latent variable z_t", least=1, most=MAX_SIZE)
    num_k: int = _setting(20, "components of a Gaussian mixture", least=1, most=MAX_SIZE)
    rnn_dim: int = _setting(4000, "size of the hidden state h_t", least=1, most=MAX_SIZE)
    lr: float = _setting(3e-4, "learning rate of Adam", above=0)
    debug: int = _setting(
        0,
        "accepted for the original's files; shapes are always checked here",
        choices=(0, 1),
        may_change=True,
    )
    x2s_dim: int = _setting(500, "width of the layers on x", least=1, most=MAX_SIZE)
    z2s_dim: int = _setting(500, "width of the layers on z", least=1, most=MAX_SIZE)
    q_z_dim: int = _setting(500, "width of the posterior's layers (phi)", least=1, most=MAX_SIZE)
    p_z_dim: int = _setting(500, "width of the prior's layers", least=1, most=MAX_SIZE)
    p_x_dim: int = _setting(500, "width of the decoder's layers (theta)", least=1, most=MAX_SIZE)
    depth: int = _setting(4, "layers in each of these stacks", least=1, most=1000)
    rnn: str = _setting(
        "lstm",
        "recurrence h_t: the LSTM of the original's scripts, the GRU that the paper names beside "
        "it, or another recurrent layer of cle",
        choices=RNNS,
    )
    prior: str = _setting(
        "recurrent",
        "prior of z_t in the VRNN programs: from h_{t-1}, or N(0, 1) as in the paper's VRNN-I",
        choices=("recurrent", "independent"),
    )
    output: str = _setting(
        "bernoulli",
        "pixels of the VAE's digits: bits, whose probabilities are grey levels, or Gaussians",
        choices=("bernoulli", "gauss"),
    )
    sigmoid: str = _setting(
        "theano",
        "sigmoid and softplus: exactly 0 or 1 (or x) beyond Theano's thresholds, or the plain ones",
        choices=("theano", "plain"),
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
    max_updates: int | None = _setting(
        None, "stop after so many updates", metavar="N", least=1, most=MAX_COUNT, of_call=True
    )
    backend: str = _setting("auto", "compiler to use", choices=BACKENDS, may_change=True)
    graph: str = _setting(
        "fast",
        "rewritings of the graph: PyTensor's and this port's, or PyTensor's only (same numbers, "
        "slower; to learn, to debug, or when a new PyTensor misbehaves)",
        choices=GRAPHS,
        may_change=True,
    )
    memory: str = _setting(
        "kept",
        "working memory on JAX: keep it between updates (a fifth faster), or not",
        choices=MEMORY,
        may_change=True,
    )
    devices: int = _setting(
        1,
        "devices that share each batch, in all processes together (docs/devices.md)",
        least=1,
        most=MAX_SIZE,
        may_change=True,
    )
    coordinator: str | None = _setting(
        None,
        "train with other processes: address of process 0, or auto (docs/devices.md)",
        metavar="HOST:PORT",
        of_call=True,
    )
    processes: int | None = _setting(
        None,
        "number of processes, with --coordinator",
        metavar="N",
        least=1,
        most=MAX_SIZE,
        of_call=True,
    )
    process: int | None = _setting(
        None,
        "number of this process, from 0, with --coordinator",
        metavar="I",
        least=0,
        most=MAX_SIZE,
        of_call=True,
    )
    floatX: str = _setting("float32", "precision", choices=("float32", "float64"))
    quiet: bool = _setting(False, "print only warnings and errors", of_call=True)
    keep: int = _setting(
        0,
        "how many of the last checkpoints to keep beside the newest",
        least=0,
        most=MAX_COUNT,
        may_change=True,
    )
    on_nan: str = _setting(
        "stop",
        "what to do with an update that is not finite: stop before it, skip it, or what the "
        "original does",
        choices=ON_NAN,
        may_change=True,
    )
    screen: str = _setting(
        "short",
        "what a monitoring step prints: a few lines, or the original's block",
        choices=("short", "original"),
        may_change=True,
    )
    lr_schedule: str | None = _setting(
        None,
        "let the learning rate fall: linear:START:END:FACTOR (between two updates, to FACTOR "
        "times --lr), cosine:WARMUP:END:FACTOR (first a rise over WARMUP updates), or "
        "exponential:FACTOR:MIN_LR (divided by FACTOR after each update)",
        metavar="SCHEDULE",
    )
    kl_anneal: int | None = _setting(
        None,
        "let the weight of the KL term in the trained cost rise from 0 to 1 over the first N "
        "updates, if z is not used otherwise; the monitored bound stays the bound",
        metavar="N",
        least=1,
        most=2**24,
    )
    free_bits: float = _setting(
        0.0,
        "nats a frame that each dimension of z may tell about x without a cost in training, if "
        "z is not used otherwise; such as 0.05",
        least=0,
        below=math.inf,
    )
    clip: float = _setting(
        5.0,
        "greatest norm of all gradients together; larger ones are scaled down",
        above=0,
    )
    patience: int | None = _setting(
        None,
        "end the run after N monitoring steps without a better validation bound",
        metavar="N",
        least=1,
        most=MAX_COUNT,
        may_change=True,
    )
    init_from: str | None = _setting(
        None,
        "start from the parameters of a checkpoint and the settings of its model, for instance "
        "to go on with other data; log, moments and learning rate start anew",
        metavar="CHECKPOINT",
    )
    resume: str | None = _setting(
        None,
        "go on from a checkpoint, with its settings; without a path from the run's last one",
        metavar="PATH",
        const=LAST,
        of_call=True,
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        if self.noise != "mrg" and self.mrg_seed is not None:
            raise UserError(f"mrg_seed is {self.mrg_seed}; it needs --noise mrg")
        if self.noise == "mrg" and self.mrg_seed is None and not 1 <= self.seed < M2:
            raise UserError(
                f"seed is {self.seed}, which --noise mrg cannot take; give it a --mrg_seed"
            )
        schedule_of(self.lr_schedule)  # refuses what is no schedule

    def as_text(self) -> str:
        """Settings of `as_dict` in the format of ``--config``, one ``key value`` a line."""
        return "".join(
            f"{key} {value}\n" for key, value in self.as_dict().items() if value is not None
        )

    def as_dict(self) -> dict[str, Any]:
        """Settings by key, without ``resume``: another run with them starts anew."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "resume"}


def _check(key: str, value: Any, limits: Mapping[str, Any]) -> None:
    if value is None:
        return
    if "choices" in limits and value not in limits["choices"]:
        options = ", ".join(str(choice) for choice in limits["choices"])
        near = nearest(str(value), map(str, limits["choices"]))
        hint = f"; did you mean {near}?" if near else ""
        raise UserError(f"{key} is {value!r}; choose one of: {options}{hint}")
    if value == "":
        raise UserError(f"{key} is empty; give a path or leave it out")
    if isinstance(value, str) and not value.isprintable():
        raise UserError(f"{key} is {value!r}; give one without control characters")
    if "least" in limits and value < limits["least"]:
        raise UserError(f"{key} is {value}; it must be at least {limits['least']}")
    if "most" in limits and value > limits["most"]:
        raise UserError(f"{key} is {value}; it must be at most {limits['most']}")
    if "above" in limits and not limits["above"] < value < math.inf:
        raise UserError(f"{key} is {value}; it must be a number above {limits['above']}")
    if "below" in limits and not value < limits["below"]:  # also NaN
        raise UserError(f"{key} is {value}; it must be a number below {limits['below']}")


def schedule_of(text: str | None, lr: float = math.inf) -> Schedule | None:
    """Return the extension that ``--lr_schedule`` names, or None.

    Parameters
    ----------
    text : str or None
        Such as ``linear:1000:5000:0.1``.
    lr : float
        The learning rate that it begins with.

    Raises
    ------
    UserError
        If it is no schedule, or one by which the learning rate would rise above ``lr``.
    """
    if text is None:
        return None
    name, *words = text.split(":")
    if name not in SCHEDULES:
        *forms, last = (
            f"{':'.join([key, *arguments])} (such as {example})"
            for key, (_, arguments, example) in SCHEDULES.items()
        )
        raise UserError(f"lr_schedule is {text!r}; write {', '.join(forms)} or {last}")
    kind, arguments, example = SCHEDULES[name]
    form = ":".join([name, *arguments])
    try:
        schedule = kind(*_numbers(words, arguments))
        _check_falls(schedule, lr)
    except ValueError as error:
        raise UserError(
            f"lr_schedule is {text!r}: {error} (write {form}, such as {example})"
        ) from error
    return schedule


def _numbers(words: Sequence[str], arguments: Mapping[str, type]) -> list[Any]:
    if len(words) != len(arguments):
        raise ValueError(f"it has {len(words)} arguments, not {len(arguments)}")
    numbers = []
    for (argument, kind), word in zip(arguments.items(), words):
        try:
            number = kind(word)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{argument} is {word[:40]!r}; it must be {what}") from None
        if not abs(number) < math.inf:  # also NaN
            raise ValueError(f"{argument} is {word[:40]}; it must be finite")
        if abs(number) > MAX_COUNT:
            raise ValueError(f"{argument} is {word[:40]}; it must be at most {MAX_COUNT}")
        numbers.append(number)
    return numbers


def _check_falls(schedule: Schedule, lr: float) -> None:
    """Refuse a factor that is meant for the other kind of schedule: the rate would rise."""
    factor = schedule.decay_factor
    if not isinstance(schedule, LrExponentialDecay):
        if factor > 1:
            raise ValueError(f"FACTOR is {factor:g}; the rate ends at FACTOR times lr, give 0 to 1")
    elif factor <= 1:
        raise ValueError(f"FACTOR is {factor:g}; the rate is divided by it, give one above 1")
    elif not 0 <= schedule.min_lr < lr:
        raise ValueError(f"MIN_LR is {schedule.min_lr:g}; give 0 or more, less than lr, {lr:g}")


def _types() -> dict[str, type]:
    """Type of each setting's value, by key."""
    by_name = {"int": int, "float": float, "str": str, "bool": bool}
    return {
        item.name: by_name[str(item.type).split(" | ")[0]] for item in dataclasses.fields(Settings)
    }


def parse(
    argv: Sequence[str],
    description: str,
    constants: Mapping[str, Mapping[str, Any]],
    saved: Mapping[str, Any] | None = None,
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
        The first data set is the default.
    saved : mapping, optional
        Settings of the checkpoint that is resumed, or of the model that the run starts
        from.  They override the data set's file; what the user gives overrides them.

    Returns
    -------
    Settings

    Raises
    ------
    UserError
        If a file, a key or a value is wrong.
    """
    flags = vars(_parser(description, constants).parse_args(argv))
    config, last = flags.pop("config"), flags.pop("config_file")
    if config is not None and last is not None:
        raise UserError(f"two settings files are given, {config} and {last}; give one")
    config = last if config is None else config
    from_user = {**(read_config(config) if config is not None else {}), **flags}
    from_checkpoint = taken_over(saved or {})
    given = {"dataset": next(iter(constants)), **from_checkpoint, **from_user}
    dataset, data_path = given["dataset"], given.get("data_path")
    if dataset not in constants:
        raise UserError(
            f"dataset is {dataset!r}; choose one that this program has: {', '.join(constants)}"
        )
    demo = dataset in DEMOS and not data_path
    return Settings(**{**constants[dataset], **_of_dataset(dataset, demo), **given})


def _of_dataset(dataset: str, demo: bool) -> dict[str, Any]:
    """Settings of the data set's file, if it has one."""
    own = CONFIG_FOLDER / f"{dataset}{'_demo' if demo else ''}.txt"
    return read_config(own) if own.is_file() else {}


def taken_over(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a checkpoint's settings that a resumed run has, too.

    Raises
    ------
    UserError
        If there are some that this program does not know, or of a wrong type.
    """
    types = _types()
    for key, value in saved.items():
        if key not in types or not (value is None or type(value) is types[key]):
            raise UserError(
                f"the checkpoint has {key[:40]} {value!r:.40}, which is no setting of this "
                "program; resume with the version that wrote it"
            )
    marks = {item.name: item.metadata for item in dataclasses.fields(Settings)}
    return {key: value for key, value in saved.items() if "of_call" not in marks[key]}


def settings_of_model(saved: Mapping[str, Any]) -> dict[str, str | int]:
    """Those of a checkpoint's settings that its parameters depend on, as far as it has them.

    Raises
    ------
    UserError, TypeError, AttributeError
        If one has a value that it cannot have.
    """
    types = _types()
    limits = {item.name: item.metadata for item in dataclasses.fields(Settings)}
    of_model = {key: value for key, value in saved.items() if key in OF_THE_MODEL}
    for key, value in of_model.items():
        if type(value) is not types[key]:
            raise TypeError(f"its {key} is {value!r:.40}")
        _check(key, value, limits[key])
    return of_model


def check_same_model(of_model: Mapping[str, str | int], args: Settings) -> None:
    """Make sure that a run has the model of the checkpoint that it starts from.

    Parameters
    ----------
    of_model : mapping
        From `settings_of_model`.
    args : Settings
        Those of the run: the checkpoint's, unless the user gave others.

    Raises
    ------
    UserError
        If the user gave others.
    """
    different = [
        key
        for key, value in of_model.items()
        if getattr(args, key) != value
        and key != "sigmoid"  # its two kinds have the same parameters
    ]
    if different:
        facts = (f"{key} is {getattr(args, key)}, but {of_model[key]} there" for key in different)
        raise UserError(
            f"the parameters of {args.init_from} do not fit: {'; '.join(facts)}; leave out "
            f"{', '.join(different)} (the checkpoint decides), or start without --init_from"
        )


def check_changes(saved: Mapping[str, Any], args: Settings) -> dict[str, str]:
    """Compare the settings of a resumed run with its checkpoint's.

    Parameters
    ----------
    saved : mapping
        Settings that the checkpoint was written with.
    args : Settings
        Those that the run would have.

    Returns
    -------
    dict of str to str
        By key, what may change and does: ``new (checkpoint: old)``.

    Raises
    ------
    UserError
        If one has changed that parameters depend on.
    """
    allowed: dict[str, str] = {}
    refused = []
    for item in dataclasses.fields(Settings):
        new, key = getattr(args, item.name), item.name
        old = saved.get(key, item.default)  # a setting that is newer than the checkpoint
        if "of_call" in item.metadata or old == new or _same_file(key, old, new):
            continue
        allowed[key] = f"{new} (checkpoint: {old})"
        if "may_change" not in item.metadata:
            refused.append(f"{key} is {new}, the checkpoint has {old}")
    if refused:
        raise UserError(
            f"{'; '.join(refused)}: a resumed run must go on with the checkpoint's settings; "
            "leave these out, or start a new run with another --trial or --save_path"
        )
    return allowed


def _same_file(key: str, old: Any, new: Any) -> bool:
    """Whether two spellings of ``--init_from`` name one file."""
    return key == "init_from" and bool(old and new) and Path(old).resolve() == Path(new).resolve()


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a file of ``key value`` lines.

    Parameters
    ----------
    path : path
        Text in the format of the original's ``config.txt``, or TOML if its name ends
        in ``.toml``.

    Returns
    -------
    dict of str to int, float, str or bool

    Raises
    ------
    UserError
        If the file cannot be read, or has an unknown or repeated key or a value of
        the wrong type; the message names file, line and fix.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(LONGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the settings file {path} ({error}); give the path of one, or see --help"
        ) from error
    if len(text) > LONGEST_FILE:
        raise UserError(
            f"the settings file {path} is longer than {LONGEST_FILE} characters; give another, "
            "or see --help"
        )
    return _of_toml(text, path) if Path(path).suffix.lower() == ".toml" else _of_lines(text, path)


def _of_lines(text: str, path: str | Path) -> dict[str, Any]:
    """Settings of the original's format, one ``key value`` a line."""
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


def _of_toml(text: str, path: str | Path) -> dict[str, Any]:
    """Settings of a TOML file; tables only group them."""
    try:
        leaves = list(_leaves(tomllib.loads(text)))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no TOML ({error}); correct it, or see --help") from error
    values: dict[str, Any] = {}
    for key, value in leaves:
        wanted = _type_of(key, str(path))
        if key in values:
            raise UserError(f"{path}: {key} is given twice; remove one")
        if wanted is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if type(value) is not wanted:
            raise UserError(f"{path}: {key} is {value!r:.40}; it must be {_article(wanted)}")
        values[key] = value
    return values


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield key, value


def _type_of(key: str, where: str) -> type:
    types = _types()
    if key not in types:
        near = nearest(key, types)
        hint = f"did you mean {near}?" if near else f"known keys: {', '.join(types)}"
        raise UserError(f"{where}: unknown key {key!r}; {hint}")
    return types[key]


def _article(wanted: type) -> str:
    return {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "text in quotes",
    }[wanted.__name__]


def _convert(key: str, text: str, where: str) -> Any:
    wanted = _type_of(key, where)
    if wanted is bool:
        if text not in ("True", "False", "1", "0"):
            raise UserError(f"{where}: {key} is {text!r}; it must be 1 or 0")
        return text in ("True", "1")
    try:
        return wanted(text)
    except ValueError:
        raise UserError(f"{where}: {key} is {text!r}; it must be {_article(wanted)}") from None


def _parser(
    description: str, constants: Mapping[str, Mapping[str, Any]]
) -> argparse.ArgumentParser:
    parser = Parser(
        description=description,
        epilog="Values in brackets are the defaults; those that depend on the data set come from\n"
        "this program and models/config.  docs/settings.md explains more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "config_file",
        metavar="FILE",
        nargs="?",
        default=None,
        help="settings file, as the original takes it: the same as --config FILE",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=None,
        help="settings file, one 'key value' a line, or TOML if its name ends in .toml (flat keys; "
        "tables only group them); flags win over it",
    )
    types = _types()
    fields = {item.name: item for item in dataclasses.fields(Settings)}
    defaults = _defaults(constants)
    for title, keys in GROUPS.items():
        group = parser.add_argument_group(title)
        for key in keys:
            _add_flag(group, fields[key], types[key], defaults)
    return parser


def _add_flag(
    group: Any, item: dataclasses.Field, kind: type, defaults: Mapping[str, list[dict[str, Any]]]
) -> None:
    """Add the flag of one setting; its help ends with its default, of `_defaults`."""
    limits = item.metadata
    text = limits["help"].replace("%", "%%")
    if kind is bool:
        group.add_argument(f"--{item.name}", action="store_true", help=text)
        return
    choices = tuple(defaults) if item.name == "dataset" else limits.get("choices")
    default = next(iter(defaults)) if item.name == "dataset" else _default(item.name, defaults)
    group.add_argument(
        f"--{item.name}",
        type=kind,  # the choices are checked with those of files
        metavar=f"{{{','.join(map(str, choices))}}}" if choices else limits.get("metavar", "N"),
        **({"nargs": "?", "const": limits["const"]} if "const" in limits else {}),
        help=f"{text} [{default}]" if default else text,
    )


def _defaults(constants: Mapping[str, Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Defaults of all settings by data set: with data of the user's own, and of the demo."""
    common = {item.name: item.default for item in dataclasses.fields(Settings)}
    return {
        dataset: [
            {**common, **own, **_of_dataset(dataset, demo)}
            for demo in ((False, True) if dataset in DEMOS else (False,))
        ]
        for dataset, own in constants.items()
    }


def _default(key: str, defaults: Mapping[str, list[dict[str, Any]]]) -> str:
    """Default of a setting as text: one, or those of the data sets; nothing if it is None."""
    by_data = {dataset: [values[key] for values in both] for dataset, both in defaults.items()}
    if len({value for values in by_data.values() for value in values}) == 1:
        (value, *_) = by_data[next(iter(by_data))]
        return "" if value is None else _short(value)
    texts = {
        dataset: " (demo ".join(dict.fromkeys(map(_short, values))) + ")" * (len(set(values)) - 1)
        for dataset, values in by_data.items()
    }
    return ", ".join(f"{dataset} {text}" for dataset, text in texts.items())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
