"""Calls over real sockets are tried on asyncio's own loop, and on uvloop where that is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
BOTH = dict(LOOPS)
try:
    import uvloop

    BOTH["uvloop"] = uvloop.new_event_loop
except ImportError:
    pass

ON_BOTH = (
    "test_calls.py",
    "test_errors.py",
    "test_interceptors.py",
    "test_left.py",
    "test_link.py",
    "test_malformed.py",
    "test_process.py",
    "test_tls.py",
    "test_watch.py",
)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Say by what loops a test is run."""
    return BOTH if item.path.name in ON_BOTH else LOOPS
