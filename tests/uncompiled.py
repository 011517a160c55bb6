"""A compiler for main loops in tests: PyTensor's Python code, ready at once."""

from cle_port.graph import Compiler
from tests.units import compile_plainly


class Uncompiled(Compiler):
    """Runs graphs in Python, without any compiler."""

    def function(self, inputs, outputs, updates=None):
        """Make a function of the graph."""
        return compile_plainly(inputs, outputs, updates)
