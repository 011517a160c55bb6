"""Repeat recorded draws: ``units_random_*.npz``.

The numbers of the generator come from the recorded seeds.  The sampling functions are repeated
twice: their noise from the seed, and their output from the recorded noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray

from cle_port.utils.mrg import MRG_RandomStreams, Streams, guess_n_streams
from cle_port.utils.op import Gaussian_sample, GMM_argmax_mean, GMM_sample, GMM_sample_mean
from compare.recording import Arrays, below
from compare.units.cases import RepeatedCases, group_cases
from compare.units.graphs import compile_plainly

# What was drawn from one generator, in the order of the blocks of streams.
CONSTANT = ("normal", "uniform", "normal_shifted", "uniform_range", "binomial")
SYMBOLIC = ("normal", "normal_3d", "uniform", "binomial")
SHIFTED = {"avg": 1.5, "std": 0.25}
RANGE = {"low": -2.0, "high": 3.0}
SCANNED = ("4x3x5", "3x2x4")  # the scans of one function, in the order of its calls
P = {CONSTANT: 0.3, SYMBOLIC: 0.6}


def draw(what: str, streams: Streams, size: tuple[int, ...], dtype: str, p: float) -> NDArray:
    """Repeat one draw of a kind; ``p`` is the probability of binomial ones."""
    draws: dict[str, Callable[[], NDArray]] = {
        "normal": lambda: streams.normal(size, dtype=dtype),
        "normal_3d": lambda: streams.normal((size[0], 1, *size[1:]), dtype=dtype),
        "normal_shifted": lambda: streams.normal(size, **SHIFTED, dtype=dtype),
        "uniform": lambda: streams.uniform(size, dtype=dtype),
        "uniform_range": lambda: streams.uniform(size, **RANGE, dtype=dtype),
        "binomial": lambda: streams.binomial(size, p=p, dtype=dtype),
    }
    return draws[what]()


def n_streams_of(what: str, size: tuple[int, ...]) -> int:
    """Return the number of streams of a draw of constant size; normal ones take an even number."""
    n_samples = math.prod(size)
    return guess_n_streams((n_samples + n_samples % 2,) if "normal" in what else size)


def constant_draws(seed: int, dtype: str, size: tuple[int, ...]) -> dict[str, NDArray]:
    """Repeat three draws of each kind, whose size was known when the graph was built."""
    generator = MRG_RandomStreams(seed)
    ours: dict[str, NDArray] = {}
    for what in CONSTANT:
        streams = generator.block(n_streams_of(what, size))
        for call in range(3):
            ours[f"{what}/call{call}"] = draw(what, streams, size, dtype, P[CONSTANT])
    return ours


def symbolic_draws(
    seed: int, dtype: str, size: tuple[int, ...], case: Arrays
) -> dict[str, NDArray]:
    """Repeat three draws of each kind, whose size was not known, and states of streams."""
    generator = MRG_RandomStreams(seed)
    ours: dict[str, NDArray] = {}
    for what in SYMBOLIC:
        streams = generator.block()
        for call in range(3):
            ours[f"{what}/call{call}"] = draw(what, streams, size, dtype, P[SYMBOLIC])
        if f"{what}/state_after" in case:
            ours[f"{what}/state_after"] = streams.rstates[: len(case[f"{what}/state_after"])]
            ours[f"{what}/n_streams"] = np.asarray(len(streams.rstates))
    return ours


def long_draws(seed: int, dtype: str, case: Arrays) -> dict[str, NDArray]:
    """Repeat draws of more numbers than there are streams: their ends and sums."""
    streams = MRG_RandomStreams(seed).block()
    ours: dict[str, NDArray] = {}
    for call in range(2):
        theirs = below(case, f"normal/call{call}")
        values = streams.normal(tuple(theirs["shape"].tolist()), dtype=dtype)
        as_double = values.astype(np.float64)
        found = {
            "first": values[: len(theirs["first"])],
            "last": values[-len(theirs["last"]) :],
            "shape": np.array(values.shape),
            "sum": as_double.sum(),
            "sumsq": np.sum(as_double**2),
        }
        ours |= {f"normal/call{call}/{name}": np.asarray(value) for name, value in found.items()}
    return ours


def scan_draws(seed: int, dtype: str, cases: Arrays) -> dict[str, NDArray]:
    """Repeat draws inside scans, one for each step; each goes on where the one before ended."""
    streams = MRG_RandomStreams(seed).block()
    ours: dict[str, NDArray] = {}
    for size in SCANNED:
        for call, theirs in below(cases, f"{size}/noise").items():
            steps = [streams.normal(step.shape, dtype=dtype) for step in theirs]
            ours[f"{size}/noise/{call}"] = np.stack(steps)
    return ours


def substreams(seed: int, case: Arrays) -> dict[str, NDArray]:
    """Repeat the states of two blocks of 12 streams, and of the last streams of a whole block."""
    generator = MRG_RandomStreams(seed)
    return {
        "first": generator.block(12).rstates,
        "second": generator.block(12).rstates,
        "large_last": MRG_RandomStreams(seed).block().rstates[-len(case["large_last"]) :],
    }


def six_numbers(case: Arrays) -> dict[str, NDArray]:
    """Repeat a draw of a generator whose seed is a whole state."""
    size = case["normal"].shape
    streams = MRG_RandomStreams(case["seed"].tolist()).block(n_streams_of("normal", size))
    return {"normal": streams.normal(size, dtype="float64")}


def multinomial_draws(seed: int, dtype: str, case: Arrays) -> dict[str, NDArray]:
    """Repeat the draws of two random variables of one generator."""
    generator = MRG_RandomStreams(seed)
    first, second = generator.block(), generator.block()
    ours: dict[str, NDArray] = {}
    for call in range(3):
        ours[f"call{call}"] = first.multinomial(case["pvals"], dtype)
        ours[f"second_call{call}"] = second.multinomial(case["pvals"])
    return ours


def noise_of(function: str, seed: int, case: Arrays) -> dict[str, NDArray]:
    """Repeat the random numbers of a sampling function.

    First it draws a component, unless it takes the likeliest or has none, then the noise.
    """
    generator = MRG_RandomStreams(seed)
    ours: dict[str, NDArray] = {}
    dtype = case["mu"].dtype.name
    if function in ("GMM_sample", "GMM_sample_mean"):
        choice = generator.block()
        for call in below(case, "choice"):
            ours[f"choice/{call}"] = choice.multinomial(case["coeff"], dtype)
    noise = generator.block()
    for call, theirs in below(case, "eps").items():
        ours[f"eps/{call}"] = noise.normal(theirs.shape, dtype=dtype)
    return ours


def samples(function: str, arrays: Arrays) -> dict[str, NDArray]:
    """Repeat both recorded calls of a sampling function, with their components and noise."""
    if function == "Gaussian_sample":
        return gaussian_samples(arrays)
    floatX = arrays["mu"].dtype.name
    mu, sig, coeff, eps = (pt.matrix(name, dtype=floatX) for name in ("mu", "sig", "coeff", "eps"))
    idx = pt.lvector("idx")
    outputs = {
        "GMM_sample": lambda: [GMM_sample(mu, sig, coeff, idx, eps)],
        "GMM_sample_mean": lambda: list(GMM_sample_mean(mu, sig, coeff, idx, eps)),
        "GMM_argmax_mean": lambda: list(GMM_argmax_mean(mu, sig, coeff, eps)),
    }[function]()
    sample = compile_plainly([mu, sig, coeff, idx, eps], outputs)
    weights = arrays["coeff"]
    ours: dict[str, NDArray] = {}
    for call, noise in below(arrays, "eps").items():
        chosen = arrays.get(f"choice/{call}", weights).argmax(axis=1)
        values = sample(arrays["mu"], arrays["sig"], weights, chosen, noise)
        ours |= {f"out{i}/{call}": value for i, value in enumerate(values)}
    return ours


def gaussian_samples(arrays: Arrays) -> dict[str, NDArray]:
    """Repeat `Gaussian_sample`.  The recorded noise has an axis of samples even for one."""
    calls = below(arrays, "eps")
    num_sample = next(iter(calls.values())).shape[1]
    if num_sample == 1:
        calls = {call: noise[:, 0] for call, noise in calls.items()}
    floatX = arrays["mu"].dtype.name
    mu, sig = pt.matrix("mu", dtype=floatX), pt.matrix("sig", dtype=floatX)
    eps = pt.tensor("eps", dtype=floatX, shape=(None,) * (2 if num_sample == 1 else 3))
    sample = compile_plainly([mu, sig, eps], Gaussian_sample(mu, sig, eps, num_sample))
    return {
        f"out/{call}": sample(arrays["mu"], arrays["sig"], noise) for call, noise in calls.items()
    }


def _number(part: str) -> int:
    return int(part.removeprefix("seed"))


def repeat_generator(recording: Arrays) -> RepeatedCases:
    """Repeat all numbers and states of the generator."""
    for case, arrays in group_cases(recording, 4).items():
        if not case.startswith("mrg/"):
            continue
        _, seed, dtype, kind = case.split("/")
        if kind == "scan":
            yield case, scan_draws(_number(seed), dtype, arrays)
            continue
        for tag in dict.fromkeys(name.split("/")[0] for name in arrays):
            size = tuple(map(int, tag.split("x")))
            calls = below(arrays, tag)
            if kind == "constant":
                ours = constant_draws(_number(seed), dtype, size)
            elif "normal/call0/first" in calls:
                ours = long_draws(_number(seed), dtype, calls)
            else:
                ours = symbolic_draws(_number(seed), dtype, size, calls)
            yield f"{case}/{tag}", ours
    for case, arrays in group_cases(recording, 3).items():
        if case.endswith("/substreams"):
            yield case, substreams(_number(case.split("/")[1]), arrays)
    yield "mrg/six_numbers", six_numbers(below(recording, "mrg/six_numbers"))


def repeat_random(recording: Arrays) -> RepeatedCases:
    """Repeat the generator, and sampling functions from the seed and from the recorded noise."""
    yield from repeat_generator(recording)
    for case, arrays in group_cases(recording, 3).items():
        function, seed, variant = case.split("/")
        if function == "multinomial":
            yield case, multinomial_draws(_number(seed), variant, arrays)
        elif "mu" in arrays:
            noise = noise_of(function, _number(seed), arrays)
            yield case, noise | samples(function, arrays)
