"""PyTensor port of ``cle``, the layer library behind nips2015_vrnn.

Modules of the original keep their names: `cle_port.cost`, `cle_port.data`,
`cle_port.graph`, `cle_port.layers`, `cle_port.models`, `cle_port.train`,
`cle_port.utils`.  New code is in `cle_port.errors`, `cle_port.files`,
`cle_port.console` and in new modules of these packages.

A module imports only from those before it: `errors`; `files`, `console`; `utils`;
`cost`, `layers`, `data`; `models`, `graph`; `train`.
"""

__version__ = "0.1.0"
