"""Feed a reader damaged files, in a process of its own with bounded memory.

    python -m tests.reliability.fuzz rows.h5 --cases 10000 --seed 0

Each case is a function of reader, seed and number, so that a failure can be
repeated: `--first 4711 --cases 1`.  The last line is the result, as JSON.
"""

import argparse
import faulthandler
import json
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import hdf5plugin  # noqa: F401  # before anything is watched
import numpy as np

from tests.reliability import watch
from tests.reliability.corpus import READERS, damage, outcome, truncations

SECONDS = 20  # of the processor for a case; one that takes longer hangs, and is killed
MEMORY = 2**30  # bytes of address space, on top of what Python and its packages have


def case(seeds: list[bytes], seed: int, number: int) -> bytes:
    """Damaged file number ``number``: first every truncation, then at random."""
    cut = [part for content in seeds for part in truncations(content)]
    if number < len(cut):
        return cut[number]
    rng = np.random.default_rng([seed, number])
    return damage(seeds[rng.integers(len(seeds))], rng, seeds)


def fuzz(
    name: str, seed: int, first: int, cases: int, folder: Path, progress: Path | None = None
) -> dict:
    """Run cases ``first`` to ``first + cases`` of a reader.

    Parameters
    ----------
    folder : pathlib.Path
        Empty, for the files.
    progress : pathlib.Path, optional
        File for the number of the case at hand and how many were read and
        refused before it, for whoever outlives a crash.

    Returns
    -------
    dict
        How many were ``read`` and ``refused``, ``failures`` as (number, what
        happened), and the ``peak`` of memory above the one before, in bytes.
    """
    reader = READERS[name]
    (folder / "seeds").mkdir()
    seeds = reader.seeds(folder / "seeds")
    reader.beside(folder)
    path = folder / reader.file_name
    for content in seeds:  # also imports whatever is imported late
        path.write_bytes(content)
        assert outcome(reader, path) == "read"
    result: dict[str, Any] = {"reader": name, "read": 0, "refused": 0, "failures": []}
    before = watch.reset_peak()
    for number in range(first, first + cases):
        path.write_bytes(case(seeds, seed, number))
        if progress:
            progress.write_text(f"{number} {result['read']} {result['refused']}")
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            with watch.watched(folder) as complaints:
                refused = outcome(reader, path) != "read"
            assert not complaints, complaints
            result["refused" if refused else "read"] += 1
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
            result["failures"].append((number, text[:500]))
    signal.setitimer(signal.ITIMER_PROF, 0)
    result["peak"] = watch.peak() - before
    return result


def main() -> int:
    """Run the command line; 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", type=Path, help="file for the number of the case at hand")
    options = parser.parse_args()
    faulthandler.enable()
    watch.limit_memory(MEMORY)
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        progress = options.progress or Path(folder, "progress")
        work = Path(folder, "work")
        work.mkdir()
        result = fuzz(options.reader, options.seed, options.first, options.cases, work, progress)
    print(json.dumps(result))
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
