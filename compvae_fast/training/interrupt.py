"""Ctrl-C that waits for the step in progress."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace


@contextlib.contextmanager
def interruptible() -> Iterator[SimpleNamespace]:
    """While inside, a first SIGINT or SIGTERM sets ``.signal`` on what is given; a second one does what it did before.

    Outside the main thread, where Python hears no signals, nothing is caught.
    """
    heard = SimpleNamespace(signal=None)
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(number, _frame):
        heard.signal = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
