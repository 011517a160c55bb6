"""Pictures of waves and of handwriting, if matplotlib is installed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import spectrogram

SAMPLE_RATE = 16000
WINDOW = 256  # samples of a spectrum: 16 ms


def has_matplotlib() -> bool:
    """Say whether pictures can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def wave_picture(wave: NDArray[np.int16]) -> bytes:
    """Waveform above spectrogram (dB), a PNG."""
    from matplotlib.figure import Figure

    seconds = len(wave) / SAMPLE_RATE
    size = min(WINDOW, len(wave))
    _, _, power = spectrogram(wave.astype(float), SAMPLE_RATE, nperseg=size, noverlap=3 * size // 4)
    level = 10 * np.log10(power + 1e-6)  # far below one step of the 16 bits
    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, linewidth=0.5)
    above.set_ylabel("sample")
    below.imshow(
        level,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, SAMPLE_RATE / 2000),
        vmin=level.max() - 80,
        cmap="magma",
    )
    below.set_ylabel("kHz")
    below.set_xlabel("seconds")
    return _png(figure)


def pen_picture(lines: Sequence[NDArray], captions: Sequence[str]) -> bytes:
    """Lines of handwriting below each other in one scale, a PNG.

    Parameters
    ----------
    lines : sequence of ndarray, each (points, 3)
        From `as_points`.
    captions : list of str
    """
    from matplotlib.figure import Figure

    width = max(max(float(np.ptp(line[:, 1])) for line in lines), 1.0)
    gap = width / 30  # between two lines, for the caption
    figure = Figure(layout="constrained")
    ax = figure.add_subplot()
    top = 0.0
    for line, caption in zip(lines, captions):
        ax.text(0, top, caption, fontsize=7, color="#888888", verticalalignment="bottom")
        drawn = line[:, 1:] + [-line[:, 1].min(), top - line[:, 2].max()]
        for stroke in np.split(drawn, np.flatnonzero(line[:, 0] > 0.5) + 1):
            ax.plot(stroke[:, 0], stroke[:, 1], color="#112233", linewidth=1)
        top -= float(np.ptp(line[:, 2])) + gap
    ax.set_aspect("equal")
    ax.margins(0.02)
    ax.set_axis_off()
    figure.set_size_inches(10, min(10 * (gap - top) / width, 100))
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
