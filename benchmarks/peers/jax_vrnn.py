"""The update in idiomatic JAX: `jax.lax.scan` under `jax.jit`.

Everything that does not depend on the state is outside the scan, for all frames
at once.  Inside, products with the same left factor are one product.  New
parameters and moments overwrite the old ones, which are donated.  JAX compiles
for each length of a batch, without padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from benchmarks.problem import Problem

SIG_FLOOR = 1e-4
MAX_GRADIENT_NORM = 5.0
MAX_WEIGHT_NORM = 1.9365
LOG_2PI = math.log(2 * math.pi)

Tree = dict[str, Array]


class Peer:
    """See `benchmarks.peers.worker.Peer`."""

    def __init__(self, problem: Problem, n_step: int) -> None:
        settings = problem.settings
        jax.config.update("jax_enable_x64", settings.floatX == "float64")
        self.settings = settings
        self.p = {k: jnp.asarray(v, settings.floatX) for k, v in problem.params.items()}
        self.m = jax.tree.map(jnp.zeros_like, self.p)
        self.v = jax.tree.map(jnp.zeros_like, self.p)
        shape = (settings.batch_size, settings.rnn_dim)
        self.carried = jnp.zeros(shape, settings.floatX), jnp.zeros(shape, settings.floatX)
        self.n_seen = 0
        self.jitted = jax.jit(self.new_state, donate_argnums=(0, 1, 2, 3))

    def update(self, batch: Mapping[str, NDArray]) -> float:
        """Update once; return the cost before the update."""
        new = self.jitted(self.p, self.m, self.v, self.carried, self.n_seen, dict(batch))
        cost, self.p, self.m, self.v, self.carried = jax.block_until_ready(new)
        self.n_seen += 1
        return float(cost)

    def state(self) -> dict[str, NDArray]:
        """Return parameters and first moments."""
        moments = {f"adam_m/{name}": np.array(m) for name, m in self.m.items()}
        return {name: np.array(p) for name, p in self.p.items()} | moments

    def new_state(
        self, p: Tree, m: Tree, v: Tree, carried: tuple[Array, Array], n_seen: Array, batch: Tree
    ) -> tuple[Array, Tree, Tree, Tree, tuple[Array, Array]]:
        """Return cost, parameters, moments and carried state after an update."""
        is_iamondb = self.settings.dataset == "iamondb"
        starts_anew = is_iamondb or n_seen % self.settings.reset_freq == 0
        h_0, c_0 = jax.tree.map(lambda s: jnp.where(starts_anew, 0, s), carried)
        (cost, carried), g = jax.value_and_grad(self.cost, has_aux=True)(p, batch, h_0, c_0)
        g = clipped(g, p, self.settings.batch_size, check_nan=not is_iamondb)
        b1, b2 = 0.9 * (1 - 1e-8) ** n_seen, 0.999
        t = n_seen + 1
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, v, g)
        m_scale, v_scale = 1 / (1 - 0.9**t), 1 / (1 - b2**t)
        p = jax.tree.map(
            lambda p, m, v: p - self.settings.lr * (m * m_scale) / (jnp.sqrt(v * v_scale) + 1e-8),
            p,
            m,
            v,
        )
        return cost, {k: limited(w) if "W" in k else w for k, w in p.items()}, m, v, carried

    def cost(self, p: Tree, batch: Tree, h_0: Array, c_0: Array) -> tuple[Array, tuple]:
        """Return the bound and the state after the last frame."""
        x, eps, depth = batch["x"], batch["eps"], self.settings.depth
        x_out, z_out = f"x_{depth}", f"z_{depth}"
        features = stack(p, "x", jax.nn.relu(x @ p["W_x_t__x_1"] + p["b_x_1"]), depth)
        to_rnn = features @ p[f"W_{x_out}__rnn"] + p["b_rnn"]
        to_phi = features @ p[f"W_{x_out}__phi_1"] + p["b_phi_1"]
        W_h = jnp.concatenate([p["U_rnn__rnn"], p["W_s_tm1__phi_1"]], axis=1)
        W_head = jnp.concatenate([p[f"W_phi_{depth}__phi_{k}"] for k in ("mu", "sig")], axis=1)
        b_head = jnp.concatenate([p["b_phi_mu"], p["b_phi_sig"]])
        n = 4 * self.settings.rnn_dim

        def step(state: tuple[Array, Array], inputs: tuple) -> tuple:
            h, c = state
            to_rnn_t, to_phi_t, eps_t = inputs
            from_h = h @ W_h
            top = stack(p, "phi", jax.nn.relu(to_phi_t + from_h[:, n:]), depth)
            mu, sig = jnp.split(top @ W_head + b_head, 2, axis=1)
            sig = sigma(sig)
            z = mu + sig * eps_t
            z_4 = stack(p, "z", jax.nn.relu(z @ p["W_z_t__z_1"] + p["b_z_1"]), depth)
            cell, i, f, o = jnp.split(
                to_rnn_t + from_h[:, :n] + z_4 @ p[f"W_{z_out}__rnn"], 4, axis=1
            )
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(cell)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), (h, z_4, mu, sig)

        scanned: Any = jax.lax.scan(step, (h_0, c_0), (to_rnn, to_phi, eps))
        state, (s, z_4, mu, sig) = scanned
        s_tm1 = jnp.concatenate([h_0[None], s[:-1]])
        prior = jax.nn.relu(s_tm1 @ p["W_s_tm1__prior_1"] + p["b_prior_1"])
        prior = stack(p, "prior", prior, depth)
        prior_mu = prior @ p[f"W_prior_{depth}__prior_mu"] + p["b_prior_mu"]
        prior_sig = prior @ p[f"W_prior_{depth}__prior_sig"] + p["b_prior_sig"]
        theta = z_4 @ p[f"W_{z_out}__theta_1"] + s_tm1 @ p["W_s_tm1__theta_1"] + p["b_theta_1"]
        theta = stack(p, "theta", jax.nn.relu(theta), depth)
        heads = {
            name: theta @ p[f"W_theta_{depth}__{name}"] + p[f"b_{name}"]
            for name in ("theta_mu", "theta_sig", "coeff", "corr", "binary")
            if f"b_{name}" in p
        }
        frames = nll(x, heads, self.settings.num_k) + kl(mu, sig, prior_mu, sigma(prior_sig))
        if "mask" not in batch:
            return frames.mean(), state
        return (frames * batch["mask"]).sum(0).mean(), state


def stack(p: Tree, name: str, v: Array, depth: int) -> Array:
    """Apply the layers after the first."""
    for i in range(2, depth + 1):
        v = jax.nn.relu(v @ p[f"W_{name}_{i - 1}__{name}_{i}"] + p[f"b_{name}_{i}"])
    return v


def sigma(v: Array) -> Array:
    """Return the standard deviation from a layer's output."""
    return jax.nn.softplus(v) + SIG_FLOOR


def nll(x: Array, heads: Tree, num_k: int) -> Array:
    """Return the negative log-density of each frame, shape (T, B)."""
    log_coeff = jax.nn.log_softmax(heads["coeff"])
    mu, sig = heads["theta_mu"], sigma(heads["theta_sig"])
    if "corr" not in heads:
        shape = (*x.shape, num_k)
        z = (x[..., None] - mu.reshape(shape)) / sig.reshape(shape)
        inner = -0.5 * (z**2 + 2 * jnp.log(sig.reshape(shape)) + LOG_2PI).sum(-2)
        return -jax.nn.logsumexp(log_coeff + inner, axis=-1)
    shape = (*x.shape[:2], 2, num_k)
    corr = jnp.tanh(heads["corr"])
    z = (x[..., 1:, None] - mu.reshape(shape)) / sig.reshape(shape)
    z_1, z_2 = z[..., 0, :], z[..., 1, :]
    one_minus = 1 - corr**2
    log_norm = 0.5 * jnp.log(one_minus) + jnp.log(sig).reshape(shape).sum(-2) + LOG_2PI
    inner = -(log_norm + 0.5 / one_minus * (z_1**2 + z_2**2 - 2 * corr * z_1 * z_2))
    pen, logit = x[..., 0], heads["binary"][..., 0]
    log_pen = pen * jax.nn.log_sigmoid(logit) + (1 - pen) * jax.nn.log_sigmoid(-logit)
    return -log_pen - jax.nn.logsumexp(log_coeff + inner, axis=-1)


def kl(mu_1: Array, sig_1: Array, mu_2: Array, sig_2: Array) -> Array:
    """Return the divergence of diagonal Gaussians, summed over the last axis."""
    ratio = (sig_1**2 + (mu_1 - mu_2) ** 2) / sig_2**2
    return (jnp.log(sig_2) - jnp.log(sig_1) + 0.5 * (ratio - 1)).sum(-1)


def clipped(g: Tree, p: Tree, batch_size: int, check_nan: bool) -> Tree:
    """Divide the gradients by the batch size, then limit their common norm."""
    g = jax.tree.map(lambda g: g / batch_size, g)
    square = sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(g))
    scale = MAX_GRADIENT_NORM / jnp.maximum(MAX_GRADIENT_NORM, jnp.sqrt(square))
    if not check_nan:
        return jax.tree.map(lambda g: g * scale, g)
    return jax.tree.map(lambda g, p: jnp.where(jnp.isfinite(square), g * scale, 0.1 * p), g, p)


def limited(w: Array) -> Array:
    """Limit the norm of each column."""
    norm: Any = jnp.sqrt((w**2).sum(0))
    return w * (jnp.minimum(norm, MAX_WEIGHT_NORM) / (1e-7 + norm))
