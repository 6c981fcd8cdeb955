"""One connection of this process: the clock, reads and writes around `octomesh._wire`'s state machine."""

from __future__ import annotations

import asyncio
from typing import Final, cast
from weakref import WeakKeyDictionary

from octomesh._clock import alarms
from octomesh._wire.conn import Connection, WireError
from octomesh._wire.hello import GoAway, Hello, Welcome
from octomesh._wire.limits import Limits
from octomesh._wire.liveness import GONE, LATE, SEND_PING, TICK, Liveness
from octomesh._wire.stream import Stream

HANDSHAKE_TIMEOUT: Final = 2.0
"""Seconds until a peer that does not shake hands is given up."""
LINGER: Final = 1.0
"""Seconds that a connection may take to write its last words, and its peer to read them."""
_READ: Final = 256 << 10
"""The most bytes of one read."""
_BUFFERS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview]] = WeakKeyDictionary()


def _buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Return where the connections of a loop read to, one after the other: it holds nothing between two reads."""
    found = _BUFFERS.get(loop)
    if found is None:
        found = _BUFFERS[loop] = memoryview(bytearray(_READ))
    return found


class RefusedError(Exception):
    """The peer, or the network, did not let this side in; the text says why."""

    def __init__(self, why: str, *, draining: bool = False) -> None:
        super().__init__(why)
        self.draining = draining
        """The peer leaves: who listens there next may let this side in."""


class Link(asyncio.BufferedProtocol):
    """One side of a connection. Derived classes are its callers, or its servers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, side: int, origin: int, limits: Limits) -> None:
        self.loop = loop
        self.alarms = alarms(loop)
        self.conn = Connection(side, self, limits, origin)
        self.shaken: asyncio.Future[None] = loop.create_future()
        """Done when the handshake is; `RefusedError` if it failed."""
        self.shaken.add_done_callback(_look)  # nobody may wait for it
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection has ended."""
        self._transport: asyncio.Transport | None = None
        self._buffer = _buffer(loop)
        self._flushing = False
        self._paused = False
        self._closing = False
        self._plain = False  # no TLS: what is written goes to the socket at once and whole, or waits
        self._unwritten = False
        self._given = 0  # bytes that the transport has been given to write
        self._full: int | None = None  # how many a full socket had taken when that was looked at last
        self._heard = False
        self.overdue = False
        """A sign of life is, since a miss (W-LIVE-6)."""
        self.silent = False
        """The connection was given up because its peer is."""
        self._liveness = Liveness()
        self._tick_at = 0.0
        self._ticker: asyncio.TimerHandle | None = None
        self._shake: asyncio.TimerHandle | None = None
        self._kill: asyncio.TimerHandle | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the handshake has its own time, liveness its ticks."""
        self._transport = cast(asyncio.Transport, transport)
        self._plain = transport.get_extra_info("sslcontext") is None
        self._shake = self.loop.call_later(HANDSHAKE_TIMEOUT, self._not_shaken)
        self._tick_at = self.loop.time() + TICK
        self._ticker = self.loop.call_at(self._tick_at, self._tick)
        self.begin()
        if self.conn.queued:
            self.on_output()

    def begin(self) -> None:
        """Say the first word, if it is this side's."""

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Say where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Feed the state machine.

        What it answers, and what those say whom it wakes, is written once: behind their steps in the loop's queue.
        """
        self._heard = True
        if self.overdue:
            self.overdue = False
            self.alive()
        flushing, self._flushing = self._flushing, True
        try:
            self.conn.feed(bytes(self._buffer[:nbytes]))
        except WireError as error:
            self.fail(RefusedError(str(error)))
            self.conn.abort()
        finally:
            if not flushing:
                self.loop.call_soon(self._flush)
        self.settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody whose call hangs on the connection."""
        self._transport = None
        for timer in (self._ticker, self._shake, self._kill):
            if timer is not None:
                timer.cancel()
        self.fail(RefusedError(f"the connection was lost{f': {exc}' if exc else ''}"))
        self.conn.lost(unwritten=self._unwritten)
        self.gone()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """Hold what is to be written: streams' credit bounds it."""
        self._paused = True
        if self._full is None:
            self._full = self._given - unsent(self._transport)

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        if self.conn.queued:
            self._flush()

    def eof_received(self) -> bool:
        """Close, too."""
        return False

    # What the state machine calls.

    def on_output(self) -> None:
        """Write what this turn of the loop brings together, once."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def on_hello(self, hello: Hello) -> None:
        """Refuse nobody but by the derived class."""
        raise NotImplementedError

    def on_welcome(self, welcome: Welcome) -> None:  # noqa: ARG002
        """Let calls go."""
        self._shake_ends()

    def on_pong(self, payload: int) -> None:
        """Heard is heard."""

    def on_goaway(self, goaway: GoAway) -> None:
        """Move, or end."""
        if not self.shaken.done():
            why = f"the peer refused the connection: {goaway.message.decode('utf-8', 'replace') or 'it leaves'}"
            self.fail(RefusedError(why, draining=goaway.graceful))
        if self.conn.closed or (goaway.final and self.conn.opens):
            self.conn.abort()
        else:
            self.moving()
        self.settle()

    def on_drained(self) -> None:
        """The peer closes when its calls have ended."""

    def accept(self) -> Stream:
        """Only a serving side takes calls."""
        raise NotImplementedError

    # What derived classes use and change.

    def moving(self) -> None:
        """The peer leaves: open calls go on here, others elsewhere."""

    def gone(self) -> None:
        """The connection has ended."""

    def missed(self) -> None:
        """A sign of life is overdue."""

    def alive(self) -> None:
        """It has come after all."""

    def waiting(self) -> bool:
        """Somebody waits for the answer of a unary call, so that silence counts sooner (W-LIVE-5)."""
        return False

    def fail(self, why: RefusedError) -> None:
        """End the handshake, if it has not ended."""
        if not self.shaken.done():
            self.shaken.set_exception(why)
        if self._shake is not None:
            self._shake.cancel()

    def welcomed(self) -> None:
        """The handshake is done, at the side that accepts."""
        self._shake_ends()

    def settle(self) -> None:
        """Close a connection that has nothing left to do."""
        if not self._closing and (self.conn.closed or (self.conn.done and self.conn.opens)):
            self.close()

    def close(self) -> None:
        """Write what is queued, and close.

        After a last GOAWAY only this side's direction: to close a socket with bytes unread destroys what the peer has
        still to read. What comes until the peer closes, too, is discarded (W-CONN-3).
        """
        if self._closing:
            return
        self._closing = True
        transport = self._transport
        if transport is None:
            return
        self._paused = False
        self._flush()
        if self.conn.closed and self.conn.leaves and transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
        self._kill = self.loop.call_later(LINGER, transport.abort)

    def abort(self) -> None:
        """Close without a further word."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def transport(self) -> asyncio.Transport | None:
        """What carries the bytes; None before and after."""
        return self._transport

    def _shake_ends(self) -> None:
        if self._shake is not None:
            self._shake.cancel()
        if not self.shaken.done():
            self.shaken.set_result(None)

    def _not_shaken(self) -> None:
        self.fail(RefusedError(f"no answer to HELLO within {HANDSHAKE_TIMEOUT:g} s"))
        self.abort()

    def _flush(self) -> None:
        self._flushing = False
        transport = self._transport
        if transport is None or self._paused:
            return
        data = self.conn.take()
        if data:
            self._given += len(data)
            transport.write(data)
            # Whoever closes here writes before: the end has come from elsewhere, and the transport took nothing.
            self._unwritten = self._plain and transport.is_closing()
        if not self._closing and (self.conn.closed or self.conn.done):
            self.settle()

    def _moved(self) -> bool:
        """The socket, having been full, has taken bytes since the last tick: the peer reads what is before the PING."""
        waits = unsent(self._transport)
        before, taken = self._full, self._given - waits
        self._full = taken if waits else None
        return before is not None and taken > before

    def _tick(self) -> None:
        now = self.loop.time()
        late = now - self._tick_at > LATE
        self._tick_at = max(self._tick_at + TICK, now)
        self._ticker = self.loop.call_at(self._tick_at, self._tick)
        self.conn.tick()
        self.settle()  # RESETs that had to wait have freed streams
        heard, self._heard = self._heard, False
        # Had there been a byte, the loop would have brought it before this tick, unless the tick is late.
        drained = not self._moved() and not late
        advice = self._liveness.tick(heard, drained, not heard and self.waiting())
        if advice == SEND_PING:
            self.conn.ping(0)
        elif advice == GONE:
            self.silent = True
            self.abort()
        elif self._liveness.missed:
            self.overdue = True
            self.missed()


def unsent(transport: asyncio.Transport | None) -> int:
    """Bytes that a transport has been given, and its socket has not taken."""
    if transport is None:
        return 0
    # Under TLS a transport tells only of what is above it. asyncio's own has one below, which it shows nobody.
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return transport.get_write_buffer_size() + (0 if below is None else int(below.get_write_buffer_size()))


def _look(shaken: asyncio.Future[None]) -> None:
    """Keep asyncio from logging an error that nobody waited for."""
    if not shaken.cancelled():
        shaken.exception()
