"""A record of a model: inputs, layers, parameters, updates.

Counterpart: ``cle/models/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import StemCell


class Model:
    """A record of the parts of a model that `cle_port.train.Training` needs.

    Parameters
    ----------
    inputs : list of tensors
        Symbolic inputs of the cost, in the order of the arrays of a batch.
    nodes : list of StemCell
        Layers, in the order in which they were initialised.
    params : mapping of str to TensorSharedVariable
        Parameters by name, in the same order.
    updates : mapping of TensorSharedVariable to tensor
        New values of other shared variables at each update, such as the
        carried state of truncated backpropagation.
    forward : mapping of str to tensor
        Tensors between inputs and cost, by name, for tests and sampling.

    Notes
    -----
    Counterpart: ``cle.models.Model``, without ``forward``.
    """

    def __init__(
        self,
        inputs: Sequence[TensorVariable] | None = None,
        nodes: Sequence[StemCell] | None = None,
        params: Mapping[str, TensorSharedVariable] | None = None,
        updates: Mapping[TensorSharedVariable, TensorVariable] | None = None,
        forward: Mapping[str, TensorVariable] | None = None,
    ) -> None:
        self.inputs = list(inputs or [])
        self.nodes = list(nodes or [])
        self.params = dict(params or {})
        self.updates: dict[TensorSharedVariable, TensorVariable] = dict(updates or {})
        self.forward = dict(forward or {})

    def set_updates(self, updates: Mapping[TensorSharedVariable, TensorVariable]) -> None:
        """Add entries to ``updates``, replacing those of the same variable."""
        self.updates.update(updates)
