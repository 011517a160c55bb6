"""The command ``python -m datasets.demo``, which shows the content of the demo corpora.

No counterpart in the original.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets.demo import blizzard, iamondb
from datasets.subcommands import Subcommands

BLIZZARD_HELP = """\
Write babbled speech to a wav file (16 kHz, mono, 16 bit), to hear the data that
the programs train on by default. A synthesiser invents words and speaks them: it
sends glottal pulses and noise through moving resonances of the mouth.
The programs do not need this command; they build their corpus on first use. The
corpus begins with the same words as the default of --seed.
"""

IAMONDB_HELP = """\
Draw lines of synthetic handwriting into an SVG file, to see the data that the
programs train on by default. A model of a moving pen writes words along arcs
that overlap in time. Each line has its own handwriting style.
The programs do not need this command; they build their corpus on first use. The
corpus begins with the same lines as the default of --seed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m datasets.demo``; `Subcommands.main` describes arguments and status."""
    commands = Subcommands("datasets.demo", "Hear or see the demo corpora.")
    _add_blizzard(commands)
    _add_iamondb(commands)
    return commands.main(argv)


def _add_blizzard(commands: Subcommands) -> None:
    parser = commands.add(
        "blizzard",
        blizzard.write_wav,
        "write babbled speech to a wav file",
        BLIZZARD_HELP,
        "examples:\n"
        "  python -m datasets.demo blizzard demo.wav\n"
        "  python -m datasets.demo blizzard other.wav --seconds 30 --seed 7\n\n"
        f"{blizzard.STAND_IN_NOTICE}",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help=f"length, up to {60 * blizzard.LONGEST:g} (default: %(default)g)",
    )
    _add_common(parser, "OUT.wav", blizzard.CorpusSettings.seed)


def _add_iamondb(commands: Subcommands) -> None:
    parser = commands.add(
        "iamondb",
        iamondb.draw_lines,
        "draw synthetic handwriting into an SVG file",
        IAMONDB_HELP,
        "examples:\n"
        "  python -m datasets.demo iamondb demo.svg\n"
        "  python -m datasets.demo iamondb other.svg --lines 30 --seed 7\n\n"
        f"{iamondb.STAND_IN_NOTICE}",
    )
    parser.add_argument(
        "--lines",
        type=int,
        default=12,
        metavar="N",
        help=f"number of lines, up to {iamondb.MOST_LINES} (default: %(default)s)",
    )
    _add_common(parser, "OUT.svg", iamondb.SEED)


def _add_common(parser: argparse.ArgumentParser, out: str, seed: int) -> None:
    parser.add_argument("out", metavar=out, type=Path, help="output file; replaces an older one")
    parser.add_argument(
        "--seed",
        type=int,
        default=seed,
        metavar="N",
        help="whole number, not negative, that selects the content (default: %(default)s)",
    )


if __name__ == "__main__":
    sys.exit(main())
