"""Small helpers against the original's."""

import numpy as np
import pytensor
import pytest

from cle_port.utils import (
    castX,
    init_tparams,
    segment_axis,
    sharedX,
    tolist,
    totuple,
    unzip,
    zipp,
)
from compare.units import keywords
from tests.units import FLOATS, case_names, recorded

CASES = case_names("utils", "segment_axis")


@pytest.mark.parametrize("name", [case for case in CASES if "out" in recorded("utils", case)])
def test_segment_axis(name):
    case = recorded("utils", name)
    ours = segment_axis(case["in"], **keywords(case))
    assert ours.dtype == case["in"].dtype
    np.testing.assert_array_equal(ours, case["out"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_short_cut", r"3 entries do not fill a frame of 5 .*; use end='pad'"),
        ("overlap_too_large", "overlap 3 must be below length 3"),
    ],
)
def test_segment_axis_refuses_as_the_original_does(name, message):
    case = recorded("utils", f"segment_axis/{name}")
    with pytest.raises(ValueError, match=message):
        segment_axis(case["in"], **keywords(case))


def test_all_recorded_cases_are_there():
    assert len(CASES) == 12


@pytest.mark.parametrize("settings", [{"length": 0, "overlap": -1}, {"length": 3, "overlap": -1}])
def test_segment_axis_refuses_sizes(settings):
    with pytest.raises(ValueError, match="must be at least 1 and 0"):
        segment_axis(np.arange(9), **settings)


def test_segment_axis_refuses_an_unknown_end():
    with pytest.raises(ValueError, match="end must be 'cut', 'pad' or 'wrap', not 'mirror'"):
        segment_axis(np.arange(9), 3, end="mirror")


def test_segment_axis_is_a_view_where_it_can_be():
    a = np.arange(12)
    assert np.shares_memory(segment_axis(a, 4, 2), a)


@pytest.mark.parametrize("end", ["pad", "wrap"])
@pytest.mark.parametrize("size", range(1, 12))
def test_segment_axis_leaves_no_entry_out(end, size):
    a = np.arange(1, size + 1)
    frames = segment_axis(a, 4, 1, end=end)
    joined = np.concatenate([frames[0, :1], *(frame[1:] for frame in frames)])
    np.testing.assert_array_equal(joined[:size], a)
    filling = np.zeros(len(joined) - size) if end == "pad" else np.resize(a, len(joined) - size)
    np.testing.assert_array_equal(joined[size:], filling)
    assert len(joined) - size < 4


@pytest.mark.parametrize(
    ("arg", "as_list", "as_tuple"),
    [(1, [1], (1,)), ("ab", ["ab"], ("ab",)), ((1, 2), [1, 2], (1, 2)), ([1], [1], (1,))],
)
def test_tolist_and_totuple(arg, as_list, as_tuple):
    assert tolist(arg) == as_list
    assert totuple(arg) == as_tuple


@pytest.mark.parametrize("floatX", FLOATS)
def test_castX(floatX):
    given = np.arange(3, dtype=floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = castX(given)
    assert ours.dtype == floatX
    assert not np.shares_memory(ours, given)
    np.testing.assert_array_equal(ours, given)


@pytest.mark.parametrize("floatX", FLOATS)
def test_shared_variables(floatX):
    params = {"W": np.ones((2, 3)), "b": np.zeros(3), "a": np.float64(2)}
    with pytensor.config.change_flags(floatX=floatX):
        tparams = init_tparams(params)
        assert list(tparams) == ["W", "b", "a"]
        for name, variable in tparams.items():
            assert (variable.name, variable.dtype) == (name, floatX)
            assert variable.type.shape == params[name].shape
        zipp({"b": [1, 2, 3]}, tparams)
        values = unzip(tparams)
    assert list(values) == ["W", "b", "a"]
    np.testing.assert_array_equal(values["b"], [1, 2, 3])
    np.testing.assert_array_equal(values["W"], params["W"])
    assert values["b"].dtype == floatX


def test_zipp_refuses_an_unknown_name():
    with pytest.raises(KeyError, match="W"):
        zipp({"W": 1.0}, {})


def test_sharedX_copies():
    given = np.zeros(2)
    with pytensor.config.change_flags(floatX="float64"):
        variable = sharedX(given)
    given[:] = 1
    np.testing.assert_array_equal(variable.get_value(), [0, 0])
    assert variable.name is None
