"""The one exception that stands for something a user can put right."""

from __future__ import annotations

LONGEST = 1000  # characters of a message


class UserError(Exception):
    """Bad input, described in one line that names the fix.

    Everything a user can get wrong (a path, a file's content, an option) is
    raised as this type; the programs print its text after ``error:`` and exit
    with status 2.  Any other exception that escapes is a bug of the port.

    Parameters
    ----------
    message : str
        What is wrong with which input and what to do about it; made one
        printable line by `one_line`, whatever the input puts into it.

    Notes
    -----
    No counterpart in the original, where such input ends in a traceback.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


def one_line(text: object) -> str:
    """Text in one printable line that is not too long.

    Parameters
    ----------
    text : object
        Its ``str`` is taken; may quote a file that tries to steer the terminal.

    Returns
    -------
    str
        Line ends and other white space are blanks, other characters that
        cannot be printed are escaped, the middle of a long text is left out.

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
