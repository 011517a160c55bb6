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
from cle_port.layers.recurrent import GFGRU, GFLSTM, GRU, LSTM
from compare.differences import with_signs_of
from compare.units import INIT_CELLS, compare_units, layer_of
from compare.units.initial import basis
from tests.recordings import below, read
from tests.units import FLOATS, case_names, recorded

LAYERS = [
    key.removeprefix("initialize/").removesuffix("/seed")
    for key in read("units_init_float64.npz")
    if key.startswith("initialize/") and key.endswith("/seed")
]
SHAPES = ("4x4", "4x6", "5x1", "6x4", "7")
CASES = [
    (kind, shape) for kind in INIT_CELLS for shape in SHAPES if "ortho" not in kind or shape != "7"
]


def test_all_recorded_kinds_are_there():
    assert set(case_names("init", "InitCell")) == set(INIT_CELLS)
    assert len(LAYERS) == 18


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
    ours = InitCell(**INIT_CELLS[kind], rng=rng).get(dims if len(dims) > 1 else dims[0])
    assert ours.dtype == np.float64
    assert ours.shape == arrays["out"].shape
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
    np.testing.assert_allclose(basis(arrays), arrays["out"], atol=1e-14)


@pytest.mark.parametrize("case", LAYERS)
def test_initialize(case):
    """Names, order, values, and how many random numbers were used up."""
    arrays = recorded("init", f"initialize/{case}")
    np.random.seed(int(arrays["seed"]))
    ours = layer_of(case, arrays).initialize()
    assert np.random.uniform() == arrays["next_uniform"]
    assert list(ours) == arrays["order"].tolist()
    for name, theirs in below(arrays, "param").items():
        assert ours[name].shape == theirs.shape, name
        if name.startswith("U_"):
            np.testing.assert_allclose(
                with_signs_of(ours[name], theirs), theirs, rtol=0, atol=1e-13, err_msg=name
            )
        else:
            np.testing.assert_array_equal(ours[name], theirs, err_msg=name)


def test_the_comparison_repeats_all_recorded_values():
    name = "units_init_float64"
    comparison = compare_units(read(f"{name}.npz"), name)
    assert comparison.ok
    assert comparison.left_out == {}
    assert [len(section.differences) for section in comparison.sections] == [43, 119, 1]


@pytest.mark.parametrize(
    ("kind", "n_block", "n_gate"), [(LSTM, 4, 0), (GRU, 3, 0), (GFLSTM, 4, 2), (GFGRU, 3, 2)]
)
def test_recurrent_weights_are_orthogonal_blocks(kind, n_block, n_gate):
    """Whatever init_U is, as in the original; columns of gates are uniform in its range."""
    cell = InitCell("zeros", low=0.5, high=0.75)
    layer = kind(name="h", recurrent="o", recurrent_dim=6, nout=4, unit="tanh", init_U=cell)
    params = layer.initialize()
    for name, n_row in (("h", 4), ("o", 6)):
        U = params[f"U_{name}__h"]
        assert U.shape == (n_row, 4 * n_block + n_gate)
        for block in np.split(U[:, : 4 * n_block], n_block, axis=1):
            np.testing.assert_allclose(block.T @ block, np.eye(4), atol=1e-14)
        gates = U[:, 4 * n_block :]
        assert ((gates >= 0.5) & (gates < 0.75)).all()
        assert len(np.unique(gates)) == gates.size


@pytest.mark.parametrize("floatX", FLOATS)
def test_shared_variables(floatX):
    with pytensor.config.change_flags(floatX=floatX):
        ones = InitCell("ones").getX((2, 3), name="W")
        given = InitCell().setX(np.arange(3), name="b")
    assert (ones.name, ones.dtype, ones.type.shape) == ("W", floatX, (2, 3))
    assert (given.name, given.dtype) == ("b", floatX)
    np.testing.assert_array_equal(ones.get_value(), np.ones((2, 3)))
    np.testing.assert_array_equal(given.get_value(), [0, 1, 2])


def test_a_subclass_may_add_initial_values():
    class Cell(InitCell):
        def eye(self, shape):
            return np.eye(*shape)

    np.testing.assert_array_equal(Cell("eye").get((2, 3)), np.eye(2, 3))
    np.testing.assert_array_equal(Cell("zeros").get(2), [0, 0])


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown init_type 'orth'; choose one of randn, rand, "):
        InitCell("orth")
    cell = InitCell(None)
    assert not hasattr(cell, "init_param")
    np.testing.assert_array_equal(cell.zeros(2), [0, 0])
