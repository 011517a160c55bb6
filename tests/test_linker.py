"""What PyTensor's graphs tell JAX."""

import pytest

from cle_port.linker import compiler_options

jax = pytest.importorskip("jax")


@pytest.mark.skipif(not compiler_options(), reason="of XLA for CPUs, as JAX has it since 0.9.2")
def test_operations_are_ordered_for_little_memory():
    """A wide array for each of many terms: all of them at once, or one after the other."""

    def terms(x):
        return sum((jax.numpy.outer(x, x + n) @ x) for n in range(8))

    def temporary(options):
        x = jax.numpy.ones(512)
        compiled = jax.jit(terms, compiler_options=options).lower(x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(compiler_options()) < temporary({})


@pytest.mark.parametrize(("version", "device"), [((0, 9, 0), "cpu"), ((0, 9, 2), "gpu")])
def test_nothing_is_said_to_others(monkeypatch, version, device):
    monkeypatch.setattr(jax, "__version_info__", version)
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert compiler_options() == {}
