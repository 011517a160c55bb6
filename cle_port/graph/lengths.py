"""Functions of sequences of any length, for a compiler that needs fixed shapes.

No counterpart in the original: Theano compiles for any length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytensor.graph.replace import clone_replace

from cle_port.utils import tolist

logger = logging.getLogger(__name__)


class PerLength:
    """A function of sequences of any length, compiled by JAX for a few lengths.

    JAX compiles for fixed shapes.  This pads each batch with zeros after its last
    frame, up to the next length of `padded_length`.  It compiles one function for
    each padded length, at the first batch of that length.

    Parameters
    ----------
    inputs : list of variables
        Inputs of the graph.  Those without a static length on the first axis
        are padded along it.  Frames of zeros appended to all of these must not
        change the outputs: the graph has to mask them.
    outputs : variable or list of variables
        Results without a time axis.
    updates : mapping of shared variable to variable
        New values that each call leaves in the shared variables.
    compile_ : callable
        Takes ``(inputs, outputs, updates)`` of fixed shapes and compiles them.

    Attributes
    ----------
    n_frame, n_padded : int
        Frames of all calls so far, with padding; frames of padding.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        outputs: Any,
        updates: Mapping,
        compile_: Callable[[Sequence[Any], Any, Mapping], Callable],
    ) -> None:
        self.inputs = list(inputs)
        self.outputs = outputs
        self.updates = dict(updates)
        self.compile_ = compile_
        self.varies = [variable.type.shape[:1] == (None,) for variable in self.inputs]
        self.functions: dict[int, Callable] = {}
        self.n_frame = 0
        self.n_padded = 0

    def __call__(self, *batch: NDArray) -> Any:
        """Call the function compiled for the batch's length."""
        length = next(len(array) for array, varies in zip(batch, self.varies) if varies)
        padded = padded_length(length)
        if padded not in self.functions:
            logger.info("Compiling for sequences of up to %d frames", padded)
            self.functions[padded] = self._compile_for(padded)
        self.n_frame += padded
        self.n_padded += padded - length
        return self.functions[padded](
            *(
                np.pad(array, [(0, padded - length)] + [(0, 0)] * (array.ndim - 1))
                if varies
                else array
                for array, varies in zip(batch, self.varies)
            )
        )

    def _compile_for(self, length: int) -> Callable:
        inputs = [
            variable.type.clone(shape=(length, *variable.type.shape[1:]))(name=variable.name)
            if varies
            else variable
            for variable, varies in zip(self.inputs, self.varies)
        ]
        is_list = isinstance(self.outputs, list | tuple)
        graph = clone_replace(
            [*tolist(self.outputs), *self.updates.values()],
            replace=dict(zip(self.inputs, inputs)),
            rebuild_strict=False,
        )
        n_output = len(graph) - len(self.updates)
        updates = dict(zip(self.updates, graph[n_output:]))
        outputs = graph[:n_output] if is_list else graph[0]
        return self.compile_(inputs, outputs, updates)


def padded_length(length: int) -> int:
    """Return the smallest compiled length of at least ``length`` frames.

    The lengths are 16, 24, 32, 48, 64, 96, 128, then multiples of 64 up to
    1024, then eight per octave.  Padding lengthens short sequences by up to half,
    which costs little.  From 512 frames on it adds at most an eighth, because
    padded frames then cost more than another compilation.
    """
    octave = max(16, 1 << max(0, length - 1).bit_length())
    step = max(octave // 16, min(octave // 4, 64)) if octave > 16 else 16
    return -(-length // step) * step
