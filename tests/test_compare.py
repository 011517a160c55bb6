"""The comparison with the original: its report, and its answer to an altered port."""

import dataclasses
import io
import json
import re
import zipfile
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytensor
import pytest

import models.rnn_gmm
import models.vrnn_gmm
from cle_port import cost
from cle_port.errors import UserError
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.train.ext import GradientClipping, WeightNorm
from cle_port.train.opt import Adam
from cle_port.utils import sharedX
from compare import __main__ as entry
from compare import command, recording, replay
from compare.differences import (
    Comparison,
    Section,
    compare,
    compare_summaries,
    noise_of,
    summarize,
    ulps_between,
    with_signs_of,
    worst,
)
from compare.recording import Recording, below, scalar
from compare.replay import Playback, check_complete, compile_program, repeat_run, settings
from compare.report import terminal
from compare.report.chart import chart
from compare.report.page import page
from compare.units import compare_units, optimizers
from compare.verdicts import compare_run
from models.parts import initialize
from tests.recordings import FOLDERS, path_of, read

OPTIM = "units_optim_float64.npz"
RUN = "model_iamondb_vrnn_gauss_strong_float64.npz"


def run_main(capsys, *argv):
    """Return the exit status, standard output and standard error."""
    status = entry.main([str(arg) for arg in argv])
    return status, *capsys.readouterr()


# --- differences ----------------------------------------------------------------------------


def test_the_two_numbers_that_differ_most():
    difference = compare("W", [[1.0, 2.0], [3.5, -4.0]], [[1.0, 2.1], [3.0, -4.0]], 0.1)
    assert (difference.original, difference.port) == (3.0, 3.5)
    assert difference.absolute == 0.5
    assert difference.relative == 0.5 / 4
    assert not difference.ok
    assert compare("W", 3.5, 3.0, 0.2).ok
    assert compare("W", 3.5, 3.0, None).ok


def test_the_scale_has_a_least_size():
    assert compare("kl", 1e-12, 2e-12, 1e-9).relative == 0.5
    assert compare("kl", 1e-12, 2e-12, 1e-9, least=1.0).relative == 1e-12


@pytest.mark.parametrize(
    ("ours", "theirs", "ok"),
    [
        (np.nan, np.nan, True),
        (np.inf, np.inf, True),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (np.inf, -np.inf, False),
        ([1.0, np.nan], [1.0, 1.0], False),
        ([1.0], 1.0, False),
        ([], [], True),
        (1 + 1j, 1 + 2j, False),
        (1 + 1j, 1 + 1j, True),
    ],
)
def test_numbers_that_are_not_ordinary(ours, theirs, ok):
    assert compare("x", ours, theirs, 1e-9).ok == ok


def test_a_multiple_of_the_noise_is_allowed_where_it_is_more():
    ours, theirs = [2.0, 1.5], [2.0, 1.0]
    assert not compare("W", ours, theirs, 1e-12, noise=0.04, multiple=10).ok
    found = compare("W", ours, theirs, 1e-12, noise=0.06, multiple=10)
    assert found.ok
    assert (found.noise, found.allowed) == (0.03, 0.3)
    assert compare("W", theirs, theirs, 1e-12, noise=1e-16, multiple=10).allowed == 1e-12
    assert not compare("W", ours, theirs, 1e-12, noise=0.06).ok
    assert compare("W", ours, theirs, None, noise=0.06, multiple=10).allowed is None


def test_noise_is_the_largest_change():
    assert noise_of([1.0, 2.0], [[1.0, 2.5], [0.75, 2.0]]) == 0.5
    assert noise_of([1.0], []) == 0
    # Repetitions of another shape, NaN and infinity are left out.
    assert noise_of([1.0, 2.0], [[1.0], [np.nan, 2.25], [np.inf, 2.0]]) == 0.25
    assert noise_of(np.nan, [1.0]) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ulps(dtype):
    one = np.array(1, dtype=dtype)[()]
    after = np.nextafter(one, one + 1)
    before = np.nextafter(one, one - 1)
    kind = np.dtype(dtype)
    assert ulps_between(after, one, kind) == ulps_between(one, before, kind) == 1
    assert ulps_between(after, before, kind) == 2
    assert ulps_between(-one, -after, kind) == 1
    tiny = np.nextafter(np.array(0, dtype=dtype)[()], one)
    assert ulps_between(tiny, -tiny, kind) == 2
    assert ulps_between(0.0, -0.0, kind) == 0
    assert ulps_between(np.nan, one, kind) is None


def test_ulps_count_floating_point_numbers():
    rng = np.random.default_rng(0)
    for a, b in rng.normal(size=(100, 2)).astype("float32"):
        same_sign = np.sign(a) == np.sign(b)
        bits = [int(x.view(np.int32)) & 0x7FFFFFFF for x in (a, b)]
        expected = abs(bits[0] - bits[1]) if same_sign else sum(bits)
        assert ulps_between(a, b, a.dtype) == expected


def test_summaries_find_a_change_that_the_ends_do_not_show():
    array = np.linspace(-1, 1, 40).reshape(8, 5)
    recorded = np.stack([summarize(array)])
    where = {"place": "", "update": 1, "order": (1,)}
    assert compare_summaries({"W": array}, recorded, 1e-9, **where)[0].ok
    changed = array.copy()
    changed[4, 0] += 1e-6
    assert not compare_summaries({"W": changed}, recorded, 1e-9, **where)[0].ok
    noise = {"noises": {"W": 1e-7}, "multiple": 10}
    assert compare_summaries({"W": changed}, recorded, 1e-9, **noise, **where)[0].ok
    nothing = np.stack([summarize(np.full(3, np.nan))])
    assert compare_summaries({"W": np.full(3, np.nan)}, nothing, 1e-9, **where)[0].ok
    assert not compare_summaries({"W": array[:-1]}, recorded, 1e-9, **where)[0].ok


def test_columns_are_turned_by_sign_only():
    theirs = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(with_signs_of(theirs * [1, -1], theirs), theirs)
    assert with_signs_of(np.ones((3, 2)), theirs).shape == (3, 2)


def test_the_first_difference_and_the_worst():
    fine = compare("a", 1.0, 1.0, 1e-9, order=(0, 0))
    late = compare("b", 2.0, 1.0, 1e-9, order=(3, 1))
    early = compare("c", 1.0 + 1e-6, 1.0, 1e-9, order=(3, 0))
    comparison = Comparison("file", {}, [Section("s", [late, fine]), Section("t", [early])])
    assert comparison.first() is early
    assert worst([fine, late, early]) is late
    assert not comparison.ok
    assert Comparison("file", {}, [Section("s", [fine])]).first() is None


@pytest.mark.full
@pytest.mark.parametrize("mistake", ["reset", "sigmoid"])
def test_mistakes_that_only_some_runs_show(mistake, monkeypatch, tmp_path):
    """The run's gates saturate; the state is never reset, or sigmoids do not saturate."""
    path = FOLDERS[0] / "others" / "model_blizzard_rnn_gmm_strong_float64.npz"
    if mistake == "reset":
        monkeypatch.setattr(
            replay, "settings", lambda *args: dataclasses.replace(settings(*args), reset_freq=10**6)
        )
    else:
        monkeypatch.setattr(models.rnn_gmm, "initialize", plainly_initialized)
    with Recording(path) as found:
        program = compile_program(found, "float64", tmp_path)
        first = compare_run(program, repeat_run(program, found)).first()
    assert first is not None
    assert first.update == 4 if mistake == "reset" else first.update > 0


def plainly_initialized(nodes):
    """Give layers the plain functions, whatever the settings say."""
    for node in nodes:
        node.saturate = False
    return initialize(nodes)


# --- reading --------------------------------------------------------------------------------


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_a_recording_is_a_mapping():
    with Recording(path_of(OPTIM)) as found:
        assert found.name == "units_optim_float64"
        assert len(found) == len(list(found)) > 300
        assert "meta/floatX" in found
        assert scalar(found, "meta/floatX") == "float64"
        assert set(below(found, "EpochCount")) == {"num1", "num3"}
        with pytest.raises(UserError, match="has no array 'update/000/x'"):
            found["update/000/x"]
        with pytest.raises(UserError, match="expected one value"):
            scalar(found, "attempts/names")


def missing(path):
    return path


def not_an_archive(path):
    path.write_bytes(b"PK" + bytes(100))
    return path


def truncated(path):
    path.write_bytes(path_of(OPTIM).read_bytes()[:5000])
    return path


def objects(path):
    return npz(path, a=np.array([None, print], dtype=object))


def archive_of(path, name, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def no_array(path):
    return archive_of(path, "a.npy", b"import os")


def billion_elements(path):
    """Write a header that claims 8 GB, without any data."""
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**9,)}
    np.lib.format.write_array_header_1_0(stream, header)
    return archive_of(path, "a.npy", stream.getvalue())


def folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "cannot read the recording .*No such file"),
        (folder, "cannot read the recording"),
        (not_an_archive, "is not a complete .npz file of plain arrays"),
        (truncated, "is not a complete .npz file"),
        (objects, "holds 'O', not numbers or text"),
        (no_array, "is not a complete .npz file"),
        (billion_elements, "does not have the length that its header states"),
    ],
)
def test_hostile_files(make, message, tmp_path, capsys):
    path = make(tmp_path / "units_optim_float64.npz")
    status, out, err = run_main(capsys, path)
    assert (status, out) == (2, "")
    assert re.search(f"^error: .*{message}", err)
    assert len(err.splitlines()) == 1


def test_more_than_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="the limit is 0 GiB"):
        Recording(npz(tmp_path / "a.npz", a=np.zeros(1000)))


def test_damage_within_an_array(tmp_path):
    path = npz(tmp_path / "a.npz", a=np.arange(1000.0))
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with Recording(path) as found, pytest.raises(UserError, match="CRC"):
        found["a"]


@pytest.mark.parametrize(
    ("name", "arrays"),
    [("other.npz", {"W": np.zeros(3)}), ("units_magic_float64.npz", {"meta/floatX": "float64"})],
)
def test_files_that_are_no_recordings(name, arrays, tmp_path, capsys):
    status, _, err = run_main(capsys, npz(tmp_path / name, **arrays))
    assert status == 2
    assert "is not a recording of the original" in err


def test_an_unknown_precision(tmp_path, capsys):
    path = npz(tmp_path / "a.npz", **changed(meta__floatX="float16"))
    assert run_main(capsys, path)[0] == 2


def test_too_little_memory(monkeypatch, capsys):
    def exhaust(argv):
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr(command, "main", exhaust)
    status, out, err = run_main(capsys, "a.npz")
    assert (status, out) == (2, "")
    assert err == "error: not enough memory (Unable to allocate 8 TiB); use a smaller file\n"


def test_programs_are_kept_for_what_is_alike(monkeypatch, tmp_path):
    """The last few are kept; all folders are deleted in the end."""
    folders = []

    def compile_program(found, floatX, folder, backend):
        folders.append(folder)
        return object()

    monkeypatch.setattr(replay, "compile_program", compile_program)
    monkeypatch.setattr(command, "MAX_COMPILED", 2)
    strong, other = SimpleNamespace(name="a"), SimpleNamespace(name="b")
    monkeypatch.setattr(replay, "digest", lambda found: found.name)
    with command.CompiledPrograms(quiet=True) as programs:
        first = programs.get(strong, "float64")
        assert programs.get(strong, "float64") is first
        assert programs.get(strong, "float32") is not first
        assert len(folders) == 2
        programs.get(other, "float32")
        assert programs.get(strong, "float64") is not first
        assert all(folder.is_dir() for folder in folders)
    assert len(folders) == 4
    assert not any(folder.exists() for folder in folders)


def test_one_program_serves_all_kinds_of_runs():
    """They differ in weights, noise and learning rate; other data need another program."""
    small, strong = (
        read(f"model_blizzard_vrnn_gmm_{kind}_float64.npz") for kind in ("small", "strong")
    )
    assert replay.digest(small) == replay.digest(strong)
    rows = small["data/rows"] + 1
    assert replay.digest({**small, "data/rows": rows}) != replay.digest(strong)


def changed(**arrays):
    return {**read(RUN), **{key.replace("__", "/"): np.array(a) for key, a in arrays.items()}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta__model": "vae"}, "'vae' for 'iamondb'; the port has rnn_gauss, "),
        ({"config__values": ["4"]}, "settings cannot be used"),
        ({"config__values": list("4x35481353")}, "settings cannot be used: invalid literal"),
        ({"config__names": list("abcdefghij")}, "settings cannot be used: "),
        (
            {"constants__from": [150, 250], "constants__to": [10**6, 9]},
            "z2s_dim is 1000000, but no recorded parameter is as large",
        ),
        ({"update__000__x": np.zeros((3, 4, 5))}, "which does not fit batch_size 4 and x_dim 3"),
    ],
)
def test_impossible_settings(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        settings(changed(**change), "float64", "auto", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta__n_updates": 30}, "lacks x of update 21; it is incomplete"),
        ({"meta__n_updates": 0}, "has no updates"),
        ({"meta__n_updates": 2.5}, "has no updates"),
        ({"meta__snapshots": []}, "no snapshots"),
        (
            {"param__005__b_x_1": np.zeros(3)},
            "param/005/b_x_1 does not have the shape of",
        ),
        ({"param__000__extra": np.zeros(3)}, "lacks grad_raw/000/extra"),
    ],
)
def test_incomplete_recordings(change, message):
    with pytest.raises(UserError, match=message):
        check_complete(changed(**change))


def test_noise_that_does_not_fit():
    noise = Playback([np.zeros((3, 4, 5))])
    assert noise.draw(3, 4).shape == (3, 4, 5)
    with pytest.raises(UserError, match="no more noise for a batch of 3 frames"):
        noise.draw(3, 4)
    with pytest.raises(UserError, match=r"noise of shape \(3, 4, 5\) for a batch of 2 frames"):
        Playback([np.zeros((3, 4, 5))]).draw(2, 4)


# --- the report -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison():
    """All kinds of sections, with hostile names."""
    costs = [
        compare("cost", 1.0 + 1e-12 * n, 1.0, 1e-9, update=n, order=(n,), place=f"update {n}: cost")
        for n in range(5)
    ]
    bad = compare("<b>&W" + "x" * 90, -1.23456789012e-300, np.pi, 1e-9, update=2, order=(2, 1))
    channels = [compare("kl", np.nan, float(n), None, update=n, order=(n, 2)) for n in range(3)]
    sections = [
        Section("<script>cost", costs, by_update=True, note="a & b"),
        Section("parameters " + "y" * 90, [bad]),
        Section("monitored channels", channels),
    ]
    left_out = {f"case{n}": "not & here" for n in range(40)}
    return Comparison("a/<i>/b" + "z" * 120, {"program": "p" * 150}, sections, left_out)


@pytest.mark.parametrize("tables", [False, True])
def test_lines_fit_the_terminal(comparison, tables):
    lines = terminal.report(comparison, tables).splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "DIFFERS    parameters" in text
    assert "agrees     <script>cost" in text
    assert "no verdict monitored channels" in text
    assert "not repeated, not & here: case0, case1" in text
    assert "They part at <b>&W" in text
    assert ("absolute" in text) == tables


def test_colors_on_a_terminal_only(comparison, monkeypatch):
    assert "\033" not in terminal.report(comparison, True)
    colored = terminal.report(comparison, True, colors=True)
    assert re.sub(r"\033\[[0-9;]*m", "", colored) == terminal.report(comparison, True)
    assert colored.count("\033[") == 2 * 4  # three verdicts, and the line "They part at"
    tty, pipe = SimpleNamespace(isatty=lambda: True), SimpleNamespace(isatty=lambda: False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.wants_colors(tty)
    assert not terminal.wants_colors(pipe)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.wants_colors(tty)


class Elements(HTMLParser):
    """Collect the elements and the text of a page, and the elements without an end tag."""

    VOID = ("meta", "link", "img", "br")
    ALONE = ("circle", "line", "path", "rect")

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.ALONE
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone(comparison):
    text = page([comparison, comparison])
    elements = Elements(text)
    assert elements.open == []
    tags = {tag for tag, _ in elements.found}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "b>", "i"})
    for _, attributes in elements.found:
        assert set(attributes).isdisjoint({"src", "onload", "onclick"})
        assert attributes.get("href", "#").startswith("#")
    assert "http" not in text
    assert "url(" not in text
    assert "<script>cost" in elements.text
    assert "2 differ" in elements.text
    assert sum(tag == "svg" for tag, _ in elements.found) == 2 * 2  # the cost and a channel


def test_curves_have_gaps_where_there_is_no_number():
    values = [1.0, np.nan, 1.0, 2.0]
    svg = chart("kl & more", [compare("kl", x, 1.0, 1e-9, update=n) for n, x in enumerate(values)])
    assert "kl &amp; more" in svg
    port = re.search(r'class="port" d="([^"]*)"', svg)[1]
    assert (port.count("M"), port.count("L")) == (2, 1)
    assert svg.count('class="bad"') == 2
    assert svg.count('class="fine"') == 2
    numbers = [float(n) for n in re.findall(r'c[xy]="([-0-9.]+)"', svg)]
    assert all(0 <= n <= 460 for n in numbers)


def test_a_curve_of_one_point():
    assert "nan" not in chart("x", [compare("x", 0.0, 0.0, 0.0)])


# --- the command, on single functions -------------------------------------------------------


# The only recorded cases that are not repeated.
FAILS_THERE = {"layers": ("FullyConnectedLayer/ndim_given", "GRU/index_input")}


@pytest.mark.full
@pytest.mark.parametrize("floatX", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("section", ["costs", "layers", "init", "utils", "data", "optim", "random"])
def test_every_recorded_function_agrees(section, floatX):
    """Each recorded case is repeated and agrees, or the original fails."""
    name = f"units_{section}_{floatX}"
    comparison = compare_units(read(f"{name}.npz"), name)
    assert comparison.ok
    fails_there = dict.fromkeys(FAILS_THERE.get(section, ()), "the original fails")
    assert comparison.left_out == fails_there


def test_everything_of_the_optimizer_agrees(capsys, tmp_path):
    html = tmp_path / "report.html"
    status, out, err = run_main(capsys, path_of(OPTIM), "--html", html)
    assert (status, err) == (0, "")
    assert out.endswith("1 recording: the port agrees with the original\n")
    assert re.search(r"agrees +optimizer +182 ", out)
    assert "Adam/params/W_a__h" in out  # tables, for one recording
    assert "not repeated" not in out
    assert "all agree" in html.read_text()
    assert list(tmp_path.iterdir()) == [html]


def test_json_for_programs(capsys):
    status, out, _ = run_main(capsys, path_of(OPTIM), path_of(OPTIM), "--json", "--quiet")
    assert status == 0
    first, second = json.loads(out)
    assert first == second
    assert first["agrees"] is True
    assert first["first_difference"] is None
    (optimizer,) = [s for s in first["sections"] if s["title"] == "optimizer"]
    assert optimizer["verdict"] == "agrees"
    assert len(optimizer["differences"]) == 182
    assert set(optimizer["differences"][0]) == {
        *("name", "place", "at", "original", "port"),
        *("absolute", "relative", "noise", "allowed", "ulps", "agrees"),
    }


def test_the_users_tolerance_applies(capsys):
    """A tolerance of 0 does not even allow rounding."""
    status, out, _ = run_main(capsys, path_of(OPTIM), "--tolerance", "0", "--no-tables")
    assert status == 1
    assert "They part at optim: " in out
    assert out.endswith("1 of 1 recordings: the port DIFFERS from the original\n")


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "x"])
def test_impossible_tolerances(tolerance, capsys):
    assert entry.main(["a.npz", f"--tolerance={tolerance}"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: argument --tolerance: ")
    assert message.endswith(" (--help shows all options)\n")


def test_a_bad_file_is_refused_before_the_first_is_repeated(capsys, tmp_path):
    status, out, err = run_main(capsys, path_of(OPTIM), tmp_path / "missing.npz")
    assert (status, out) == (2, "")
    assert "missing.npz" in err


def test_a_report_that_cannot_be_written(capsys, tmp_path):
    html = tmp_path / "none" / "report.html"
    status, _, err = run_main(capsys, path_of(OPTIM), "--html", html, "--no-tables")
    assert status == 2
    assert err.startswith(f"error: cannot write {html} (No such file or directory)")


def test_ctrl_c(monkeypatch, capsys):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "main", interrupt)
    assert run_main(capsys, "a.npz") == (130, "", "interrupted; nothing was written\n")


# --- an altered port ------------------------------------------------------------------------


def test_a_sign_in_the_divergence_alone(monkeypatch, capsys):
    divergence = cost.KLGaussianGaussian
    monkeypatch.setattr(cost, "KLGaussianGaussian", lambda **x: -divergence(**x))
    status, out, _ = run_main(capsys, path_of("units_costs_float64.npz"), "--no-tables")
    assert status == 1
    assert "They part at costs: KLGaussianGaussian/2d_keep_dims0/out" in out
    assert re.findall(r"(?m)^  DIFFERS +(\w+)", out) == ["KLGaussianGaussian"]


class WithoutCorrection(Adam):
    """Adam without the bias correction of the first moment if ``switch`` is 1."""

    switch = 1.0

    def get_updates(self, grads):
        updates = super().get_updates(grads)
        correction = 1 - self.b1 ** (self.state["adam_counter"] + 1.0)
        for p in grads:
            factor = self.switch * correction + (1 - self.switch)
            updates[p] = p + (updates[p] - p) * factor
        return updates


def test_a_correction_that_Adam_alone_lacks(monkeypatch, capsys):
    monkeypatch.setattr(optimizers, "Adam", WithoutCorrection)
    status, out, _ = run_main(capsys, path_of(OPTIM), "--no-tables")
    assert status == 1
    assert "They part at optim: optimizer/Adam/params/W_a__h" in out
    assert re.findall(r"(?m)^  DIFFERS +(\w+)", out) == ["optimizer"]


SWITCHES = ("kl", "adam", "x_1", "prior_1", "clipped", "shrunk")


@pytest.fixture(scope="module")
def altered(tmp_path_factory):
    """A whole program, compiled once, with a switch for each mistake."""
    with pytest.MonkeyPatch.context() as patch, pytensor.config.change_flags(floatX="float64"):
        switches = {name: sharedX(0.0, name) for name in SWITCHES}

        def divergence(*gaussians, keep_dims):
            terms = cost.KLGaussianGaussian(*gaussians, keep_dims=keep_dims)
            return terms * (1 - 2 * switches["kl"])

        def fprop(layer, X, tparams, ndim=None):
            """Leave out the bias if the switch is 1."""
            name = f"b_{layer.name}"
            if layer.name in switches:
                tparams = {**tparams, name: tparams[name] * (1 - switches[layer.name])}
            return layer_fprop(layer, X, tparams, ndim)

        layer_fprop = FullyConnectedLayer.fprop
        patch.setattr(FullyConnectedLayer, "fprop", fprop)
        patch.setattr(models.vrnn_gmm, "KLGaussianGaussian", divergence)

        def limited(extension, w):
            """Leave out the weight norm if the switch is 1."""
            norm_off = switches["shrunk"]
            return norm_off * w + (1 - norm_off) * weight_norm(extension, w)

        def clipping(scaler, batch_size, check_nan=0):
            """Do not divide gradients by the batch size if the switch is 1."""
            divisor = batch_size * (1 - switches["clipped"]) + switches["clipped"]
            extension = GradientClipping(scaler, batch_size, check_nan)
            exe = extension.exe

            def altered_exe(mainloop):
                mainloop.grads.update(
                    {p: g * batch_size / divisor for p, g in mainloop.grads.items()}
                )
                exe(mainloop)

            extension.exe = altered_exe
            return extension

        weight_norm = WeightNorm._limited
        patch.setattr(WeightNorm, "_limited", limited)
        patch.setattr(models.vrnn_gmm, "GradientClipping", clipping)
        patch.setattr(models.vrnn_gmm, "Adam", WithoutCorrection)
        patch.setattr(WithoutCorrection, "switch", switches["adam"])
        program = compile_program(read(RUN), "float64", tmp_path_factory.mktemp("altered"))
    return program, switches


@pytest.mark.full
@pytest.mark.parametrize(
    ("mistake", "place", "sound"),
    [
        ("none", None, []),
        ("kl", "update 0: kl_term", ["outputs of the first update"]),
        (
            "adam",
            "after update 0: parameter W_x_1__rnn",
            ["outputs of the first update", "raw gradients of the first update"],
        ),
        (
            "clipped",
            "update 0: clipped gradient of b_binary",
            ["raw gradients of the first update"],
        ),
        (
            "shrunk",
            "after update 0: parameter W_x_1__rnn",
            ["outputs of the first update", "clipped gradients of the first update"],
        ),
        ("x_1", "update 0, frame 0: output of node x_1", ["batches"]),
        ("prior_1", "update 0, frame 0: output of node prior_mu", ["batches"]),
    ],
)
def test_an_altered_program(mistake, place, sound, altered, monkeypatch, capsys):
    """The status is 1 and the altered quantity is named; with all switches off it is 0."""
    program, switches = altered
    for name, switch in switches.items():
        switch.set_value(float(name == mistake))
    monkeypatch.setattr(command.CompiledPrograms, "get", lambda *_: program)
    status, out, err = run_main(capsys, path_of(RUN), "--quiet", "--no-tables")
    assert err == ""
    assert status == (mistake != "none")
    assert re.findall("They part at (.*)", out) == ([place] if place else [])
    for title in sound:
        assert re.search(f"agrees +{title} ", out)
    assert re.search("agrees +initial parameters of the seed ", out)


ALL = sorted({p.name for folder in FOLDERS for p in folder.glob("*_float[36][24].npz")})


@pytest.mark.slow
def test_all_recordings_agree(capsys):
    """One command repeats programs and single functions in both precisions."""
    status, out, _ = run_main(capsys, *map(path_of, ALL), "--quiet")
    assert status == 0
    assert out.endswith(f"{len(ALL)} recordings: the port agrees with the original\n")
