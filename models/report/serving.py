"""Serve a page to browsers on this machine, or rewrite its file, while runs go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cle_port.errors import UserError
from cle_port.files import write

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")


def make_server(port: int, render: Callable[[], str]) -> ThreadingHTTPServer:
    """Make a server of one page, which only this machine reaches.

    Parameters
    ----------
    port : int
        0 for any that is free.
    render : callable
        Makes the page; it is called for each request.

    Returns
    -------
    ThreadingHTTPServer
        Use as a context manager, and call ``serve_forever``.

    Raises
    ------
    UserError
        If the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A name of another machine may point here: its pages must not read this one.
            if self.headers.get("Host", "").rpartition(":")[0] not in NAMES or self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                status, content = HTTPStatus.OK, render().encode()
                kind = "text/html"
            except UserError as error:
                status, content = HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}\n".encode()
                kind = "text/plain"
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot serve on port {port} ({error}); give another --serve") from error


def watch(
    path: Path,
    render: Callable[[], tuple[str, bool]],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Rewrite a page until no run goes on.

    Parameters
    ----------
    path : Path
    render : callable
        Returns the page, and whether a run goes on.
    seconds : float
        Pause between two pages.
    sleep : callable
        Waits.

    Returns
    -------
    int
        How often the page was written.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    n = 0
    while True:
        text, running = render()
        write(path, text.encode())
        n += 1
        if not running:
            return n
        sleep(seconds)
