"""Costs and monitored channels of the models.

Counterpart: the costs and ``max_x``, ``mean_x`` ... in the original's eight
scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.utils import castX, sharedX
from models.settings import Settings

# What a bound is of, by data set.
UNITS = {"blizzard": "nats a frame", "iamondb": "nats a line", "digits": "nats an image"}
ACTIVE = 0.01  # nats a frame: the KL above which a dimension of z is called active


def average(frames: TensorVariable, mask: TensorVariable | None) -> TensorVariable:
    """Average a number per frame to the scalar that the programs minimise.

    Parameters
    ----------
    frames : tensor of shape (T, B)
        A number for each frame.
    mask : tensor of shape (T, B), or None
        1 for frames, 0 for padding after shorter sequences.

    Returns
    -------
    scalar
        Without a mask (Blizzard) the mean over frames; with one (IAM-OnDB) the
        mean over sequences of the sum over frames.
    """
    return frames.mean() if mask is None else (frames * mask).sum(axis=0).mean()


def bound(terms: Mapping[str, TensorVariable], mask: TensorVariable | None) -> list[TensorVariable]:
    """Average the two terms of a variational bound, and add them.

    Parameters
    ----------
    terms : mapping of str to tensor
        ``recon`` and ``kl`` of each frame, shape (T, B), in nats.
    mask : tensor of shape (T, B), or None
        See `average`.

    Returns
    -------
    list of scalars
        ``nll_upper_bound``, which is trained, ``recon_term`` and ``kl_term``.
    """
    recon_term = named(average(terms["recon"], mask), "recon_term")
    kl_term = named(average(terms["kl"], mask), "kl_term")
    return [named(recon_term + kl_term, "nll_upper_bound"), recon_term, kl_term]


def trained_cost(
    args: Settings,
    nll_upper_bound: TensorVariable,
    terms: Mapping[str, TensorVariable],
    mask: TensorVariable | None = None,
) -> tuple[TensorVariable, dict[TensorSharedVariable, TensorVariable]]:
    """Return what is minimised: the bound, or what ``--kl_anneal`` and ``--free_bits`` make of it.

    With w the weight of the KL term and KL_j that of dimension j of z, averaged over
    the frames of the batch::

        recon + w * n * sum_j max(free_bits, KL_j),    w = min(1, updates so far / kl_anneal)

    n is 1 without a mask, and with one the mean length of the batch's lines.

    The monitored bound stays the bound (11).

    Parameters
    ----------
    args : Settings
    nll_upper_bound : scalar
        From `bound`.
    terms : mapping of str to tensor
        ``recon``, shape (T, B), and ``kl_by_dim``, shape (T, B, z_dim), in nats.
    mask : tensor of shape (T, B), optional
        See `average`.

    Returns
    -------
    cost : scalar
    updates : dict of TensorSharedVariable to tensor
        The count of updates, if the weight needs one; for `Model.set_updates`.

    Notes
    -----
    No counterpart.  KL annealing: Bowman et al., arXiv 1511.06349; free bits: Kingma et
    al., arXiv 1606.04934.  Several devices each take the mean KL_j of their own part of
    the batch.
    """
    if args.kl_anneal is None and not args.free_bits:
        return nll_upper_bound, {}
    if args.free_bits:
        n_frame = 1.0 if mask is None else mask.sum(axis=0).mean()
        kl = mean_by_dim("kl_by_dim", terms["kl_by_dim"], mask)
        kl_term = n_frame * pt.maximum(castX(args.free_bits), kl).sum()
    else:
        kl_term = average(terms["kl_by_dim"].sum(axis=-1), mask)
    updates = {}
    if args.kl_anneal is not None:
        kl_count = sharedX(0, name="kl_count")
        kl_term = pt.minimum(1, kl_count / castX(args.kl_anneal)) * kl_term
        updates[kl_count] = kl_count + 1
    return average(terms["recon"], mask) + kl_term, updates


def mean_by_dim(name: str, v: TensorVariable, mask: TensorVariable | None = None) -> TensorVariable:
    """Mean over all frames of each dimension, as a named vector.

    Parameters
    ----------
    name : str
    v : tensor of shape (T, B, dim)
        Its last axis has a static length.
    mask : tensor of shape (T, B), optional
        1 for frames, 0 for padding, which does not count.
    """
    if mask is None:
        return named(v.mean(axis=(0, 1)), name)
    return named((v * mask[:, :, None]).sum(axis=(0, 1)) / mask.sum(), name)


def active_dims(kl_by_dim: Sequence[float]) -> int:
    """Number of dimensions of z whose KL, in nats a frame, is above `ACTIVE`."""
    return sum(kl > ACTIVE for kl in kl_by_dim)


def stats(name: str, v: TensorVariable, mask: TensorVariable | None = None) -> list[TensorVariable]:
    """Scalars ``max_<name>``, ``mean_<name>``, ``min_<name>`` of a tensor, to be monitored.

    Parameters
    ----------
    name : str
        Last part of the channels' names.
    v : tensor of shape (T, B, dim)
    mask : tensor of shape (T, B), optional
        Leaves out frames after the end of all sequences.  Padding after a
        shorter sequence counts, as in the original.
    """
    used = frames_in_use(mask)
    return [
        named(_keep(v, used, -np.inf).max(), f"max_{name}"),
        named(_mean(v, used), f"mean_{name}"),
        named(_keep(v, used, np.inf).min(), f"min_{name}"),
    ]


def coeff_stats(coeff: TensorVariable, mask: TensorVariable | None = None) -> list[TensorVariable]:
    """Scalars that show whether a mixture uses all of its components, to be monitored.

    Parameters
    ----------
    coeff : tensor of shape (T, B, num_k)
    mask : tensor of shape (T, B), optional
        See `stats`.
    """
    used = frames_in_use(mask)
    mean = _keep(coeff, used, 0.0).sum(axis=(0, 1)) / _count(coeff, used)
    return [
        named(_keep(coeff, used, -np.inf).max(), "coeff_max"),
        named(_keep(coeff, used, np.inf).min(), "coeff_min"),
        named(mean.max(), "coeff_mean_max"),
        named(mean.min(), "coeff_mean_min"),
    ]


def frames_in_use(mask: TensorVariable | None) -> TensorVariable | None:
    """Return which frames any sequence reaches, shape (T, 1, 1); None means all."""
    return None if mask is None else pt.gt(mask.max(axis=1), 0)[:, None, None]


def _keep(v: TensorVariable, used: TensorVariable | None, other: float) -> TensorVariable:
    return v if used is None else pt.switch(used, v, np.asarray(other, dtype=v.dtype))


def _mean(v: TensorVariable, used: TensorVariable | None) -> TensorVariable:
    """Mean of all entries: their sum, divided by the length of each axis in turn.

    Theano divides in this order, and each division rounds.
    """
    mean = _keep(v, used, 0.0).sum()
    for length in (v.shape[0] if used is None else used.sum(), v.shape[1], v.shape[2]):
        mean = _quotient(mean, length)
    return mean


def _quotient(a: TensorVariable, n: TensorVariable) -> TensorVariable:
    if a.dtype == pytensor.config.floatX:
        return a / pt.cast(n, a.dtype)
    # A channel of single precision in a program of double precision (x on IAM-OnDB): in float32
    # compilers would merge the divisions into one.
    return pt.cast(pt.cast(a, "float64") / n, a.dtype)


def _count(v: TensorVariable, used: TensorVariable | None) -> TensorVariable:
    """Number of frames of all sequences together."""
    n_step = v.shape[0] if used is None else used.sum()
    return pt.cast(n_step * v.shape[1], v.dtype)


def named(v: TensorVariable, name: str) -> TensorVariable:
    """Give a tensor its name and return it."""
    v.name = name
    return v


def by_name(scalars: Sequence[TensorVariable]) -> dict[str, TensorVariable]:
    """Return named scalars by their names, in order."""
    return {str(scalar.name): scalar for scalar in scalars}
