"""``python -m compare export``: parameters of ours for the original.

The original's ``load_params`` reads an ``.npz`` of arrays by name, which are
the names that both programs give to parameters.  As it stands there it cannot
run, since its module imports neither ``numpy`` nor ``warnings``;
``docs/original.md`` says how to use it without changing it.

No counterpart in the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cle_port.console.command_line import Parser
from cle_port.errors import UserError
from cle_port.files.npz import DAMAGE
from cle_port.train import checkpoint

ORIGIN = ("program", "settings", "params")  # what of the description goes along


def main(argv: Sequence[str]) -> int:
    """Write the parameters of a checkpoint, and nothing else, to a file.

    Parameters
    ----------
    argv : list of str
        Arguments of the command line; see ``--help``.

    Returns
    -------
    int
        0

    Raises
    ------
    UserError
        If the checkpoint is unusable or OUT cannot be written.
    """
    parser = Parser(
        prog="python -m compare export",
        description="Write the parameters of a checkpoint of the port by name, for load_params of "
        "the original.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT.npz")
    parser.add_argument("out", type=Path, metavar="OUT.npz")
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
    origin = {key: value for key, value in meta.items() if key in ORIGIN}
    try:
        checkpoint.save(args.out, params, origin)
    except OSError as error:
        raise UserError(
            f"cannot write {args.out} ({error.strerror}); give another OUT.npz"
        ) from error
    print(f"{args.out}: {len(params)} parameters of {args.checkpoint}, by name")
    return 0
