"""Generate speech or handwriting from a checkpoint of any of the programs.

At each time step a VRNN draws z_t from the prior (5), x_t from the decoder (6)
and moves its state on (7); an RNN draws x_t from its output (2) and moves on
(1).  The equations themselves stand in ``models/vrnn_gmm.py`` and
``models/rnn_gmm.py``.

Examples
--------
Ten samples, the same at a lower temperature, and going on from real data::

    python models/sample.py runs/blizzard_demo/vrnn_gmm_1_best.npz
    python models/sample.py runs/blizzard_demo/vrnn_gmm_1_best.npz --temperature 0.7
    python models/sample.py runs/iamondb_demo/vrnn_gmm_1_best.npz --prime 5 --length 300

docs/sampling.md shows what is written.

Counterpart: ``models/blizzard/sample_vrnn_gauss.py``, for that model only.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray
from pytensor.tensor.variable import TensorVariable
from scipy.io import wavfile
from scipy.signal import spectrogram

from cle_port import checkpoint
from cle_port.backend import BACKENDS, choose, compile_function
from cle_port.command_line import Parser, ended
from cle_port.errors import UserError
from cle_port.files import write
from cle_port.progress import elapsed_time, progress_bar
from cle_port.train.ext import make_folder
from cle_port.utils import zipp
from datasets.iamondb_utils import write_svg
from models.parts import Init, flat
from models.program import noise_for, open_blizzard, open_iamondb, set_up
from models.rnn_gauss import RNN_Gauss
from models.rnn_gmm import RNN_GMM
from models.settings import Settings
from models.vrnn_gauss import VRNN_Gauss
from models.vrnn_gmm import VRNN_GMM

Net = RNN_GMM | VRNN_GMM
NETS: dict[str, type[RNN_GMM] | type[VRNN_GMM]] = {
    "rnn_gauss": RNN_Gauss,
    "rnn_gmm": RNN_GMM,
    "vrnn_gauss": VRNN_Gauss,
    "vrnn_gmm": VRNN_GMM,
}
LENGTHS = {"blizzard": 160, "iamondb": 600}  # the original's; about a line of IAM-OnDB
CHUNK = 40  # time steps that one call generates
SAMPLE_RATE = 16000
INT16 = np.iinfo(np.int16)
WINDOW = 256  # samples of a spectrum: 16 ms


class Noise(NamedTuple):
    """What one call of a generating function draws from, all floatX.

    Attributes
    ----------
    z : ndarray, shape (T, B, noise_dim of the model)
        Standard normal, times the temperature.
    x : ndarray, shape (T, B, noise_dim of the decoder)
        Likewise.
    u : ndarray, shape (T, B, 2)
        Uniform on [0, 1): for the mixture's component and for the pen bit.
    """

    z: Any
    x: Any
    u: Any


class Sequences(NamedTuple):
    """Validation data as the models see it.

    Attributes
    ----------
    x : ndarray, shape (T, B, x_dim), floatX
    lengths : ndarray of int, shape (B,)
        Frames of each sequence that are not padding.
    """

    x: NDArray
    lengths: NDArray

    def lines(self, x: NDArray) -> list[NDArray]:
        """Cut frames of the same shape into sequences, each (length, x_dim)."""
        return [x[:length, b] for b, length in enumerate(self.lengths)]


class Data(NamedTuple):
    """What generating needs of a data set.

    Attributes
    ----------
    X_mean, X_std : scalar
        Statistics that undo the normalisation.
    first : callable
        Takes a number, returns so many validation sequences.
    """

    X_mean: ArrayLike
    X_std: ArrayLike
    first: Callable[[int], Sequences]


# --- the model ------------------------------------------------------------------------------


def load_model(path: str | Path) -> tuple[str, Settings, Net]:
    """Build the model that a checkpoint is of, with its parameters.

    Sets ``pytensor.config.floatX`` to the checkpoint's.

    Parameters
    ----------
    path : path
        Written by one of the programs.

    Returns
    -------
    name : str
        Of the program, such as ``'vrnn_gmm'``.
    args : Settings
        With which it was trained.
    net : Net

    Raises
    ------
    UserError
        If the file is missing, no checkpoint, damaged, of a model that is not
        known, or its parameters are not those that its settings ask for.
    """
    arrays, meta = checkpoint.load(path)
    try:
        name = meta["program"].rpartition("_")[0]
        make_net = NETS[name]
        args = Settings(**meta["settings"])
        names = set(meta["params"])
        pytensor.config.floatX = args.floatX
        net = make_net(args, Init(None, sum(array.size for array in arrays.values())))
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a checkpoint of {', '.join(NETS)} ({reason}); give one that these wrote"
        ) from error
    check_params(path, {key: arrays[key] for key in arrays if key in names}, net)
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


def generation_fn(
    net: Net,
    batch_size: int,
    n_steps: int,
    gmm: str = "sample",
    temperature: float = 1.0,
    backend: str = "auto",
) -> Callable[..., list[Any]]:
    """Compile generation.

    Parameters
    ----------
    net : Net
    batch_size, n_steps : int
        Sequences, and time steps of one call.
    gmm, temperature
        See `models.parts.Decoder.sample`.  Normal noise is scaled by the
        temperature where it is drawn, in `draw_noise`.
    backend : str
        See `cle_port.backend`.

    Returns
    -------
    callable
        Takes the state s_0 of shape (B, 2 rnn_dim) and the fields of `Noise`;
        returns the last state, and frames and their means, both of shape
        (T, B, x_dim).

    Notes
    -----
    Counterpart: ``test_fn`` of ``models/blizzard/sample_vrnn_gauss.py``.
    """

    def symbol(name: str, *shape: int) -> TensorVariable:
        return pt.tensor(name, dtype=pytensor.config.floatX, shape=shape)

    s_0 = symbol("s_0", batch_size, net.rnn.state_dim)
    noise = Noise(
        symbol("eps_z", n_steps, batch_size, net.noise_dim),
        symbol("eps_x", n_steps, batch_size, net.theta.noise_dim),
        symbol("u", n_steps, batch_size, 2),
    )

    def inner_fn(
        eps_z_t: TensorVariable, eps_x_t: TensorVariable, u_t: TensorVariable, s_tm1: TensorVariable
    ) -> list[TensorVariable]:
        return net.generate_fn(
            eps_z_t, s_tm1, lambda v: net.theta.sample(v, eps_x_t, u_t, gmm, temperature)
        )

    s, x, mean = pytensor.scan(
        fn=inner_fn,
        sequences=list(noise),
        outputs_info=[s_0, None, None],
        n_steps=n_steps,
        return_updates=False,
    )
    return compile_function([s_0, *noise], [s[-1], x, mean], None, backend)


def draw_noise(
    net: Net, rng: np.random.Generator, n_steps: int, batch_size: int, temperature: float = 1.0
) -> Noise:
    """Draw what one call of `generation_fn` takes.

    Normal noise is multiplied by the temperature: the same as if the standard
    deviations of prior and decoder were.
    """
    dtype: Any = np.dtype(pytensor.config.floatX)
    shape = (n_steps, batch_size)
    scale = dtype.type(temperature)
    return Noise(
        scale * rng.standard_normal((*shape, net.noise_dim), dtype=dtype),
        scale * rng.standard_normal((*shape, net.theta.noise_dim), dtype=dtype),
        rng.random((*shape, 2), dtype=dtype),
    )


def generate(
    net: Net,
    rng: np.random.Generator,
    length: int,
    s_0: NDArray,
    *,
    gmm: str = "sample",
    temperature: float = 1.0,
    backend: str = "auto",
    quiet: bool = False,
) -> tuple[NDArray, NDArray]:
    """Generate sequences.

    Parameters
    ----------
    net : Net
    rng : numpy.random.Generator
        Where all noise comes from.
    length : int
        Time steps.
    s_0 : ndarray, shape (B, 2 rnn_dim)
        State before the first of them.
    gmm, temperature, backend
        See `generation_fn`.
    quiet : bool
        No progress bar.

    Returns
    -------
    x, mean : ndarray, shape (length, B, x_dim), floatX
        Frames, and the means that they were drawn around.

    Raises
    ------
    UserError
        If the frames grow beyond all numbers.
    """
    n_steps = min(length, CHUNK)
    with elapsed_time("Compiling the generation", quiet):
        fn = generation_fn(net, len(s_0), n_steps, gmm, temperature, backend)
    s, frames, means = s_0, [], []
    with progress_bar(length, "generating", "step", quiet) as bar:
        for start in range(0, length, n_steps):
            s, x, mean = fn(s, *draw_noise(net, rng, n_steps, len(s_0), temperature))
            frames.append(np.asarray(x))
            means.append(np.asarray(mean))
            if not np.isfinite(frames[-1]).all():
                raise UserError(
                    f"the generated frames grow beyond all numbers within {start + n_steps} "
                    "steps; lower --temperature or give a checkpoint that was trained longer"
                )
            bar.update(min(n_steps, length - start))
    return np.concatenate(frames)[:length], np.concatenate(means)[:length]


def through_model(
    net: Net,
    x: NDArray,
    rng: np.random.Generator,
    output: Callable[[dict[str, TensorVariable]], TensorVariable],
    backend: str = "auto",
) -> NDArray:
    """Run real data through the model, z drawn from the posterior.

    Parameters
    ----------
    net : Net
    x : ndarray, shape (T, B, x_dim), floatX
    rng : numpy.random.Generator
    output : callable
        Takes what ``net.fprop`` returns, returns what is wanted.
    backend : str

    Returns
    -------
    ndarray
    """
    symbol = pt.tensor("x", dtype=x.dtype, shape=x.shape)
    eps = noise_for(symbol, net)
    v = net.fprop(symbol, net.rnn.get_init_state(x.shape[1]), *eps)
    fn = compile_function([symbol, *eps], output(v), None, backend)
    return np.asarray(fn(x, *(draw_noise(net, rng, *x.shape[:2]).z for _ in eps)))


def state_after(
    net: Net, data: Sequences, rng: np.random.Generator, backend: str = "auto"
) -> NDArray:
    """State after the last frame of each sequence, shape (B, 2 rnn_dim)."""
    s = through_model(net, data.x, rng, lambda v: v["s"], backend)
    return s[data.lengths - 1, np.arange(s.shape[1])]


def reconstruct(
    net: Net, data: Sequences, rng: np.random.Generator, backend: str = "auto"
) -> NDArray:
    """Means of x from z of the posterior, shape (T, B, x_dim).

    Of a mixture the most probable component's; the pen is up where that is
    more probable than not.
    """

    def output(v: dict[str, TensorVariable]) -> TensorVariable:
        n_steps, batch_size, x_dim = data.x.shape
        theta = {node.name: flat(v[node.name]) for node in net.theta.heads}
        rows, dtype = n_steps * batch_size, data.x.dtype
        no_noise = pt.zeros((rows, net.theta.noise_dim), dtype=dtype)
        even = pt.full((rows, 2), np.asarray(0.5, dtype=dtype))
        _, mean = net.theta.sample(theta, no_noise, even, "argmax")
        return mean.reshape((n_steps, batch_size, x_dim))

    return through_model(net, data.x, rng, output, backend)


# --- data and files -------------------------------------------------------------------------


def open_data(args: Settings) -> Data:
    """Open what the model was trained on: statistics and validation data.

    Raises
    ------
    UserError
        If it is missing or unusable.
    """
    if args.dataset == "iamondb":
        lines = open_iamondb(args)

        def first_lines(number: int) -> Sequences:
            _check_number(number, lines.valid.num_examples())
            x, mask = lines.valid.slices(0, number)
            return Sequences(x, mask.sum(axis=0).astype(int))

        return Data(lines.train.X_mean, lines.train.X_std, first_lines)

    rows = open_blizzard(args)
    start, end = rows.rows.valid_start, rows.rows.valid_end

    def first_rows(number: int) -> Sequences:
        _check_number(number, end - start)
        (x,) = rows.valid.slices(start, start + number)
        return Sequences(x, np.full(number, len(x)))

    return Data(rows.valid.X_mean, rows.valid.X_std, first_rows)


def _check_number(number: int, available: int) -> None:
    if number > available:
        raise UserError(
            f"{number} validation sequences are asked for, but there are {available}; ask for less"
        )


def denormalize(x: NDArray, X_mean: ArrayLike, X_std: ArrayLike) -> NDArray:
    """Undo the normalisation of the data, in the precision of ``x``."""
    return x * np.asarray(X_std, dtype=x.dtype) + np.asarray(X_mean, dtype=x.dtype)


def as_wave(samples: NDArray) -> NDArray[np.int16]:
    """Samples as 16 bit integers: cut off as in the original, but clipped, not wrapped."""
    return np.clip(samples, INT16.min, INT16.max).astype(np.int16)


def as_strokes(x: NDArray, X_mean: ArrayLike, X_std: ArrayLike) -> dict[str, NDArray]:
    """Pen bits (int8) and offsets in the data's unit, by name, from frames of shape (T, 3)."""
    offsets = denormalize(x[:, 1:], X_mean, X_std)
    return {"pen": x[:, 0].astype(np.int8), "dx": offsets[:, 0], "dy": offsets[:, 1]}


def as_points(strokes: dict[str, NDArray]) -> NDArray:
    """Points (T + 1, 3) of pen-up bit, x and y, from (0, 0) on, for `write_svg`."""
    steps = np.stack([strokes["pen"], strokes["dx"], strokes["dy"]], axis=1).astype(float)
    steps[:, 1:] = np.cumsum(steps[:, 1:], axis=0)
    return np.concatenate([np.zeros((1, 3)), steps])


def write_waves(start: Path, sequences: Sequence[NDArray], data: Data, quiet: bool) -> list[Path]:
    """Write ``<start>_<i>.wav`` and, with matplotlib, ``<start>_<i>.png``.

    Parameters
    ----------
    start : Path
        First part of the files' names.
    sequences : list of ndarray, each (T, x_dim)
        Normalised frames.
    data : Data
    quiet : bool

    Returns
    -------
    list of Path
        What was written.
    """
    written = []
    with progress_bar(len(sequences), "writing", "file", quiet) as bar:
        for i, frames in enumerate(sequences):
            wave = as_wave(denormalize(frames, data.X_mean, data.X_std).reshape(-1))
            buffer = io.BytesIO()
            wavfile.write(buffer, SAMPLE_RATE, wave)
            path = start.with_name(f"{start.name}_{i}.wav")
            write(path, buffer.getvalue())
            written.append(path)
            if has_matplotlib():
                write(path.with_suffix(".png"), wave_picture(wave))
                written.append(path.with_suffix(".png"))
            bar.update()
    return written


def write_pens(
    start: Path, names: Sequence[str], lines: Sequence[NDArray], captions: Sequence[str], data: Data
) -> list[Path]:
    """Write ``<name>.npz`` of each line, ``<start>.svg`` and, with matplotlib, ``<start>.png``.

    Parameters
    ----------
    start : Path
        Folder and name of the drawing.
    names : list of str
        Names of the lines' files in that folder.
    lines : list of ndarray, each (T, 3)
        Pen bits and normalised offsets.
    captions : list of str
        What stands above each line.
    data : Data

    Returns
    -------
    list of Path
        What was written.
    """
    written, drawing = [], []
    for name, frames in zip(names, lines):
        strokes = as_strokes(frames, data.X_mean, data.X_std)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **strokes)
        written.append(start.with_name(f"{name}.npz"))
        write(written[-1], buffer.getvalue())
        drawing.append(as_points(strokes))
    written.append(start.with_name(f"{start.name}.svg"))
    write_svg(written[-1], drawing, captions)
    if has_matplotlib():
        written.append(start.with_name(f"{start.name}.png"))
        write(written[-1], pen_picture(drawing, captions))
    return written


def has_matplotlib() -> bool:
    """Say whether pictures can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def wave_picture(wave: NDArray[np.int16]) -> bytes:
    """Waveform above spectrogram (dB), a PNG."""
    from matplotlib.figure import Figure

    seconds = len(wave) / SAMPLE_RATE
    size = min(WINDOW, len(wave))
    _, _, power = spectrogram(wave.astype(float), SAMPLE_RATE, nperseg=size, noverlap=3 * size // 4)
    level = 10 * np.log10(power + 1e-6)  # far below one step of the 16 bits
    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, linewidth=0.5)
    above.set_ylabel("sample")
    below.imshow(
        level,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, SAMPLE_RATE / 2000),
        vmin=level.max() - 80,
        cmap="magma",
    )
    below.set_ylabel("kHz")
    below.set_xlabel("seconds")
    return _png(figure)


def pen_picture(lines: Sequence[NDArray], captions: Sequence[str]) -> bytes:
    """Lines of handwriting below each other in one scale, a PNG.

    Parameters
    ----------
    lines : sequence of ndarray, each (points, 3)
        From `as_points`.
    captions : list of str
    """
    from matplotlib.figure import Figure

    width = max(max(float(np.ptp(line[:, 1])) for line in lines), 1.0)
    gap = width / 30  # between two lines, for the caption
    figure = Figure(layout="constrained")
    ax = figure.add_subplot()
    top = 0.0
    for line, caption in zip(lines, captions):
        ax.text(0, top, caption, fontsize=7, color="#888888", verticalalignment="bottom")
        drawn = line[:, 1:] + [-line[:, 1].min(), top - line[:, 2].max()]
        for stroke in np.split(drawn, np.flatnonzero(line[:, 0] > 0.5) + 1):
            ax.plot(stroke[:, 0], stroke[:, 1], color="#112233", linewidth=1)
        top -= float(np.ptp(line[:, 2])) + gap
    ax.set_aspect("equal")
    ax.margins(0.02)
    ax.set_axis_off()
    figure.set_size_inches(10, min(10 * (gap - top) / width, 100))
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


# --- the program ----------------------------------------------------------------------------


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises
    ------
    UserError
        If an option is unknown or its value is wrong.
    """
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT.npz", type=Path, help="written by a training program")
    add("--number", type=int, default=10, metavar="N", help="samples (default 10)")
    add(
        "--length",
        type=int,
        metavar="N",
        help="time steps of a sample (default 160 frames of Blizzard, 600 points of IAM-OnDB)",
    )
    add("--seed", type=int, default=1, metavar="N", help="of all noise (default 1)")
    add(
        "--mean",
        action="store_true",
        help="write the means that x_t was drawn around, as the original does, not the draws",
    )
    add(
        "--gmm",
        choices=("sample", "argmax", "mean"),
        default="sample",
        help="mixtures: draw a component, take the most probable one, or draw one and write its "
        "mean (the same as --mean)",
    )
    add(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 more regular, above 1 more varied (default 1)",
    )
    add("--prime", type=int, metavar="N", help="go on from N validation sequences instead")
    add(
        "--reconstruct",
        action="store_true",
        help="VRNN: write validation sequences and their means given z of the posterior",
    )
    add("--data_path", metavar="DIR", help="folder with the data, if not where training found it")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the samples (default: the folder samples beside the checkpoint)",
    )
    add("--backend", choices=BACKENDS, default="auto", help="compiler to use")
    add("--quiet", action="store_true", help="print nothing but errors")
    options = parser.parse_args(argv)
    for key, least in (("number", 1), ("length", 1), ("prime", 1), ("seed", 0)):
        value = getattr(options, key)
        if value is not None and value < least:
            raise UserError(f"--{key} is {value}; it must be at least {least}")
    if not 0 < options.temperature < math.inf:
        raise UserError(f"--temperature is {options.temperature}; it must be a number above 0")
    if options.prime and options.reconstruct:
        raise UserError("--prime and --reconstruct are two things; give one of them")
    choose(options.backend)
    return options


def sample(options: argparse.Namespace) -> list[Path]:
    """Generate and write what the options ask for.

    Parameters
    ----------
    options : argparse.Namespace
        From `parse`.

    Returns
    -------
    list of Path
        Files written.

    Raises
    ------
    UserError
        If the checkpoint, the data or the options are unusable.
    """
    name, args, net = load_model(options.checkpoint)
    if options.reconstruct and not net.noise_dim:
        raise UserError(f"{name} has no latent variable to reconstruct from; leave --reconstruct")
    args = dataclasses.replace(
        args, quiet=options.quiet, data_path=options.data_path or args.data_path
    )
    set_up(args)
    # Not the sample_path of the settings: a checkpoint from elsewhere may name any folder.
    folder = options.out or options.checkpoint.parent / "samples"
    out = make_out_folder(Path(folder)) / options.checkpoint.stem
    data = open_data(args)
    rng = np.random.Generator(np.random.PCG64(options.seed))

    if options.reconstruct:
        real = data.first(options.number)
        with elapsed_time("Reconstructing", options.quiet):
            means = reconstruct(net, real, rng, options.backend)
        return write_pairs(out, args, real.lines(real.x), real.lines(means), data, options.quiet)

    s_0 = np.zeros((options.number, net.rnn.state_dim), dtype=args.floatX)
    before: list[NDArray] = []
    if options.prime:
        real = data.first(options.prime)
        before = real.lines(real.x)
        with elapsed_time("Listening to real data", options.quiet):
            s_0 = state_after(net, real, rng, options.backend)
    x, mean = generate(
        net,
        rng,
        options.length or LENGTHS[args.dataset],
        s_0,
        gmm="argmax" if options.gmm == "argmax" else "sample",
        temperature=options.temperature,
        backend=options.backend,
        quiet=options.quiet,
    )
    new = mean if options.mean or options.gmm == "mean" else x
    lines = list(new.swapaxes(0, 1))
    kind = "sample"
    if before:
        kind = "primed"
        lines = [np.concatenate(pair) for pair in zip(before, lines)]
    start = out.with_name(f"{out.name}_{kind}")
    if args.dataset == "blizzard":
        return write_waves(start, lines, data, options.quiet)
    names = [f"{start.name}_{i}" for i in range(len(lines))]
    captions = [
        f"{kind} {i}" + (f", from point {len(before[i])} on generated" if before else "")
        for i in range(len(lines))
    ]
    return write_pens(start, names, lines, captions, data)


def make_out_folder(folder: Path) -> Path:
    """Create the folder for samples.

    Raises
    ------
    UserError
        If it cannot be created.
    """
    try:
        return make_folder(folder)
    except UserError as error:
        raise UserError(str(error).replace("--save_path", "--out")) from error


def write_pairs(
    out: Path,
    args: Settings,
    originals: Sequence[NDArray],
    means: Sequence[NDArray],
    data: Data,
    quiet: bool,
) -> list[Path]:
    """Write validation sequences and their reconstructions, to be compared."""
    kinds = {"original": originals, "reconstruction": means}
    if args.dataset == "blizzard":
        return [
            path
            for kind, sequences in kinds.items()
            for path in write_waves(out.with_name(f"{out.name}_{kind}"), sequences, data, quiet)
        ]
    lines = [line for pair in zip(originals, means) for line in pair]
    captions = [f"{kind} {i}" for i in range(len(originals)) for kind in kinds]
    names = [f"{out.name}_{caption.replace(' ', '_')}" for caption in captions]
    return write_pens(out.with_name(f"{out.name}_reconstruction"), names, lines, captions, data)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program from its command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; default are those of the process.

    Returns
    -------
    int
        Exit status: 0, 2 after a `UserError` or for want of memory, 130 after
        an interrupt.
    """
    args = sys.argv[1:] if argv is None else argv
    return ended(
        lambda: report(parse(args)), "files written so far are whole", "ask for less at once"
    )


def report(options: argparse.Namespace) -> int:
    """Sample, and say what was written; returns the exit status."""
    written = sample(options)
    if not options.quiet:
        print(f"wrote {len(written)} files, from {written[0]} on")
        if not has_matplotlib():
            print("for pictures install matplotlib: pip install matplotlib")
    return 0


if __name__ == "__main__":
    sys.exit(main())
