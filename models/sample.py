"""Generate speech, handwriting or images from a checkpoint of any of the programs.

At each time step a VRNN draws z_t from the prior (5), x_t from the decoder (6)
and moves its state on (7); an RNN draws x_t from its output (2) and moves on
(1); a VAE draws each frame on its own (3).  ``models/vrnn_gmm.py``,
``models/rnn_gmm.py`` and ``models/vae.py`` have the equations.

Examples
--------
Ten samples, the same at a lower temperature, going on from real data, comparing,
looking at z, and all that a VAE can generate::

    python models/sample.py runs/blizzard_demo/vrnn_gmm_1_best.npz
    python models/sample.py runs/blizzard_demo/vrnn_gmm_1_best.npz --temperature 0.7
    python models/sample.py runs/iamondb_demo/vrnn_gmm_1_best.npz --prime 5 --length 300
    python models/sample.py runs/blizzard_demo/vrnn_gmm_1_best.npz --reconstruct --rows 3 17 40
    python models/sample.py runs/blizzard_demo/vrnn_gmm_1_best.npz --latent --rows 3
    python models/sample.py runs/digits/vae_1_best.npz --plane

docs/sampling.md shows what is written.

Counterpart: ``models/blizzard/sample_vrnn_gauss.py``, for that model only.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

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
from models.sampling import files
from models.sampling.data import Sequences, ValidationData, open_data
from models.sampling.files import (
    Line,
    write_comparisons,
    write_images,
    write_latents,
    write_pens,
    write_plane,
    write_waves,
)
from models.sampling.generation import generate, plane, reconstruct, state_after
from models.sampling.latent import LatentNet, has_latent, latents
from models.sampling.loading import load_model, load_program
from models.settings import Settings

logger = logging.getLogger(__name__)

WAYS = ("prime", "reconstruct", "latent", "plane")

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
    for key, least in (("number", 1), ("length", 1), ("real_length", 1), ("seed", 0)):
        value = getattr(options, key)
        if value is not None and value < least:
            raise UserError(f"--{key} is {value}; it must be at least {least}")
    if not 0 < options.temperature < math.inf:
        raise UserError(f"--temperature is {options.temperature}; it must be a number above 0")
    asked = [f"--{key}" for key in WAYS if getattr(options, key) not in (None, False)]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} are {len(asked)} things; give one of them")
    _check_chosen(options)
    choose(options.backend)
    return options


def _check_chosen(options: argparse.Namespace) -> None:
    """Make sure that the choice of validation sequences is one; ``number`` becomes its size.

    Raises
    ------
    UserError
        If it is none, or nothing needs it.
    """
    if options.prime is not None and options.prime is not True:
        if options.prime < 1:
            raise UserError(f"--prime is {options.prime}; it must be at least 1")
        if options.rows and options.prime != len(options.rows):
            raise UserError(
                f"--prime asks for {options.prime} sequences and --rows names "
                f"{len(options.rows)}; leave the number of --prime"
            )
        options.number = options.prime
    for key in ("rows", "real_length"):
        if getattr(options, key) and not (options.prime or options.reconstruct or options.latent):
            raise UserError(
                f"--{key} chooses real sequences; give it with --prime, --reconstruct or --latent"
            )
    for row in options.rows or ():
        if options.rows.count(row) > 1:
            raise UserError(f"--rows names {row} twice; give each number once")
    if options.length and (options.reconstruct or options.latent):
        raise UserError(
            "--length is that of generated sequences; give --real_length with --reconstruct "
            "or --latent"
        )


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
    _add_ways(parser)
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


def _add_ways(parser: argparse.ArgumentParser) -> None:
    """Add what can be written instead of samples, and from which real sequences."""
    add = parser.add_argument
    add(
        "--prime",
        type=int,
        nargs="?",
        const=True,
        metavar="N",
        help="go on from N validation sequences instead (default: --rows, or --number of them)",
    )
    add(
        "--reconstruct",
        action="store_true",
        help="VRNN, STORN and VAE: write validation sequences and their means given z of the "
        "posterior, and draw both with a sample in one scale",
    )
    add(
        "--latent",
        action="store_true",
        help="VRNN, STORN and VAE: write and draw KL_t and the step of the posterior's mean over "
        "validation sequences, as in the paper's Figure 2",
    )
    add(
        "--rows",
        type=int,
        nargs="+",
        metavar="ROW",
        help="validation sequences for --prime, --reconstruct, --latent, by their numbers from 0 "
        "on (default: the first --number)",
    )
    add(
        "--real_length",
        type=int,
        metavar="N",
        help="frames of each validation sequence, from its beginning; on Blizzard more than a row "
        "has go on in the rows that follow in the recording (default: all of a row or line; up to "
        "160 frames with --latent on Blizzard)",
    )
    add("--plane", action="store_true", help="VAE with --z_dim 2: write means over the plane of z")


class Job(NamedTuple):
    """What all ways to sample need.

    Attributes
    ----------
    options : argparse.Namespace
        From `parse`.
    args : Settings
        Those of the training.
    net : Net
    data : ValidationData
    out : Path
        First part of the files' names.
    rng : numpy.random.Generator
        Source of all noise.
    """

    options: argparse.Namespace
    args: Settings
    net: Net
    data: ValidationData
    out: Path
    rng: np.random.Generator

    def start(self, kind: str) -> Path:
        """First part of the names of one kind of files."""
        return self.out.with_name(f"{self.out.name}_{kind}")

    @property
    def rows(self) -> list[int]:
        """Numbers of the chosen validation sequences."""
        return self.options.rows or list(range(self.options.number))

    def real(self) -> Sequences:
        """Read the chosen validation sequences."""
        if not self.options.rows:
            self.data.check_number(self.options.number)
        # A row of Blizzard may be too short to show how z changes.
        longer = self.options.latent and self.args.dataset == "blizzard"
        most = LENGTHS["blizzard"] if longer else 0
        return self.data.choose(self.rows, self.options.real_length, most)


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
        rng = np.random.Generator(np.random.PCG64(options.seed))
        job = Job(options, args, net, open_data(args), out, rng)
        for asked, make in (
            (options.plane, draw_plane),
            (options.reconstruct, write_pairs),
            (options.latent, draw_latent),
        ):
            if asked:
                return make(job)
        return write_generated(job)


def check_fits(options: argparse.Namespace, name: str, args: Settings, net: Net) -> None:
    """Make sure that the model has what the options need.

    Raises
    ------
    UserError
        If it has no latent variable, no state, or no plane to draw.
    """
    if options.reconstruct and not net.noise_dim:
        raise UserError(f"{name} has no latent variable to reconstruct from; leave --reconstruct")
    check_latent(options, name, args, net)
    if options.prime and not net.state_dim:
        raise UserError(
            f"{name} has no state to go on from, its frames do not depend on those before; "
            "leave --prime"
        )
    for key in ("length", "real_length"):
        if getattr(options, key) and args.dataset == "digits":
            raise UserError(
                f"an image is one frame; leave --{key}, and give --number for more images"
            )
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


def check_latent(options: argparse.Namespace, name: str, args: Settings, net: Net) -> None:
    """Make sure that ``--latent`` has a latent variable and time to draw it over.

    Raises
    ------
    UserError
        If the model or the data lack it.
    """
    if not options.latent:
        return
    if not net.noise_dim:
        raise UserError(f"{name} has no latent variable, so there is no KL; leave --latent")
    if args.dataset == "digits":
        raise UserError(
            "an image is one frame, and --latent draws what changes from frame to frame; leave "
            "--latent, or give --plane or --reconstruct to see what z holds"
        )
    if not has_latent(net):
        raise UserError(
            f"{name} has no method terms that gives kl_by_dim, as VRNN has in "
            "models/vrnn_gmm.py; write one, or leave --latent"
        )


def draw_plane(job: Job) -> list[Path]:
    """Write the means over the plane of z."""
    with elapsed_time("Drawing the plane", job.options.quiet):
        z, means = plane(job.net, job.options.backend)
    return write_plane(job.start("plane"), job.args.dataset, z, means, job.data)


def draw_latent(job: Job) -> list[Path]:
    """Write KL_t and the step of phi_mu over each chosen validation sequence."""
    real = job.real()
    net = cast(LatentNet, job.net)  # check_latent has made sure
    with elapsed_time("Running the data through the model", job.options.quiet):
        over_time = latents(net, real, job.rng, job.options.backend)
    return write_latents(
        job.start("latent"),
        job.args.dataset,
        job.rows,
        real.lines(real.x),
        over_time,
        job.data,
        job.options.quiet,
    )


def generate_from(job: Job, s_0: NDArray, length: int) -> list[NDArray]:
    """Generate a sequence, shape (length, x_dim), from each row of the states (B, state_dim)."""
    options = job.options
    x, mean = generate(
        job.net,
        job.rng,
        length,
        s_0,
        gmm="argmax" if options.gmm == "argmax" else "sample",
        temperature=options.temperature,
        backend=options.backend,
        quiet=options.quiet,
    )
    return list((mean if writes_means(options) else x).swapaxes(0, 1))


def writes_means(options: argparse.Namespace) -> bool:
    """Whether samples are the means that x_t was drawn around."""
    return options.mean or options.gmm == "mean"


def from_nothing(job: Job, number: int) -> NDArray:
    """States before the first frame of sequences, shape (number, state_dim)."""
    return np.zeros((number, job.net.state_dim), dtype=job.args.floatX)


def write_generated(job: Job) -> list[Path]:
    """Write generated sequences, behind their primes if there are any."""
    options, args = job.options, job.args
    length = options.length or LENGTHS[args.dataset]
    if options.prime:
        return write_primed(job, length)
    lines = [
        Line(f"{job.start('sample').name}_{i}", f"sample {i}", frames)
        for i, frames in enumerate(generate_from(job, from_nothing(job, options.number), length))
    ]
    return write_lines(job, job.start("sample"), lines)


def write_primed(job: Job, length: int) -> list[Path]:
    """Write validation sequences, each with its continuation behind it."""
    real = job.real()
    with elapsed_time("Listening to real data", job.options.quiet):
        s_0 = state_after(job.net, real, job.rng, job.options.backend)
    start = job.start("primed")
    lines = [
        Line(
            f"{start.name}_{row}",
            f"primed {row}, from point {len(prime)} on generated",
            np.concatenate([prime, continuation]),
            len(prime),
        )
        for row, prime, continuation in zip(
            job.rows, real.lines(real.x), generate_from(job, s_0, length)
        )
    ]
    return write_lines(job, start, lines)


def write_lines(job: Job, start: Path, lines: Sequence[Line]) -> list[Path]:
    """Write sequences as the data set has them."""
    if job.args.dataset == "digits":
        return write_images(start, {"x": [line.frames for line in lines]})
    if job.args.dataset == "blizzard":
        return write_waves(start.parent, lines, job.data, job.options.quiet)
    return write_pens(start, lines, job.data)


def write_pairs(job: Job) -> list[Path]:
    """Write validation sequences and their reconstructions, and compare both with samples."""
    real = job.real()
    with elapsed_time("Reconstructing", job.options.quiet):
        means = reconstruct(job.net, real, job.rng, job.options.backend)
    kinds = {"original": real.lines(real.x), "reconstruction": real.lines(means)}
    start = job.start("reconstruction")
    if job.args.dataset == "digits":
        written = write_images(start, kinds)
    else:
        written = write_lines(job, start, pairs(job, kinds))
    if not files.has_matplotlib():
        return written
    try:
        return written + compare(job, real, kinds)
    except UserError as error:  # the pairs are there, whatever samples do
        logger.warning("No comparison: %s", error)
        return written


def pairs(job: Job, kinds: Mapping[str, Sequence[NDArray]]) -> list[Line]:
    """Name originals and reconstructions: each line of handwriting above its reconstruction."""
    lines = [
        [
            Line(f"{job.start(kind).name}_{row}", f"{kind} {row}", frames)
            for row, frames in zip(job.rows, sequences)
        ]
        for kind, sequences in kinds.items()
    ]
    ordered = zip(*lines) if job.args.dataset == "iamondb" else lines
    return [line for group in ordered for line in group]


def compare(job: Job, real: Sequences, kinds: Mapping[str, Sequence[NDArray]]) -> list[Path]:
    """Draw original, reconstruction and a sample of the same length in one scale."""
    samples = generate_from(job, from_nothing(job, len(real.lengths)), len(real.x))
    cut = [x[:length] for x, length in zip(samples, real.lengths)]
    drawn = "means" if writes_means(job.options) else "draws"
    labels = ("original", "reconstruction (means)", f"sample from the prior ({drawn})")
    return write_comparisons(
        job.start("comparison"),
        job.args.dataset,
        job.rows,
        dict(zip(labels, [*kinds.values(), cut])),
        job.data,
        job.options.quiet,
    )


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
        if not files.has_matplotlib():
            print("for pictures install matplotlib: pip install matplotlib")
    return 0


if __name__ == "__main__":
    sys.exit(main())
