"""The first SIGINT or SIGTERM asks the main loop to stop.

No counterpart in the original, where a signal ends the process.
"""

from __future__ import annotations

import signal
import threading
import time
from types import TracebackType
from typing import Any

from cle_port.graph.devices import greatest, is_among_others

SAME_SIGNAL_SECONDS = 0.3  # `timeout` sends a signal twice: to the process and to its group


class SignalWatch:
    """Turn the first SIGINT or SIGTERM into a request to stop; a second one stops at once.

    A context manager.  It changes nothing outside of the main thread, which
    alone may handle signals.

    Attributes
    ----------
    received : signal.Signals or None
        The first signal, or that of another process that trains along.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._number = 0  # of the signal that this process got
        self._time = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                number: signal.signal(number, self._handle)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def ask(self) -> bool:
        """Return whether a signal has come, to this process or to one that trains along.

        All processes must call this at the same update.
        """
        number = greatest(self._number)
        if number:
            self.received = signal.Signals(number)
        return self.received is not None

    def _handle(self, number: int, frame: Any) -> None:
        if self._number and time.monotonic() - self._time > SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt(number)
        if not self._number:
            self._time = time.monotonic()
            self._number = number
            if not is_among_others():  # processes that train together ask between updates
                self.ask()
