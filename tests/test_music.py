"""Music: pieces by the rules, and their batches with masks."""

import numpy as np
import pytensor
import pytest
from numpy.testing import assert_array_equal

from cle_port.errors import UserError
from datasets import music
from datasets.music import Music, compose
from tests.units import FLOATS

MAJOR, MINOR = (4, 3), (3, 4)  # semitones between the notes of a triad


def test_pieces_follow_the_rules(monkeypatch):
    monkeypatch.setattr(music, "P_REST", 0.0)
    rng = np.random.default_rng(0)
    pieces = [compose(rng) for _ in range(300)]
    assert {len(piece) for piece in pieces} == set(range(18, 26))
    assert {type(note) for piece in pieces for notes in piece for note in notes} == {int}
    every = np.array([notes for piece in pieces for notes in piece])
    assert every.min() >= 40
    assert every.max() <= 79
    for piece in pieces:
        *chord, melody = np.array(piece).T
        for first, second in zip(piece[::2], piece[1::2]):
            assert first[:3] == second[:3]  # a chord lasts two steps
        assert {tuple(triad) for triad in np.diff(chord, axis=0).T} <= {MAJOR, MINOR}
        assert all(note - 12 in triad for note, triad in zip(melody, zip(*chord)))
        # After four chords the progression begins again.
        assert_array_equal(np.array(piece)[8:, :3], np.array(piece)[:-8, :3])


def test_a_tenth_of_the_notes_is_left_out(monkeypatch):
    rng = np.random.default_rng(0)
    pieces = [compose(rng) for _ in range(300)]
    missing = 4 - np.array([len(notes) for piece in pieces for notes in piece])
    assert abs(missing.mean() - 0.4) < 3 * np.sqrt(4 * 0.1 * 0.9 / len(missing))
    assert missing.min() == 0


@pytest.mark.parametrize("floatX", FLOATS)
def test_batches(floatX):
    with pytensor.config.change_flags(floatX=floatX):
        data = Music(nlabel=90, name="valid")
        x, y, mask = data.slices(3, 8)
    rng = np.random.default_rng([0, 1])
    pieces = [compose(rng) for _ in range(8)][3:]
    n_step = max(map(len, pieces)) - 1
    assert x.shape == y.shape == (n_step, 5, 90)
    assert mask.shape == (n_step, 5)
    assert {x.dtype, y.dtype, mask.dtype} == {np.dtype(floatX)}
    for column, piece in enumerate(pieces):
        for step in range(n_step):
            is_in_piece = step < len(piece) - 1
            assert mask[step, column] == is_in_piece
            now, later = piece[step : step + 2] if is_in_piece else ([], [])
            assert_array_equal(np.flatnonzero(x[step, column]) + 1, now)
            assert_array_equal(np.flatnonzero(y[step, column]) + 1, sorted(later))
    assert set(np.unique(x)) == {0, 1}


def test_parts_are_of_their_own_pieces():
    parts = {name: Music(nlabel=90, name=name) for name in ("train", "valid", "test")}
    assert [part.num_examples() for part in parts.values()] == [1000, 100, 100]
    first = [part.slices(0, 20)[0].tobytes() for part in parts.values()]
    assert len(set(first)) == 3
    again, other = (Music(nlabel=90, name="valid", seed=seed) for seed in (0, 1))
    assert again.slices(0, 20)[0].tobytes() == first[1]
    assert other.slices(0, 20)[0].tobytes() != first[1]


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("floatX", FLOATS)
def test_theano_vars(floatX, batch_size):
    with pytensor.config.change_flags(floatX=floatX):
        variables = Music(nlabel=90, name="test").theano_vars(batch_size)
    assert [v.name for v in variables] == ["x", "y", "mask"]
    roll, mask = (None, batch_size, 90), (None, batch_size)
    assert [v.type.shape for v in variables] == [roll, roll, mask]
    assert {v.dtype for v in variables} == {floatX}


def test_notes_of_a_time_step():
    data = Music(nlabel=90, name="test")
    code = data.list2nparray([1, 3], 4)
    assert_array_equal(code, [1, 0, 1, 0])
    assert code.dtype == pytensor.config.floatX
    assert_array_equal(data.list2nparray([], 3), np.zeros(3))
    for note in (0, 5):  # the original's 0 would be the last note
        with pytest.raises(ValueError, match="nlabel"):
            data.list2nparray([note], 4)


def test_too_few_labels():
    with pytest.raises(ValueError, match="nlabel"):
        Music(nlabel=60, name="train")


def test_unknown_name():
    with pytest.raises(UserError, match="train, valid, test"):
        Music(nlabel=90, name="other")
