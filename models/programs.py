"""The training programs by name, and what sampling needs of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import StemCell
from models import rnn_gauss, rnn_gmm, storn, vae, vrnn_gauss, vrnn_gmm
from models.parts import Decoder, Draw
from models.running import Program

PROGRAMS: dict[str, Program] = {
    script.PROGRAM.name: script.PROGRAM
    for script in (rnn_gauss, rnn_gmm, vrnn_gauss, vrnn_gmm, storn, vae)
}


class Net(Protocol):
    """A model: what sampling, and whoever else runs a trained model, needs of it.

    Attributes
    ----------
    nodes : list of StemCell
    params : dict of str to TensorSharedVariable
    theta : Decoder
        The distribution of x_t.
    noise_dim : int
        Normal numbers that one frame takes: the dimension of z, or 0.
    """

    nodes: list[StemCell]
    params: dict[str, TensorSharedVariable]
    theta: Decoder
    noise_dim: int

    @property
    def state_dim(self) -> int:
        """Size of the state that goes from frame to frame, or 0."""

    @property
    def fprop(self) -> Callable[..., dict[str, TensorVariable]]:
        """From frames, the first state and noise, as far as the model has these, to tensors."""

    def get_init_state(self, batch_size: int) -> TensorVariable:
        """State of zeros before the first frame, shape (batch_size, state_dim)."""

    def generate_fn(
        self, eps_t: TensorVariable, s_tm1: TensorVariable, draw: Draw
    ) -> list[TensorVariable]:
        """One time step of generation: s_t, x_t and its mean."""
