"""Repeat recorded draws from their noise: ``units_random_*.npz``."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray

from cle_port.utils.op import Gaussian_sample, GMM_argmax_mean, GMM_sample, GMM_sample_mean
from compare.recording import Arrays, below
from compare.units.cases import RepeatedCases, group_cases
from compare.units.graphs import compile_plainly


def samples(function: str, arrays: Arrays) -> dict[str, NDArray]:
    """Repeat both recorded calls of a sampling function, with their components and noise."""
    floatX = arrays["mu"].dtype.name
    mu, sig, coeff, eps = (pt.matrix(name, dtype=floatX) for name in ("mu", "sig", "coeff", "eps"))
    idx = pt.lvector("idx")
    outputs = {
        "Gaussian_sample": lambda: [Gaussian_sample(mu, sig, eps)],
        "GMM_sample": lambda: [GMM_sample(mu, sig, coeff, idx, eps)],
        "GMM_sample_mean": lambda: list(GMM_sample_mean(mu, sig, coeff, idx, eps)),
        "GMM_argmax_mean": lambda: list(GMM_argmax_mean(mu, sig, coeff, eps)),
    }[function]()
    sample = compile_plainly([mu, sig, coeff, idx, eps], outputs)
    weights = arrays.get("coeff", np.ones((len(arrays["mu"]), 1), floatX))
    ours = {}
    for call, noise in below(arrays, "eps").items():
        if function == "Gaussian_sample":  # its recorded noise has an axis for several draws
            ours[f"out/{call}"] = sample(arrays["mu"], arrays["sig"], weights, [0], noise[:, 0])[0]
            continue
        chosen = arrays.get(f"choice/{call}", weights).argmax(axis=1)
        values = sample(arrays["mu"], arrays["sig"], weights, chosen, noise)
        ours |= {f"out{i}/{call}": value for i, value in enumerate(values)}
    return ours


def repeat_random(recording: Arrays) -> RepeatedCases:
    """Repeat draws with the recorded noise."""
    for case, arrays in group_cases(recording, 3).items():
        function = case.split("/")[0]
        if "/num4" in case:
            yield case, "the port draws one at a time"
        elif "mu" in arrays:
            yield case, samples(function, arrays)
