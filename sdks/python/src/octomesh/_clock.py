"""Deadlines of many calls by one timer of the event loop."""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Protocol
from weakref import WeakKeyDictionary

_KEEP: Final = 64
"""So many cleared alarms may wait for their time, whatever else does."""


class Expiring(Protocol):
    """Something with a deadline."""

    def on_deadline(self) -> None:
        """The deadline has passed."""


class Alarm:
    """A deadline that may be cleared."""

    __slots__ = ("at", "order", "owner")

    def __init__(self, at: float, order: int, owner: Expiring | None) -> None:
        self.at = at
        self.order = order
        self.owner = owner

    def __lt__(self, other: Alarm) -> bool:
        return (self.at, self.order) < (other.at, other.order)


class Alarms:
    """The deadlines of one loop. A timer runs for the first of them alone, and none without any."""

    __slots__ = ("_cleared", "_heap", "_loop", "_order", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[Alarm] = []
        self._order = count()
        self._cleared = 0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float, owner: Expiring) -> Alarm:
        """Call the owner at a time of the loop's clock."""
        alarm = Alarm(at, next(self._order), owner)
        heappush(self._heap, alarm)
        if self._heap[0] is alarm:
            self._rearm()
        return alarm

    def clear(self, alarm: Alarm) -> None:
        """Forget a deadline. The second time does nothing."""
        if alarm.owner is None:
            return
        alarm.owner = None
        self._cleared += 1
        if self._cleared > _KEEP and self._cleared * 2 > len(self._heap):
            self._heap = [a for a in self._heap if a.owner is not None]
            heapify(self._heap)
            self._cleared = 0
            self._rearm()

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = self._loop.call_at(self._heap[0].at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        heap = self._heap
        while heap and (heap[0].owner is None or heap[0].at <= now):
            alarm = heappop(heap)
            owner, alarm.owner = alarm.owner, None
            if owner is None:
                self._cleared -= 1
            else:
                owner.on_deadline()
        self._rearm()


_ALARMS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Alarms]] = WeakKeyDictionary()


def alarms(loop: asyncio.AbstractEventLoop) -> Alarms:
    """Return the loop's."""
    found = _ALARMS.get(loop)
    if found is None:
        found = _ALARMS[loop] = Alarms(loop)
    return found
