"""Convolution and conversion: against SciPy, NumPy and the original's."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.signal import convolve2d

from cle_port.graph import compile_function
from cle_port.layers import InitCell
from cle_port.layers.conv import Conv2DLayer, ConvertLayer, conv2d, out_length, pad
from cle_port.layers.layer import MaxPool2D
from cle_port.utils import sharedX
from compare.units.special_layers import convert
from tests.units import (
    FLOATS,
    Graph,
    case_names,
    check_case,
    compile_plainly,
    evaluate,
    in_python,
    recorded,
)

RTOL = {"float64": 1e-13, "float32": 2e-6}
RNG = np.random.default_rng(6)
IMAGES = (2, 3, 7, 6)  # batch, channels, x, y


def by_scipy(x, W, step=(1, 1), border_mode="valid"):
    """Sum over channels of the convolution of each image with each filter."""
    return np.array(
        [
            [
                sum(convolve2d(image[c], kernel[c], border_mode) for c in range(len(kernel)))
                for kernel in W
            ]
            for image in x
        ]
    )[:, :, :: step[0], :: step[1]]


def check_gradient(build, *values):
    """Compare the gradients of a weighted sum of the output with finite differences."""
    with in_python():
        pytensor.gradient.verify_grad(build, list(values), rng=np.random.default_rng(3))


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("border_mode", ["valid", "full"])
@pytest.mark.parametrize(("step", "static"), [((1, 1), False), ((2, 3), False), ((3, 2), True)])
@pytest.mark.parametrize("kernel", [(3, 2), (1, 1), (7, 6)])
def test_convolution(kernel, step, static, border_mode, floatX):
    x = RNG.normal(size=IMAGES).astype(floatX)
    W = RNG.normal(size=(4, 3, *kernel)).astype(floatX)
    shapes = [array.shape if static else (None,) * 4 for array in (x, W)]
    inputs = [pt.tensor(shape=shape, dtype=floatX) for shape in shapes]
    z = conv2d(*inputs, W.shape, step, border_mode)
    ours = evaluate(z, dict(zip(inputs, (x, W))))
    expected = by_scipy(x.astype(float), W.astype(float), step, border_mode)
    assert ours.dtype == floatX
    assert ours.shape == expected.shape
    assert z.type.shape == (expected.shape if static else (None, 4, None, None))
    for axis in (2, 3):
        args = (IMAGES[axis], kernel[axis - 2], step[axis - 2], border_mode)
        assert out_length(*args) == expected.shape[axis]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=RTOL[floatX] * abs(expected).max())


@pytest.mark.parametrize("border_mode", ["valid", "full"])
@pytest.mark.parametrize("step", [(1, 1), (2, 3)])
def test_gradient_of_convolution(step, border_mode):
    shape = (2, 3, 2, 3)
    check_gradient(
        lambda x, W: conv2d(x, W, shape, step, border_mode),
        RNG.normal(size=(2, 3, 4, 5)),
        RNG.normal(size=shape),
    )


def test_padding():
    x = pt.fmatrix()
    assert pad(x, 0, 0, 0) is x
    value = np.ones((1, 2), "float32")
    ours = evaluate(pad(x, 1, 1, 2, -np.inf), {x: value})
    assert ours.dtype == "float32"
    np.testing.assert_array_equal(ours, [[-np.inf, 1, 1, -np.inf, -np.inf]])


# ----------------------------------------------------------------------------------------
# Conv2DLayer
# ----------------------------------------------------------------------------------------


def conv_layer(**kwargs):
    settings = {"name": "h", "parent": "x", "parshape": [IMAGES], "unit": "tanh"}
    return Conv2DLayer(**settings | kwargs)


@pytest.mark.parametrize("given", ["outshape", "filtershape"])
@pytest.mark.parametrize("tied_bias", [True, False])
@pytest.mark.parametrize(("border_mode", "place"), [("valid", (5, 5)), ("full", (9, 7))])
def test_a_layer(border_mode, place, tied_bias, given):
    shapes = {"filtershape": (4, 3, 3, 2), "outshape": (2, 4, *place)}
    layer = conv_layer(
        border_mode=border_mode,
        tied_bias=tied_bias,
        cons=0.5,
        init_b=InitCell("rand"),
        **{given: shapes[given]},
    )
    params = layer.initialize()
    assert {"filtershape": layer.filtershape, "outshape": layer.outshape} == shapes
    assert list(params) == ["W_x__h", "b_h"]
    assert params["W_x__h"].shape == (4, 3, 3, 2)
    assert params["b_h"].shape == ((4,) if tied_bias else (4, *place))
    assert params.keys() == layer.initialize().keys()  # again, with both shapes set

    x = RNG.normal(size=(5, *IMAGES[1:]))  # any batch size
    tparams = {name: pt.as_tensor(p) for name, p in params.items()}
    ours = evaluate(layer.fprop([pt.as_tensor(x)], tparams))
    b = params["b_h"][:, None, None] if tied_bias else params["b_h"]
    z = by_scipy(x, params["W_x__h"], border_mode=border_mode) + b
    np.testing.assert_allclose(ours, np.tanh(z) + 0.5, rtol=1e-12)


def test_a_layer_with_steps_and_without_bias():
    shapes = {"filtershape": (4, 3, 3, 2), "parshape": (), "parent_dim": [IMAGES]}
    layer = conv_layer(step_size=[2, 3], use_bias=0, **shapes)
    params = layer.initialize()
    assert list(params) == ["W_x__h"]
    assert layer.outshape == (2, 4, 3, 2)
    x, W = RNG.normal(size=IMAGES), params["W_x__h"]
    ours = evaluate(layer.fprop(pt.as_tensor(x), {"W_x__h": pt.as_tensor(W)}))
    np.testing.assert_allclose(ours, np.tanh(by_scipy(x, W, (2, 3))), rtol=1e-12)


def test_initial_weights_are_drawn_before_the_bias():
    rng = np.random.RandomState(1)
    cell = InitCell("rand", rng=rng)
    params = conv_layer(filtershape=(4, 3, 3, 2), init_W=cell, init_b=cell).initialize()
    again = np.random.RandomState(1)
    np.testing.assert_array_equal(params["W_x__h"], again.uniform(-0.08, 0.08, (4, 3, 3, 2)))
    np.testing.assert_array_equal(params["b_h"], again.uniform(-0.08, 0.08, 4))


@pytest.mark.parametrize("tied_bias", [True, False])
def test_gradient_of_a_layer(tied_bias):
    layer = conv_layer(outshape=(2, 4, 5, 5), tied_bias=tied_bias)
    params = layer.initialize()
    check_gradient(
        lambda x, W, b: layer.fprop(x, {"W_x__h": W, "b_h": b}),
        RNG.normal(size=IMAGES),
        *params.values(),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "layer 'h': give either outshape or filtershape"),
        ({"outshape": IMAGES, "filtershape": IMAGES}, "give either outshape or filtershape"),
        ({"outshape": IMAGES, "border_mode": "same"}, "unknown border_mode 'same'; .* valid, full"),
        ({"outshape": IMAGES, "step_size": (2, 1)}, r"steps of \(2, 1\); give filtershape"),
        ({"outshape": IMAGES, "parent": ["a", "c"]}, "layer 'h' has 2 parents; give it one"),
    ],
)
def test_a_layer_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        conv_layer(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outshape": (2, 4, 5, 5), "parshape": ()}, "layer 'h' needs parshape, the shape of 'x'"),
        ({"outshape": (2, 4, 8, 6)}, r"of \(4, 3, 0, 1\) do not turn images of \(2, 3, 7, 6\)"),
        ({"filtershape": (4, 3, 3, 9)}, r"images of \(2, 3, 7, 6\) into \(2, 4, 5, -2\)"),
        ({"filtershape": (4, 2, 3, 2)}, r"filters of \(4, 2, 3, 2\) do not turn images"),
    ],
)
def test_shapes_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        conv_layer(**settings).initialize()


def test_a_layer_has_one_input():
    layer = conv_layer(filtershape=(4, 3, 3, 2))
    with pytest.raises(ValueError, match="layer 'h' got 2 parent inputs, expected 1: x"):
        layer.fprop([pt.dtensor4(), pt.dtensor4()], {})


# ----------------------------------------------------------------------------------------
# ConvertLayer
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", case_names("layers", "ConvertLayer"))
def test_recorded_conversions(case, floatX):
    arrays = recorded("layers", case, floatX)
    check_case(Graph(convert(case, arrays), arrays)(arrays), arrays, RTOL[floatX])


def test_all_recorded_conversions_are_there():
    assert len(case_names("layers", "ConvertLayer")) == 2


@pytest.mark.parametrize("axes", [("b", "c", "x", "y"), ("c", "b", "y", "x"), "bxyc"])
@pytest.mark.parametrize("outshape", [None, (2, 126)])
def test_images_to_vectors(outshape, axes):
    layer = ConvertLayer(name="c", parent="x", outshape=outshape, axes=axes)
    assert layer.nout == (126 if outshape else None)
    assert layer.initialize() == {}
    x = RNG.normal(size=IMAGES)
    expected = x.transpose(["bcxy".index(axis) for axis in axes])
    ours = evaluate(layer.fprop([pt.as_tensor(x)]))
    np.testing.assert_array_equal(ours, expected.reshape(len(expected), -1))
    check_gradient(layer.fprop, x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outshape": (2, 3, 4)}, "layer 'c': outshape has 3 entries; give 2 or 4"),
        ({"axes": ("b", "c", 0, 1)}, r"layer 'c': axes \('b', 'c', 0, 1\) must be"),
        ({"axes": "bcxx"}, "layer 'c': axes .* must be"),
    ],
)
def test_conversion_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        ConvertLayer(name="c", parent="x", **settings)
    with pytest.raises(ValueError, match="layer 'c' got 2 parent inputs, expected 1: x"):
        ConvertLayer(name="c", parent="x").fprop([pt.dmatrix(), pt.dmatrix()])


# ----------------------------------------------------------------------------------------
# Together, compiled
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("floatX", FLOATS)
def test_on_JAX(floatX):
    """Convolution, pooling and conversion, with gradients."""
    pytest.importorskip("jax")
    h = conv_layer(filtershape=(4, 3, 3, 2), border_mode="full", step_size=(1, 2))
    p = MaxPool2D(name="p", parent="h", pool_size=(3, 2), pool_stride=(2, 2), set_shape=0)
    c = ConvertLayer(name="c", parent="p")
    x = pt.tensor("x", shape=IMAGES, dtype=floatX)
    with pytensor.config.change_flags(floatX=floatX):
        params = {name: sharedX(30 * value, name) for name, value in h.initialize().items()}
        z = c.fprop(p.fprop(h.fprop(x, params)))
        outputs = [z, *pytensor.grad(pt.sum(z**2), [x, *params.values()])]
        fn = compile_function([x], outputs, None, "jax")
    value = RNG.normal(size=IMAGES).astype(floatX)
    expected = compile_plainly([x], outputs)(value)
    for ours, theirs in zip(fn(value), expected, strict=True):
        assert ours.dtype == theirs.dtype == floatX
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=RTOL[floatX] * abs(theirs).max())
