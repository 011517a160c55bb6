import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cle_port.errors import UserError
from datasets.build import iamondb as build_iamondb
from datasets.build.__main__ import main
from datasets.build.iamondb import build, fetch_iamondb
from datasets.hdf5.lines import read_lines
from datasets.iamondb import IAMOnDB
from datasets.iamondb_utils import (
    Unusable,
    construct_ascii_path,
    construct_stroke_paths,
    draw_svg,
    pair,
    read_strokes,
    read_transcript,
    write_svg,
)
from tests.recordings import path_of, read

ROOT = Path(__file__).parents[1]
TREE = "artifacts/iamondb/tree"
BOMB = """<?xml version="1.0"?>
<!DOCTYPE bomb [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]>
<WhiteboardCaptureSession><StrokeSet>&d;</StrokeSet></WhiteboardCaptureSession>"""


def recorded_list(case):
    arrays = read("artifacts/iamondb.npz")
    return [arrays[f"{case}/{n:03d}"] for n in range(int(arrays[f"{case}/count"]))]


def xml(*strokes):
    """Return a file with strokes, each a list of (x, y)."""
    inner = "".join(
        "<Stroke>" + "".join(f'<Point x="{x}" y="{y}" time="0"/>' for x, y in stroke) + "</Stroke>"
        for stroke in strokes
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<WhiteboardCaptureSession>'
        '<WhiteboardDescription><SensorLocation corner="top_left"/></WhiteboardDescription>'
        f"<StrokeSet>{inner}</StrokeSet></WhiteboardCaptureSession>"
    )


LINE = xml([(1, 2), (30, 40)], [(35, 45)])


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def add_form(root, name, lines, text=None):
    """Write a form with the XML contents of its lines and with a transcript."""
    form = root / "lineStrokes" / name.split("-")[0] / name.rstrip("uz")
    for number, content in enumerate(lines, start=1):
        put(form / f"{name}-{number:02d}.xml", content)
    if text is not None:
        put(construct_ascii_path(root / "ascii", name), text)


@pytest.fixture
def source(tmp_path):
    """Two good forms."""
    root = tmp_path / "in"
    add_form(root, "a00-000u", [LINE, LINE], "OCR:\n\nX\n\nCSR:\n\nHe ran\nto me, ok\n")
    add_form(root, "b00-001", [LINE], "CSR:\nso\n")
    put(root / "train.txt", " a00-000u\n")
    put(root / "valid.txt", "b00-001")
    return root


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


# The whole command


@pytest.mark.parametrize("which", ["tree", "written_by_fetch"])
def test_reads_what_the_original_reads(out, which):
    build(path_of(f"artifacts/iamondb/{which}"), out, quiet=True)
    for split in ("train", "valid"):
        found = [line.points for line in read_lines(out / "iamondb.h5", split)]
        expected = recorded_list(f"fetch/{split}_x")
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected):
            assert_array_equal(ours, theirs)
        labels = IAMOnDB(name=split, path=out).labels[0]
        for ours, theirs in zip(labels, recorded_list(f"fetch/{split}_y"), strict=True):
            assert_array_equal(ours, theirs)


def test_summary(out, capsys):
    assert main(["iamondb", str(path_of(TREE)), str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "forms    3 train, 2 valid",
        "lines    9 train, 5 valid, 0 forms or lines skipped",
        "points   142, longest line 15",
        "letters  35 different characters, 30 of them among the 56 with their own label",
        "mean     18",
        "std      20.2237",
        f"wrote    {out / 'iamondb.h5'}",
    ]


def test_statistics_are_those_of_the_data_set(source, out):
    summary = build(source, out, quiet=True)
    data = IAMOnDB(name="train", prep="normalize", path=out)
    assert (summary.mean, summary.std) == (data.X_mean, data.X_std)


def test_two_builds_are_equal(source, tmp_path):
    for name in ("one", "two"):
        build(source, tmp_path / name, quiet=True)
    one, two = ((tmp_path / name / "iamondb.h5").read_bytes() for name in ("one", "two"))
    assert one == two


def test_refuses_to_replace(source, out):
    build(source, out, quiet=True)
    with pytest.raises(UserError, match="exists; use --force to replace it"):
        build(source, out, quiet=True)
    before = (out / "iamondb.h5").read_bytes()
    put(source / "ascii/b00/b00-001/b00-001.txt", "CSR:\nof\n")
    build(source, out, quiet=True, force=True)
    assert (out / "iamondb.h5").read_bytes() != before


def test_archives_unpacked_into_folders_of_their_own(source, out):
    for name in ("ascii", "lineStrokes"):
        (source / name).rename(source / "moving")
        (source / f"{name}-all").mkdir()
        (source / "moving").rename(source / f"{name}-all" / name)
    assert build(source, out, quiet=True).lines == {"train": 2, "valid": 1}


def test_without_lists(source, out, tmp_path):
    for n in range(8):
        add_form(source, f"c00-00{n}", [LINE], "CSR:\nso\n")
    for split in ("train", "valid"):
        (source / f"{split}.txt").unlink()
    with pytest.raises(UserError, match=r"no train\.txt and no valid\.txt .* --valid_share 0\.1"):
        build(source, out, quiet=True)
    assert build(source, out, valid_share=0.3, quiet=True).forms == {"train": 7, "valid": 3}
    again = build(source, tmp_path / "again", valid_share=0.3, quiet=True)
    assert again.path.read_bytes() == (out / "iamondb.h5").read_bytes()
    put(source / "train.txt", "b00-001")
    with pytest.raises(UserError, match=r"no valid\.txt in"):
        build(source, out, valid_share=0.3, quiet=True, force=True)


@pytest.mark.parametrize("share", [0, 1, float("nan"), -1])
def test_bad_share(source, out, share):
    with pytest.raises(UserError, match="--valid_share must lie between 0 and 1"):
        build(source, out, valid_share=share)


def test_command(source, out):
    add_form(source, "a00-000u", [LINE, "<broken"])
    command = ("-m", "datasets.build", "iamondb", source, out)
    done = run(*command, "--quiet")
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.startswith("skipped  a00-000u-02.xml: is broken XML")
    done = run(*command)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    done = run(*command, "--force", "--strict")
    assert done.returncode == 2
    assert "a00-000u-02.xml is broken XML" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("or run without --strict")


def test_help_teaches():
    text = run("-m", "datasets.build", "iamondb", "--help").stdout
    for word in ("example:", "lineStrokes-all.tar.gz", "--valid_share", "--strict", "iamondb.h5"):
        assert word in text


def test_interrupted(source, out, capsys, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(build_iamondb, "read_strokes", interrupted)
    assert main(["iamondb", str(source), str(out)]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_disk_that_is_full(source, out, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device.*free space"):
        build(source, out, quiet=True)
    assert list(out.iterdir()) == []


def test_read_only_place(source, tmp_path):
    put(tmp_path / "file", "")
    with pytest.raises(UserError, match="cannot create"):
        build(source, tmp_path / "file" / "out", quiet=True)


def test_fetch_builds_in_place(source, caplog):
    lines = fetch_iamondb(source, "valid")
    assert [line.text for line in lines] == ["so"]
    assert "wrote" in caplog.text
    assert (source / "iamondb.h5").exists()
    shutil.rmtree(source / "lineStrokes")
    assert len(fetch_iamondb(source, "train")) == 2


# Edge cases and their outcomes


def skipped(source, out, **options):
    return dict(build(source, out, quiet=True, **options).skipped)


def with_form(source, lines, text, name="a01-000z"):
    add_form(source, name, lines, text)
    put(source / "train.txt", f"a00-000u\n  {name}  \n")


FORM_CASES = [
    ("OCR:\nso\nto\n", [LINE], "a01-000z (train)", "has no line 'CSR:' in its transcript"),
    ("CSR:\n \n", [LINE], "a01-000z (train)", "has nothing after 'CSR:'"),
    ("CSR:\none\ntwo\n", [LINE], "a01-000z (train)", "has 1 stroke files but 2 transcript lines"),
    ("CSR:\none\n", [LINE, LINE], "a01-000z (train)", "has 2 stroke files but 1 transcript lines"),
    ("CSR:\none\n", [], "a01-000z (train)", "has no folder"),
    (None, [LINE], "a01-000z (train)", "cannot be read"),
    ("CSR:\none\n" + "x" * 2**20, [LINE], "a01-000z (train)", "is longer than 1048576 bytes"),
]


@pytest.mark.parametrize(("text", "lines", "name", "reason"), FORM_CASES)
def test_forms_that_are_skipped(source, out, text, lines, name, reason):
    with_form(source, lines, text)
    found = skipped(source, out)
    assert list(found) == [name]
    assert reason in found[name]
    assert len(read_lines(out / "iamondb.h5", "train")) == 2
    with pytest.raises(UserError, match=r"a01-000z .* or run without --strict"):
        build(source, out, quiet=True, strict=True, force=True)


LINE_CASES = {
    "cut off": (LINE[:-40], "is broken XML (unclosed token"),
    "not nested": ("<a><b></a></b>", "is broken XML (mismatched tag"),
    "empty": ("", "is broken XML (no element found"),
    "not XML": (b"\x00\xff\xfe", "is broken XML"),
    "unknown encoding": (LINE.replace("ISO-8859-1", "EBCDIC-77"), "is broken XML"),
    "bomb": (BOMB, "declares a document type"),
    "external entity": (
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>',
        "declares a document type",
    ),
    "doctype alone": ('<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><a/>', "declares a document"),
    "deep": ("<a>" * 40 + "</a>" * 40, "has more than 16 nested elements"),
    "no strokes": (xml(), "has no strokes"),
    "empty strokes": (xml([], []), "has no strokes"),
    "other root": ("<svg/>", "has no strokes"),
    "one point": (xml([(1, 2)]), "has only one point"),
    "fraction": (xml([(1, 2), (1.5, 2)]), "x='1.5', which is no whole number"),
    "NaN": (xml([(1, 2), (1, "nan")]), "y='nan', which is no whole number"),
    "word": (xml([(1, 2), (1, "")]), "y='', which is no whole number"),
    "Python's": (xml([(1, 2), (1, "1_0")]), "y='1_0', which is no whole number"),
    "huge": (xml([(1, 2), (10**6, 2)]), "x=1000000, beyond 100000"),
    "astronomic": (xml([(1, 2), ("9" * 5000, 2)]), "which is no whole number"),
    "without y": (LINE.replace("y=", "z="), "has a point without y"),
    "too long": (xml([(1, 2)] * 100_001), "has more than 100000 points"),
}


@pytest.mark.parametrize("case", LINE_CASES)
def test_lines_that_are_skipped(source, out, case):
    content, reason = LINE_CASES[case]
    with_form(source, [LINE, content, LINE], "CSR:\none\ntwo\nthree\n")
    found = skipped(source, out)
    assert list(found) == ["a01-000z-02.xml"]
    assert reason in found["a01-000z-02.xml"]
    assert len(found["a01-000z-02.xml"]) < 200
    texts = [line.text for line in read_lines(out / "iamondb.h5", "train")]
    assert texts == ["He ran", "to me, ok", "one", "three"]


def test_large_file(tmp_path):
    path = tmp_path / "a.xml"
    with open(path, "wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(Unusable, match="is longer than"):
        read_strokes(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.xml")
    with pytest.raises(Unusable, match="pipe or a device"):
        read_strokes(tmp_path / "a.xml")


def test_one_point_strokes_are_kept(tmp_path):
    points = read_strokes(put(tmp_path / "a.xml", xml([(5, 6)], [], [(7, 8), (9, 9)], [(1, 1)])))
    assert points.tolist() == [[1, 5, -6], [0, 7, -8], [1, 9, -9], [1, 1, -1]]
    assert points.dtype == np.int64


def test_several_stroke_sets_stay_apart(tmp_path):
    content = LINE.replace("</Stroke><Stroke>", "</Stroke></StrokeSet><StrokeSet><Stroke>")
    points = read_strokes(put(tmp_path / "a.xml", content))
    assert points[:, 0].tolist() == [0, 1, 1]


def test_lines_pair_by_number_where_files_are_missing(source, out):
    with_form(source, [LINE] * 3, "CSR:\none\ntwo\nthree\n")
    (source / "lineStrokes/a01/a01-000/a01-000z-02.xml").unlink()
    assert skipped(source, out) == {"a01-000z line 2": "has no stroke file"}
    texts = [line.text for line in read_lines(out / "iamondb.h5", "train")]
    assert texts[2:] == ["one", "three"]


@pytest.mark.parametrize(
    ("numbers", "n_texts", "expected"),
    [
        ([1, 2, 3], 3, {1: 0, 2: 1, 3: 2}),
        ([2, 5], 2, {2: 0, 5: 1}),
        ([1, 4], 4, {1: 0, 4: 3}),
        ([1, 2], 3, None),
        ([0, 3], 3, None),
        ([1, 2, 3], 2, None),
    ],
)
def test_pair(numbers, n_texts, expected):
    paths = dict.fromkeys(numbers, Path("a"))
    if expected is None:
        with pytest.raises(Unusable, match="not clear which belong together"):
            pair(paths, ["x"] * n_texts)
    else:
        assert pair(paths, ["x"] * n_texts) == expected


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"OCR:\nA\n\nCSR:\n\nOne two\n three \n", ["One two", "three"]),
        (b"CSR:\r\none\r\n \r\n   \r\ntwo", ["one", "two"]),
        (b" CSR: \none", ["one"]),
        (b"CSR:\none%%%%%two\n%%\n", ["one", "two"]),
        (b"CSR:\n5% of it\n", ["5% of it"]),
        ("\ufeffCSR:\ncaf\u00e9\n".encode(), ["caf\u00e9"]),
        ("CSR:\ncaf\u00e9\n".encode("latin-1"), ["caf\u00e9"]),
        (b"CSR:\na\0b\n", ["a\N{REPLACEMENT CHARACTER}b"]),
        (b"CSR:\none\nCSR:\n", ["one", "CSR:"]),
    ],
)
def test_transcripts(tmp_path, content, lines):
    assert read_transcript(put(tmp_path / "a.txt", content)) == lines


def test_stroke_files_come_in_the_order_of_their_numbers(tmp_path):
    folder = tmp_path / "a01" / "a01-000"
    for name in ("a01-000u-10", "a01-000u-9", "a01-000-01", "a01-000u-x", "a01-000z-01"):
        put(folder / f"{name}.xml", "")
    put(folder / "a01-000u-11.txt", "")
    assert list(construct_stroke_paths(tmp_path, "a01-000u")) == [9, 10]
    assert list(construct_stroke_paths(tmp_path, "a01-000")) == [1]
    with pytest.raises(Unusable, match="has no a01-000b-"):
        construct_stroke_paths(tmp_path, "a01-000b")


@pytest.mark.parametrize(
    ("entry", "name", "reason"),
    [
        ("../../etc/passwd-1", "../../etc/passwd-1 (train)", "is no form name"),
        ("a01/000-u", "a01/000-u (train)", "is no form name"),
        ("a00-000u", "a00-000u (train)", "is listed already"),
        ("z01-000z", "z01-000z (train)", "is a known bad form"),
        ("a99-000", "a99-000 (train)", "cannot be read"),
    ],
)
def test_list_entries_that_are_skipped(source, out, entry, name, reason):
    add_form(source, "z01-000z", [LINE], "CSR:\nso\n")
    put(source / "train.txt", f"\n\ta00-000u\r\n\n {entry}\n")
    found = skipped(source, out)
    assert list(found) == [name]
    assert reason in found[name]


def test_validation_does_not_repeat_training(source, out):
    put(source / "valid.txt", "b00-001\na00-000u\n")
    assert skipped(source, out) == {"a00-000u (valid)": "is listed already"}


# Unusable sources


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: shutil.rmtree(s), "no folder .*; check the path of SOURCE"),
        (lambda s: shutil.rmtree(s / "ascii"), "no folder ascii in .*; unpack ascii-all.tar.gz"),
        (lambda s: shutil.rmtree(s / "lineStrokes"), "no folder lineStrokes in"),
        (lambda s: put(s / "train.txt", ""), r"train\.txt is empty; write one form name"),
        (lambda s: put(s / "train.txt", " \n\n"), r"train\.txt is empty"),
        (lambda s: put(s / "valid.txt", b"\xff\xfe\x00"), r"cannot read .*valid\.txt \(it is no"),
        (lambda s: put(s / "valid.txt", "a01\n" * 2**19), r"valid\.txt is too long"),
        (
            lambda s: put(s / "valid.txt", "a99-000"),
            r"no usable line for valid in .* \(1 forms or lines skipped, the first: a99-000",
        ),
        (
            lambda s: add_form(s, "a00-000u", [xml([(1, 9), (9, 1)])] * 2),
            "the offsets in .* have the deviation nan",
        ),
        (
            lambda s: add_form(s, "a00-000u", [xml([(1, 1), (1, 1)])] * 2),
            r"the offsets in .* have the deviation 0",
        ),
    ],
)
def test_unusable_source(source, out, change, message):
    change(source)
    with pytest.raises(UserError, match=message) as raised:
        build(source, out, quiet=True)
    assert "\n" not in str(raised.value)
    assert not out.exists() or list(out.iterdir()) == []


# Drawings


def test_drawing_has_a_stroke_for_each_pen_up():
    line = np.array([[0, 0, 0], [1, 10, 5], [1, 20, 5], [0, 30, 0.5], [0.2, 31, 1]])
    svg = draw_svg([line, 2 * line], ["a < b & c", "d"])
    strokes = [s.split('"')[0].split() for s in svg.split('points="')[1:]]
    assert [len(stroke) for stroke in strokes] == [2, 2, 2] * 2  # a dot is drawn twice
    assert strokes[1][0] == strokes[1][1]
    assert "a &lt; b &amp; c" in svg


def test_drawing_is_flipped_and_scaled(tmp_path):
    line = np.array([[0, 100, -50], [1, 1060, -10]])
    assert 'points="20.0,60.0 980.0,20.0"' in draw_svg([line])
    write_svg(tmp_path / "a.svg", [line])
    assert (tmp_path / "a.svg").read_text() == draw_svg([line])
    with pytest.raises(UserError, match="cannot write"):
        write_svg(tmp_path / "nowhere" / "a.svg", [line])
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


def test_layout_of_the_file(source, out):
    build(source, out, quiet=True)
    with h5py.File(out / "iamondb.h5", "r") as file:
        assert file["train/x/joined"].dtype == np.int32
        assert file["train/x/lengths"][:].tolist() == [3, 3]
        assert "".join(map(chr, file["train/y/joined"][:])) == "He ranto me, ok"
        assert file.attrs["format"] == "IAM-OnDB lines, version 1"
