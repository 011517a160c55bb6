"""Progress bars of all programs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class _Lines(tqdm):
    """A bar for files and pipes: it writes whole lines and never redraws them."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.n:
            print(msg or str(self), file=sys.stderr, flush=True)

    def clear(self, nolock: bool = False) -> None:
        """Do nothing: lines stay."""


def progress_bar(
    total: int | None,
    description: str,
    unit: str = "it",
    quiet: bool = False,
    initial: int = 0,
) -> tqdm:
    """Make a progress bar on standard error with rate and remaining time.

    On a terminal the bar is redrawn twice a second.  In a file or a pipe it writes
    one line every ten seconds.

    Parameters
    ----------
    total : int or None
        Number of units of work, None if unknown.
    description : str
        Text in front of the bar.
    unit : str
        Name of one unit of work.
    quiet : bool
        Show nothing.
    initial : int
        Units done before, which say nothing about the rate.

    Returns
    -------
    tqdm.tqdm
        Use as a context manager; call ``update(n)`` as work is done.

    Notes
    -----
    No counterpart in the original, which prints a line per item.
    """
    settings = {
        "total": total,
        "desc": description,
        "unit": unit,
        "disable": quiet,
        "initial": initial,
    }
    if sys.stderr.isatty():
        return tqdm(**settings, mininterval=0.5, dynamic_ncols=True, leave=False)
    return _Lines(**settings, mininterval=10.0, maxinterval=10.0, ncols=100, ascii=True)


@contextmanager
def elapsed_time(description: str, quiet: bool = False) -> Iterator[None]:
    """Show the elapsed time of work of unknown length while the context lasts.

    On a terminal the line is redrawn once a second.  In a file or a pipe it is
    written once, without the time.

    Parameters
    ----------
    description : str
        Text in front of the time.
    quiet : bool
        Show nothing.

    Notes
    -----
    No counterpart in the original.
    """
    if quiet or not sys.stderr.isatty():
        if not quiet:
            print(f"{description} ...", file=sys.stderr, flush=True)
        yield
        return
    finished = threading.Event()
    with tqdm(bar_format="{desc} ... {elapsed}", desc=description, leave=False) as line:

        def redraw() -> None:
            while not finished.wait(1.0):
                line.refresh()

        thread = threading.Thread(target=redraw, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()
