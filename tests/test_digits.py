"""Digits: the images and labels of scikit-learn in the project's batches."""

import subprocess
import sys

import numpy as np
import pytensor
import pytest
from numpy.testing import assert_array_equal

from cle_port.data import Iterator
from cle_port.errors import UserError
from datasets.digits import Digits, open_digits
from tests.recordings import PROJECT
from tests.units import FLOATS


@pytest.fixture(scope="module")
def package():
    """Images and labels, read without this project's code."""
    sklearn = pytest.importorskip("sklearn.datasets")
    return sklearn.load_digits()


@pytest.mark.parametrize("floatX", FLOATS)
def test_supervised_batches(package, floatX):
    with pytensor.config.change_flags(floatX=floatX):
        train, valid = open_digits()
        x, y = train.slices(5, 12)
        m_x, m_y = valid.slices(350, 360)
    for images, labels, rows in ((x, y, slice(5, 12)), (m_x, m_y, slice(1787, 1797))):
        assert images.dtype == floatX
        assert labels.dtype == "int64"
        # Sixteenths are exact in both precisions.
        assert_array_equal(images * 16, package.images[rows].reshape(-1, 64))
        assert_array_equal(labels, package.target[rows])


def test_the_parts_are_all_images_once(package):
    train, valid = open_digits()
    assert (train.name, valid.name) == ("train", "valid")
    assert (train.num_examples(), valid.num_examples()) == (1437, 360)
    assert_array_equal(np.concatenate([train.data[1], valid.data[1]]), package.target)
    assert {array.min() for array in (train.data[0], valid.data[0])} == {0.0}
    assert {array.max() for array in (train.data[0], valid.data[0])} == {1.0}


def test_both_parts_hold_all_digits_alike(package):
    for part in open_digits():
        shares = np.bincount(part.data[1]) / part.num_examples()
        assert len(shares) == 10
        assert shares.min() > 0.09
        assert shares.max() < 0.105


def test_the_order_is_by_writer(package):
    """As the docstring says: forms begin alike, and images are close to those of their form."""
    starts = [0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415, 1545, 1667]
    for start in starts:
        assert_array_equal(package.target[start : start + 10], np.arange(10))
    train, valid = open_digits()
    assert 0.04 < nearest_neighbour_error(train, valid) < 0.05
    order = np.random.default_rng(0).permutation(1797)
    for part, rows in ((train, order[:1437]), (valid, order[1437:])):
        part.data = [package.data[rows] / 16, package.target[rows]]
    assert nearest_neighbour_error(train, valid) < 0.02


def nearest_neighbour_error(train: Digits, valid: Digits) -> float:
    """Share of the validation images whose nearest training image has another label."""
    (x, y), (m_x, m_y) = train.data, valid.data
    squares = (x**2).sum(axis=1) - 2 * m_x @ x.T  # up to a term that is the same for all of x
    return np.mean(y[squares.argmin(axis=1)] != m_y)


def test_images_as_sequences_of_one_frame(package):
    train, valid = open_digits(unsupervised=1)
    assert train.num_examples() == 1437
    for part, first in ((train, 0), (valid, 1437)):
        batches = list(Iterator(part, 100))
        assert len(batches) == part.num_examples() // 100
        (x,) = batches[1]
        assert x.shape == (1, 100, 64)
        assert_array_equal(x[0] * 16, package.data[first + 100 : first + 200])


@pytest.mark.parametrize("batch_size", [None, 20])
@pytest.mark.parametrize("floatX", FLOATS)
def test_theano_vars(package, floatX, batch_size):
    with pytensor.config.change_flags(floatX=floatX):
        x, y = open_digits()[0].theano_vars(batch_size)
        x_1 = open_digits(unsupervised=1)[0].theano_vars(batch_size)
    assert (x.name, x.type.shape, x.dtype) == ("x", (batch_size, 64), floatX)
    assert (y.name, y.type.shape, y.dtype) == ("y", (batch_size,), "int64")
    assert (x_1.name, x_1.type.shape, x_1.dtype) == ("x", (1, batch_size, 64), floatX)


def test_shuffling_keeps_images_and_labels_together(package):
    (train, _), (shuffled, _) = open_digits(), open_digits()
    shuffled.shuffle(np.random.default_rng(0))
    order = np.random.default_rng(0).permutation(1437)
    assert not np.array_equal(shuffled.data[1], train.data[1])
    for found, array in zip(shuffled.data, train.data):
        assert_array_equal(found, array[order])


@pytest.mark.parametrize("name", [None, "test", "Train"])
def test_unknown_names(name):
    with pytest.raises(UserError, match="'train' or 'valid'"):
        Digits(name=name)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        open_digits()


def test_the_import_takes_no_scikit_learn():
    code = "import sys, datasets.digits; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, timeout=300)
