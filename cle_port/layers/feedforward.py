"""Layers without a state.

Counterpart: ``cle/layers/feedforward.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import StemCell, first_columns


class FullyConnectedLayer(StemCell):
    """unit(sum over parents of x W + b) + cons.

    Parameters
    ----------
    **kwargs
        See `cle_port.layers.StemCell`.

    Notes
    -----
    Counterpart: ``cle.layers.feedforward.FullyConnectedLayer``.  The original
    adds the products to a tensor of zeros; this sum gives the same numbers without
    it.
    """

    def fprop(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        ndim: int | None = None,
    ) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        X : list of tensors, one for each parent
            Float tensors of shape (time, batch, dim) or (batch, dim); the layer
            uses the first ``parent_dim`` columns.  Vectors of shape (batch,) are
            indices of rows of W, cast to int64.  A parent with fewer axes than
            the output is repeated over time.
        tparams : mapping of str to tensor
            Parameters by name.
        ndim : {2, 3}, optional
            Number of axes of the output; the default is the largest number of
            a parent, at least 2.  (The original fails if it is given.)

        Returns
        -------
        tensor of shape (time, batch, nout) or (batch, nout)

        Raises
        ------
        ValueError
            If the number of inputs is wrong, or an input has more than 3 axes or
            more than the output.
        """
        self._check_count("parent", X, self.parent)
        ndim = max(2, *(x.ndim for x in X)) if ndim is None else ndim
        terms = [
            self._product(x, parout, tparams[f"W_{parname}__{self.name}"], ndim)
            for x, (parname, parout) in zip(X, self.parent.items())
        ]
        z = reduce(add, terms)
        if self.use_bias:
            z = z + tparams[f"b_{self.name}"]
        z = self.nonlin(z)
        if self.cons:
            z = z + self.cons
        z.name = self.name
        return z

    def _product(
        self, x: TensorVariable, parout: int, W: TensorVariable, ndim: int
    ) -> TensorVariable:
        """Return x W, or the rows W[x] for indices, with ``ndim`` axes."""
        if x.ndim == 1:
            product = W[x if "int" in x.dtype else pt.cast(x, "int64")]
        elif x.ndim <= 3:
            product = pt.dot(first_columns(x, parout), W)
        else:
            raise ValueError(f"layer {self.name!r} got an input of {x.ndim} axes, at most 3 work")
        if product.ndim > ndim:
            raise ValueError(f"layer {self.name!r} got an input of {x.ndim} axes for ndim={ndim}")
        return product[None, :, :] if product.ndim < ndim else product
