"""The one exception that stands for something a user can put right."""

from __future__ import annotations


class UserError(Exception):
    """Bad input, described in one line that names the fix.

    Everything a user can get wrong (a path, a file's content, an option) is
    raised as this type; the programs print its text after ``error:`` and exit
    with status 2.  Any other exception that escapes is a bug of the port.

    Parameters
    ----------
    message : str
        What is wrong with which input and what to do about it, in one line.

    Notes
    -----
    No counterpart in the original, where such input ends in a traceback.
    """
