"""Files: opened if they are files, written completely or not at all."""

import errno
import os

import pytest

from cle_port.errors import UserError
from cle_port.files import open_file, replace_file, temporary_beside, unwritable, write
from tests.flushing import UNFLUSHED_FOLDERS, refuse_to_flush_folders


def test_a_file_is_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with open_file(tmp_path / "file") as file:
        assert file.read() == b"content"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file(kind, tmp_path):
    """A pipe would be waited for; a device may have no end."""
    path = "/dev/zero"
    if kind == "pipe":
        os.mkfifo(path := tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a pipe or a device, not a file") as error:
        open_file(path)
    assert error.value.filename == str(path)


def test_a_folder_and_nothing_at_all(tmp_path):
    with pytest.raises(OSError, match=r"director|denied"):
        open_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "nothing")


def test_content_replaces_what_was_there(tmp_path):
    for content in (b"old", b"new"):
        write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


class Interrupted(BaseException):
    """Like KeyboardInterrupt, not an Exception."""


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), Interrupted()])
def test_the_old_file_stays(function, error, tmp_path, monkeypatch):
    def fail(*args):
        raise error

    write(tmp_path / "file", b"old")
    monkeypatch.setattr(f"cle_port.files.os.{function}", fail)
    with pytest.raises(type(error)):
        replace_file(tmp_path / "file", lambda file: file.write(b"new"))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    temporary_beside(tmp_path / "file").write_bytes(b"half")
    write(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_under_the_temporary_name_is_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    temporary_beside(tmp_path / "file").symlink_to(tmp_path / "other")
    write(tmp_path / "file", b"content")
    assert (tmp_path / "other").read_bytes() == b"other"
    assert not (tmp_path / "file").is_symlink()


@UNFLUSHED_FOLDERS
def test_a_folder_that_cannot_be_flushed(number, end, tmp_path, monkeypatch):
    """The file is there all the same; but a failing disk raises."""
    refuse_to_flush_folders(monkeypatch, number)
    with end:
        replace_file(tmp_path / "file", lambda file: file.write(b"content"))
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"^cannot write .*No such file.*; free space or choose"):
        write(tmp_path / "nothing" / "file", b"")


def test_errors_of_hdf5_are_one_line(tmp_path):
    error = unwritable(tmp_path / "x.h5", OSError("Unable to create\n  page after page"))
    assert str(error) == (
        f"cannot write {tmp_path / 'x.h5'} (Unable to create page after page); "
        "free space or choose a folder that can be written"
    )
