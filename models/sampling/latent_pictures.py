"""The paper's Figure 2: the step of phi_mu and KL_t under the data that they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.sampling.drawing import stroke_ranges
from models.sampling.latent import Latent
from models.sampling.png import FAINT, INK, png
from models.sampling.sound import SAMPLE_RATE, wave_range

KL_COLOR = "#0072b2"
STEP_COLOR = "#b0126f"
LABELS = 8  # about as many points of a drawing get their number


def latent_wave_picture(latent: Latent, wave: NDArray[np.int16], title: str) -> bytes:
    """Waveform above KL_t and delta_t over seconds, a PNG.

    Parameters
    ----------
    latent : Latent
        Of T frames.
    wave : ndarray of int16, shape (T * samples of a frame,)
    title : str
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    above, *below = figure.subplots(3, 1, sharex=True)
    above.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, linewidth=0.5, color=INK)
    above.set_ylim(*wave_range([wave]))
    above.set_ylabel("sample")
    edges = np.linspace(0, len(wave) / SAMPLE_RATE, len(latent.kl) + 1)
    _draw_latent(below, latent, edges)
    below[-1].set_xlabel("seconds")
    _set_title(figure, latent, title, "frame")
    return png(figure)


def latent_pen_picture(latent: Latent, line: NDArray, title: str) -> bytes:
    """Line of handwriting above KL_t and delta_t over its points, a PNG.

    The pen goes back and forth, so that places on the line are no times.  Colours
    and numbers of points lead from the one to the other.

    Parameters
    ----------
    latent : Latent
        Of T points.
    line : ndarray, shape (T + 1, 3)
        From `models.sampling.files.as_points`; point t follows movement t.
    title : str
    """
    from matplotlib.figure import Figure

    n_point = len(latent.kl)
    height = float(np.clip(10 * np.ptp(line[:, 2]) / max(np.ptp(line[:, 1]), 1.0), 1.2, 5))
    figure = Figure(figsize=(11, 5 + height), layout="constrained")
    above, *below = figure.subplots(3, 1, height_ratios=(height, 2, 2))
    ticks = _round_numbers(n_point)
    image = _draw_numbered_line(above, line, ticks)
    figure.colorbar(image, ax=above, orientation="horizontal", label="point", aspect=80)
    below[0].sharex(below[1])
    below[0].tick_params(labelbottom=False)
    _draw_latent(below, latent, np.arange(n_point + 1) + 0.5)
    for ax in below:
        for lift in np.flatnonzero(line[1:, 0] > 0.5) + 1:
            ax.axvline(lift + 0.5, color=FAINT, linewidth=1, linestyle=":", zorder=0)
    below[-1].set_xticks(ticks)
    below[-1].set_xlabel("point (dotted: the pen is lifted)")
    _set_title(figure, latent, title, "point")
    return png(figure)


def _draw_latent(axes: Any, latent: Latent, edges: NDArray) -> None:
    """Draw KL_t and delta_t as steps between the edges of the frames."""
    entries = (
        (latent.kl, KL_COLOR, r"$\mathrm{KL}_t$ (nats)"),
        (latent.step, STEP_COLOR, r"$\delta_t = \sum_j (\Delta \phi_{\mu,j})^2$"),
    )
    for ax, (values, color, label) in zip(axes, entries):
        ax.stairs(values, edges, color=color, fill=True, alpha=0.25)
        ax.stairs(values, edges, color=color, linewidth=1.2)
        ax.set_ylim(0, 1.08 * max(float(values.max()), 1e-6))
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)


def _draw_numbered_line(ax: Any, line: NDArray, ticks: NDArray) -> Any:
    """Draw a line of handwriting, coloured and numbered by its points."""
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection
    from matplotlib.colors import ListedColormap

    parts, numbers = [], []
    for first, last in stroke_ranges(line[:, 0]):
        for i in range(first, max(last - 1, first + 1)):
            parts.append(line[[i, min(i + 1, last - 1)], 1:])
            numbers.append(i)
    dark = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))  # yellow is too light
    strokes = LineCollection(parts, array=np.array(numbers), cmap=dark, capstyle="round")
    strokes.set_clim(1, len(line) - 1)
    strokes.set_linewidth(2)
    ax.add_collection(strokes)
    for i in ticks:
        ax.plot(*line[i, 1:], "o", markersize=4, color=INK)
        ax.annotate(str(i), line[i, 1:], (3, 4), textcoords="offset points", fontsize=8)
    ax.set_aspect("equal")
    ax.margins(0.02, 0.12)
    ax.set_axis_off()
    return strokes


def _round_numbers(n_point: int) -> NDArray[np.int64]:
    """About `LABELS` round numbers from 1 to ``n_point``."""
    from matplotlib.ticker import MaxNLocator

    numbers = np.asarray(MaxNLocator(LABELS, integer=True).tick_values(0, n_point))
    return numbers[(numbers >= 1) & (numbers <= n_point)].astype(int)


def _set_title(figure: Any, latent: Latent, title: str, frame: str) -> None:
    figure.suptitle(f"{title}: KL {latent.kl.mean():.2g} nats a {frame}", fontsize=11)
