"""Generate speech, handwriting or images from a checkpoint of any of the programs.

At each time step a VRNN draws z_t from the prior (5), x_t from the decoder (6)
and moves its state on (7); an RNN draws x_t from its output (2) and moves on
(1); a VAE draws each frame on its own (3).  ``models/vrnn_gmm.py``,
``models/rnn_gmm.py`` and ``models/vae.py`` have the equations.

Examples
--------
Ten samples, the same at a lower temperature, going on from real data, and all that
a VAE can generate::

    python models/sample.py runs/blizzard_demo/vrnn_gmm_1_best.npz
    python models/sample.py runs/blizzard_demo/vrnn_gmm_1_best.npz --temperature 0.7
    python models/sample.py runs/iamondb_demo/vrnn_gmm_1_best.npz --prime 5 --length 300
    python models/sample.py runs/digits/vae_1_best.npz --plane

docs/sampling.md shows what is written.

Counterpart: ``models/blizzard/sample_vrnn_gauss.py``, for that model only.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from cle_port.console.command_line import Parser, ended
from cle_port.console.progress import elapsed_time
from cle_port.errors import UserError
from cle_port.graph.backend import BACKENDS, choose
from cle_port.train.ext import make_folder
from models.programs import Net
from models.running.program import surroundings
from models.sampling.data import ValidationData, open_data
from models.sampling.files import write_images, write_pens, write_plane, write_waves
from models.sampling.generation import generate, plane, reconstruct, state_after
from models.sampling.loading import load_model, load_program
from models.sampling.pictures import has_matplotlib
from models.settings import Settings

# The original's; about a line of IAM-OnDB; an image is one frame.
LENGTHS = {"blizzard": 160, "iamondb": 600, "digits": 1}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises
    ------
    UserError
        If an option is unknown or its value is wrong.
    """
    options = _parser().parse_args(argv)
    for key, least in (("number", 1), ("length", 1), ("prime", 1), ("seed", 0)):
        value = getattr(options, key)
        if value is not None and value < least:
            raise UserError(f"--{key} is {value}; it must be at least {least}")
    if not 0 < options.temperature < math.inf:
        raise UserError(f"--temperature is {options.temperature}; it must be a number above 0")
    asked = [f"--{key}" for key in ("prime", "reconstruct", "plane") if getattr(options, key)]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} are {len(asked)} things; give one of them")
    choose(options.backend)
    return options


def _parser() -> argparse.ArgumentParser:
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
        help="VRNN and VAE: write validation sequences and their means given z of the posterior",
    )
    add("--plane", action="store_true", help="VAE with --z_dim 2: write means over the plane of z")
    add(
        "--program",
        type=Path,
        metavar="FILE",
        help="script that wrote the checkpoint, if it is a model of your own (docs/library.md)",
    )
    add("--data_path", metavar="DIR", help="folder with the data, if not where training found it")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the samples (default: the folder samples beside the checkpoint)",
    )
    add("--backend", choices=BACKENDS, default="auto", help="compiler to use")
    add("--quiet", action="store_true", help="print only warnings and errors")
    return parser


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
    program = load_program(options.program) if options.program else None
    name, args, net = load_model(options.checkpoint, program)
    check_fits(options, name, args, net)
    args = dataclasses.replace(
        args, quiet=options.quiet, data_path=options.data_path or args.data_path
    )
    with surroundings(args):
        # Not the sample_path of the settings: a checkpoint from elsewhere may name any folder.
        folder = options.out or options.checkpoint.parent / "samples"
        out = make_out_folder(Path(folder)) / options.checkpoint.stem
        data = open_data(args)
        if options.plane:
            with elapsed_time("Drawing the plane", options.quiet):
                z, means = plane(net, options.backend)
            return write_plane(out.with_name(f"{out.name}_plane"), args.dataset, z, means, data)
        rng = np.random.Generator(np.random.PCG64(options.seed))
        if options.reconstruct:
            real = data.first(options.number)
            with elapsed_time("Reconstructing", options.quiet):
                means = reconstruct(net, real, rng, options.backend)
            originals, means_by_line = real.lines(real.x), real.lines(means)
            return write_pairs(out, args, originals, means_by_line, data, options.quiet)
        primes, lines = generate_lines(options, args, net, data, rng)
        return write_generated(out, args, primes, lines, data, options.quiet)


def check_fits(options: argparse.Namespace, name: str, args: Settings, net: Net) -> None:
    """Make sure that the model has what the options need.

    Raises
    ------
    UserError
        If it has no latent variable, no state, or no plane to draw.
    """
    if options.reconstruct and not net.noise_dim:
        raise UserError(f"{name} has no latent variable to reconstruct from; leave --reconstruct")
    if options.prime and not net.state_dim:
        raise UserError(
            f"{name} has no state to go on from, its frames do not depend on those before; "
            "leave --prime"
        )
    if options.length and args.dataset == "digits":
        raise UserError("an image is one frame; leave --length, and give --number for more images")
    if not options.plane:
        return
    if net.state_dim or not net.noise_dim:
        raise UserError(
            f"x_t of {name} depends on the frames before, not on z alone; --plane is for a VAE"
        )
    if net.noise_dim != 2:
        raise UserError(
            f"z has {net.noise_dim} dimensions and a plane has 2; leave --plane, or give a "
            "checkpoint that was trained with --z_dim 2"
        )
    if args.dataset == "iamondb":
        raise UserError(
            "a frame of iamondb is one movement of the pen, which makes no picture; leave --plane"
        )


def generate_lines(
    options: argparse.Namespace,
    args: Settings,
    net: Net,
    data: ValidationData,
    rng: np.random.Generator,
) -> tuple[list[NDArray], list[NDArray]]:
    """Generate sequences, which may continue validation sequences.

    Returns
    -------
    primes : list of ndarray, each (T, x_dim)
        Validation sequences that are continued; empty without ``--prime``.
    lines : list of ndarray, each (length, x_dim)
        What was generated.
    """
    s_0 = np.zeros((options.number, net.state_dim), dtype=args.floatX)
    primes: list[NDArray] = []
    if options.prime:
        real = data.first(options.prime)
        primes = real.lines(real.x)
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
    return primes, list((mean if options.mean or options.gmm == "mean" else x).swapaxes(0, 1))


def write_generated(
    out: Path,
    args: Settings,
    primes: Sequence[NDArray],
    lines: Sequence[NDArray],
    data: ValidationData,
    quiet: bool,
) -> list[Path]:
    """Write generated sequences behind their primes, if there are any."""
    kind = "sample"
    if primes:
        kind = "primed"
        lines = [np.concatenate(pair) for pair in zip(primes, lines)]
    start = out.with_name(f"{out.name}_{kind}")
    if args.dataset == "digits":
        return write_images(start, {"x": lines})
    if args.dataset == "blizzard":
        return write_waves(start, lines, data, quiet)
    names = [f"{start.name}_{i}" for i in range(len(lines))]
    captions = [
        f"{kind} {i}" + (f", from point {len(primes[i])} on generated" if primes else "")
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
    data: ValidationData,
    quiet: bool,
) -> list[Path]:
    """Write validation sequences and their reconstructions, to be compared."""
    kinds = {"original": originals, "reconstruction": means}
    if args.dataset == "digits":
        return write_images(out.with_name(f"{out.name}_reconstruction"), kinds)
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
        Arguments; default: those of the process.

    Returns
    -------
    int
        Exit status: 0; 2 after a `UserError` or if memory runs out; 130 after
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
