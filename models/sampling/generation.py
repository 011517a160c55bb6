"""Generating sequences, and running real ones through a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable
from scipy.special import ndtri

from cle_port.console.progress import elapsed_time, progress_bar
from cle_port.errors import UserError
from cle_port.graph import compile_function
from models.parts import flat, normal_noise
from models.programs import Net
from models.sampling.data import Sequences
from models.sampling.loading import floatX_of, precision_of

CHUNK = 40  # time steps that one call generates
PLANE = 15  # rows and columns of a plane


class GenerationNoise(NamedTuple):
    """Noise for one call of a generating function, all floatX.

    Attributes
    ----------
    z : ndarray, shape (T, B, noise_dim of the model)
        Standard normal, times the temperature.
    x : ndarray, shape (T, B, noise_dim of the decoder)
        Standard normal, times the temperature.
    u : ndarray, shape (T, B, 2)
        Uniform on [0, 1): for the mixture's component and for the pen bit.
    """

    z: Any
    x: Any
    u: Any


def generation_fn(
    net: Net,
    batch_size: int,
    n_steps: int,
    gmm: str = "sample",
    temperature: float = 1.0,
    backend: str = "auto",
) -> Callable[..., list[Any]]:
    """Compile generation.

    Parameters
    ----------
    net : Net
    batch_size, n_steps : int
        Sequences, and time steps of one call.
    gmm, temperature
        See `models.parts.sample_frames`.  Normal noise is scaled by the
        temperature where it is drawn, in `draw_noise`.
    backend : str
        See `cle_port.graph`.

    Returns
    -------
    callable
        Takes the state s_0 of shape (B, state_dim) and the fields of `GenerationNoise`;
        returns the last state, and frames and their means, both of shape
        (T, B, x_dim).

    Notes
    -----
    Counterpart: ``test_fn`` of ``models/blizzard/sample_vrnn_gauss.py``.
    """
    with precision_of(net):
        inputs, outputs = _generation_graph(net, batch_size, n_steps, gmm, temperature)
        return compile_function(inputs, outputs, None, backend)


def _generation_graph(
    net: Net, batch_size: int, n_steps: int, gmm: str, temperature: float
) -> tuple[list[TensorVariable], list[TensorVariable]]:
    """Inputs and outputs of `generation_fn`."""

    def symbol(name: str, *shape: int) -> TensorVariable:
        return pt.tensor(name, dtype=pytensor.config.floatX, shape=shape)

    s_0 = symbol("s_0", batch_size, net.state_dim)
    noise = GenerationNoise(
        symbol("eps_z", n_steps, batch_size, net.noise_dim),
        symbol("eps_x", n_steps, batch_size, net.theta.noise_dim),
        symbol("u", n_steps, batch_size, 2),
    )

    def inner_fn(
        eps_z_t: TensorVariable, eps_x_t: TensorVariable, u_t: TensorVariable, s_tm1: TensorVariable
    ) -> list[TensorVariable]:
        s_t, x_t, mean_t = net.generate_fn(
            eps_z_t, s_tm1, lambda theta: net.theta.sample(theta, eps_x_t, u_t, gmm, temperature)
        )
        # PyTensor 3.0 loses the batch size in the draw, and scan wants to know a size of 1.
        return [pt.specify_shape(s_t, s_tm1.type.shape), x_t, mean_t]

    s, x, mean = pytensor.scan(
        fn=inner_fn,
        sequences=list(noise),
        outputs_info=[s_0, None, None],
        n_steps=n_steps,
        return_updates=False,
    )
    return [s_0, *noise], [s[-1], x, mean]


def draw_noise(
    net: Net, rng: np.random.Generator, n_steps: int, batch_size: int, temperature: float = 1.0
) -> GenerationNoise:
    """Draw the noise of one call of `generation_fn`.

    The temperature multiplies normal noise, which is the same as multiplying
    the standard deviations of prior and decoder.
    """
    dtype: Any = np.dtype(floatX_of(net))
    shape = (n_steps, batch_size)
    scale = dtype.type(temperature)
    return GenerationNoise(
        scale * rng.standard_normal((*shape, net.noise_dim), dtype=dtype),
        scale * rng.standard_normal((*shape, net.theta.noise_dim), dtype=dtype),
        rng.random((*shape, 2), dtype=dtype),
    )


def generate(
    net: Net,
    rng: np.random.Generator,
    length: int,
    s_0: NDArray,
    *,
    gmm: str = "sample",
    temperature: float = 1.0,
    backend: str = "auto",
    quiet: bool = False,
) -> tuple[NDArray, NDArray]:
    """Generate sequences.

    Parameters
    ----------
    net : Net
    rng : numpy.random.Generator
        Source of all noise.
    length : int
        Time steps.
    s_0 : ndarray, shape (B, state_dim)
        State before the first step.
    gmm, temperature, backend
        See `generation_fn`.
    quiet : bool
        No progress bar.

    Returns
    -------
    x, mean : ndarray, shape (length, B, x_dim), floatX
        Frames, and the means that they were drawn around.

    Raises
    ------
    UserError
        If the frames grow beyond all numbers.
    """
    n_steps = min(length, CHUNK)
    with elapsed_time("Compiling the generation", quiet):
        fn = generation_fn(net, len(s_0), n_steps, gmm, temperature, backend)
    s, frames, means = s_0, [], []
    with progress_bar(length, "generating", "step", quiet) as bar:
        for start in range(0, length, n_steps):
            s, x, mean = fn(s, *draw_noise(net, rng, n_steps, len(s_0), temperature))
            frames.append(np.asarray(x))
            means.append(np.asarray(mean))
            if not np.isfinite(frames[-1]).all():
                raise UserError(
                    f"the generated frames grow beyond all numbers within {start + n_steps} "
                    "steps; lower --temperature or give a checkpoint that was trained longer"
                )
            bar.update(min(n_steps, length - start))
    return np.concatenate(frames)[:length], np.concatenate(means)[:length]


def through_model(
    net: Net,
    x: NDArray,
    rng: np.random.Generator,
    output: Callable[[dict[str, TensorVariable]], TensorVariable],
    backend: str = "auto",
) -> NDArray:
    """Run real data through the model, z drawn from the posterior.

    Parameters
    ----------
    net : Net
    x : ndarray, shape (T, B, x_dim), floatX
    rng : numpy.random.Generator
    output : callable
        Takes the tensors of ``net.fprop``, returns the wanted one.
    backend : str

    Returns
    -------
    ndarray
    """
    (value,) = several_through_model(net, x, rng, lambda _, tensors: [output(tensors)], backend)
    return value


def several_through_model(
    net: Net,
    x: NDArray,
    rng: np.random.Generator,
    outputs: Callable[[TensorVariable, dict[str, TensorVariable]], list[TensorVariable]],
    backend: str = "auto",
) -> list[NDArray]:
    """Return several tensors of one run; see `through_model`.

    ``outputs`` takes the frames, too, as a tensor of the shape of ``x``.
    """
    with precision_of(net):
        symbol = pt.tensor("x", dtype=x.dtype, shape=x.shape)
        inputs, values = [symbol], [x]
        states = [net.get_init_state(x.shape[1])] if net.state_dim else []
        if net.noise_dim:
            inputs.append(normal_noise(symbol, net.noise_dim))
            values.append(draw_noise(net, rng, *x.shape[:2]).z)
        tensors = net.fprop(symbol, *states, *inputs[1:])
        fn = compile_function(inputs, outputs(symbol, tensors), None, backend)
        return [np.asarray(value) for value in fn(*values)]


def state_after(
    net: Net, data: Sequences, rng: np.random.Generator, backend: str = "auto"
) -> NDArray:
    """State after the last frame of each sequence, shape (B, state_dim)."""
    s = through_model(net, data.x, rng, lambda tensors: tensors["s"], backend)
    return s[data.lengths - 1, np.arange(s.shape[1])]


def reconstruct(
    net: Net, data: Sequences, rng: np.random.Generator, backend: str = "auto"
) -> NDArray:
    """Means of x from z of the posterior, shape (T, B, x_dim).

    A mixture gives the mean of its most probable component; the pen is up where
    that is more probable than not.
    """

    def output(tensors: dict[str, TensorVariable]) -> TensorVariable:
        n_steps, batch_size, x_dim = data.x.shape
        theta = {node.name: flat(tensors[node.name]) for node in net.theta.heads}
        rows, dtype = n_steps * batch_size, data.x.dtype
        no_noise = pt.zeros((rows, net.theta.noise_dim), dtype=dtype)
        even = pt.full((rows, 2), np.asarray(0.5, dtype=dtype))
        _, mean = net.theta.sample(theta, no_noise, even, "argmax")
        return mean.reshape((n_steps, batch_size, x_dim))

    return through_model(net, data.x, rng, output, backend)


def plane(net: Net, backend: str = "auto") -> tuple[NDArray, NDArray]:
    """Means of x over the plane of a two-dimensional z, of a model without a state.

    Along both axes z takes the middles of `PLANE` equally probable parts of
    N(0, 1), so that each cell stands for the same share of what the model
    generates.

    Returns
    -------
    z : ndarray, shape (PLANE, PLANE, 2), floatX
        z_1 grows along a row; z_2 is greatest in the first row, as in a picture.
    x : ndarray, shape (PLANE, PLANE, x_dim), floatX
        Means; that of a mixture as in `reconstruct`.
    """
    dtype: Any = np.dtype(floatX_of(net))
    middles = ndtri((np.arange(PLANE) + 0.5) / PLANE)
    z = np.stack(np.meshgrid(middles, middles[::-1]), axis=-1).astype(dtype)
    rows = PLANE**2
    noise = GenerationNoise(
        z.reshape((1, rows, 2)),
        np.zeros((1, rows, net.theta.noise_dim), dtype=dtype),
        np.full((1, rows, 2), 0.5, dtype=dtype),
    )
    fn = generation_fn(net, rows, 1, "argmax", backend=backend)
    _, _, mean = fn(np.zeros((rows, net.state_dim), dtype=dtype), *noise)
    return z, np.asarray(mean).reshape((PLANE, PLANE, -1))
