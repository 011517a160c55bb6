"""Pictures of sound: waveforms and spectrograms, if matplotlib is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import spectrogram

from datasets.grep_blizzard_hdf5 import SAMPLE_RATE
from models.sampling.png import CONTINUED, FAINT, INK, PRIME, png

WINDOW = 256  # samples of a spectrum: 16 ms
DECIBELS = 80.0  # range of a spectrogram's colours


def wave_picture(wave: NDArray[np.int16], boundary: int | None = None) -> bytes:
    """Waveform above spectrogram (dB), a PNG.

    Parameters
    ----------
    wave : ndarray of int16, shape (samples,)
    boundary : int, optional
        Index of the first sample that was generated, behind a real prime.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_wave(above, wave, boundary)
    above.set_ylim(*wave_range([wave]))
    above.set_ylabel("sample")
    level = levels(wave)
    image = _draw_levels(below, level, len(wave), level_range([level]))
    if boundary is not None:
        for ax, color in ((above, FAINT), (below, "white")):
            ax.axvline(boundary / SAMPLE_RATE, color=color, linestyle="--", linewidth=1.2)
        legend = figure.legend(loc="outside upper right", ncols=2, frameon=False)
        for line in legend.get_lines():
            line.set_linewidth(2)
    below.set_ylabel("kHz")
    below.set_xlabel("seconds")
    # A bar that took room from one of them only would end their common time axis.
    _label_levels(figure, [above, below], image, shrink=0.48, anchor=(0.0, 0.0))
    return png(figure)


def comparison_picture(waves: Mapping[str, NDArray[np.int16]], title: str) -> bytes:
    """Waves of one length with one scale, and their spectrograms with one range of colours, a PNG.

    Parameters
    ----------
    waves : mapping of str to ndarray of int16, each (samples,)
        By kind, from the top down.
    title : str
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.2 * len(waves) + 0.6), layout="constrained")
    axes = figure.subplots(len(waves), 2, sharex=True, squeeze=False)
    all_levels = [levels(wave) for wave in waves.values()]
    limits = wave_range(waves.values())
    for (left, right), (kind, wave), level in zip(axes, waves.items(), all_levels):
        _draw_wave(left, wave)
        left.set_ylim(*limits)
        left.set_ylabel("sample")
        left.set_title(kind, loc="left", fontsize=10)
        image = _draw_levels(right, level, len(wave), level_range(all_levels))
    _label_levels(figure, axes[:, 1].tolist(), image)
    for ax in axes[:, 1]:
        ax.set_ylabel("kHz")
    for ax in axes[-1]:
        ax.set_xlabel("seconds")
    figure.suptitle(title, fontsize=11)
    return png(figure)


def wave_range(waves: Iterable[NDArray]) -> tuple[float, float]:
    """Limits of one vertical axis for all waves: the loudest sample, to both sides."""
    loudest = max(float(np.abs(wave.astype(float)).max()) for wave in waves)
    return -1.05 * max(loudest, 1.0), 1.05 * max(loudest, 1.0)


def levels(wave: NDArray) -> NDArray[np.float64]:
    """Spectrogram in dB, shape (frequencies, windows); 0 dB is one step of the 16 bits."""
    size = min(WINDOW, len(wave))
    _, _, power = spectrogram(
        wave.astype(float), SAMPLE_RATE, nperseg=size, noverlap=size - _hop(size)
    )
    return 10 * np.log10(power + 1e-6)  # far below one step of the 16 bits


def level_range(all_levels: Iterable[NDArray]) -> tuple[float, float]:
    """Limits of one range of colours for all spectrograms: `DECIBELS` up to the loudest entry."""
    loudest = max(float(level.max()) for level in all_levels)
    return loudest - DECIBELS, loudest


def _hop(size: int) -> int:
    """Samples between two windows of a spectrogram."""
    return size - 3 * size // 4


def _draw_wave(ax: Any, wave: NDArray, boundary: int | None = None) -> None:
    time = np.arange(len(wave)) / SAMPLE_RATE
    if boundary is None:
        ax.plot(time, wave, linewidth=0.5, color=INK)
        return
    ax.plot(time[:boundary], wave[:boundary], linewidth=0.5, color=PRIME, label="real prime")
    ax.plot(time[boundary:], wave[boundary:], linewidth=0.5, color=CONTINUED, label="generated")


def _draw_levels(ax: Any, level: NDArray, n_sample: int, limits: tuple[float, float]) -> Any:
    """Draw a spectrogram, each column around the middle of its window."""
    size = min(WINDOW, n_sample)
    hop = _hop(size)
    start = (size - hop) / 2
    extent = (start / SAMPLE_RATE, (start + hop * level.shape[1]) / SAMPLE_RATE)
    image = ax.imshow(
        level,
        origin="lower",
        aspect="auto",
        extent=(*extent, 0, SAMPLE_RATE / 2000),
        vmin=limits[0],
        vmax=limits[1],
        cmap="magma",
    )
    ax.set_facecolor("#dddddd")  # no window has its middle there
    ax.set_xlim(0, n_sample / SAMPLE_RATE)
    return image


def _label_levels(figure: Any, axes: Any, image: Any, **place: Any) -> None:
    """Draw the bar of colours, in dB below the loudest entry."""
    low, high = image.get_clim()
    ticks = np.linspace(low, high, 5)
    bar = figure.colorbar(image, ax=axes, label="dB (0: the loudest)", pad=0.01, **place)
    bar.set_ticks(ticks, labels=[f"{tick - high:.0f}" for tick in ticks])
