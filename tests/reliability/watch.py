"""Watching a piece of code: what it executes, what it writes where, how much memory it takes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

EXECUTING = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess.Popen",
             "pty.spawn", "socket.connect", "socket.bind", "ctypes.dlopen")  # fmt: skip
CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod",
            "os.chown", "os.truncate", "shutil.rmtree", "shutil.move")  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_watched: list[tuple[list[str], tuple[str, ...]]] = []  # where to complain, what may be written


@contextmanager
def watched(*folders: Path) -> Iterator[list[str]]:
    """Collect what Python executes, and what it opens for writing outside some folders.

    Yields
    ------
    list of str
        Empty if nothing of that kind happens.  What libraries in C do is not
        seen; they are given no name of a file to write to.
    """
    complaints: list[str] = []
    _hook_once()
    _watched.append((complaints, tuple(os.path.realpath(folder) for folder in folders)))
    try:
        yield complaints
    finally:
        _watched.pop()


@cache
def _hook_once():
    sys.addaudithook(_hook)  # for good: Python cannot remove it


def _hook(event, arguments):
    if not _watched:
        return
    complaints, folders = _watched[-1]
    if event in EXECUTING:
        complaints.append(f"{event}{arguments!r}"[:300])
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        if not _within(arguments[0], folders):
            complaints.append(f"wrote to {arguments[0]!r}")
    elif event in CHANGING:
        if not _within(arguments[0], folders):
            complaints.append(f"{event}{arguments!r}"[:300])
    elif event == "exec" and getattr(arguments[0], "co_filename", "<").startswith("<string"):
        complaints.append("executed text")


def _within(path, folders):
    if not isinstance(path, str | bytes | os.PathLike):
        return True  # a descriptor: opened before
    return os.path.realpath(os.fsdecode(path)).startswith(folders)


def limit_memory(more: int) -> None:
    """Let this process take ``more`` bytes of address space than it has now, not more."""
    import resource  # not on every system

    size = _status("VmSize") + more
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def reset_peak() -> int:
    """Forget the peak of resident memory so far; return what is resident, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """Greatest resident memory since `reset_peak`, in bytes."""
    return _status("VmHWM")


def _status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
