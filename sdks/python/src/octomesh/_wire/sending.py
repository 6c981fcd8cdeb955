"""Opening, sending, giving credit back and resetting: the half of a connection that the owner drives."""

from __future__ import annotations

from struct import error as struct_error
from typing import Final

from octomesh._wire.frame import COMPRESSED, END, MESSAGE, MORE, MSG, PREFIX, REQUEST, RESET, RESPONSE, WINDOW
from octomesh._wire.heads import ResetHead, beginning, total_length_piece
from octomesh._wire.limits import FRAME_COST, MAX_HEAD, PREFERRED_FRAGMENT
from octomesh._wire.state import ID_LAST, State, pack
from octomesh._wire.status import Status
from octomesh._wire.stream import (
    BLOCKED,
    CLOSED,
    HELD,
    LOCAL_END,
    OUT_MESSAGE,
    REMOTE_END,
    SENT_RESPONSE,
    STARTED,
    Stream,
)

_MIN_FRAGMENT: Final = 1024
"""Keeps a sender that is short of credit from sending slivers. It is far below half of any window, so that the grant it
waits for is on its way."""
_TOTAL_SIZE: Final = 11
"""The most bytes that a total_length takes."""
_MAX_DELAYED: Final = 512
"""The longest head of a RESET that waits."""
_BUSY: Final = CLOSED | BLOCKED | OUT_MESSAGE
_W_REQUEST: Final = PREFIX | REQUEST
_W_WINDOW: Final = PREFIX | WINDOW


class NotOpenError(Exception):
    """The connection opens no calls any more, or not yet: take another one."""


class StreamLimitError(Exception):
    """The peer's max_streams are open: wait until one ends, or take another connection (W-FLOW-9)."""


class Sending(State):
    """See `octomesh._wire.conn.Connection`."""

    __slots__ = ()

    def open(self, s: Stream, flags: int, head: bytes, body: bytes = b"") -> bool:
        """Opens a call by its REQUEST: flags are MSG with a message in body and END where it is the only one, or 0.

        Returns False if the message waits for credit (see `send`). Raises `NotOpenError` and `StreamLimitError`; then
        nothing has happened.
        """
        sid = self._next_id
        streams = self._streams
        if len(streams) >= self._limit or sid > ID_LAST:
            if self._most == 0 or sid > ID_LAST:
                raise NotOpenError("the connection takes no new calls")
            raise StreamLimitError("the peer's stream limit is reached")
        size = len(body)
        try:
            frame = pack(_W_REQUEST, flags, len(head), sid, size)
        except struct_error:
            raise ValueError(f"a head of {len(head)} bytes does not fit a frame") from None
        self._next_id = sid + 2
        self._highest = sid
        streams[sid] = s
        s.id = sid
        s.send_credit = self._peer_window
        s.recv_window = self._window
        s.recv_pending = 0
        if flags & MSG:
            if size > self._peer_body or flags & MORE:
                s.bits = 0
                return self._send_slowly(s, REQUEST, flags, head, body)
            s.send_credit -= size + 64
        s.bits = LOCAL_END if flags & END else 0
        out = self._out
        if not out:
            self._owner.on_output()
        out += (frame, head, body)
        return True

    def send(self, s: Stream, kind: int, flags: int, head: bytes, body: bytes = b"") -> bool:
        """Queues a MESSAGE, or a RESPONSE, which with END closes the stream.

        What is sent on a closed stream is dropped.

        A message that is longer than what credit and the peer's limits allow goes in fragments. Returns False if credit
        ran out: the rest goes by itself when credit comes, and `Stream.on_credit` tells. Until then nothing else may be
        sent on the stream.
        """
        bits = s.bits
        size = len(body)
        if bits & _BUSY:
            return self._send_slowly(s, kind, flags, head, body)
        if flags & MSG:
            if size + 64 > s.send_credit or size > self._peer_body or flags & MORE:
                return self._send_slowly(s, kind, flags, head, body)
            cost = size + 64
        else:
            cost = 0
        try:
            frame = pack(PREFIX | kind, flags, len(head), s.id, size)
        except struct_error:
            raise ValueError(f"a head of {len(head)} bytes does not fit a frame") from None
        s.send_credit -= cost
        out = self._out
        if not out:
            self._owner.on_output()
        out += (frame, head, body)
        if kind == RESPONSE:
            if flags & END:
                del self._streams[s.id]
                s.bits = bits & ~HELD | CLOSED | LOCAL_END
                if bits & HELD:
                    self.held -= 1
            else:
                s.bits = bits | SENT_RESPONSE
        elif flags & END:
            s.bits = bits | LOCAL_END
        return True

    def _send_slowly(self, s: Stream, kind: int, flags: int, head: bytes, body: bytes) -> bool:
        if s.bits & CLOSED:
            return True
        if s.bits & BLOCKED:
            raise RuntimeError("a send on a stream whose last one waits for credit")
        if len(head) > MAX_HEAD:
            raise ValueError(f"a head of {len(head)} bytes does not fit a frame")
        return self._go_on(s, kind, flags, head, body)

    def _resume(self, s: Stream) -> bool:
        """Goes on with a blocked send, after credit came."""
        kind, flags, head, body = s.rest
        s.bits &= ~BLOCKED
        return self._go_on(s, kind, flags, head, body)

    def _go_on(self, s: Stream, kind: int, flags: int, head: bytes, body: bytes | memoryview) -> bool:
        while flags & MSG:
            room = min(s.send_credit - FRAME_COST, self._peer_body)
            if len(body) <= room:
                s.send_credit -= FRAME_COST + len(body)
                break
            if room < _MIN_FRAGMENT:
                s.bits |= BLOCKED
                s.rest = (kind, flags, head, body)
                return False
            size = min(room, PREFERRED_FRAGMENT)
            kind, head = self._send_fragment(s, kind, flags, head, body, size)
            flags &= ~COMPRESSED  # only the first fragment's counts
            body = memoryview(body)[size:]
        self._append(s, kind, flags, head, body)
        if flags & MSG:
            s.bits = s.bits | OUT_MESSAGE if flags & MORE else s.bits & ~OUT_MESSAGE
        if flags & END:
            s.bits |= LOCAL_END
        if kind == RESPONSE:
            s.bits |= SENT_RESPONSE
            if flags & END:
                self._remove(s)
                self.release(s)
        return True

    def _send_fragment(
        self, s: Stream, kind: int, flags: int, head: bytes, body: bytes | memoryview, size: int
    ) -> tuple[int, bytes]:
        """Queues the first bytes of a body, and returns type and head of what remains (W-MSG-9, W-MSG-10, W-MSG-13)."""
        first = not s.bits & OUT_MESSAGE
        total = total_length_piece(len(body)) if first and not flags & MORE else b""
        if kind == RESPONSE and flags & END:  # the head ends the call, so it rides on the last fragment
            now, head_now, rest = MESSAGE, b"", (kind, head)
            if first and not s.bits & SENT_RESPONSE:
                now, head_now = RESPONSE, beginning(head)
                if len(head_now) + _TOTAL_SIZE > MAX_HEAD:
                    head_now = b""
        elif total and len(head) + _TOTAL_SIZE > MAX_HEAD:  # no room for the length: the head goes alone
            self._append(s, kind, flags & ~(MSG | END | MORE | COMPRESSED), head, b"")
            if kind == RESPONSE:
                s.bits |= SENT_RESPONSE
            now, head_now, rest = MESSAGE, b"", (MESSAGE, b"")
        else:
            now, head_now, rest = kind, head, (MESSAGE, b"")
        self._append(s, now, flags & ~END | MORE, head_now + total, memoryview(body)[:size])
        s.send_credit -= FRAME_COST + size
        s.bits |= OUT_MESSAGE | (SENT_RESPONSE if now == RESPONSE else 0)
        return rest

    def _append(self, s: Stream, kind: int, flags: int, head: bytes, body: bytes | memoryview) -> None:
        self._wake()
        self._out += (pack(PREFIX | kind, flags, len(head), s.id, len(body)), head, body)

    def started(self, s: Stream) -> None:
        """A handler has the stream: from here on nobody may call it not processed (L-FINE-1)."""
        s.bits |= STARTED
        if s.id > self._started:
            self._started = s.id

    def consume(self, s: Stream, cost: int) -> None:
        """Gives credit back for received frames whose cost (`frame_cost`) has left this side's memory.

        The grant goes once half a window has come together (W-FLOW-5), and not at all after END.
        """
        if s.bits & (REMOTE_END | CLOSED):
            return
        pending = s.recv_pending + cost
        if pending < self._window // 2 or not cost:
            s.recv_pending = pending
            return
        s.recv_window += pending
        s.recv_pending = 0
        self._wake()
        self._out.append(pack(_W_WINDOW, 0, 0, s.id, 4) + pending.to_bytes(4, "big"))

    def reset(self, s: Stream, status: Status, http2_code: int = 0) -> None:
        """Ends a stream at once, behind what is queued.

        At the side that serves its handler may run on until `release` (W-END-9). At the side that opens it counts
        against max_streams while its RESET waits, where there were many (W-FLOW-14).

        No hook is called. A stream that is closed stays as it is.
        """
        if s.bits & CLOSED:
            return
        waits = self.opens and self._resets >= self._pace
        head = ResetHead(status, http2_code).encode()
        if len(head) > (_MAX_DELAYED if waits else MAX_HEAD):  # a peer's details: the code matters more
            short = Status(status.code, status.reason, status.origin, status.disposition)
            short.retry_after_ms = status.retry_after_ms
            head = ResetHead(short, http2_code).encode()
        if waits:
            self._delayed[s.id] = head
            self._limit = self._most - len(self._delayed)
        else:
            self._resets += self.opens
            self._queue(RESET, s.id, head)
        self._remove(s)
