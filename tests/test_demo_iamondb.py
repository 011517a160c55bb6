import xml.etree.ElementTree as ET

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal

from cle_port.errors import UserError
from datasets.demo import handwriting
from datasets.demo import iamondb as demo
from datasets.demo.__main__ import main
from datasets.hdf5.lines import check_lines
from datasets.iamondb import IAMOnDB, open_iamondb
from datasets.iamondb_utils import CHARSET
from tests.demo_corpora import log_normal


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return demo.build(tmp_path_factory.mktemp("demo"), quiet=True)


@pytest.fixture(scope="module")
def lines(corpus):
    return IAMOnDB(name="train", path=corpus).data[0]


@pytest.fixture(scope="module")
def writer():
    return handwriting.draw_writer(np.random.default_rng(0))


# --- files -------------------------------------------------------------------------------


def test_layout(corpus):
    assert [path.name for path in corpus.iterdir()] == ["iamondb.h5"]
    train, valid = open_iamondb(corpus, batch_size=60, cond=True)
    assert (train.num_examples(), valid.num_examples()) == (800, 100)
    x, mask, y, label_mask = train.slices(0, 20)
    assert mask.sum() == sum(len(line) for line in train.data[0][:20])
    assert label_mask.sum() == y.sum() == sum(len(text) for text in train.texts[:20])
    assert np.isfinite(x).all()


@pytest.fixture
def few_lines(monkeypatch):
    """For what does not depend on the number of lines."""
    monkeypatch.setattr(demo, "N_LINES", {"train": 20, "valid": 5})


@pytest.mark.usefixtures("few_lines")
def test_two_builds_are_equal(tmp_path):
    one, two, other = (
        demo.build(tmp_path / name, seed=seed, quiet=True)
        for name, seed in (("one", 0), ("two", 0), ("other", 1))
    )
    content = [(folder / "iamondb.h5").read_bytes() for folder in (one, two, other)]
    assert content[0] == content[1] != content[2]


def test_corpus_begins_with_the_lines_of_the_drawing(lines):
    for ours, (points, _) in zip(lines, demo.write_lines(3)):
        assert_array_equal(ours, points)


@pytest.mark.usefixtures("few_lines")
def test_ensure_builds_once_and_mends(tmp_path, monkeypatch):
    monkeypatch.setenv("CLE_PORT_CACHE", str(tmp_path))
    folder = demo.ensure(quiet=True)
    assert folder.is_relative_to(tmp_path)
    path = folder / "iamondb.h5"
    content, number = path.read_bytes(), path.stat().st_ino
    assert demo.ensure(quiet=True) == folder
    assert path.stat().st_ino == number
    path.write_bytes(content[:5000])
    assert demo.ensure(quiet=True) == folder
    assert path.read_bytes() == content
    assert len(list(folder.iterdir())) == 1


def test_ensure_without_a_place(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLE_PORT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set CLE_PORT_CACHE"):
        demo.ensure(quiet=True)
    with pytest.raises(UserError, match="cannot write"):
        demo.build(tmp_path / "file" / "inside", quiet=True)


# --- letters and movement ----------------------------------------------------------------


def test_glyphs():
    assert set("".join(demo.WORDS)) == set("abcdefghijklmnopqrstuvwxyz")
    assert set("".join(demo.STARTS)) | set("".join(demo.WORDS)) <= set(handwriting.GLYPHS)
    assert set(handwriting.GLYPHS) <= set(CHARSET)
    for letter, glyph in handwriting.GLYPHS.items():
        targets = np.array([target for path in (glyph.path, *glyph.late) for target in path])
        assert (np.abs(targets[:, 0]) < 1.5).all(), letter
        assert targets[:, 1].min() > -1.2
        assert targets[:, 1].max() < 2.2
        assert np.abs(targets[:, 2]).max() <= 140
        assert all(len(path) >= 2 for path in glyph.late)


def test_pen_ends_at_the_last_target(writer):
    rng = np.random.default_rng(1)
    trace = handwriting.Trace()
    for target in rng.normal(size=(9, 2)):
        trace.add(*target, rng.uniform(-140, 140))
    position = handwriting.move_pen(trace, writer)
    first, *_, before_last, last = np.array(trace.targets)
    # The pen is moving when it touches and leaves the paper, up to 12 % from the ends.
    assert np.hypot(*(position[0] - first)) < 0.12 * np.hypot(*(trace.targets[1] - first))
    assert np.hypot(*(position[-1] - last)) < 0.12 * np.hypot(*(last - before_last))


def test_one_stroke_is_an_arc_with_lognormal_speed(writer):
    trace = handwriting.Trace()
    for target in ((0.0, 0.0, 0.0), (40.0, 0.0, 90.0)):  # long, for many points
        trace.add(*target)
    position = handwriting.move_pen(trace, writer)
    centre = np.array([20.0, 20.0])  # centre of a quarter circle to the left
    assert_allclose(np.hypot(*(position - centre).T), np.hypot(20, 20), rtol=1e-9)
    speed = np.hypot(*np.diff(position, axis=0).T)
    peak = speed.argmax()
    assert 0 < peak < len(speed) / 2  # rises faster than it falls
    assert (np.diff(speed[:peak]) > 0).all()
    assert (np.diff(speed[peak:]) < 1e-9).all()


def test_points_are_dense_where_the_path_bends(monkeypatch):
    monkeypatch.setattr(handwriting, "LOST", 0.0)
    steps, turns = [], []
    for points, _ in demo.write_lines(100):
        for part in np.split(points[:, 1:], np.flatnonzero(points[:, 0])[:-1] + 1):
            if len(part) > 4:
                way = np.diff(part, axis=0)
                angle = np.unwrap(np.arctan2(way[:, 1], way[:, 0]))
                turns.append(np.abs(np.diff(angle)))
                steps.append((np.hypot(*way[1:].T) + np.hypot(*way[:-1].T)) / 2)
    step, turn = np.concatenate(steps), np.concatenate(turns)
    straight, bent = step[turn < np.median(turn)], step[turn > np.quantile(turn, 0.9)]
    print(f"median step {np.median(straight):.1f} where straight, {np.median(bent):.1f} where bent")
    assert np.median(bent) < 0.6 * np.median(straight)


def test_the_tablet_loses_points_but_not_the_ends_of_traces(writer, monkeypatch):
    def write():
        points = handwriting.write_line("it is minimum", writer, np.random.default_rng(2)).points
        return np.split(points, np.flatnonzero(points[:, 0])[:-1] + 1)

    written = write()
    monkeypatch.setattr(handwriting, "LOST", 0.0)  # the same random numbers, all points
    whole = write()
    assert len(written) == len(whole) >= 5
    for some, all_of_them in zip(written, whole):
        assert_array_equal(some[[0, -1]], all_of_them[[0, -1]])
        assert {tuple(point) for point in some} <= {tuple(point) for point in all_of_them}
    monkeypatch.undo()
    reported = handwriting._reported(10000, np.random.default_rng(0))
    # The standard error of a share of 10000 points is 0.005.
    assert_allclose(reported.mean(), 1 - handwriting.LOST, atol=0.015)


def test_plan_puts_dots_and_bars_behind_the_word(writer):
    steady = handwriting.Writer(**{**vars(writer), "lift": 0.0})
    rng = np.random.default_rng(0)
    assert len(handwriting.plan_line("cat", steady, rng)) == 2
    assert len(handwriting.plan_line("it in", steady, rng)) == 5
    traces = handwriting.plan_line("tin a", steady, rng)
    left = [min(x for x, _ in trace.targets) for trace in traces]
    assert left[1] < left[3]
    assert left[0] < left[2] < left[3]
    assert max(left[:3]) < left[3]


def test_hands_differ():
    rng = np.random.default_rng(0)
    writers = [handwriting.draw_writer(rng) for _ in range(200)]
    for name, least, most in (("size", 60, 240), ("slant", -0.5, 0.9), ("tempo", 0.5, 1.6)):
        values = [getattr(writer, name) for writer in writers]
        assert least < min(values) < max(values) < most
        assert np.ptp(values) > (most - least) / 3


# --- the corpus --------------------------------------------------------------------------


def test_lines_are_valid_and_of_the_promised_size(corpus, lines):
    check_lines(demo.write_lines(5, seed=3))
    lengths = np.array([len(points) - 1 for points in lines])
    assert 49 <= lengths.min() < lengths.max() < 240
    assert 60 < np.quantile(lengths, 0.05) < np.quantile(lengths, 0.95) < 230
    offsets = np.concatenate([np.abs(np.diff(points[:, 1:], axis=0)) for points in lines])
    assert 5 < np.median(offsets.max(axis=1)) < 30
    assert (np.concatenate(lines)[:, 1:].max(axis=0) < [6000, 0]).all()
    widths = [np.ptp(points[:, 1]) for points in lines]
    assert 150 < min(widths) < max(widths) < 4000


def test_pen_is_lifted_within_and_between_words(corpus):
    data = IAMOnDB(name="train", path=corpus)
    strokes = np.array([points[:, 0].sum() for points in data.data[0]])
    words = np.array([len(text.split()) for text in data.texts])
    assert (strokes >= words).all()
    assert 1.3 < strokes.mean() / words.mean() < 4


COARSE = [144.3963, 9.155, 4.1238, 28.4914, 31.2511]


def test_coarse_statistics(corpus, lines):
    """Pins the handwriting.  After an intended change, raise VERSION and update these numbers."""
    offsets = np.concatenate([np.diff(points[:, 1:], axis=0) for points in lines])
    found = [
        np.mean([len(points) - 1 for points in lines]),
        np.mean([len(text) for text in IAMOnDB(name="train", path=corpus).texts]),
        np.mean([points[:, 0].sum() for points in lines]),
        *offsets.std(axis=0),
    ]
    assert_allclose(found, COARSE, rtol=1e-3)


# --- structure to learn --------------------------------------------------------------


def contexts(data, size):
    """Return the `size` steps before each step, with a constant, and the two offsets."""
    windows = [
        sliding_window_view(x.astype(np.float64), size + 1, axis=0).swapaxes(1, 2)
        for x in data.data[0]
    ]
    joined = np.concatenate(windows)
    past = joined[:, :size].reshape(len(joined), -1)
    return np.concatenate([past, np.ones((len(past), 1))], axis=1), joined[:, size, 1:]


@pytest.mark.parametrize(("size", "least"), [(1, 0.08), (3, 0.1), (10, 0.15)])
def test_linear_regression_on_the_past_beats_independent_steps(corpus, size, least):
    (past, step), (past_valid, step_valid) = (contexts(d, size) for d in open_iamondb(corpus))
    gram = past.T @ past
    weights = np.linalg.solve(gram + 1e-3 * np.diag(np.diag(gram)), past.T @ step)
    error, error_valid = step - past @ weights, step_valid - past_valid @ weights
    timed = log_normal(error_valid, np.cov(error.T)).mean()
    mean = step.mean(axis=0)
    static = log_normal(step_valid - mean, np.cov(step.T)).mean()
    print(f"{size} steps: {timed - static:.3f} nats per step")
    assert timed - static > least


def within_strokes(data, size=6):
    """Return contexts whose steps before have the pen down, without its constant bits."""
    past, step = contexts(data, size)
    bits = past[:, : 3 * size : 3]
    down = bits.sum(axis=1) == 0
    return np.delete(past[down], np.arange(0, 3 * size, 3), axis=1), step[down]


def regression(past, step, weight):
    """Return the coefficients and the covariance of the errors of a weighted linear regression."""
    weighted = past * weight[:, None]
    ridge = 1e-3 * np.eye(past.shape[1])
    coefficients = np.linalg.solve(weighted.T @ past + ridge, weighted.T @ step)
    error = step - past @ coefficients
    return coefficients, (error * weight[:, None]).T @ error / weight.sum()


def mixture_of_regressions(train, valid, n_part, n_iter=15):
    """Return the mean log-density under Gaussians around the lines of a mixture, fitted by EM."""
    (past, step), (past_valid, step_valid) = train, valid
    size = np.hypot(*step.T)  # to start from: parts for short to long steps
    label = np.searchsorted(np.quantile(size, np.arange(1, n_part) / n_part), size)
    share = 0.9 * np.eye(n_part)[label] + 0.1 / n_part

    def joint(past, step, parts, share):
        logs = [log_normal(step - past @ line, cov) for line, cov in parts]
        return np.stack(logs, axis=1) + np.log(share.mean(axis=0))

    for _ in range(n_iter if n_part > 1 else 1):
        parts = [regression(past, step, weight) for weight in share.T]
        logs = joint(past, step, parts, share)
        share = np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))
    return np.logaddexp.reduce(joint(past_valid, step_valid, parts, share), axis=1).mean()


def test_within_strokes_the_past_says_more(corpus):
    (past, step), (past_valid, step_valid) = (within_strokes(d) for d in open_iamondb(corpus))
    line, covariance = regression(past, step, np.ones(len(past)))
    error_valid = step_valid - past_valid @ line
    timed = log_normal(error_valid, covariance).mean()
    static = log_normal(step_valid - step.mean(axis=0), np.cov(step.T)).mean()
    print(f"within strokes: {timed - static:.3f} nats per step")
    assert timed - static > 0.3
    assert error_valid.std(axis=0).min() > 0.05  # not deterministic: no density grows unbounded


def test_the_next_step_has_several_modes(corpus):
    """One step of the pen, or two where a point is lost: the reason why z helps a Gaussian."""
    train, valid = (within_strokes(d) for d in open_iamondb(corpus))
    train = tuple(part[::3] for part in train)
    one, two = (mixture_of_regressions(train, valid, n_part) for n_part in (1, 2))
    print(f"two modes: {two - one:.3f} nats per step")
    assert two - one > 0.3


# --- command -----------------------------------------------------------------------------


def test_command_draws(tmp_path, capsys):
    out = tmp_path / "demo.svg"
    assert main(["iamondb", str(out), "--lines", "3", "--seed", "4"]) == 0
    root = ET.parse(out).getroot()
    captions = [element.text for element in root if element.tag.endswith("text")]
    lines = demo.write_lines(3, seed=4)
    assert captions == [line.text for line in lines]
    drawn = [element for element in root if element.tag.endswith("polyline")]
    assert len(drawn) == sum(line.points[:, 0].sum() for line in lines)
    width, height = (float(root.get(name)) for name in ("width", "height"))
    for element in drawn:
        points = np.array([pair.split(",") for pair in element.get("points").split()], float)
        assert (points >= 0).all()
        assert (points <= [width, height]).all()
    assert "3 lines of synthetic handwriting" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [out]
