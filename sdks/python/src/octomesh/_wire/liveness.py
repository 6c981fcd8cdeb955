"""Liveness by ticks of half a second (W-LIVE)."""

from __future__ import annotations

from typing import Final

ALIVE: Final = 0
SEND_PING: Final = 1
"""Send PING, unless one is unanswered: `Connection.ping` sees to that."""
GONE: Final = 2
"""The peer is gone: the connection is lost."""

TICK: Final = 0.5
"""Seconds from one tick to the next; a later tick is not made up for."""
LATE: Final = 0.25
"""Seconds after which a tick is late, and must not say that the socket was drained (W-LIVE-4)."""

_PING_AFTER: Final = 10
_URGENT_MISSES: Final = 3
_IDLE_MISSES: Final = 20


class Liveness:
    """Decides when to ping a silent peer and when it is gone."""

    __slots__ = ("_misses", "_pinged", "_silent")

    def __init__(self) -> None:
        self._silent = 0
        self._misses = 0
        self._pinged = False

    @property
    def missed(self) -> bool:
        """There was a miss since the last byte (W-LIVE-6)."""
        return self._misses > 0

    def tick(self, received: bool, drained: bool, waiting: bool) -> int:
        """Takes half a second's news and returns ALIVE, SEND_PING or GONE.

        received: a byte came since the last tick. drained: the socket was read until it would block since the last PING
        was written, and the tick is not late. waiting: this side waits for the answer of a unary call.
        """
        if received:
            self._silent = self._misses = 0
            self._pinged = False
            return ALIVE
        self._silent += 1
        if not self._pinged:
            if waiting or self._silent >= _PING_AFTER:
                self._pinged = True
                return SEND_PING
            return ALIVE
        if drained:
            self._misses += 1
        return GONE if self._misses >= (_URGENT_MISSES if waiting else _IDLE_MISSES) else ALIVE
