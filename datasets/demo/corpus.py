"""Storage of a demo corpus in the cache, and checks that both corpora share.

No counterpart in the original.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cle_port.errors import UserError
from cle_port.files import unwritable
from cle_port.files.cache import cache_dir

ABANDONED_SECONDS = 24 * 3600  # age at which no program still works on an unfinished corpus


def ensure_corpus(
    name: str,
    version: str,
    build: Callable[[Path], Path],
    is_intact: Callable[[Path], bool],
) -> Path:
    """Return the folder of a corpus in the cache; build the corpus if it is missing or damaged.

    Parameters
    ----------
    name : str
        Subfolder of `cle_port.files.cache.cache_dir` for all versions of the
        corpus.
    version : str
        Subfolder of this version.
    build : callable
        Writes the corpus to the folder that it receives, and returns the folder.
    is_intact : callable
        Tells whether a folder holds the complete, undamaged corpus.

    Returns
    -------
    Path
        Folder of the corpus.

    Raises
    ------
    UserError
        If the cache folder cannot be written.

    Notes
    -----
    Two programs may build at the same time.  Each builds in its own temporary
    folder.  The second one to finish finds the corpus in place and keeps it.
    """
    shelf = cache_dir(name)
    final = shelf / version
    if is_intact(final):
        return final
    _remove_abandoned(shelf)
    try:
        workshop = Path(tempfile.mkdtemp(prefix=".tmp-", dir=shelf))
        try:
            fresh = build(workshop / "corpus")
            if not is_intact(final):
                with contextlib.suppress(FileNotFoundError):
                    final.rename(workshop / "damaged")
                fresh.rename(final)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    except OSError as error:
        # Another program may have put its corpus in place between the check and the renaming.
        if not is_intact(final):
            raise unwritable(final, error) from error
    return final


def _remove_abandoned(shelf: Path) -> None:
    for folder in shelf.glob(".tmp-*"):  # from programs that were killed
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def fingerprint(*code: str, settings: str = "") -> str:
    """Compute a digest of everything that determines the content of a corpus.

    Parameters
    ----------
    *code : str
        Paths of the modules that make the corpus.
    settings : str
        Settings of the corpus as text.

    Returns
    -------
    str
        12 hexadecimal digits.  A version name that contains them keeps programs
        from using a corpus that other code made.
    """
    digest = hashlib.sha256()
    for path in code:
        digest.update(Path(path).read_bytes())
    digest.update(settings.encode())
    return digest.hexdigest()[:12]


def prepare_folder(folder: Path) -> None:
    """Create a folder for a corpus.

    Raises
    ------
    UserError
        If the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    check_writable(folder, folder)


def check_writable(folder: Path, path: Path) -> None:
    """Check that a folder can be written, before the program spends time on the content.

    Parameters
    ----------
    folder : Path
        Existing folder.
    path : Path
        Path for the error message.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(path, error) from error


def check_seed(seed: int) -> None:
    """Raise `UserError` for a negative ``--seed``."""
    if seed < 0:
        raise UserError(f"--seed must not be negative, not {seed}; use 0 or any positive number")
