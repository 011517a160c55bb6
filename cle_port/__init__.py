"""PyTensor port of ``cle``, the layer library behind nips2015_vrnn.

The modules carry the names of the original's: `cle_port.layers`,
`cle_port.cost`, `cle_port.train`, `cle_port.data`, `cle_port.models`,
`cle_port.utils`.  What the original does not have stands in modules of its
own: `cle_port.backend`, `cle_port.checkpoint`, `cle_port.cache`,
`cle_port.errors`, `cle_port.progress`.
"""

__version__ = "0.1.0"
