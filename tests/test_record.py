"""Tests of the recorder without Theano.

No test runs it with the original: that needs Python 2.7 and is done by hand.
"""

import ast
import sys

import numpy as np
import pytest

from compare.__main__ import main
from compare.original import record, recorder
from tests.recordings import read

SOURCE = record.SCRIPT.read_text(encoding="utf-8")
ORIGINAL = ["--original", "nowhere"]


def test_parses_as_python_2():
    """The script has no syntax that only Python 3 knows; the tests have no Python 2 to check it."""
    newer = (
        ast.AnnAssign,
        ast.AsyncFunctionDef,
        ast.JoinedStr,
        ast.Match,
        ast.NamedExpr,
        ast.Nonlocal,
        ast.YieldFrom,
    )
    tree = ast.parse(SOURCE)
    for node in ast.walk(tree):
        assert not isinstance(node, newer), node.lineno
        if isinstance(node, ast.arguments):
            assert not node.kwonlyargs
            assert not node.posonlyargs
        if isinstance(node, ast.arg):
            assert node.annotation is None
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None
        if isinstance(node, ast.Raise):
            assert node.cause is None
        if isinstance(node, ast.List | ast.Tuple):
            assert not any(isinstance(item, ast.Starred) for item in node.elts)
        if isinstance(node, ast.ClassDef):
            assert node.bases
            assert not node.keywords
    assert tree.body[1].module == "__future__"
    SOURCE.encode("ascii")


def scripts_main(args):
    """Replace the main of a script."""
    width = 500
    rows = [args, 2040064]
    one = 1
    return width, rows, one, True, 1.0


def test_literals_are_replaced():
    changed = recorder.with_constants(scripts_main, {500: 12, 2040064: 31, 1: 7})
    assert changed("x") == (12, ["x", 31], 7, True, 1.0)
    assert scripts_main("x") == (500, ["x", 2040064], 1, True, 1.0)


def test_unknown_literals_are_refused():
    with pytest.raises(recorder.Refused, match="no literal 600; it has"):
        recorder.with_constants(scripts_main, {600: 12})


def test_summary():
    summary = recorder.summary(np.arange(20.0).reshape(4, 5))
    assert summary[:4].tolist() == [20, 190, 2470, 2470**0.5]
    assert summary[4:].tolist() == [*range(8), *range(12, 20)]


def test_summary_pads_short_arrays():
    summary = recorder.summary(np.float32([1, 2]))
    assert summary.tolist() == [2, 3, 5, 5**0.5, 1, 2, *[0] * 6, 1, 2, *[0] * 6]


def test_settings():
    config = recorder.settings("blizzard", ["batch_size=8", "lr=0.1"])
    assert config["batch_size"] == "8"
    assert config["lr"] == "0.1"
    recorded = read("model_blizzard_vrnn_gmm_small_float64.npz")["config/names"].tolist()
    assert sorted(config) == sorted(recorded)


@pytest.mark.parametrize("change", ["batch_size", "nonsense=1", ""])
def test_wrong_settings_are_refused(change):
    with pytest.raises(recorder.Refused, match="give NAME=VALUE"):
        recorder.settings("iamondb", [change])


def test_replacements():
    parse = recorder.parse
    small = recorder.replacements(parse(["out", *ORIGINAL]), "blizzard_vrnn_gmm")
    assert small == {500: 10, 2040064: 31, 112640: 13, 2152704: 45}
    own = ["out", *ORIGINAL, "--own_sizes", "--data_path", "x", "--exchange", "500=20"]
    assert recorder.replacements(parse(own), "blizzard_vrnn_gmm") == {500: 20}
    wrong = parse(["out", *ORIGINAL, "--exchange", "500"])
    with pytest.raises(recorder.Refused, match="FROM=TO"):
        recorder.replacements(wrong, "blizzard_vrnn_gmm")


@pytest.mark.parametrize("kind", ["strong", "clipped"])
def test_larger_weights(kind):
    rng = np.random.default_rng(0)
    names = ["W_x_t__x_1", "U_rnn__rnn", "b_x_1", "W_theta_1__theta_sig", "b_theta_sig"]
    before = {name: rng.normal(size=4).astype(np.float32) for name in names}
    after = recorder.enlarged(before, kind)
    assert list(after) == names
    assert all(value.dtype == np.float32 for value in after.values())
    np.testing.assert_array_equal(after["U_rnn__rnn"], before["U_rnn__rnn"])
    np.testing.assert_allclose(after["W_x_t__x_1"], 20 * before["W_x_t__x_1"], rtol=1e-6)
    lowered = np.all(after["b_theta_sig"] < before["b_theta_sig"] - 2)
    assert lowered == (kind == "clipped")


def test_synthetic_handwriting():
    line = recorder.make_line(np.random.RandomState(0), 12)
    assert line.shape == (12, 3)
    assert line.dtype.kind == "i"
    assert set(line[:, 0]) <= {0, 1}
    assert line[-1, 0] == 1


def test_missing_original_is_reported(capsys, tmp_path):
    code = recorder.main([str(tmp_path / "out"), "--original", str(tmp_path)])
    assert code == 2
    assert "there is no" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_copy(tmp_path, capsys):
    assert main(["record", "--copy", str(tmp_path / "script.py")]) == 0
    assert (tmp_path / "script.py").read_text(encoding="utf-8") == SOURCE
    assert main(["record", "--copy", str(tmp_path / "none" / "script.py")]) == 2
    assert "error: cannot write" in capsys.readouterr().err


def test_starts_another_python(tmp_path, capfd):
    out = str(tmp_path / "out")
    assert main(["record", "--python", sys.executable, out, "--original", str(tmp_path)]) == 2
    assert "error: there is no" in capfd.readouterr().err
    assert main(["record", "--python", str(tmp_path / "python"), out, *ORIGINAL]) == 2
    assert "error: cannot start" in capfd.readouterr().err


def test_wrong_arguments_are_refused_before_another_python_starts(tmp_path):
    with pytest.raises(SystemExit):
        main(["record", "--python", str(tmp_path / "python"), "out"])
