"""Initial values: the original's numbers from the same seeds.

All are drawn in double precision whatever floatX is, and exactly equal but for
orthogonal matrices: those come out of an SVD, which other versions of LAPACK
round otherwise and may return with the signs of columns turned.
"""

# ruff: noqa: NPY002 -- NumPy's legacy generator is the original's, and the seeds are for it
import numpy as np
import pytensor
import pytest

from cle_port.layers import InitCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import LSTM, SimpleRecurrent
from tests.recordings import below
from tests.units import FLOATS, case_names, recorded

KINDS = {
    "InitCell/const_mean0.6": {"init_type": "const", "mean": 0.6},
    "InitCell/ones": {"init_type": "ones"},
    "InitCell/ortho": {"init_type": "ortho"},
    "InitCell/ortho_std_dev1": {"init_type": "ortho", "std_dev": 1},
    "InitCell/rand": {"init_type": "rand"},
    "InitCell/rand_high0.25_low-0.5": {"init_type": "rand", "low": -0.5, "high": 0.25},
    "InitCell/randn": {"init_type": "randn"},
    "InitCell/randn_mean1_std_dev0.1": {"init_type": "randn", "mean": 1, "std_dev": 0.1},
    "InitCell/zeros": {"init_type": "zeros"},
}
SHAPES = ("4x4", "4x6", "5x1", "6x4", "7")
CASES = [(kind, shape) for kind in KINDS for shape in SHAPES if "ortho" not in kind or shape != "7"]


def with_signs_of(ours, theirs):
    """Turn the columns that point away from the recorded ones."""
    assert ours.shape == theirs.shape
    return ours * np.sign(np.sum(ours * theirs, axis=0))


def test_all_recorded_kinds_are_there():
    assert set(case_names("init", "InitCell")) == set(KINDS)


@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_InitCell(kind, shape, own_generator):
    arrays = recorded("init", f"{kind}/{shape}")
    seed, dims = int(arrays["seed"]), tuple(arrays["shape"].tolist())
    if own_generator:
        np.random.seed(seed + 1)
        rng = np.random.RandomState(seed)
    else:
        np.random.seed(seed)
        rng = None
    ours = InitCell(**KINDS[kind], rng=rng).get(dims if len(dims) > 1 else dims[0])
    assert ours.dtype == np.float64
    if "ortho" not in kind:
        np.testing.assert_array_equal(ours, arrays["out"])
    else:
        np.testing.assert_allclose(
            with_signs_of(ours, arrays["out"]), arrays["out"], rtol=0, atol=1e-14
        )
        np.testing.assert_allclose(ours.T @ ours, np.eye(ours.shape[1]), atol=1e-14)


def test_ortho_is_too_narrow_where_there_are_fewer_rows_than_columns():
    assert InitCell("ortho").get((4, 6)).shape == (4, 4)


def test_ortho_of_a_matrix_of_lower_rank():
    """Columns that depend on others are left out, as in the original."""
    arrays = recorded("init", "orth/rank1")

    class Given(InitCell):
        def randn(self, shape):
            return arrays["in"]

    ours = Given("ortho").get(arrays["in"].shape)
    np.testing.assert_allclose(with_signs_of(ours, arrays["out"]), arrays["out"], atol=1e-14)


def layer_of(case):
    """The layer whose ``initialize`` was recorded."""
    kind, _, variant = case.partition("/")
    if variant == "defaults":
        return FullyConnectedLayer(name="h", parent="a", parent_dim=3, nout=4, unit="tanh")
    cells = {"init_W": InitCell("rand"), "init_b": InitCell("zeros")}
    if kind == "FullyConnectedLayer":
        cells["init_b"] = InitCell("const", mean=0.6)
    others = {"two": 5, "wider_recurrent": 5, "narrower_recurrent": 3}
    settings = {"name": "h", "parent": ["a", "c"], "parent_dim": [3, 2], "nout": 4, "unit": "tanh"}
    if variant in others:
        settings |= {"recurrent": ["other"], "recurrent_dim": [others[variant]]}
    if variant == "no_bias":
        settings["use_bias"] = 0
    kinds = {k.__name__: k for k in (FullyConnectedLayer, SimpleRecurrent, LSTM)}
    return kinds[kind](**settings, **cells)


@pytest.mark.parametrize(
    "case",
    [
        "FullyConnectedLayer/bias",
        "FullyConnectedLayer/no_bias",
        "FullyConnectedLayer/defaults",
        "SimpleRecurrent",
        "SimpleRecurrent/two",
        "LSTM",
        "LSTM/wider_recurrent",
        "LSTM/narrower_recurrent",
    ],
)
def test_initialize(case):
    """Names, order, values, and how many random numbers were used up."""
    arrays = recorded("init", f"initialize/{case}")
    np.random.seed(int(arrays["seed"]))
    ours = layer_of(case).initialize()
    assert np.random.uniform() == arrays["next_uniform"]
    assert list(ours) == arrays["order"].tolist()
    for name, theirs in below(arrays, "param").items():
        if name.startswith("U_"):
            np.testing.assert_allclose(
                with_signs_of(ours[name], theirs), theirs, rtol=0, atol=1e-13, err_msg=name
            )
        else:
            np.testing.assert_array_equal(ours[name], theirs, err_msg=name)


def test_recurrent_weights_of_LSTM_are_four_orthogonal_blocks():
    """Whatever init_U is, as in the original."""
    layer = LSTM(name="h", nout=4, unit="tanh", init_U=InitCell("zeros"))
    U = layer.initialize()["U_h__h"]
    for block in np.split(U, 4, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(4), atol=1e-14)


@pytest.mark.parametrize("floatX", FLOATS)
def test_shared_variables(floatX):
    with pytensor.config.change_flags(floatX=floatX):
        ones = InitCell("ones").getX((2, 3), name="W")
        given = InitCell().setX(np.arange(3), name="b")
    assert (ones.name, ones.dtype, ones.type.shape) == ("W", floatX, (2, 3))
    assert (given.name, given.dtype) == ("b", floatX)
    np.testing.assert_array_equal(ones.get_value(), np.ones((2, 3)))
    np.testing.assert_array_equal(given.get_value(), [0, 1, 2])


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown init_type 'orth'; choose one of randn, rand, "):
        InitCell("orth")
    cell = InitCell(None)
    assert not hasattr(cell, "init_param")
    np.testing.assert_array_equal(cell.zeros(2), [0, 0])
