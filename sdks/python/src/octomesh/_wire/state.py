"""What a connection knows, its handshake, and its output: the base of `octomesh._wire.conn.Connection`."""

from __future__ import annotations

from typing import Final, Protocol

from octomesh._wire.frame import DRAINED, GOAWAY, HEADER, HELLO, PING, PREFIX, RESET, VERSION, WELCOME
from octomesh._wire.heads import ResetHead
from octomesh._wire.hello import GOAWAY_PROTOCOL_ERROR, ROLE_CALL, GoAway, Hello, Welcome, goaway_name
from octomesh._wire.limits import FRAME_COST, UNSET_LIMITS, Limits
from octomesh._wire.status import Disposition, refuse
from octomesh._wire.stream import BLOCKED, CLOSED, HELD, RETURNED, Stream

DIALER: Final = 0
ACCEPTOR: Final = 1

HANDSHAKE: Final = 0
"""Nothing was heard."""
ANSWER: Final = 1
"""The acceptor owes an answer to HELLO."""
OPEN: Final = 2
OVER: Final = 3
"""Whatever arrives is discarded."""

NOBODY: Final = 2
"""No id has this parity: the peer opens no calls."""
ID_LAST: Final = 4_293_918_719
"""The highest id that is opened (W-ID-8)."""

NO_REST: Final = (0, 0, b"", b"")
_REFUSAL_SIZE: Final = 32

pack: Final = HEADER.pack


class WireError(Exception):
    """Ends a connection: what was wrong, and at which byte of what the peer sent."""

    def __init__(self, code: int, message: str, offset: int) -> None:
        super().__init__(f"{goaway_name(code)}: {message}")
        self.code = code
        """The GOAWAY's code, such as `GOAWAY_PROTOCOL_ERROR`."""
        self.message = message
        self.offset = offset


class Owner(Protocol):
    """What a connection tells its owner, beside what it tells its streams. As with those, a hook must not raise."""

    def on_hello(self, hello: Hello) -> None:
        """A dialer introduced itself: answer by `Connection.welcome` or `Connection.refuse`, now or later."""

    def on_welcome(self, welcome: Welcome) -> None:
        """The acceptor agreed: calls may go."""

    def on_pong(self, payload: int) -> None:
        """The answer to `Connection.ping`, or to nothing (W-LIVE-3)."""

    def on_goaway(self, goaway: GoAway) -> None:
        """The peer leaves or refuses.

        If the connection is `closed` now, or the word is final and this side `opens` calls: call `Connection.abort` and
        close.
        """

    def on_drained(self) -> None:
        """The peer opens no more calls on this connection."""

    def on_output(self) -> None:
        """Something is to be written where nothing was: have `Connection.take` called soon, not from here.

        It may come twice.
        """

    def accept(self) -> Stream:
        """An object for a call that the peer opens; its `on_request` is called next."""
        raise NotImplementedError


class State:
    """One side of a connection, before anything arrives or is sent."""

    __slots__ = (
        "_accept_parity",
        "_before",
        "_delayed",
        "_final_last",
        "_highest",
        "_limit",
        "_max_body",
        "_max_streams",
        "_most",
        "_need",
        "_next_id",
        "_offset",
        "_open_parity",
        "_out",
        "_owner",
        "_pace",
        "_partial",
        "_peer_body",
        "_peer_cost",
        "_peer_window",
        "_phase",
        "_ping_out",
        "_pong_queued",
        "_refusals",
        "_resets",
        "_side",
        "_started",
        "_streams",
        "_taken",
        "_unwritten",
        "_window",
        "got_final",
        "has_drained",
        "held",
        "leaves",
        "local",
        "opens",
        "origin",
        "peer",
        "peer_drained",
        "peer_leaves",
    )

    def __init__(self, side: int, owner: Owner, limits: Limits = UNSET_LIMITS, origin: int = 0) -> None:
        """A connection before its handshake; a dialer calls `hello` next.

        side is DIALER or ACCEPTOR. limits is what this side accepts, zeros for the defaults. origin is the name under
        which this side reports broken streams and refusals.
        """
        self._side = side
        self._owner = owner
        self.origin = origin
        """May be set anew once the peer's role tells what this side is to it."""
        self.local = limits.normalized()
        """What this side accepts."""
        self.peer = UNSET_LIMITS.normalized()
        """What the peer accepts; before its HELLO or WELCOME the defaults."""
        self.opens = False
        """This side opens the calls of the connection (W-ROLE-1)."""
        self.held = 0
        """Streams of the side that serves: open ones, and reset ones whose handler has not returned (W-END-9)."""
        self.leaves = False
        """This side has sent GOAWAY."""
        self.peer_leaves = False
        """The peer has sent GOAWAY."""
        self.has_drained = False
        """This side has said that it opens no more calls."""
        self.peer_drained = False
        """The peer has said so."""
        self.got_final = False
        """A final GOAWAY came, and this side opens the calls."""
        self._phase = HANDSHAKE
        self._streams: dict[int, Stream] = {}
        self._out: list[bytes | memoryview] = []
        self._refusals: dict[int, int] = {}  # RESETs for refused REQUESTs, encoded when they are taken: id to reason
        self._partial = bytearray()
        self._need = 0
        self._offset = 0
        self._window = self.local.stream_window
        self._max_body = self.local.max_frame_body
        self._max_streams = self.local.max_streams
        self._most = 0  # streams that this side may have open at once; 0: it opens none
        self._limit = 0  # what those whose RESET waits leave of them
        self._pace = 0  # RESETs that this side sends between two ticks, if it opens calls
        self._delayed: dict[int, bytes] = {}  # RESETs that wait for the next one: id to head
        self._next_id = 1 + side
        self._highest = 0
        self._taken = 0  # what _highest was when `take` returned bytes last
        self._before = 0  # and the time before
        self._unwritten = 1 << 32  # of the streams above nothing was written
        self._started = 0
        self._accept_parity = NOBODY
        self._open_parity = NOBODY
        self._final_last = 0
        self._resets = 0
        self._ping_out = False
        self._pong_queued = False
        self._heed(self.peer)

    def _heed(self, peer: Limits) -> None:
        self.peer = peer = peer.normalized()
        self._peer_window = peer.stream_window
        self._peer_body = peer.max_frame_body
        self._peer_cost = peer.max_frame_body + FRAME_COST

    def _begin(self) -> None:
        """The handshake is done."""
        self._phase = OPEN
        mine = 1 - self._side  # the parity of the dialer's ids is 1
        if self.opens:
            self._most = self._limit = self.peer.max_streams
            self._pace = max(250, self.peer.max_streams)
            self._open_parity = mine
        else:
            self._accept_parity = 1 - mine

    def _end(self) -> None:
        """The connection carries nothing any more: whatever arrives goes the slow way, and is discarded there."""
        self._phase = OVER
        self._most = self._limit = 0
        self._delayed.clear()
        self._max_body = -1
        self._accept_parity = NOBODY
        self._partial = bytearray()
        self._need = 0

    def hello(self, hello: Hello) -> None:
        """Queues the dialer's first word.

        Its limits are those of the connection; versions are filled in if they are 0.
        """
        if hello.lowest_version == 0:
            hello.lowest_version = hello.highest_version = VERSION
        hello.limits = self.local
        self.opens = hello.role == ROLE_CALL
        self._queue(HELLO, 0, hello.encode())

    def welcome(self, welcome: Welcome) -> None:
        """Answers a HELLO that the owner accepts. Version and limits are filled in."""
        welcome.version = VERSION
        welcome.limits = self.local
        self._begin()
        self._queue(WELCOME, 0, welcome.encode())

    def refuse(self, goaway: GoAway) -> None:
        """Answers a HELLO that the owner does not accept; the connection carries nothing any more."""
        self._end()
        self._go_away(goaway)

    def resume(self, role: int, peer: Limits = UNSET_LIMITS) -> None:
        """Takes up a connection behind a handshake that happened elsewhere, as tests and in-process links do."""
        self._heed(peer)
        self.opens = (role == ROLE_CALL) == (self._side == DIALER)
        self._begin()

    @property
    def ready(self) -> bool:
        """The handshake is done, and the connection not given up."""
        return self._phase == OPEN

    @property
    def closed(self) -> bool:
        """The connection carries nothing any more."""
        return self._phase == OVER

    @property
    def done(self) -> bool:
        """Nothing can happen any more that matters: the opener has drained and no call is open.

        The dialer then closes, the acceptor waits for its end of file (L-GRACE-6).
        """
        return self._phase == OVER or ((self.has_drained or self.peer_drained) and not self._streams)

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def streams(self) -> list[Stream]:
        """The streams that are open."""
        return list(self._streams.values())

    @property
    def takes_calls(self) -> bool:
        """`open` opens calls here, if there is `room`: the handshake is done, nobody has drained, and ids are left."""
        return self._most > 0 and self._next_id <= ID_LAST

    @property
    def room(self) -> int:
        """How many calls `open` would open now."""
        return max(self._limit - len(self._streams), 0) if self._next_id <= ID_LAST else 0

    @property
    def ids_exhausted(self) -> bool:
        """Stream ids run out: time for a new connection (W-ID-8)."""
        return self._next_id > ID_LAST

    @property
    def queued(self) -> int:
        """The number of bytes that wait for `take`."""
        return sum(map(len, self._out)) + len(self._refusals) * _REFUSAL_SIZE

    def take(self) -> bytes:
        """The bytes to write.

        They count as written: they must go to the peer whole and in order, or the connection be given up.
        """
        if self._refusals:
            self._flush_refusals()
        out = self._out
        data = b"".join(out)
        if data:
            self._before, self._taken = self._taken, self._highest
        out.clear()
        self._pong_queued = False
        return data

    def ping(self, payload: int) -> bool:
        """Queues a PING before what is queued, unless one is unanswered. payload is a number of 64 bits."""
        if self._ping_out or self._phase != OPEN:
            return False
        self._ping_out = True
        self._queue_first(PING, payload.to_bytes(8, "big"))
        return True

    def tick(self) -> None:
        """Half a second has passed.

        Beside `octomesh._wire.liveness.Liveness.tick`, whose answer is the owner's to act on.
        """
        self._resets = 0
        if self._delayed:
            self._send_delayed()

    def _send_delayed(self) -> None:
        """Queues the RESETs that have waited, as many as may go."""
        for sid in list(self._delayed)[: self._pace - self._resets]:
            self._queue(RESET, sid, self._delayed.pop(sid))
            self._resets += 1
        self._limit = self._most - len(self._delayed)

    def _undelay(self, sid: int) -> None:
        """The peer has ended a stream: its RESET, if one waits, is dropped."""
        if self._delayed.pop(sid, None) is not None:
            self._limit = self._most - len(self._delayed)

    def end(self, code: int, why: str) -> None:
        """Closes the connection for a reason of the owner's, such as a limit of its own, and tells the peer."""
        if self._phase != OVER:
            self._end_by(code, why)

    def _end_by(self, code: int, why: str) -> WireError:
        self._end()
        self._go_away(GoAway(code, self._started, message=why.encode(), offset=self._offset))
        return WireError(code, why, self._offset)

    def _fail(self, why: str) -> WireError:
        """Ends the connection because the peer broke the framing or the order of ids (W-CONN-1)."""
        return self._end_by(GOAWAY_PROTOCOL_ERROR, why)

    def _go_away(self, goaway: GoAway) -> None:
        self.leaves = True
        self._queue(GOAWAY, 0, goaway.encode())

    def cease(self) -> None:
        """Opens no more calls here, for reasons of the owner's; `drained` says so to the peer, now or later."""
        self._most = self._limit = 0

    def drained(self) -> None:
        """Says that this side, which opens the calls, opens none any more on this connection (L-GRACE-4)."""
        if not self.has_drained and self._phase == OPEN and self.opens:
            self.has_drained = True
            self._most = self._limit = 0
            self._queue(DRAINED, 0, b"")

    def _wake(self) -> None:
        if not self._out:
            self._owner.on_output()

    def _queue(self, kind: int, sid: int, head: bytes) -> None:
        """Queues a frame without a body."""
        frame = pack(PREFIX | kind, 0, len(head), sid, 0) + head
        self._wake()
        self._out.append(frame)

    def _queue_first(self, kind: int, body: bytes) -> None:
        """Queues a frame of stream 0 before what is queued: liveness must not wait for data (W-LIVE-1)."""
        self._wake()
        self._out.insert(0, pack(PREFIX | kind, 0, 0, 0, len(body)) + body)

    def _flush_refusals(self) -> None:
        refusals, self._refusals = self._refusals, {}
        for sid, reason in refusals.items():
            status = refuse(reason, self.origin)
            status.disposition = Disposition.NOT_PROCESSED  # no stream was made
            head = ResetHead(status).encode()
            self._out.append(pack(PREFIX | RESET, 0, len(head), sid, 0) + head)

    def _remove(self, s: Stream) -> None:
        """Closes a stream."""
        del self._streams[s.id]
        if s.bits & BLOCKED:
            s.rest = NO_REST
        s.bits = s.bits & ~BLOCKED | CLOSED
        if s.bits & RETURNED:
            self.release(s)

    def release(self, s: Stream) -> None:
        """The handler of a stream has returned, however the stream ends or ended (W-END-9).

        More than once does nothing.
        """
        if not s.bits & CLOSED:
            s.bits |= RETURNED
        elif s.bits & HELD:
            s.bits &= ~HELD
            self.held -= 1
