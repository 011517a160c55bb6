"""What all pictures share: whether they can be drawn, their colours, and their bytes."""

from __future__ import annotations

import io
from typing import Any

INK = "#112233"
PRIME = INK  # dark, and the other one light, so that grey prints differ, too
CONTINUED = "#d55e00"
FAINT = "#888888"


def has_matplotlib() -> bool:
    """Say whether pictures can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def png(figure: Any) -> bytes:
    """Return the bytes of a figure's PNG file, 100 pixels to an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
