"""Fuzz a reader guided by the code it reaches: for developers, `pip install atheris` first.

    python -m tests.reliability.guided pickle -max_total_time=600

Options behind the reader are libFuzzer's.  It ends at the first failure and
leaves the file that caused it in the current folder (-artifact_prefix=DIR/).
"""

import sys
import tempfile
import warnings
from pathlib import Path

import atheris
import hdf5plugin  # noqa: F401  # before anything is watched

with atheris.instrument_imports(include=["cle_port", "datasets", "models", "pickle", "zipfile"]):
    from tests.reliability import watch
    from tests.reliability.corpus import READERS, outcome


def main() -> None:
    """Run the command line; never returns."""
    reader = READERS[sys.argv.pop(1)]
    folder = Path(tempfile.mkdtemp(prefix="guided-"))
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, content in enumerate(reader.seeds(folder)):
        (seeds / str(number)).write_bytes(content)
    reader.beside(folder)
    path = folder / reader.file_name
    warnings.simplefilter("error")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        with watch.watched(folder) as complaints:
            outcome(reader, path)
        assert complaints == [], complaints

    atheris.Setup([*sys.argv, str(seeds)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
