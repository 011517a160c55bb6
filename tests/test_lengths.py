"""Functions of sequences of any length."""

import numpy as np
import pytensor
import pytensor.tensor as pt

from cle_port.graph import compile_function
from cle_port.graph.lengths import padded_length
from cle_port.utils import sharedX

BATCH, DIM = 3, 2


def test_padded_lengths_are_few_and_near():
    """At most half as long again, an eighth where frames are many; few functions are compiled."""
    padded = [padded_length(n) for n in range(1, 3001)]
    shortest = padded[0]
    for n, length in enumerate(padded, start=1):
        assert n <= length <= max(shortest, (1.5 if n <= 512 else 1.125) * n)
        assert padded_length(length) == length
    assert padded == sorted(padded)
    assert len(set(padded)) <= 40
    assert sorted(set(padded))[:10] == [16, 24, 32, 48, 64, 96, 128, 192, 256, 320]


def test_sequences_of_any_length():
    """Under JAX a function is compiled for a few lengths; padding is masked out."""
    with pytensor.config.change_flags(floatX="float64"):
        x, mask = pt.tensor("x", shape=(None, BATCH, DIM)), pt.tensor("mask", shape=(None, BATCH))
        w, seen = sharedX(2.0, "w"), sharedX(0.0, "seen")
        total = pt.sum(w * x**2 * mask[:, :, None])
        fn = compile_function([x, mask], [total], {seen: seen + mask.sum()}, "jax")
        rng = np.random.default_rng(1)
        lengths = (padded_length(1) - 1, padded_length(100), 3, padded_length(100) - 1)
        for length in lengths:
            array = rng.standard_normal((length, BATCH, DIM))
            (ours,) = fn(array, np.ones((length, BATCH)))
            np.testing.assert_allclose(np.asarray(ours), 2 * np.sum(array**2), rtol=1e-13)
        assert seen.get_value() == sum(lengths) * BATCH
    assert set(fn.functions) == {padded_length(1), padded_length(100)}
    assert fn.n_frame - fn.n_padded == sum(lengths)


def test_one_output_comes_back_as_one():
    x = pt.tensor("x", dtype="float64", shape=(None, 2))
    value = compile_function([x], x.sum(), None, "jax")(np.ones((3, 2)))
    assert float(value) == 6
