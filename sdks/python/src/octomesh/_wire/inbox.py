"""Messages from fragments, within bounds, and when credit goes back (W-MSG-5, W-FLOW-5, W-FLOW-6)."""

from __future__ import annotations

from collections import deque
from typing import Final

from octomesh._wire.compression import compressed_limit
from octomesh._wire.frame import COMPRESSED, MORE
from octomesh._wire.limits import FRAME_COST
from octomesh._wire.sending import Sending
from octomesh._wire.status import Reason
from octomesh._wire.stream import Stream

DEFAULT_MESSAGE_LIMIT: Final = 4 << 20
"""Of a message's uncompressed size."""
DEFAULT_BUDGET: Final = 512 << 20


class Budget:
    """What the messages that arrive in fragments may take together, in bytes (L-FINE-9): one for a process."""

    __slots__ = ("left",)

    def __init__(self, size: int = DEFAULT_BUDGET) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Takes size bytes, if they are there."""
        if size > self.left:
            return False
        self.left -= size
        return True


class Inbox:
    """What arrives on a stream: the message that is being assembled, and those that wait for the application.

    Credit goes back as fragments arrive, so that a message larger than the window does not wait for itself, but only
    while no complete message waits: a slow application stops its own sender, and memory is bounded by window and
    message limit.

    A message of a unary call that arrives whole needs none: its frame's body is it.
    """

    __slots__ = ("_budget", "_compressed", "_held", "_limit", "_parts", "_reserved", "waiting")

    def __init__(self, limit: int, budget: Budget) -> None:
        """Limit is of a message's uncompressed size, in bytes."""
        self._limit = limit
        self._budget = budget
        self._parts: bytearray | None = None
        self._compressed = False
        self._reserved = 0
        self._held = 0
        self.waiting: deque[tuple[bytes, bool, int]] = deque()
        """Complete messages: wire bytes, whether they are compressed, and what they have of the budget.

        Only whether there are any, and how many, is to be looked at: `take` gives them.
        """

    @property
    def assembling(self) -> bool:
        """Part of a message is here: a final RESPONSE without MSG abandons it (W-MSG-7)."""
        return self._parts is not None

    def add(self, conn: Sending, s: Stream, flags: int, body: bytes) -> int:
        """Takes a frame with MSG.

        Returns 0, or the reason for which the call is to be ended: MESSAGE_TOO_LARGE, or OVERLOADED.
        """
        parts = self._parts
        if parts is None:
            compressed = flags & COMPRESSED != 0
            limit = compressed_limit(self._limit) if compressed else self._limit
            if not flags & MORE:
                if len(body) > limit:
                    return Reason.MESSAGE_TOO_LARGE
                self._held += FRAME_COST + len(body)
                self.waiting.append((body, compressed, 0))
                return 0
            if s.msg_total > limit:
                return Reason.MESSAGE_TOO_LARGE
            if not self._budget.take(s.msg_total):
                return Reason.OVERLOADED
            self._reserved = s.msg_total
            self._compressed = compressed
            self._parts = parts = bytearray(body)
        else:
            parts += body
        if flags & MORE:
            if self.waiting:
                self._held += FRAME_COST + len(body)
            else:
                conn.consume(s, FRAME_COST + len(body))
            return 0
        self._held += FRAME_COST + len(body)
        self.waiting.append((bytes(parts), self._compressed, self._reserved))
        self._parts = None
        self._reserved = 0
        return 0

    def take(self, conn: Sending, s: Stream) -> tuple[bytes, bool]:
        """The oldest message that waits, in wire bytes, and whether it is compressed.

        With the last one credit goes back. Raises IndexError if none waits.
        """
        body, compressed, reserved = self.waiting.popleft()
        self._budget.left += reserved
        if not self.waiting and self._held:
            held, self._held = self._held, 0
            conn.consume(s, held)
        return body, compressed

    def drop(self) -> None:
        """Forgets everything: the call has ended."""
        self._budget.left += self._reserved + sum([reserved for _, _, reserved in self.waiting])
        self._parts = None
        self._reserved = self._held = 0
        self.waiting.clear()
