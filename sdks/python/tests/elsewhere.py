"""A loop in a thread of its own, and servers in it: for tests whose own thread blocks, forks, or has another loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import octomesh

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds until a test gives up."""


@contextmanager
def elsewhere() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """A loop in a thread of its own; what is given runs a coroutine there, and waits for it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@contextmanager
def served(service: octomesh.Service) -> Iterator[str]:
    """The address of a server of one service."""
    with elsewhere() as run:
        server = octomesh.Server("echo", listen="127.0.0.1:0", mode="off").add(service)
        run(server.start())
        yield server.addresses[0]
        run(server.stop(0))
