"""Messages for users: one printable line each."""

import pytest

from cle_port.errors import LONGEST, UserError, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a, 'b' \\ ä €", "a, 'b' \\ ä €"),
        ("two\nlines\tand\r\nmore", "two lines and  more"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202eturned round", "\\u202eturned round"),
        (ValueError("of an object"), "of an object"),
    ],
)
def test_one_line(text, line):
    assert one_line(text) == line
    assert str(UserError(text)) == line


def test_the_middle_of_a_long_text_is_left_out():
    line = one_line("begin" + "x" * 10**6 + "end")
    assert line.startswith("begin")
    assert line.endswith("end")
    assert " ... " in line
    assert len(line) == LONGEST + len(" ... ")
    assert one_line("x" * LONGEST) == "x" * LONGEST
