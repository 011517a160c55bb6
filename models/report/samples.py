"""Show what a run generated: the pictures and sounds that ``models/sample.py`` wrote."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from cle_port.errors import one_line
from cle_port.files import open_file
from models.report.logs import SAMPLES, Run

TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".wav": "audio/wav"}
MAX_FILES = 3  # pictures, and sounds, of a run and a kind of sample
MAX_BYTES = 5 * 2**20  # of all files on a page
NUMBERED = re.compile(r"(.*?)_?(\d*)")


class Samples:
    """Embeds samples in a page until it is full.

    Attributes
    ----------
    n_byte : int
        Size of what has been embedded.
    """

    def __init__(self) -> None:
        self.n_byte = 0

    def of_run(self, run: Run) -> Iterator[str]:
        """Yield HTML that shows the samples of a run, and says what is left out."""
        shown: dict[str, list[Path]] = {}  # by name without its ending: a sound and its picture
        n_of_kind: dict[tuple[str, str], int] = {}
        n_left_out = 0
        for path in sample_files(run):
            match = NUMBERED.fullmatch(path.stem)
            key = (match[1] if match else path.stem, path.suffix)
            n_of_kind[key] = n_of_kind.get(key, 0) + 1
            if n_of_kind[key] > MAX_FILES:
                n_left_out += 1
            else:
                shown.setdefault(path.stem, []).append(path)
        figures = []
        for stem, paths in shown.items():
            elements = [element for path in paths if (element := self._embedded(path))]
            n_left_out += len(paths) - len(elements)
            if elements:
                caption = f"<figcaption>{escape(one_line(stem))}</figcaption>"
                figures.append(f"<figure>{''.join(elements)}{caption}</figure>")
        if figures or n_left_out:
            yield f"<h3>Samples of {escape(run.label)}</h3>"
        if figures:
            yield f'<div class="samples">{"".join(figures)}</div>'
        if n_left_out:
            folder = escape(one_line(run.folder / SAMPLES))
            yield (
                f'<p class="soft">{n_left_out} more files are in {folder}: a page shows '
                f"{MAX_FILES} of a kind, and {MAX_BYTES // 2**20} MB in all.</p>"
            )

    def _embedded(self, path: Path) -> str:
        """Return an element that holds a file, or nothing if it is too large or unreadable."""
        try:
            if self.n_byte + path.stat().st_size > MAX_BYTES:
                return ""
            with open_file(path) as file:
                content = file.read()
        except OSError:
            return ""
        self.n_byte += len(content)
        data = f"data:{TYPES[path.suffix]};base64,{base64.b64encode(content).decode()}"
        name = escape(one_line(path.stem))
        if path.suffix == ".wav":
            return f'<audio controls aria-label="{name}" src="{data}"></audio>'
        return f'<img alt="{name}" src="{data}">'


def sample_files(run: Run) -> list[Path]:
    """Return pictures and sounds of a run's checkpoints; of a picture in two formats the PNG."""
    try:
        names = sorted(path.name for path in (run.folder / SAMPLES).iterdir())
    except OSError:
        return []
    own = [Path(name) for name in names if name.startswith(f"{run.name}_")]
    pictures = {path.stem for path in own if path.suffix == ".png"}
    files = [
        path
        for path in own
        if path.suffix in TYPES and not (path.suffix == ".svg" and path.stem in pictures)
    ]
    return [run.folder / SAMPLES / path for path in sorted(files, key=_natural)]


def _natural(path: Path) -> tuple[str, int, str]:
    """Sort 10 after 9."""
    match = NUMBERED.fullmatch(path.stem)
    assert match is not None  # it matches anything
    return match[1], int(match[2] or 0), path.suffix
