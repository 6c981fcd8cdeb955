"""Deadlines of many calls by one timer of the event loop."""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, Protocol, TypeAlias
from weakref import WeakKeyDictionary

_KEEP: Final = 64
"""So many cleared alarms may wait for their time, whatever else does."""


class Expiring(Protocol):
    """Something with a deadline."""

    def on_deadline(self) -> None:
        """The deadline has passed."""


Alarm: TypeAlias = list[Any]
"""A deadline that may be cleared: its time, its rank among equal times, and its owner, None once it is cleared.

A plain list, since those are compared without a step of Python.
"""


class Alarms:
    """The deadlines of one loop. A timer runs for the first of them, or one that was first, and none without any."""

    __slots__ = ("_cleared", "_heap", "_loop", "_order", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[Alarm] = []
        self._order = count()
        self._cleared = 0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float, owner: Expiring) -> Alarm:
        """Call the owner at a time of the loop's clock."""
        alarm: Alarm = [at, next(self._order), owner]
        heap = self._heap
        heappush(heap, alarm)
        if heap[0] is alarm:
            self._rearm()
        return alarm

    def clear(self, alarm: Alarm) -> None:
        """Forget a deadline. The second time does nothing."""
        if alarm[2] is None:
            return
        alarm[2] = None
        self._cleared += 1
        if self._cleared > _KEEP and self._cleared * 2 > len(self._heap):
            self._heap = [a for a in self._heap if a[2] is not None]
            heapify(self._heap)
            self._cleared = 0
            if not self._heap:
                self._rearm()  # else it rings early, once: less than a timer of the loop for each of these

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = self._loop.call_at(self._heap[0][0], self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        try:
            # An owner may clear others, and so make a new heap.
            while self._heap and (self._heap[0][2] is None or self._heap[0][0] <= now):
                alarm = heappop(self._heap)
                owner, alarm[2] = alarm[2], None
                if owner is None:
                    self._cleared -= 1
                else:
                    owner.on_deadline()
        finally:
            self._rearm()


_ALARMS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Alarms]] = WeakKeyDictionary()


def alarms(loop: asyncio.AbstractEventLoop) -> Alarms:
    """Return the loop's. Who needs them often keeps them."""
    found = _ALARMS.get(loop)
    if found is None:
        found = _ALARMS[loop] = Alarms(loop)
    return found
