"""Small helpers against the original's."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.errors import UserError
from cle_port.utils import (
    DefaultListOrderedDict,
    T_one_hot,
    castX,
    error,
    flatten,
    init_tparams,
    itemlist,
    load_params,
    one_hot,
    predict,
    segment_axis,
    shared_int,
    sharedX,
    todict,
    tolist,
    topological_sort,
    totuple,
    uniqify,
    unpack,
    unzip,
    zipp,
)
from cle_port.utils.compat import first_key, first_value
from compare.units.helpers import NESTED, REPEATED, graph_of, keywords, labels
from tests.recordings import read
from tests.units import FLOATS, case_names, evaluate, recorded

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


# Graphs, lists and labels


@pytest.mark.parametrize("name", case_names("utils", "topological_sort"))
def test_topological_sort(name):
    case = recorded("utils", name)
    assert [*topological_sort(graph_of(case))] == case["order"].tolist()


def test_topological_sort_of_every_graph_of_four():
    """Each node comes once, before those that it leads to."""
    edges = [*itertools.combinations("abcd", 2)]
    for chosen in itertools.product([False, True], repeat=len(edges)):
        for nodes in ("abcd", "cadb"):
            rename = dict(zip("abcd", nodes))
            graph = {}
            for (node, following), there in zip(edges, chosen):
                if there:
                    graph.setdefault(rename[node], []).append(rename[following])
            order = topological_sort(graph)
            assert len(order) == len(set(order))
            for node, followers in graph.items():
                assert all(order.index(node) < order.index(other) for other in followers)


def test_topological_sort_takes_single_nodes():
    assert [*topological_sort({"x": "y", "y": ("z",)})] == ["x", "y", "z"]


@pytest.mark.parametrize("graph", [{"a": "a"}, {"a": ["b"], "b": ["c"], "c": ["b"]}])
def test_topological_sort_refuses_cycles(graph):
    with pytest.raises(ValueError, match=r"has a cycle through '[ab]'; take one of its edges out"):
        topological_sort(graph)


@pytest.mark.parametrize("floatX", FLOATS)
def test_labels(floatX):
    """Encoded and predicted as there, bit for bit and in its dtypes."""
    recording = read("units_utils_float64.npz")
    with pytensor.config.change_flags(floatX=floatX):
        cases = dict(labels(recording))
    assert set(cases) == {"one_hot", "T_one_hot", "predict", "error"}
    for case, arrays in cases.items():
        for name, ours in arrays.items():
            theirs = recording[f"{case}/{name}"]
            assert ours.dtype == (floatX if "one_hot" in case else theirs.dtype), case
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_one_hot_refuses(labels):
    with pytest.raises(ValueError, match="are not all among 0 to 2; give a larger nlabels"):
        one_hot(labels, 3)


def test_T_one_hot_of_any_shape():
    given = np.array([[0, 2], [1, 5]])
    x = pt.lmatrix()
    for nlabels in (None, 4):
        ours = evaluate(T_one_hot(x, nlabels), {x: given})
        assert ours.shape == (2, 2, nlabels or 6)
        np.testing.assert_array_equal(ours, given[..., None] == np.arange(ours.shape[-1]))


def test_predict_along_another_axis():
    probs = np.array([[0.1, 0.5, 0.2], [0.9, 0.5, 0.3]])
    x = pt.dmatrix()
    assert evaluate(predict(x, axis=0), {x: probs}).tolist() == [1, 0, 1]


def test_error():
    x, y = pt.lvector(), pt.lvector()
    ours = evaluate(error(x, y), {x: [1, 2, 3], y: [1, 3, 3]})
    assert ours.dtype == "float64"
    assert ours == 1 / 3


def test_flatten_and_uniqify():
    assert flatten(NESTED) == recorded("utils", "flatten")["out"].tolist()
    assert uniqify(REPEATED) == recorded("utils", "uniqify")["out"].tolist()
    assert flatten([]) == uniqify([]) == []
    assert flatten(("ab", [], [[None]])) == ["ab", None]


def test_unpack():
    assert unpack([7]) == unpack((7,)) == unpack(np.array([7, 8])) == unpack(7) == 7
    assert unpack([1, 2]) == unpack((1, 2)) == [1, 2]


def test_todict():
    a, b = SimpleNamespace(name="a"), SimpleNamespace(name="b")
    assert todict(a) == {"a": a}
    assert list(todict((b, a)).items()) == [("b", b), ("a", a)]
    assert todict([]) == {}


def test_first_entries():
    assert (first_key({"b": 1, "a": 2}), first_value({"b": 1, "a": 2})) == ("b", 1)


def test_DefaultListOrderedDict():
    lists = DefaultListOrderedDict()
    lists["b"].append(1)
    lists["a"].append(2)
    lists["b"].append(3)
    assert list(lists.items()) == [("b", [1, 3]), ("a", [2])]
    assert "c" not in lists


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


@pytest.mark.parametrize(("dtype", "arguments"), [("int32", {}), ("int8", {"dtype": "int8"})])
def test_shared_int(dtype, arguments):
    given = np.array([1, 2])
    variable = shared_int(given, name="n", **arguments)
    given[:] = 0
    assert (variable.name, variable.dtype, variable.type.shape) == ("n", dtype, (2,))
    np.testing.assert_array_equal(variable.get_value(), [1, 2])
    assert shared_int(5).get_value() == 5


def test_itemlist():
    params = init_tparams({"W": [1.0], "b": [2.0]})
    assert itemlist(params) == [params["W"], params["b"]]


# Parameters from a file


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, W=np.ones((2, 3)), b=np.zeros(3), meta=np.array("{}"))
    return path


def test_load_params(archive):
    params = {"W": np.zeros((2, 3)), "b": np.ones(3)}
    assert load_params(archive, params) is params
    np.testing.assert_array_equal(params["W"], np.ones((2, 3)))
    np.testing.assert_array_equal(params["b"], np.zeros(3))
    assert list(params) == ["W", "b"]


def test_load_params_warns_of_what_is_missing(archive):
    params = {"U": np.full(2, 5.0), "b": np.ones(3)}
    with pytest.warns(UserWarning, match=r"m\.npz has no U, which keeps its value") as warnings:
        load_params(archive, params)
    assert [warning.filename for warning in warnings] == [__file__]
    np.testing.assert_array_equal(params["U"], [5, 5])
    np.testing.assert_array_equal(params["b"], np.zeros(3))


def test_load_params_refuses_another_shape(archive):
    params = {"b": np.ones(3), "W": np.zeros((3, 2))}
    with pytest.raises(UserError, match=r"W has shape \(2, 3\) in .* and \(3, 2\) in the model"):
        load_params(archive, params)
    np.testing.assert_array_equal(params["b"], np.ones(3))


def test_load_params_refuses_other_files(tmp_path):
    (tmp_path / "text.npz").write_text("W")
    np.save(tmp_path / "one.npy", np.ones(3))
    np.savez(tmp_path / "objects.npz", W=np.array([None]))
    for name in ("none.npz", "text.npz", "one.npy", "objects.npz", "."):
        with pytest.raises(UserError, match=r"cannot read parameters from .*; give an \.npz file"):
            load_params(tmp_path / name, {"W": np.ones(1)})
