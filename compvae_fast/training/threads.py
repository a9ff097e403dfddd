"""How many CPU threads torch may use, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def at_most(threads: int | None) -> Iterator[None]:
    """torch uses ``threads`` CPU threads inside (None: as many as before), and as many as before after.

    >>> with at_most(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
