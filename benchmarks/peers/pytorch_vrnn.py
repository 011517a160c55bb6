"""The update in idiomatic PyTorch.

Everything that does not depend on the state is computed for all frames at once,
before or after the loop over time: features of x, their products with the
weights of LSTM and posterior, prior network, decoder, costs.  Inside the loop,
products with the same left factor are one product.  PyTorch's fused Adam updates
the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.problem import Problem

SIG_FLOOR = 1e-4
MAX_GRADIENT_NORM = 5.0
MAX_WEIGHT_NORM = 1.9365
BETAS = 0.9, 0.999
BETA_DECAY = 1 - 1e-8
LOG_2PI = math.log(2 * math.pi)


class Peer:
    """See `benchmarks.peers.worker.Peer`.

    Parameters
    ----------
    problem : Problem
    n_step : int
    option : {'eager', 'compiled', 'whole'}
        ``compiled`` compiles the step and the costs with `torch.compile`; Python
        runs the loop over time.  ``whole`` compiles the loop, too.
    """

    def __init__(self, problem: Problem, n_step: int, option: str = "eager") -> None:
        self.settings = problem.settings
        dtype = getattr(torch, self.settings.floatX)
        self.dtype = dtype
        self.p = {
            name: torch.tensor(value, dtype=dtype, requires_grad=True)
            for name, value in problem.params.items()
        }
        self.adam = torch.optim.Adam(
            self.p.values(), lr=self.settings.lr, betas=BETAS, eps=1e-8, fused=True
        )
        self.weights = [p for name, p in self.p.items() if "W" in name]
        self.zeros = torch.zeros(self.settings.batch_size, self.settings.rnn_dim, dtype=dtype)
        self.carried = self.zeros, self.zeros
        self.n_seen = 0
        self.step = torch.compile(step) if option == "compiled" else step
        self.nll = torch.compile(self.nll_of) if option == "compiled" else self.nll_of
        self.cost = torch.compile(self.cost_of) if option == "whole" else self.cost_of

    def update(self, batch: Mapping[str, NDArray]) -> float:
        """Update once; return the cost before the update."""
        x, eps = torch.from_numpy(batch["x"]), torch.from_numpy(batch["eps"])
        mask = torch.from_numpy(batch["mask"]) if "mask" in batch else None
        is_iamondb = mask is not None
        if is_iamondb or self.n_seen % self.settings.reset_freq == 0:
            self.carried = self.zeros, self.zeros
        cost, h, c = self.cost(x, eps, *self.carried, mask)
        cost.backward()
        self.carried = h.detach(), c.detach()
        with torch.no_grad():
            self.clip(check_nan=not is_iamondb)
            self.decay_beta()
            self.adam.step()
            self.adam.zero_grad()
            norms = [w.norm(dim=0) for w in self.weights]
            factors = [n.clamp(max=MAX_WEIGHT_NORM) / (n + 1e-7) for n in norms]
            torch._foreach_mul_(self.weights, factors)
        self.n_seen += 1
        return cost.item()

    def decay_beta(self) -> None:
        """Decay beta_1, but not in the bias correction, as this project's Adam does."""
        beta_1, beta_2 = BETAS
        decayed = beta_1 * BETA_DECAY**self.n_seen
        t = self.n_seen + 1
        (group,) = self.adam.param_groups
        group["betas"] = decayed, beta_2
        group["lr"] = self.settings.lr * (1 - decayed**t) / (1 - beta_1**t)

    def clip(self, check_nan: bool) -> None:
        """Divide the gradients by the batch size, then limit their common norm."""
        grads = [p.grad for p in self.p.values()]
        torch._foreach_div_(grads, self.settings.batch_size)
        norm = torch.stack(torch._foreach_norm(grads)).norm()
        if check_nan and not torch.isfinite(norm):
            for p in self.p.values():
                p.grad = 0.1 * p
        else:
            torch._foreach_mul_(grads, MAX_GRADIENT_NORM / norm.clamp(min=MAX_GRADIENT_NORM))

    def cost_of(
        self, x: Tensor, eps: Tensor, h: Tensor, c: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bound, the last h and the last c."""
        p, depth = self.p, self.settings.depth
        x_out, z_out = f"x_{depth}", f"z_{depth}"
        features = self.stack("x", x)
        to_rnn = features @ p[f"W_{x_out}__rnn"] + p["b_rnn"]
        to_phi = features @ p[f"W_{x_out}__phi_1"] + p["b_phi_1"]
        # Parameters of the step; those with the same left factor form one matrix.
        W_h = torch.cat([p["U_rnn__rnn"], p["W_s_tm1__phi_1"]], dim=1)
        W_head = torch.cat([p[f"W_phi_{depth}__phi_{kind}"] for kind in ("mu", "sig")], dim=1)
        b_head = torch.cat([p["b_phi_mu"], p["b_phi_sig"]])
        phi = [self.layer("phi", i) for i in range(2, depth + 1)]
        to_z = [("W_z_t__z_1", "b_z_1")] + [self.names("z", i) for i in range(2, depth + 1)]
        z = [(p[W], p[b]) for W, b in to_z]
        W_z = p[f"W_{z_out}__rnn"]

        states, z_features, mus, sigs = [h], [], [], []
        for to_rnn_t, to_phi_t, eps_t in zip(to_rnn.unbind(), to_phi.unbind(), eps.unbind()):
            h, c, z_t, mu_t, sig_t = self.step(
                to_rnn_t, to_phi_t, eps_t, h, c, W_h, phi, W_head, b_head, z, W_z
            )
            states.append(h)
            z_features.append(z_t)
            mus.append(mu_t)
            sigs.append(sig_t)

        s_tm1 = torch.stack(states[:-1])
        z_4 = torch.stack(z_features)
        prior = torch.relu(s_tm1 @ p["W_s_tm1__prior_1"] + p["b_prior_1"])
        prior = self.stack("prior", prior, first=2)
        theta = torch.relu(
            z_4 @ p[f"W_{z_out}__theta_1"] + s_tm1 @ p["W_s_tm1__theta_1"] + p["b_theta_1"]
        )
        theta = self.stack("theta", theta, first=2)
        heads = {
            name: theta @ p[f"W_theta_{depth}__{name}"] + p[f"b_{name}"]
            for name in ("theta_mu", "theta_sig", "coeff", "corr", "binary")
            if f"b_{name}" in p
        }
        prior_mu = prior @ p[f"W_prior_{depth}__prior_mu"] + p["b_prior_mu"]
        prior_sig = prior @ p[f"W_prior_{depth}__prior_sig"] + p["b_prior_sig"]
        frames = self.nll(x, heads) + kl(
            torch.stack(mus), torch.stack(sigs), prior_mu, sigma(prior_sig)
        )
        cost = frames.mean() if mask is None else (frames * mask).sum(0).mean()
        return cost, h, c

    def names(self, name: str, i: int) -> tuple[str, str]:
        """Return the names of weight and bias of layer i > 1 of a stack."""
        return f"W_{name}_{i - 1}__{name}_{i}", f"b_{name}_{i}"

    def layer(self, name: str, i: int) -> tuple[Tensor, Tensor]:
        """Return weight and bias of layer i > 1 of a stack."""
        W, b = self.names(name, i)
        return self.p[W], self.p[b]

    def stack(self, name: str, v: Tensor, first: int = 1) -> Tensor:
        """Apply the layers from ``first`` on."""
        for i in range(first, self.settings.depth + 1):
            W, b = ("W_x_t__x_1", "b_x_1") if i == 1 else self.names(name, i)
            v = torch.relu(v @ self.p[W] + self.p[b])
        return v

    def nll_of(self, x: Tensor, heads: dict[str, Tensor]) -> Tensor:
        """Return the negative log-density of each frame, shape (T, B)."""
        log_coeff = torch.log_softmax(heads["coeff"], dim=-1)
        mu, sig = heads["theta_mu"], sigma(heads["theta_sig"])
        if "corr" not in heads:
            shape = (*x.shape, self.settings.num_k)
            mu, sig = mu.view(shape), sig.view(shape)
            z = (x[..., None] - mu) / sig
            inner = -0.5 * (z**2 + 2 * torch.log(sig) + LOG_2PI).sum(dim=-2)
            return -torch.logsumexp(log_coeff + inner, dim=-1)
        shape = (*x.shape[:2], 2, self.settings.num_k)
        corr = torch.tanh(heads["corr"])
        z = (x[..., 1:, None] - mu.view(shape)) / sig.view(shape)
        z_1, z_2 = z.unbind(-2)
        one_minus = 1 - corr**2
        log_norm = 0.5 * torch.log(one_minus) + torch.log(sig).view(shape).sum(-2) + LOG_2PI
        inner = -(log_norm + 0.5 / one_minus * (z_1**2 + z_2**2 - 2 * corr * z_1 * z_2))
        pen = F.binary_cross_entropy_with_logits(
            heads["binary"][..., 0], x[..., 0], reduction="none"
        )
        return pen - torch.logsumexp(log_coeff + inner, dim=-1)

    def state(self) -> dict[str, NDArray]:
        """Return parameters and first moments."""
        moments = {
            f"adam_m/{name}": self.adam.state[p]["exp_avg"].numpy() for name, p in self.p.items()
        }
        return {name: np.array(p.detach()) for name, p in self.p.items()} | moments


def step(
    to_rnn: Tensor,
    to_phi: Tensor,
    eps: Tensor,
    h: Tensor,
    c: Tensor,
    W_h: Tensor,
    phi: list[tuple[Tensor, Tensor]],
    W_head: Tensor,
    b_head: Tensor,
    z_stack: list[tuple[Tensor, Tensor]],
    W_z: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return new h and c, features of z, mean and deviation of the posterior."""
    n = 4 * h.shape[1]
    from_h = h @ W_h
    v = torch.relu(to_phi + from_h[:, n:])
    for W, b in phi:
        v = torch.relu(torch.addmm(b, v, W))
    mu, sig = torch.addmm(b_head, v, W_head).chunk(2, dim=1)
    sig = sigma(sig)
    v = mu + sig * eps
    for W, b in z_stack:
        v = torch.relu(torch.addmm(b, v, W))
    cell, i, f, o = (to_rnn + from_h[:, :n] + v @ W_z).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(cell)
    return torch.sigmoid(o) * torch.tanh(c), c, v, mu, sig


def sigma(v: Tensor) -> Tensor:
    """Return the standard deviation from a layer's output."""
    return F.softplus(v, threshold=40) + SIG_FLOOR  # linear above 40, exact in float64


def kl(mu_1: Tensor, sig_1: Tensor, mu_2: Tensor, sig_2: Tensor) -> Tensor:
    """Return the divergence of diagonal Gaussians, summed over the last axis."""
    ratio = (sig_1**2 + (mu_1 - mu_2) ** 2) / sig_2**2
    return (torch.log(sig_2) - torch.log(sig_1) + 0.5 * (ratio - 1)).sum(-1)
