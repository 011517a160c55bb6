"""The command ``python -m datasets.build``, which builds training data from a source.

No counterpart in the original.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from datasets.build import blizzard, iamondb
from datasets.build.output import BuildSummary
from datasets.subcommands import Subcommands

BLIZZARD_HELP = """\
Make the training data of the Blizzard programs from a folder of recordings.

The command searches SOURCE for wav, flac, mp3 and ogg files of any sample rate
and number of channels.  It averages the channels, resamples everything to
16 kHz, joins the recordings in the order of their paths, and cuts them into
--batch_size streams of equal length, which training reads side by side.  If
SOURCE holds data_*.npy files in the layout of the original programs, the
command uses these instead.

Two files appear in OUT, but only after the command has finished its work:
  blizzard_unseg_tbptt.h5           int16 rows of --seq_len samples
  blizzard_unseg_tbptt_normal.npz   mean and standard deviation of all rows
During the work the command needs additional space in OUT for the audio:
115 MB per hour.
"""

BLIZZARD_EXAMPLE = """\
example:
  python -m datasets.build blizzard ~/recordings ~/data/blizzard
  python models/vrnn_gmm.py --dataset blizzard --data_path ~/data/blizzard

The programs of the paper use rows of 8000 samples and batches of 128.  Each
batch then needs 64 seconds of audio; with little audio, lower both numbers:
  python -m datasets.build blizzard ~/few ~/data/few --batch_size 8 --seq_len 2000
"""

IAMONDB_HELP = """\
Make the training data of the IAM-OnDB programs from the database.

SOURCE holds the unpacked files that https://fki.tic.heia-fr.ch/databases offers
after registration, and two lists of forms:
  lineStrokes/a01/a01-000/a01-000u-01.xml ...   from lineStrokes-all.tar.gz
  ascii/a01/a01-000/a01-000u.txt ...            from ascii-all.tar.gz
  train.txt, valid.txt                          one name per line, such as a01-000u
The folder datasets/iamondb_text of the original programs
(github.com/jych/nips2015_vrnn) has the lists of the paper.  Without lists,
--valid_share draws a split.  If SOURCE holds the caches of the original programs
(train_npy_x.npy, train_npy_y.npy, valid_npy_x.npy, valid_npy_y.npy), the command
uses these instead.

The command skips unusable forms and lines and reports the reasons.  A form is
unusable if its transcript is missing, has no CSR: section or does not match the
lines.  A line is unusable if its XML is broken or dangerous, if it has less than
two points, or if a coordinate is not a plausible whole number.

OUT/iamondb.h5 appears only after the command has finished its work.
"""

IAMONDB_EXAMPLE = """\
example:
  python -m datasets.build iamondb ~/iamondb ~/data/iamondb
  python models/vrnn_gmm.py --dataset iamondb --data_path ~/data/iamondb
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m datasets.build``; `Subcommands.main` describes arguments and status."""
    commands = Subcommands("datasets.build", "Build training data.")
    _add_blizzard(commands)
    _add_iamondb(commands)
    return commands.main(argv)


def _add_blizzard(commands: Subcommands) -> None:
    parser = commands.add(
        "blizzard",
        functools.partial(_build, blizzard.build),
        "make the training data from recordings",
        BLIZZARD_HELP,
        BLIZZARD_EXAMPLE,
    )
    parser.add_argument(
        "--batch_size", type=int, default=128, metavar="N", help="parallel streams (128)"
    )
    parser.add_argument(
        "--seq_len", type=int, default=8000, metavar="N", help="samples per row (8000)"
    )
    _add_common(parser, "folder of recordings, or of data_*.npy", "fail if a recording is unusable")


def _add_iamondb(commands: Subcommands) -> None:
    parser = commands.add(
        "iamondb",
        functools.partial(_build, iamondb.build),
        "make the training data from IAM-OnDB",
        IAMONDB_HELP,
        IAMONDB_EXAMPLE,
    )
    parser.add_argument(
        "--valid_share",
        type=float,
        metavar="P",
        help="without lists: share of the forms for validation, such as 0.1",
    )
    _add_common(
        parser,
        "folder of the database, or of the original's caches",
        "fail if a form or line is unusable",
    )


def _add_common(parser: argparse.ArgumentParser, source: str, strict: str) -> None:
    parser.add_argument("SOURCE", help=source)
    parser.add_argument("OUT", help="folder for the result; the command creates it if necessary")
    parser.add_argument("--strict", action="store_true", help=strict)
    parser.add_argument("--force", action="store_true", help="replace an earlier result")
    parser.add_argument("--quiet", action="store_true", help="print only what was skipped")


def _build(build: Callable[..., BuildSummary], SOURCE: str, OUT: str, **options: Any) -> None:
    summary = build(SOURCE, OUT, **options)
    if not options["quiet"]:
        print(summary)
    elif summary.skipped:
        print("\n".join(summary.skipped_lines()), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
