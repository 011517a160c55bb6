"""The limit: the matrix products of one update, and nothing else.

Each weight takes part in three products: with its input, with the gradient of
its output, and, for its own gradient, the product of these two.  Products that
depend on the state run frame by frame, one after the other.  All others, and all
gradients of weights, are products over all frames at once.  The numbers are
noise.  NumPy, PyTorch or JAX computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.problem import Problem


class Product(NamedTuple):
    """Shapes of a product: (m, k) times (k, n)."""

    m: int
    k: int
    n: int


class Products(NamedTuple):
    """Products of one update."""

    frame_by_frame: list[Product]  # run T times each
    at_once: list[Product]

    def gflop(self, n_step: int) -> float:
        """Return the floating-point operations of an update, in billions."""
        frame = sum(2 * m * k * n for m, k, n in self.frame_by_frame)
        rest = sum(2 * m * k * n for m, k, n in self.at_once)
        return (n_step * frame + rest) / 1e9


def products(problem: Problem, n_step: int) -> Products:
    """List the products of an update on ``n_step`` frames."""
    settings = problem.settings
    frame: list[Product] = []
    at_once: list[Product] = []
    n_batch = settings.batch_size
    n_all = n_step * n_batch
    for name, weight in problem.params.items():
        if weight.ndim != 2:
            continue
        k, n = weight.shape
        is_framewise = _is_framewise(name, settings.depth)
        place, m = (frame, n_batch) if is_framewise else (at_once, n_all)
        place.append(Product(m, k, n))
        if name != "W_x_t__x_1":  # data has no gradient
            place.append(Product(m, n, k))
        at_once.append(Product(k, n_all, n))
    return Products(frame, at_once)


def _is_framewise(name: str, depth: int) -> bool:
    """Return whether a weight's product depends on the state and changes it."""
    parent, _, layer = name.removeprefix("W_").removeprefix("U_").partition("__")
    if parent == f"x_{depth}":
        return False
    return layer == "rnn" or layer.startswith(("z_", "phi_"))


class Peer:
    """See `benchmarks.peers.worker.Peer`.

    Parameters
    ----------
    problem : Problem
    n_step : int
    option : {'numpy', 'torch', 'jax'}
    """

    def __init__(self, problem: Problem, n_step: int, option: str) -> None:
        self.problem = problem
        self.make = {"numpy": with_numpy, "torch": with_torch, "jax": with_jax}[option]
        self.runs: dict[int, Callable[[], Any]] = {}

    def update(self, batch: Mapping[str, NDArray]) -> float:
        """Multiply; return NaN, because there is no cost."""
        n_step = len(batch["x"])
        if n_step not in self.runs:
            dtype = batch["x"].dtype
            self.runs[n_step] = self.make(products(self.problem, n_step), n_step, dtype)
        self.runs[n_step]()
        return float("nan")

    def state(self) -> dict[str, NDArray]:
        """Return nothing: there are no parameters."""
        return {}


def noise(*shape: int, dtype: np.dtype) -> NDArray:
    """Return uniform numbers; denormal numbers, which are slow, do not occur."""
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(dtype)


def operands(product: Product, dtype: np.dtype) -> tuple[NDArray, NDArray, NDArray]:
    """Return both factors and an array for their product."""
    m, k, n = product
    return noise(m, k, dtype=dtype), noise(k, n, dtype=dtype), np.empty((m, n), dtype)


def with_numpy(todo: Products, n_step: int, dtype: np.dtype) -> Callable[[], None]:
    """Return a function that multiplies into allocated arrays."""
    frame, rest = ([operands(product, dtype) for product in part] for part in todo)

    def run() -> None:
        for _ in range(n_step):
            for a, b, out in frame:
                np.matmul(a, b, out=out)
        for a, b, out in rest:
            np.matmul(a, b, out=out)

    return run


def with_torch(todo: Products, n_step: int, dtype: np.dtype) -> Callable[[], None]:
    """Return a function that multiplies into allocated tensors."""
    import torch

    frame, rest = (
        [tuple(map(torch.from_numpy, operands(product, dtype))) for product in part]
        for part in todo
    )

    def run() -> None:
        for _ in range(n_step):
            for a, b, out in frame:
                torch.mm(a, b, out=out)
        for a, b, out in rest:
            torch.mm(a, b, out=out)

    return run


def with_jax(todo: Products, n_step: int, dtype: np.dtype) -> Callable[[], Any]:
    """Return a compiled function with a scan; each frame has factors of its own."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", dtype == np.float64)
    inputs = [jnp.asarray(noise(n_step, m, k, dtype=dtype)) for m, k, _ in todo.frame_by_frame]
    weights = [jnp.asarray(noise(k, n, dtype=dtype)) for _, k, n in todo.frame_by_frame]
    rest = [
        (jnp.asarray(noise(m, k, dtype=dtype)), jnp.asarray(noise(k, n, dtype=dtype)))
        for m, k, n in todo.at_once
    ]

    @jax.jit
    def multiply(inputs: Any, weights: Any, rest: Any) -> Any:
        def step(_: None, frames: Any) -> Any:
            return None, [a @ b for a, b in zip(frames, weights)]

        return jax.lax.scan(step, None, inputs)[1], [a @ b for a, b in rest]

    return lambda: jax.block_until_ready(multiply(inputs, weights, rest))
