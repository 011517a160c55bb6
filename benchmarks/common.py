"""Settings, description of the machine and tables for all benchmarks."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cle_port.errors import UserError
from cle_port.files import replace_file
from models.settings import CONFIG_FOLDER, read_config
from models.vrnn_gmm import WIDTHS

STACKS = ("x2s_dim", "z2s_dim", "q_z_dim", "p_z_dim", "p_x_dim")
TINY = {"x_dim": 40, "z_dim": 16, "rnn_dim": 128, "num_k": 5} | dict.fromkeys(STACKS, 64)
SMALL = {"x_dim": 200, "z_dim": 64, "rnn_dim": 256, "num_k": 10} | dict.fromkeys(STACKS, 150)
MID = {"x_dim": 200, "z_dim": 200, "rnn_dim": 512, "num_k": 20} | dict.fromkeys(STACKS, 500)
NAMED: dict[str, dict[str, Any]] = {
    "A-tiny": {**TINY, "lr": 0.001, "batch_size": 32, "m_batch_size": 32},
    "A-small": {**SMALL, "batch_size": 16, "m_batch_size": 16},
    "A-mid": {**MID, "batch_size": 16, "m_batch_size": 16},
    # The paper's Blizzard settings and batch, with half its rnn_dim of 4000.
    "A-wide": {**MID, "rnn_dim": 2000, "batch_size": 128, "m_batch_size": 128},
    "B-paper": {
        "dataset": "iamondb",
        **WIDTHS["iamondb"],
        **read_config(CONFIG_FOLDER / "iamondb.txt"),
    },
}
N_STEP = 40  # frames in a row of Blizzard: 1600 samples of A-tiny, 8000 otherwise
PACKAGES = ("pytensor", "jax", "jaxlib", "torch", "numba", "numpy")


def positive(text: str) -> int:
    """Read a whole number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def peak_memory() -> float:
    """Return the greatest resident memory of this process so far, in MB."""
    scale = 1024 if sys.platform != "darwin" else 1024**2  # ru_maxrss is in KiB; on macOS in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def current_memory() -> float:
    """Return the resident memory of this process in MB; except on Linux, the peak."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return peak_memory()


def describe_machine() -> str:
    """Describe processor, cores, memory and load."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GB, load {os.getloadavg()[0]:.1f}"


def describe_versions() -> str:
    """List the versions of Python and of the installed packages that compute."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows of text as a Markdown table with aligned columns."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in lines
    )


def write_between(path: Path, begin: str, text: str, end: str) -> None:
    """Replace what stands between two marks of a page.

    Raises
    ------
    UserError
        If the page cannot be read or written, or has no marks.
    """
    try:
        page = path.read_text(encoding="utf-8")
        before, rest = page.split(begin)
        _, after = rest.split(end)
        new = f"{before}{begin}\n\n{text}\n\n{end}{after}".encode()
        replace_file(path, lambda file: file.write(new))
    except ValueError as error:
        raise UserError(f"{path} lacks the marks {begin!r} and {end!r}; add them") from error
    except OSError as error:
        raise UserError(f"cannot rewrite {path} ({error.strerror}); give another --page") from error
