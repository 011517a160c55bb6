"""What the latent variable does at each frame of real data.

The paper's Figure 2 draws two numbers beside a waveform, and finds that both
jump where the sound changes.  With q(z_t | .) = N(phi_mu_t, phi_sig_t^2)::

    KL_t    = KL(q(z_t | .) || p(z_t | .))               in nats
    delta_t = sum_j (phi_mu_{t,j} - phi_mu_{t-1,j})^2    j: dimensions of z
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from models.programs import Net
from models.sampling.data import Sequences
from models.sampling.generation import several_through_model


class LatentNet(Net, Protocol):
    """A model with a latent variable and a bound."""

    @property
    def terms(self) -> Callable[..., dict[str, TensorVariable]]:
        """From frames and the tensors of `fprop` to the bound's terms, one of them the KL."""


class Latent(NamedTuple):
    """The latent variable over one sequence of T frames.

    Attributes
    ----------
    kl : ndarray, shape (T,)
        KL_t in nats.
    kl_by_dim : ndarray, shape (T, z_dim)
        Its terms, one for each dimension of z.
    step : ndarray, shape (T,)
        delta_t; 0 at the first frame, which has none before it.
    phi_mu, phi_sig, prior_mu, prior_sig : ndarray, shape (T, z_dim)
        Means and standard deviations of posterior and prior.
    """

    kl: NDArray
    kl_by_dim: NDArray
    step: NDArray
    phi_mu: NDArray
    phi_sig: NDArray
    prior_mu: NDArray
    prior_sig: NDArray


def has_latent(net: Net) -> bool:
    """Say whether a model has a latent variable, and a bound that tells its KL."""
    return net.noise_dim > 0 and hasattr(net, "terms")


def latents(
    net: LatentNet, data: Sequences, rng: np.random.Generator, backend: str = "auto"
) -> list[Latent]:
    """Run validation sequences through the model, and keep what concerns z.

    Parameters
    ----------
    net : LatentNet
        Its ``fprop`` names posterior and prior as `VRNN.fprop` does.  Without a
        ``prior_mu`` the prior is N(0, 1), as that of STORN and of the VAE.
    data : Sequences
    rng : numpy.random.Generator
        Source of the noise of z, which moves the state of a VRNN on.
    backend : str

    Returns
    -------
    list of Latent
        One for each sequence, without padding.
    """

    def outputs(x: TensorVariable, tensors: dict[str, TensorVariable]) -> list[TensorVariable]:
        terms = net.terms(x, tensors)
        phi_mu, phi_sig = tensors["phi_mu"], tensors["phi_sig"]
        prior_mu = tensors.get("prior_mu", pt.zeros_like(phi_mu))
        prior_sig = tensors.get("prior_sig", pt.ones_like(phi_sig))
        return [terms["kl"], terms["kl_by_dim"], phi_mu, phi_sig, prior_mu, prior_sig]

    whole = several_through_model(net, data.x, rng, outputs, backend)
    lines: Any = zip(*(data.lines(value) for value in whole))
    return [
        Latent(kl, kl_by_dim, steps(phi_mu), phi_mu, *others)
        for kl, kl_by_dim, phi_mu, *others in lines
    ]


def steps(mu: NDArray) -> NDArray:
    """Squared distances of the rows of (T, dim) from the rows before: shape (T,), first 0."""
    return np.square(np.diff(mu, axis=0, prepend=mu[:1])).sum(axis=1)
