"""A system or a disk that does not flush folders."""

import contextlib
import errno
import os
import stat

import pytest

UNFLUSHED_FOLDERS = pytest.mark.parametrize(
    ("number", "end"),
    [
        (errno.EINVAL, contextlib.nullcontext()),
        (errno.EIO, pytest.raises(OSError, match="Input/output")),
    ],
    ids=["by the system", "by the disk"],
)


def refuse_to_flush_folders(monkeypatch, number):
    """Let flushing a folder fail with this error; files are flushed as ever."""
    flush = os.fsync

    def only_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr("cle_port.files.os.fsync", only_files)
