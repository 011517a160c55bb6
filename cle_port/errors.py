"""The exception for errors that a user can fix."""

from __future__ import annotations

LONGEST = 1000  # characters of a message


class UserError(Exception):
    """Bad input, described in one line that names the fix.

    Every mistake that a user can make (a wrong path, file or option) raises this
    type.  The programs print the message after ``error:`` and exit with status 2.
    Any other exception that reaches the user is a bug of the port.

    Parameters
    ----------
    message : str
        Says which input is wrong, why, and how to fix it.  `one_line` makes it
        one printable line, even if it quotes the input.

    Notes
    -----
    No counterpart in the original: such input ends in a traceback there.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


def one_line(text: object) -> str:
    """Format a text as one printable line of limited length.

    Parameters
    ----------
    text : object
        Anything with a ``str``; it may quote a file with terminal escapes.

    Returns
    -------
    str
        White space and line ends become blanks.  Other unprintable characters are
        escaped.  A long text loses its middle.

    Notes
    -----
    No counterpart in the original.
    """
    line = str(text)
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    return "".join(
        character
        if character.isprintable()
        else " "
        if character.isspace()
        else repr(character)[1:-1]
        for character in line
    )
