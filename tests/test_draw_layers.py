"""Layers of DRAW: against the original's, and NumPy loops."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.models.vae.draw import (
    CanvasLayer,
    ErrorLayer,
    ReadLayer,
    WriteLayer,
    batched_dot,
)
from compare.units.special_layers import BUILDERS, REPEATERS
from tests.recordings import read
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, in_python, recorded

# Differences allowed in float32 are twice those that the recordings' README states for costs.
RTOL = {"float64": 1e-13, "float32": 2e-6}
RNG = np.random.default_rng(7)
RECORDED = case_names("layers", "ReadLayer", "WriteLayer")
SHAPES = {"glimpse_shape": (3, 2, 2, 3), "input_shape": (3, 2, 6, 5)}


def check_gradient(build, *values):
    """Compare the gradients of a weighted sum of the output with finite differences."""
    with in_python():
        pytensor.gradient.verify_grad(build, list(values), rng=np.random.default_rng(3))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", RECORDED)
def test_recorded_attention(case, floatX, static):
    arrays = recorded("layers", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(BUILDERS[case.split("/")[0]](case, arrays), arrays, static)
    check_case(graph(arrays), arrays, RTOL[floatX])


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("layer", ["CanvasLayer", "ErrorLayer"])
def test_recorded_sums(layer, floatX):
    ((case, ours),) = REPEATERS[layer](read(f"units_layers_{floatX}.npz"))
    assert case == layer
    check_case(ours, recorded("layers", layer, floatX), RTOL[floatX])


def test_all_recorded_cases_are_there():
    assert len(RECORDED) == 4


def bank(centre, delta, sigma, n, length):
    """Filters of one direction for one example, by loops."""
    F = np.empty((n, length))
    for i in range(n):
        mu = centre + delta * (i - 0.5 * n - 0.5)
        for a in range(length):
            F[i, a] = np.exp(-((a - mu) ** 2)) / 2 / sigma**2
        F[i] /= F[i].sum() + 1e-4
    return F


def filters(z):
    """Filters of all examples in both directions, and their intensities, by loops."""
    Fy, Fx = [], []
    _, _, h, w = SHAPES["glimpse_shape"]
    _, _, height, width = SHAPES["input_shape"]
    for example in z:
        delta = (max(height, width) - 1) / (max(h, w) - 1) * np.exp(example[2])
        sigma = np.exp(example[3] / 2)
        Fy.append(bank((height + 1) / 2 * (example[0] + 1), delta, sigma, h, height))
        Fx.append(bank((width + 1) / 2 * (example[1] + 1), delta, sigma, w, width))
    return Fy, Fx, np.exp(z[:, 4])


def test_read():
    layer = ReadLayer(name="read", **SHAPES)
    x, x_hat = RNG.normal(size=(2, 3, 2, 6, 5))
    z = RNG.normal(size=(3, 5))
    ours = evaluate(layer.fprop([pt.as_tensor(value) for value in (x, x_hat, z)]))
    Fy, Fx, gamma = filters(z)
    for i in range(3):
        glimpses = [Fy[i] @ image @ Fx[i].T for image in (*x[i], *x_hat[i])]
        np.testing.assert_allclose(ours[i], gamma[i] * np.ravel(glimpses), rtol=1e-12)


def test_write():
    layer = WriteLayer(name="write", **SHAPES)
    w, z = RNG.normal(size=(3, 2, 2, 3)), RNG.normal(size=(3, 5))
    ours = evaluate(layer.fprop([pt.as_tensor(w), pt.as_tensor(z)]))
    Fy, Fx, gamma = filters(z)
    for i in range(3):
        images = [Fy[i].T @ glimpse @ Fx[i] for glimpse in w[i]]
        np.testing.assert_allclose(ours[i], np.ravel(images) / gamma[i], rtol=1e-12, atol=1e-14)


def test_batched_dot():
    A, B = RNG.normal(size=(4, 2, 3)), RNG.normal(size=(4, 3, 5))
    ours = evaluate(batched_dot(pt.as_tensor(A), pt.as_tensor(B)))
    np.testing.assert_allclose(ours, [a @ b for a, b in zip(A, B)], rtol=1e-13)


def test_gradients():
    z = 0.5 * RNG.normal(size=(3, 5))
    x, x_hat = RNG.normal(size=(2, 3, 60))
    reads = ReadLayer(name="read", **SHAPES)
    check_gradient(lambda *X: reads.fprop(X), x, x_hat, z)
    writes = WriteLayer(name="write", **SHAPES)
    check_gradient(lambda *X: writes.fprop(X), RNG.normal(size=(3, 12)), z)
    canvas = CanvasLayer(name="canvas", parent="write", nout=60)
    check_gradient(lambda c, c_tm1: canvas.fprop([[c], [c_tm1]]), x, x_hat)
    error = ErrorLayer(name="error", parent="x", recurrent="canvas")
    check_gradient(lambda x, c_tm1: error.fprop([[x], [c_tm1]]), x, x_hat)


def test_steps_under_scan():
    """Each step writes the same on the canvas and looks at what is missing."""
    canvas = CanvasLayer(name="canvas", parent="write", nout=4)
    error = ErrorLayer(name="error", parent="x", recurrent="canvas", recurrent_dim=4)
    assert error.recurrent == {"canvas": 4}
    x, written = RNG.normal(size=(2, 3, 4))

    def step(c_tm1):
        missing = error.fprop([[pt.as_tensor(x)], [c_tm1]])
        return missing, canvas.fprop([[pt.as_tensor(written)], [c_tm1]])

    with pytensor.config.change_flags(floatX="float64"):
        start = canvas.get_init_state(3)
    outputs = pytensor.scan(step, outputs_info=[None, start], n_steps=3, return_updates=False)
    with in_python():
        missing, drawn = evaluate(list(outputs))
    for t in range(3):
        np.testing.assert_allclose(missing[t], x - t * written, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(drawn[t], (t + 1) * written, rtol=1e-14)


@pytest.mark.parametrize("kind", [ReadLayer, WriteLayer])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "layer 'a' needs glimpse_shape and input_shape"),
        ({"glimpse_shape": (3, 1, 2, 2)}, "layer 'a' needs glimpse_shape and input_shape"),
        (
            {"glimpse_shape": (3, 1, 1, 1), "input_shape": (3, 1, 5, 5)},
            "layer 'a': a glimpse of one point has no grid; give glimpse_shape a height or width",
        ),
    ],
)
def test_shapes_are_needed(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(name="a", **settings)


@pytest.mark.parametrize(("kind", "names"), [(ReadLayer, "x, x_hat, z"), (WriteLayer, "w, z")])
def test_inputs_are_counted(kind, names):
    with pytest.raises(ValueError, match=f"layer 'a' got 1 parent inputs, expected .: {names}"):
        kind(name="a", **SHAPES).fprop([pt.dmatrix()])


def test_an_error_has_no_batch_size():
    """The tutorial of the original passes one, and stops there, too."""
    with pytest.raises(TypeError, match="batch_size"):
        ErrorLayer(name="error", parent="x", recurrent="canvas", batch_size=3)


def test_no_layer_has_parameters():
    layers = [
        ReadLayer(name="read", parent=["x", "error", "z"], **SHAPES),
        WriteLayer(name="write", parent=["w", "z"], **SHAPES),
        CanvasLayer(name="canvas", parent="write", nout=60),
        ErrorLayer(name="error", parent="x", recurrent="canvas"),
    ]
    assert [layer.initialize() for layer in layers] == [{}] * 4
