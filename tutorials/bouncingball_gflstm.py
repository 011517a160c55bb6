"""``bouncingball.py`` with LSTMs with gated feedback from layer to layer.

The learning rate is 0.003 instead of 0.001, because training is shorter.

Examples
--------
::

    python tutorials/bouncingball_gflstm.py
    python tutorials/bouncingball_gflstm.py --draw 6

Counterpart: ``tutorials/bouncingball_gflstm.py``, which fails: a bracket is in the
wrong place, and the training data have another name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cle_port.layers.recurrent import GFLSTM
from tutorials.bouncingball import run_balls


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tutorial; return the exit status."""
    return run_balls(
        argv, "bouncingball_gflstm", __doc__, epoch=8, lr=0.003, layer=GFLSTM, feedback=True
    )


if __name__ == "__main__":
    sys.exit(main())
