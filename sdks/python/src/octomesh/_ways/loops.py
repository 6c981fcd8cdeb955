"""What the channels of one event loop share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Things of each loop by keys. Those of loops that were closed, or of the parent of a fork, are let go."""

    def __init__(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop, dict[Hashable, T]] = {}
        _ALL.add(self)

    def here(self) -> dict[Hashable, T]:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            for other in [other for other in self._loops if other.is_closed()]:
                del self._loops[other]
            found = self._loops[loop] = {}
        return found

    def forget(self) -> None:
        """Let all go."""
        self._loops = {}


_ALL: WeakSet[PerLoop[Any]] = WeakSet()


def _forked() -> None:
    for each in list(_ALL):
        each.forget()


os.register_at_fork(after_in_child=_forked)
