"""Pictures that can be compared: chosen sequences, shared scales, primes, and Figure 2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cle_port.errors import UserError
from cle_port.train import checkpoint
from models import sample
from models.sampling import files as sample_files
from models.sampling import generation, latent, latent_pictures, loading, sound
from models.sampling.data import open_data, padded
from models.sampling.drawing import HIGHEST, MARGIN, WIDTH, lay_out, pen_svg, stroke_ranges
from models.sampling.png import CONTINUED, PRIME
from tests.test_sample import arrays_of, of_digits, refused, run, save_checkpoint, tiny
from tests.test_sample import folders as folders  # a fixture
from tests.test_sample import interpreted as interpreted


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures take time."""
    monkeypatch.setattr(sample_files, "has_matplotlib", lambda: False)


@pytest.fixture
def figures(monkeypatch) -> list[Any]:
    """Figures instead of the bytes of their files."""
    pytest.importorskip("matplotlib")
    drawn = []

    def keep(figure: Any) -> bytes:
        drawn.append(figure)
        return b""

    for module in (sound, latent_pictures):
        monkeypatch.setattr(module, "png", keep)
    return drawn


# --- chosen sequences -----------------------------------------------------------------------


def test_chosen_rows_are_those_of_the_file(folders):
    """Rows of one stream follow each other: 4 streams, 12 frames a row."""
    data = open_data(tiny("blizzard", folders))
    assert data.number == 12
    first = data.first(data.number)
    chosen = data.choose([7, 2])
    np.testing.assert_array_equal(chosen.x, first.x[:, [7, 2]])
    assert chosen.x.dtype == "float32"
    longer = data.choose([2], 30)
    np.testing.assert_array_equal(longer.lengths, [30])
    whole = np.concatenate([first.x[:, row] for row in (2, 6, 10)])
    np.testing.assert_array_equal(longer.x[:, 0], whole[:30])
    assert [data.longest(row) for row in (3, 7, 11)] == [36, 24, 12]
    np.testing.assert_array_equal(data.choose([2, 9], 5).x, first.x[:5, [2, 9]])
    np.testing.assert_array_equal(data.choose([0, 9], most=30).lengths, [30, 12])


def test_chosen_lines_of_handwriting(folders):
    data = open_data(tiny("iamondb", folders))
    first = data.first(6)
    chosen = data.choose([5, 1])
    np.testing.assert_array_equal(chosen.lengths, [13, 9])
    np.testing.assert_array_equal(chosen.x, first.x[:13, [5, 1]])
    np.testing.assert_array_equal(data.choose([5], 3).x, first.x[:3, [5]])


def test_padded_sequences():
    x, lengths = padded([np.ones((2, 3)), np.full((4, 3), 2.0)])
    np.testing.assert_array_equal(x[:, :, 0].T, [[1, 1, 0, 0], [2, 2, 2, 2]])
    np.testing.assert_array_equal(lengths, [2, 4])


@pytest.mark.parametrize(
    ("rows", "length", "message"),
    [
        ([12], None, "no validation sequence 12; --rows takes numbers from 0 to 11"),
        ([-1], None, "no validation sequence -1; --rows takes numbers from 0 to 11"),
        ([9], 13, "there are 12 validation frames from the beginning of sequence 9 on; give at"),
    ],
)
def test_refuses_sequences_that_are_not_there(rows, length, message, folders):
    with pytest.raises(UserError, match=re.escape(message)):
        open_data(tiny("blizzard", folders)).choose(rows, length)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--rows 1 2", "--rows chooses real sequences; give it with --prime"),
        ("--real_length 2", "--real_length chooses real sequences"),
        ("--plane --rows 1", "--rows chooses real sequences"),
        ("--prime --rows 1 1", "--rows names 1 twice"),
        ("--prime 3 --rows 1 2", "asks for 3 sequences and --rows names 2"),
        ("--prime --real_length 0", "--real_length is 0"),
        ("--latent --reconstruct", "--reconstruct and --latent are 2 things"),
        ("--latent --length 3", "give --real_length with --reconstruct or --latent"),
        ("--prime --rows one", "invalid int value"),
    ],
)
def test_refuses_choices(flags, message, capsys, tmp_path):
    assert message in refused(capsys, tmp_path / "any.npz", *flags.split())


@pytest.mark.parametrize(
    ("flags", "number", "rows"),
    [
        ("--prime", 10, None),
        ("--prime 1", 1, None),
        ("--prime --number 3", 3, None),
        ("--prime --rows 4 2", 10, [4, 2]),
        ("--latent --rows 0", 10, [0]),
    ],
)
def test_parses_choices(flags, number, rows):
    options = sample.parse(["any.npz", *flags.split()])
    assert (options.number, options.rows) == (number, rows)


# --- primes and what continues them ---------------------------------------------------------


def test_primes_of_chosen_rows(folders, interpreted, no_pictures, monkeypatch, tmp_path):
    """Files carry the numbers of the rows; the prime is cut, the continuation follows."""
    boundaries = []

    def lay_out_and_tell(lines, captions, primed):
        boundaries.extend(primed)
        return lay_out(lines, captions, primed)

    monkeypatch.setattr(sample_files, "lay_out", lay_out_and_tell)
    args = tiny("iamondb", folders)
    path = save_checkpoint("rnn_gauss", args, tmp_path / "m.npz")
    flags = ("--prime", "--rows", 5, 1, "--real_length", 7, "--length", 4)
    written = run(path, tmp_path / "out", *flags)
    assert set(written) == {"primed_5.npz", "primed_1.npz", "primed.svg"}
    data = open_data(args)
    frames = data.choose([5]).x[:7, 0]
    strokes = arrays_of(written["primed_5.npz"])
    assert len(strokes["pen"]) == 7 + 4
    expected = sample_files.as_strokes(frames, data.X_mean, data.X_std)
    for name, values in expected.items():
        np.testing.assert_array_equal(strokes[name][:7], values)
    drawing = written["primed.svg"].read_text()
    assert "primed 5, from point 7 on generated" in drawing
    assert "where the prime ends" in drawing
    assert boundaries == [7, 7]  # points of the prime, behind the one where the pen starts


def test_a_waves_boundary_is_counted_in_samples(folders, interpreted, monkeypatch, tmp_path):
    """Frames of the prime, times 40 samples."""
    boundaries = []

    def tell(wave, boundary):
        boundaries.append((len(wave), boundary))
        return b""

    monkeypatch.setattr(sample_files, "has_matplotlib", lambda: True)
    monkeypatch.setattr(sample_files, "wave_picture", tell)
    path = save_checkpoint("rnn_gauss", tiny("blizzard", folders), tmp_path / "m.npz")
    flags = ("--rows", 4, "--real_length", 15, "--length", 3)
    run(path, tmp_path / "primed", "--prime", *flags)
    run(path, tmp_path / "plain", "--number", 1, "--length", 3)
    assert boundaries == [(18 * 40, 15 * 40), (3 * 40, None)]


@pytest.mark.parametrize(
    ("pen", "boundary", "expected"),
    [
        ([0, 0, 1, 0, 0], None, [(0, 3), (3, 5)]),
        ([0, 0, 1, 0, 1], None, [(0, 3), (3, 5)]),
        ([0, 0, 0, 0, 1], 2, [(0, 3), (2, 5)]),  # the pen goes on: both have point 2
        ([0, 0, 1, 0, 1], 2, [(0, 3), (3, 5)]),  # it was lifted there
        ([0, 0, 1, 0, 1], 1, [(0, 2), (1, 3), (3, 5)]),
        ([0, 0, 1, 1, 0], 3, [(0, 3), (3, 4), (4, 5)]),  # a dot before the boundary
    ],
)
def test_strokes_are_cut_where_a_prime_ends(pen, boundary, expected):
    assert stroke_ranges(np.array(pen), boundary) == expected


def test_a_drawing_tells_prime_from_continuation():
    line = np.array([[0, 0, 0], [0, 1, 1], [1, 2, 0], [0, 3, 1], [1, 4, 0]], dtype=float)
    layout = lay_out([line], ["a < b"], [1])
    (placed,) = layout.lines
    assert [stroke.continued for stroke in placed.strokes] == [False, True, True]
    np.testing.assert_array_equal(placed.strokes[0].points[-1], placed.boundary)
    np.testing.assert_array_equal(placed.strokes[1].points[0], placed.boundary)
    svg = pen_svg(layout)
    strokes = re.findall(r'<polyline .*stroke="(#\w+)" stroke-width="([\d.]+)"', svg)
    legend, drawn = strokes[:2], strokes[2:]
    assert [color for color, _ in drawn] == [PRIME, CONTINUED, CONTINUED]
    assert legend == drawn[:2]
    assert float(drawn[0][1]) < float(drawn[1][1])  # without colour, too
    assert "stroke-dasharray" in svg
    assert "a &lt; b" in svg
    plain = pen_svg(lay_out([line], ["a"]))
    assert CONTINUED not in plain
    assert "prime" not in plain


@pytest.mark.full
def test_a_wave_tells_prime_from_continuation(figures):
    wave = (1000 * np.sin(np.arange(4000))).astype(np.int16)
    sound.wave_picture(wave, 1600)
    sound.wave_picture(wave)
    above, below, *_ = figures[0].axes
    prime, continuation = above.get_lines()[:2]
    assert (len(prime.get_xdata()), len(continuation.get_xdata())) == (1600, 2400)
    assert (prime.get_color(), continuation.get_color()) == (PRIME, CONTINUED)
    for ax in (above, below):
        mark = ax.get_lines()[-1]
        assert list(mark.get_xdata()) == [0.1, 0.1]
        assert mark.get_linestyle() == "--"
    texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert texts == ["real prime", "generated"]
    assert not figures[1].legends
    assert len(figures[1].axes[0].get_lines()) == 1


# --- one scale ------------------------------------------------------------------------------


def test_shared_ranges_hold_the_loudest():
    quiet, loud = np.array([-3, 5], dtype=np.int16), np.array([-32768, 7], dtype=np.int16)
    assert sound.wave_range([quiet, loud]) == (-1.05 * 32768, 1.05 * 32768)
    assert sound.wave_range([np.zeros(3)]) == (-1.05, 1.05)
    assert sound.level_range([np.array([[-60.0, 3.0]]), np.array([[40.0, 1.0]])]) == (-40.0, 40.0)


@pytest.mark.full
def test_compared_waves_share_scale_and_colours(figures):
    rng = np.random.default_rng(0)
    waves = {
        kind: (scale * rng.standard_normal(3200)).astype(np.int16)
        for kind, scale in (("original", 100), ("reconstruction", 10), ("sample", 3000))
    }
    sound.comparison_picture(waves, "title")
    axes = figures[0].axes[:6]
    left, right = axes[::2], axes[1::2]
    assert [ax.get_title(loc="left") for ax in left] == list(waves)
    loudest = np.abs(waves["sample"].astype(int)).max()
    assert {ax.get_ylim() for ax in left} == {(-1.05 * loudest, 1.05 * loudest)}
    (limits,) = {ax.images[0].get_clim() for ax in right}
    assert limits[1] == sound.levels(waves["sample"]).max()
    assert limits[1] - limits[0] == sound.DECIBELS
    assert {ax.get_xlim() for ax in axes} == {(0, 0.2)}


def line_of(rng, n: int, *slope: float) -> np.ndarray:
    steps = rng.normal(slope, 3, size=(n, 2))
    return np.column_stack([rng.random(n) < 0.1, steps.cumsum(axis=0)])


@pytest.mark.parametrize("number", [1, 3, 10, 500])
def test_climbing_lines_do_not_make_a_drawing_absurdly_high(number):
    """They are smaller, in one scale, and wholly within the drawing."""
    rng = np.random.default_rng(1)
    lines = [line_of(rng, 200, 1.0, 3.0) for _ in range(number)]
    layout = lay_out(lines, ["caption"] * number)
    assert layout.height <= min(HIGHEST[0] + HIGHEST[1] * number, 10_000) + 1
    for line, placed in zip(lines, layout.lines):
        points = np.concatenate([stroke.points for stroke in placed.strokes])
        np.testing.assert_allclose(np.ptp(points, axis=0), layout.scale * np.ptp(line[:, 1:], 0))
        assert points.min() >= MARGIN - 1e-9
        assert points[:, 0].max() <= WIDTH - MARGIN + 1e-9
        assert points[:, 1].max() <= layout.height - MARGIN + 1


def test_straight_lines_stand_below_each_other_over_the_whole_width():
    rng = np.random.default_rng(1)
    lines = [line_of(rng, 400, 3.0, 0.0) for _ in range(5)]
    layout = lay_out(lines, list("abcde"))
    widest = max(np.ptp(line[:, 1]) for line in lines)
    assert layout.scale == pytest.approx((WIDTH - 2 * MARGIN) / widest)
    assert {placed.left for placed in layout.lines} == {MARGIN}
    assert np.diff([placed.top for placed in layout.lines]).min() > 0


@pytest.mark.full
@pytest.mark.parametrize("dataset", ["blizzard", "iamondb", "digits"])
def test_reconstructions_come_with_a_comparison(dataset, folders, interpreted, tmp_path):
    """Beside the files as before; the sample has the length of the original."""
    pytest.importorskip("matplotlib")
    if dataset == "digits":
        pytest.importorskip("sklearn")
        path = of_digits(tmp_path / "m.npz")
    else:
        path = save_checkpoint("vae", tiny(dataset, folders), tmp_path / "m.npz")
    written = run(path, tmp_path / "out", "--reconstruct", "--rows", 5, 1)
    before = {
        "blizzard": [f"{k}_{i}.{e}" for k in KINDS for i in (5, 1) for e in ("wav", "png")],
        "iamondb": [*(f"{kind}_{i}.npz" for kind in KINDS for i in (5, 1)), *DRAWINGS],
        "digits": ["reconstruction.npz", "reconstruction.png"],
    }[dataset]
    new = ["comparison.png"] if dataset == "digits" else ["comparison_5.png", "comparison_1.png"]
    assert set(written) == {*before, *new}
    assert all(written[name].read_bytes().startswith(b"\x89PNG") for name in new)


KINDS = ("original", "reconstruction")
DRAWINGS = ("reconstruction.svg", "reconstruction.png")


@pytest.mark.full
def test_compared_samples_have_the_lengths_of_the_originals(
    folders, interpreted, monkeypatch, tmp_path
):
    pytest.importorskip("matplotlib")
    compared = {}

    def keep(start, dataset, rows, kinds, data, quiet):
        compared.update(kinds)
        return []

    monkeypatch.setattr(sample, "write_comparisons", keep)
    path = save_checkpoint("storn", tiny("iamondb", folders), tmp_path / "m.npz")
    run(path, tmp_path / "out", "--reconstruct", "--number", 3)
    lengths = {kind: [len(line) for line in lines] for kind, lines in compared.items()}
    assert list(lengths.values()) == [[8, 9, 10]] * 3
    assert list(lengths)[2] == "sample from the prior (draws)"


@pytest.mark.full
def test_pairs_are_written_even_if_samples_fail(
    folders, interpreted, monkeypatch, caplog, tmp_path
):
    def fail(*_, **__):
        raise UserError("the generated frames grow beyond all numbers")

    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sample, "generate", fail)
    path = save_checkpoint("vae", tiny("iamondb", folders), tmp_path / "m.npz")
    written = run(path, tmp_path / "out", "--reconstruct", "--rows", 1)
    assert {"original_1.npz", "reconstruction_1.npz", *DRAWINGS} == set(written)
    assert "No comparison: the generated frames grow" in caplog.text


# --- the paper's Figure 2 -------------------------------------------------------------------


def kl(mu, sig, prior_mu, prior_sig) -> np.ndarray:
    ratio = sig / prior_sig
    return 0.5 * (ratio**2 - 1 + ((mu - prior_mu) / prior_sig) ** 2) - np.log(ratio)


def with_large_weights(path: Path) -> Path:
    """Make z matter in an untrained model, so that a KL is more than rounding."""
    arrays, meta = checkpoint.load(path)
    larger = {key: 8 * value if key.startswith("W") else value for key, value in arrays.items()}
    checkpoint.save(path, larger, meta)
    return path


@pytest.mark.parametrize(
    ("name", "dataset", "rows", "lengths"),
    [
        ("vrnn_gauss", "blizzard", [7, 2], [24, 36]),
        ("vrnn_gmm", "iamondb", [5, 1], [13, 9]),
        ("storn", "iamondb", [0], [8]),
        ("vae", "blizzard", [3], [36]),
    ],
)
def test_latent_arrays(name, dataset, rows, lengths, folders, interpreted, no_pictures, tmp_path):
    """KL_t and the step of phi_mu, from the numbers in the same file."""
    args = tiny(dataset, folders, floatX="float64")
    path = with_large_weights(save_checkpoint(name, args, tmp_path / "m.npz"))
    written = run(path, tmp_path / "out", "--latent", "--rows", *rows)
    assert set(written) == {f"latent_{row}.npz" for row in rows}
    for row, length in zip(rows, lengths):
        arrays = arrays_of(written[f"latent_{row}.npz"])
        moments = [arrays[key] for key in ("phi_mu", "phi_sig", "prior_mu", "prior_sig")]
        assert {value.shape for value in [arrays["kl_by_dim"], *moments]} == {(length, 3)}
        assert arrays["kl"].shape == arrays["step"].shape == (length,)
        expected = kl(*moments)
        np.testing.assert_allclose(arrays["kl_by_dim"], expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(arrays["kl"], expected.sum(axis=1), rtol=1e-12)
        assert arrays["kl"].min() > 1e-3
        step = [0, *(((b - a) ** 2).sum() for a, b in zip(moments[0], moments[0][1:]))]
        np.testing.assert_allclose(arrays["step"], step, rtol=1e-12)
        assert arrays["step"][0] == 0 < arrays["step"][1:].min()
        if name in ("vae", "storn"):
            assert not arrays["prior_mu"].any()
            np.testing.assert_array_equal(arrays["prior_sig"], 1)
        real = open_data(args).choose([row], length)
        np.testing.assert_array_equal(arrays["x"], real.x[:, 0])
        if dataset == "blizzard":
            assert (arrays["wave"].dtype, arrays["wave"].shape) == (np.int16, (40 * length,))
        else:
            assert {len(arrays[key]) for key in ("pen", "dx", "dy")} == {length}


def test_latent_is_what_the_model_computes(folders, interpreted, tmp_path):
    path = save_checkpoint("vrnn_gauss", tiny("blizzard", folders), tmp_path / "m.npz")
    _, args, net = loading.load_model(path)
    data = open_data(args).choose([7, 2], 20)
    over_time = latent.latents(net, data, np.random.default_rng(4))
    for key in ("phi_mu", "prior_sig"):
        whole = generation.through_model(
            net, data.x, np.random.default_rng(4), lambda tensors, key=key: tensors[key]
        )
        for b, one in enumerate(over_time):
            np.testing.assert_array_equal(getattr(one, key), whole[:, b])


def latent_of(n_frame: int) -> latent.Latent:
    rng = np.random.default_rng(0)
    mu, kl_by_dim = rng.normal(size=(n_frame, 2)), rng.random((n_frame, 2))
    others = [rng.random((n_frame, 2)) for _ in range(3)]
    return latent.Latent(kl_by_dim.sum(axis=1), kl_by_dim, latent.steps(mu), mu, *others)


@pytest.mark.full
def test_figure_2_has_one_time_axis(figures):
    """Frames as steps under the samples, or under the points that they lead to."""
    one = latent_of(12)
    latent_pictures.latent_wave_picture(one, np.ones(12 * 40, dtype=np.int16), "title")
    line = np.column_stack([np.eye(13)[6], np.arange(13.0), np.arange(13) % 3])
    latent_pictures.latent_pen_picture(one, line, "title")
    speech, pen = figures
    assert {ax.get_xlim() for ax in speech.axes} == {(0, 12 * 40 / 16000)}
    assert {ax.get_xlim() for ax in pen.axes[1:3]} == {(0.5, 12.5)}
    for figure in figures:
        for ax, values in zip(figure.axes[1:3], (one.kl, one.step)):
            steps = ax.patches[-1].get_data()
            np.testing.assert_array_equal(steps.values, values)
            assert len(steps.edges) == 13
    dotted = [line.get_xdata()[0] for line in pen.axes[1].get_lines()]
    assert dotted == [6.5]  # the pen goes up after point 6
    (strokes,) = pen.axes[0].collections
    assert len(strokes.get_segments()) == 11  # 12 movements, but for the one in the air


@pytest.mark.full
@pytest.mark.parametrize("dataset", ["blizzard", "iamondb"])
def test_latent_pictures_are_written(dataset, folders, interpreted, tmp_path):
    pytest.importorskip("matplotlib")
    path = save_checkpoint("vae", tiny(dataset, folders), tmp_path / "m.npz")
    written = run(path, tmp_path / "out", "--latent", "--rows", 2)
    assert set(written) == {"latent_2.npz", "latent_2.png"}
    assert written["latent_2.png"].read_bytes().startswith(b"\x89PNG")


def test_latent_refuses_what_has_no_z_or_no_time(folders, capsys, monkeypatch, tmp_path):
    rnn = save_checkpoint("rnn_gauss", tiny("blizzard", folders), tmp_path / "rnn.npz")
    assert "rnn_gauss has no latent variable" in refused(capsys, rnn, "--latent")
    digits = of_digits(tmp_path / "vae.npz")
    assert "an image is one frame" in refused(capsys, digits, "--latent")
    assert "leave --real_length" in refused(capsys, digits, "--reconstruct", "--real_length", 1)
    own = save_checkpoint("vrnn_gauss", tiny("blizzard", folders), tmp_path / "own.npz")
    monkeypatch.setattr(sample, "has_latent", lambda net: False)
    assert "has no method terms that gives kl_by_dim" in refused(capsys, own, "--latent")


def test_rows_that_are_not_there_are_refused(folders, capsys, tmp_path):
    path = save_checkpoint("vrnn_gauss", tiny("blizzard", folders), tmp_path / "m.npz")
    out = ("--quiet", "--out", tmp_path / "out", "--rows", 12)
    for way in ("--prime", "--reconstruct", "--latent"):
        assert "numbers from 0 to 11" in refused(capsys, path, *out, way)
    assert not list(Path(tmp_path / "out").glob("*"))
