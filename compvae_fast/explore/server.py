"""Serving the page on this machine."""

from __future__ import annotations

import logging
import signal
import threading
import webbrowser
from collections.abc import Callable
from functools import partial

from bokeh.application import Application
from bokeh.application.handlers import FunctionHandler
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from compvae_fast.training import BadInput, Run
from compvae_fast.training.files import reason

from .distribution import context_of, distribution, nothing
from .page import Page


def serve(
    run: Run, *, port: int, address: str = "127.0.0.1", browser: bool = True, tell: Callable[[str], object] = print
) -> None:
    """Serve a run's page until Ctrl-C or SIGTERM.

    Args:
        run: from ``load_run``.
        port: 1 to 65535, or 0 for a free one.
        address: of the network interface; by default none but this machine reaches the page.
        browser: whether to open it in the user's browser.
        tell: called with the page's address once it is served.

    Raises BadInput where the port or the address cannot be had.
    """
    if not 0 <= port <= 65535:
        raise BadInput(f"--port: expected 0 to 65535, got {port}")
    try:
        sockets, port = bind_sockets(address, port)
    except OSError as error:
        raise BadInput(f"--port, --address: {address}:{port} cannot be served: {reason(error)}") from error
    # what a first call sets up, before the first visitor waits for it
    distribution(run.model, nothing(run.model), context=context_of(run.model, 0.0))
    logging.getLogger("bokeh").setLevel(logging.WARNING)
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)  # a tab that is closed is no news
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    origins = [f"{name}:{port}" for name in dict.fromkeys(("localhost", "127.0.0.1", address))]
    application = Application(FunctionHandler(partial(Page, run=run)))
    tornado = BokehTornado({"/": application}, extra_websocket_origins=origins)
    http = HTTPServer(tornado)
    http.add_sockets(sockets)
    loop = IOLoop.current()
    server = BaseServer(loop, tornado, http)
    server.start()
    url = f"http://{address}:{port}"
    tell(f"{url} shows {run.path}; Ctrl-C ends it")
    if browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    before = {number: signal.signal(number, _stopping(loop)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        loop.start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        server.stop()
        server.unlisten()


def _stopping(loop: IOLoop) -> Callable[..., None]:
    """A signal's handler that ends the loop from wherever it is."""
    return lambda _number, _frame: loop.asyncio_loop.call_soon_threadsafe(loop.stop)  # type: ignore[attr-defined]
