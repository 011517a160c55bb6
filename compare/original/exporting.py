"""``python -m compare export``: write the parameters of a checkpoint for the original.

The original's ``load_params`` reads an ``.npz`` file of arrays by name, and both
programs give the same names to parameters.  Its module uses ``numpy`` and
``warnings`` without importing them, so the function fails as it is;
``docs/original.md`` explains how to call it without changing the original.

No counterpart in the original.
"""

from __future__ import annotations

from collections.abc import Sequence

from cle_port.console.command_line import Parser
from cle_port.errors import UserError
from cle_port.files.npz import DAMAGE
from cle_port.train import checkpoint
from compare.original.command_line import add_files, save

ORIGIN = ("program", "settings", "params")  # entries of the description that the file keeps


def main(argv: Sequence[str]) -> int:
    """Write the parameters of a checkpoint to a file, without any other array.

    Parameters
    ----------
    argv : list of str
        Arguments after ``export``; see ``--help``.

    Returns
    -------
    int
        0

    Raises
    ------
    UserError
        If CHECKPOINT.npz is not a complete checkpoint of the port, or OUT.npz cannot
        be written.
    """
    parser = Parser(
        prog="python -m compare export",
        description="Write the parameters of a checkpoint of the port by name, for load_params of "
        "the original.",
    )
    add_files(parser, "CHECKPOINT.npz")
    parser.add_argument(
        "--floatX", choices=("float32", "float64"), help="precision; default: the checkpoint's"
    )
    args = parser.parse_args(argv)
    arrays, meta = checkpoint.load(args.checkpoint)
    try:
        params = {name: arrays[name] for name in meta["params"]}
        if args.floatX:
            params = {name: value.astype(args.floatX) for name, value in params.items()}
    except DAMAGE as error:
        raise UserError(
            f"{args.checkpoint} is not a whole checkpoint of this program; use another one"
        ) from error
    save(args.out, params, {key: value for key, value in meta.items() if key in ORIGIN})
    print(f"{args.out}: {len(params)} parameters of {args.checkpoint}, by name")
    return 0
