import numpy as np
import pytest

from cle_port.data import Data, DesignMatrix, Iterator
from compare.units import data as data_units
from compare.units.data import GivenSeries, Numbers, as_objects
from tests.recordings import read

REFERENCE = read("units_data_float64.npz")


class InWorkers(Numbers):
    def multi_process_slices(self, mid=-1):
        self.queue.put(mid)


def split(key):
    """Ragged sequences as an array of objects."""
    return as_objects(data_units.split(REFERENCE, key))


def test_iterator_starts_anew_and_has_the_name_of_its_data():
    iterator = Iterator(Numbers(6), batch_size=4)
    assert [b[0].tolist() for b in iterator] == [b[0].tolist() for b in iterator] == [[0, 1, 2, 3]]
    assert iterator.name == "numbers"


def test_length_counts_what_a_pass_yields_where_nbatch_does_not():
    iterator = Iterator(Numbers(11), nbatch=4)
    assert iterator.nbatch == 4
    assert len(iterator) == len(list(iterator)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give batch_size or nbatch"),
        ({"batch_size": 0}, "give batch_size or nbatch"),
        ({"batch_size": 2, "nbatch": 2}, "give only one of"),
        ({"batch_size": 2, "start": 6, "end": 6}, "start is 6; it must be"),
        ({"batch_size": 2, "start": -1}, "start is -1; it must be"),
        ({"batch_size": -2}, "must be positive"),
        ({"nbatch": 11}, "at most the number of examples"),
        ({"batch_size": 2, "shuffle": True}, "shuffle needs rng"),
    ],
)
def test_iterator_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Iterator(Numbers(10), **arguments)


def test_infinite_data():
    class Endless(Numbers):
        def slices(self):
            return ("batch",)

    iterator = Iterator(Endless(3), batch_size=1, infinite_data=1, pseudo_n=4)
    assert len(list(iterator)) == len(iterator) == REFERENCE["iterator/infinite/count"]


def test_shuffle_is_a_new_permutation_each_pass_and_repeats_with_its_seed():
    def passes(seed):
        data = Numbers(50)
        data.data = [np.arange(50), np.arange(50) * 2]
        iterator = Iterator(data, batch_size=50, shuffle=True, rng=np.random.default_rng(seed))
        orders = [next(iter(iterator))[0].tolist() for _ in range(2)]
        assert (data.data[1] == 2 * data.data[0]).all()
        return orders

    first, second = passes(1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second != list(range(50)) != first
    assert passes(1) == [first, second] != passes(2)


def test_shuffle_needs_equal_lengths():
    with pytest.raises(ValueError, match="different lengths"):
        GivenSeries(np.zeros(3), np.zeros(4)).shuffle(np.random.default_rng(0))


def test_design_matrix_slices(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(24).reshape(2, 6, 2))
    data = DesignMatrix(name="x", path=tmp_path / "x.npy")
    first, second = data.slices(2, 4)
    assert first.tolist() == [[4, 5], [6, 7]]
    assert second.tolist() == [[16, 17], [18, 19]]
    assert data.num_examples() == 6


def test_masks_and_padding_of_a_list():
    """Those of an array of objects are recorded, see test_prep.py."""
    batch = list(split("series/in"))
    data = GivenSeries(split("series/in"))
    x, mask = data.create_mask_and_zero_pad(batch)
    np.testing.assert_array_equal(data.create_mask(batch), REFERENCE["series/create_mask"])
    np.testing.assert_array_equal(data.zero_pad(batch), REFERENCE["series/zero_pad"])
    np.testing.assert_array_equal(x, REFERENCE["series/both_x"])
    np.testing.assert_array_equal(mask, REFERENCE["series/both_mask"])
    assert x.dtype == mask.dtype == np.float64


def test_scalar_sequences():
    data = GivenSeries(split("series/flat_in"))
    with pytest.raises(ValueError, match="create_mask_and_zero_pad"):
        data.zero_pad(split("series/flat_in"))


def test_temporal_slices_are_time_first():
    even = REFERENCE["series/even_in"]
    expected = REFERENCE["series/even_slices"]
    found = [GivenSeries(even).slices(i, i + 2)[0] for i in range(3)]
    assert any(np.array_equal(x, expected) for x in found)


def test_load_refuses_pickles(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([None, 1], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        DesignMatrix(path=tmp_path / "objects.npy")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("slices", "no batches of its own"),
        ("theano_vars", "no symbolic inputs of its own"),
        ("multi_process_slices", "cannot load in several processes"),
    ],
)
def test_base_class_leaves_methods_to_subclasses(method, message):
    data = GivenSeries(np.zeros(3))
    arguments = (0, 1) if method == "slices" else ()
    with pytest.raises(NotImplementedError, match=message):
        getattr(Data, method)(data, *arguments)


def test_workers_need_something_to_do(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    with pytest.raises(NotImplementedError, match="cannot load in several processes"):
        DesignMatrix(path=tmp_path / "x.npy", multi_process=2)


def test_workers_fill_the_queue():
    data = InWorkers(3)
    data._start_workers(2)
    assert sorted(data.queue.get(timeout=60) for _ in range(2)) == [0, 1]


@pytest.mark.parametrize("n_batch", [0, 1, 4])
@pytest.mark.parametrize("n_pass", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_iterator_goes_on_where_another_was(shuffle, n_pass, n_batch):
    """In the order of that one; the pass after it is whole."""

    def make():
        data = Numbers(10)
        return Iterator(data, 2, shuffle=shuffle, rng=np.random.default_rng(1))

    first, second = make(), make()
    batches = [batch[0].tolist() for _ in range(n_pass + 2) for batch in first]
    second.go_to(n_pass, n_batch)
    rest = [batch[0].tolist() for _ in range(2) for batch in second]
    assert rest == batches[5 * n_pass + n_batch :]
    assert len(second) == 5


def test_an_iterator_over_made_up_data_goes_on():
    class Counter:
        name, n = "train", 0

        def slices(self):
            self.n += 1
            return (self.n,)

    iterator = Iterator(Counter(), 1, infinite_data=True, pseudo_n=3)
    iterator.go_to(1, 2)
    assert [batch for _ in range(2) for batch in iterator] == [(6,), (7,), (8,), (9,)]
