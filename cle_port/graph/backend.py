"""Choose the compiler of the graphs.

PyTensor compiles a graph with JAX, a C compiler or numba.  The numbers agree up
to rounding, but the time until the first update differs: docs/backends.md has
the measurements behind ``auto``.

No counterpart in the original, which uses Theano's C compiler.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import pytensor

from cle_port.errors import UserError

BACKENDS = ("auto", "jax", "c", "numba")


class Choice(NamedTuple):
    """A backend and the reason why it was chosen."""

    backend: str
    reason: str


def choose(backend: str = "auto") -> Choice:
    """Resolve ``auto`` to the best backend that is installed.

    Parameters
    ----------
    backend : {'auto', 'jax', 'c', 'numba'}
        The user's choice.

    Returns
    -------
    Choice

    Raises
    ------
    UserError
        If the backend is unknown, or JAX or a C++ compiler is missing.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    has_jax = importlib.util.find_spec("jax") is not None
    has_compiler = bool(pytensor.config.cxx)
    if backend == "jax" and not has_jax:
        raise UserError("--backend jax needs JAX; install it with: pip install jax")
    if backend == "c" and not has_compiler:
        raise UserError("--backend c needs a C++ compiler; install g++, or use --backend jax")
    if backend != "auto":
        return Choice(backend, "asked for")
    if has_jax:
        return Choice("jax", "compiles these graphs in seconds")
    if has_compiler:
        return Choice("c", "JAX is not installed: compiling takes minutes; pip install jax")
    return Choice(
        "numba",
        "neither JAX nor a C++ compiler is installed: compiling takes many minutes; "
        "pip install jax",
    )
