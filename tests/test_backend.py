"""Choosing the compiler."""

import importlib.util

import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.errors import UserError
from cle_port.graph import compile_function
from cle_port.graph.backend import choose


@pytest.fixture
def installed(monkeypatch):
    """Pretend that this and only this is installed."""

    def pretend(jax, cxx):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if jax else None)
        monkeypatch.setattr(pytensor.config, "cxx", cxx)

    return pretend


@pytest.mark.parametrize(
    ("jax", "cxx", "expected"),
    [(True, "g++", "jax"), (True, "", "jax"), (False, "g++", "c"), (False, "", "numba")],
)
def test_auto(jax, cxx, expected, installed):
    installed(jax, cxx)
    choice = choose()
    assert choice.backend == expected
    assert ("pip install jax" in choice.reason) == (expected != "jax")


@pytest.mark.parametrize("name", ["jax", "c", "numba"])
def test_asked_for(name, installed):
    installed(True, "g++")
    assert choose(name) == (name, "asked for")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jax", r"^--backend jax needs JAX; install it with: pip install jax$"),
        ("c", r"^--backend c needs a C\+\+ compiler; install g\+\+, or use --backend jax$"),
        ("torch", "^unknown backend 'torch'; choose one of auto, jax, c, numba$"),
    ],
)
def test_refused(name, message, installed):
    installed(False, "")
    with pytest.raises(UserError, match=message):
        choose(name)
    with pytest.raises(UserError, match=message):
        compile_function([], pt.constant(1.0), None, name)


def test_numba_needs_nothing(installed):
    installed(False, "")
    assert choose("numba").backend == "numba"
