"""What arrives: the half of a connection that the peer drives."""

from __future__ import annotations

from typing import Final

from octomesh._wire.frame import (
    CRITICAL,
    DRAINED,
    END,
    GOAWAY,
    HEADER,
    HELLO,
    MESSAGE,
    MORE,
    MSG,
    PING,
    PONG,
    PREFIX,
    REQUEST,
    RESET,
    RESPONSE,
    VERSION,
    WELCOME,
    FrameError,
    check_header,
    type_name,
)
from octomesh._wire.heads import ResetHead, scan_total
from octomesh._wire.hello import (
    GOAWAY_ENHANCE_YOUR_CALM,
    GOAWAY_REFUSED,
    ROLE_CALL,
    ROLE_SERVE,
    GoAway,
    Hello,
    Welcome,
)
from octomesh._wire.limits import FRAME_COST, MAX_CREDIT
from octomesh._wire.proto import HeadError
from octomesh._wire.sending import Sending
from octomesh._wire.state import ACCEPTOR, ANSWER, DIALER, HANDSHAKE, NOBODY, OPEN, OVER
from octomesh._wire.status import Disposition, Reason, refuse
from octomesh._wire.stream import BLOCKED, CLOSED, GOT_RESPONSE, HELD, IN_MESSAGE, REMOTE_END, Stream

_W_REQUEST: Final = PREFIX | REQUEST
_W_RESPONSE: Final = PREFIX | RESPONSE
_W_MESSAGE: Final = PREFIX | MESSAGE
_WHOLE: Final = MSG | END
_COUNTS: Final = CRITICAL | MSG | MORE | END

_unpack: Final = HEADER.unpack_from


class Receiving(Sending):
    """See `octomesh._wire.conn.Connection`."""

    __slots__ = ()

    def feed(self, data: bytes) -> None:
        """Takes bytes that arrived, cut anywhere, and calls the hooks of what they mean, frame by frame.

        Raises `WireError` if they end the connection: a GOAWAY that says why is queued. What comes after that is
        discarded.
        """
        if self._need:  # a frame has begun
            partial = self._partial
            partial += data
            if len(partial) < self._need:
                return
            data = bytes(partial)
            self._partial = bytearray()
            self._need = 0
        at = 0
        need = 16
        size = len(data)
        base = self._offset
        streams = self._streams
        try:
            while size - at >= 16:
                word, flags, head_len, sid, body_len = _unpack(data, at)
                head_at = at + 16
                body_at = head_at + head_len
                end = body_at + body_len
                if body_len > self._max_body or end > size:
                    if self._phase == OVER:
                        at = size
                        break
                    self._offset = base + at
                    self._check(word, body_len)
                    need = end - at
                    break
                s = streams.get(sid)
                if s is not None:
                    if word == _W_RESPONSE:
                        if (
                            flags & _COUNTS == _WHOLE
                            and not s.bits & (IN_MESSAGE | BLOCKED)
                            and s.recv_window >= body_len + 64
                            and self.opens
                        ):
                            at = end
                            del streams[sid]
                            s.bits |= CLOSED | REMOTE_END
                            s.on_response(flags, data[head_at:body_at], data[body_at:end])
                            continue
                    elif word == _W_MESSAGE and flags & _COUNTS == MSG and not s.bits & (IN_MESSAGE | REMOTE_END):
                        window = s.recv_window - body_len - 64
                        if window >= 0:
                            at = end
                            s.recv_window = window
                            s.on_message(flags, data[head_at:body_at], data[body_at:end])
                            continue
                elif (
                    word == _W_REQUEST
                    and sid & 1 == self._accept_parity
                    and sid > self._highest
                    and flags & _COUNTS == _WHOLE
                    and self.held + len(self._refusals) < self._max_streams
                ):
                    at = end
                    self._highest = sid
                    self.held += 1
                    streams[sid] = s = self._owner.accept()
                    s.id = sid
                    s.bits = REMOTE_END | HELD
                    s.send_credit = self._peer_window
                    s.recv_window = self._window - body_len - 64
                    s.recv_pending = 0
                    s.on_request(flags, data[head_at:body_at], data[body_at:end])
                    continue
                self._offset = base + at
                at = end
                self._check(word, body_len)
                self._receive(word & 0xFF, flags, sid, data[head_at:body_at], data[body_at:end])
        finally:
            self._offset = base + at
            if at < size and self._phase != OVER:
                self._partial += data[at:]
                self._need = need

    def _check(self, word: int, body_len: int) -> None:
        try:
            check_header(word, body_len, self._max_body)
        except FrameError as e:
            raise self._fail(str(e)) from None

    def _receive(self, kind: int, flags: int, sid: int, head: bytes, body: bytes) -> None:
        """Any frame whose header is good."""
        if REQUEST <= kind <= RESET:
            self._receive_on_stream(kind, flags, sid, head, body)
            return
        if self._phase != OPEN and kind not in (HELLO, WELCOME, GOAWAY):
            raise self._fail(f"{type_name(kind)} before the handshake was done")
        if not HELLO <= kind <= DRAINED:
            return  # of a later version: skipped, whatever its stream
        if sid:
            raise self._fail(f"{type_name(kind)} on stream {sid}, want 0")
        if flags & CRITICAL:
            raise self._fail(f"{type_name(kind)} has an unknown critical flag")
        if kind == PING:
            self._receive_ping(body)
        elif kind == PONG:
            self._ping_out = False
            self._owner.on_pong(int.from_bytes(body, "big"))
        elif kind == HELLO:
            self._receive_hello(head)
        elif kind == WELCOME:
            self._receive_welcome(head)
        elif kind == GOAWAY:
            self._receive_goaway(head)
        elif kind == DRAINED:
            if self.opens:
                raise self._fail("DRAINED from the side that opens no calls")
            self.peer_drained = True
            self._accept_parity = NOBODY  # a REQUEST now is an error, which the slow way finds
            self._owner.on_drained()

    def _receive_hello(self, head: bytes) -> None:
        if self._side != ACCEPTOR or self._phase != HANDSHAKE:
            raise self._fail("HELLO out of place")
        try:
            hello = Hello.parse(head)
        except HeadError as e:
            raise self._fail(f"the head of HELLO does not parse: {e}") from None
        if not hello.lowest_version <= VERSION <= hello.highest_version:
            raise self._end_by(
                GOAWAY_REFUSED,
                f"no common version: the peer speaks {hello.lowest_version} to {hello.highest_version}, "
                f"this side {VERSION}",
            )
        if hello.role not in (ROLE_CALL, ROLE_SERVE):
            raise self._end_by(GOAWAY_REFUSED, f"unknown role {hello.role}")
        self.opens = hello.role == ROLE_SERVE
        self._heed(hello.limits)
        self._phase = ANSWER
        self._owner.on_hello(hello)

    def _receive_welcome(self, head: bytes) -> None:
        if self._side != DIALER or self._phase != HANDSHAKE:
            raise self._fail("WELCOME out of place")
        try:
            welcome = Welcome.parse(head)
        except HeadError as e:
            raise self._fail(f"the head of WELCOME does not parse: {e}") from None
        if welcome.version != VERSION:
            raise self._end_by(GOAWAY_REFUSED, f"the acceptor chose version {welcome.version}, offered was {VERSION}")
        self._heed(welcome.limits)
        self._begin()
        self._owner.on_welcome(welcome)

    def _receive_ping(self, payload: bytes) -> None:
        if self._pong_queued:
            raise self._end_by(GOAWAY_ENHANCE_YOUR_CALM, "a second PING before the first was answered")
        self._pong_queued = True
        self._queue_first(PONG, payload)

    def _receive_goaway(self, head: bytes) -> None:
        if self._phase == ANSWER or (self._phase == HANDSHAKE and self._side == ACCEPTOR):
            raise self._fail("GOAWAY before the handshake was done")
        try:
            goaway = GoAway.parse(head)
        except HeadError as e:
            raise self._fail(f"the head of GOAWAY does not parse: {e}") from None
        self.peer_leaves = True
        if goaway.final and self.opens:  # last speaks of the receiver's own streams only (L-FINE-2)
            self.got_final, self._final_last = True, goaway.last
            self._most = self._limit = 0
        if self._phase == HANDSHAKE or not goaway.graceful:
            self._end()
        self._owner.on_goaway(goaway)

    def _receive_on_stream(self, kind: int, flags: int, sid: int, head: bytes, body: bytes) -> None:
        """A frame of a call.

        First the order of ids, which the whole connection rests on; then the stream's own rules, which that stream
        alone answers for.
        """
        if self._phase != OPEN:
            raise self._fail(f"{type_name(kind)} before the handshake was done")
        opener_is_dialer = (self._side == DIALER) == self.opens
        if sid == 0 or (sid & 1 == 1) != opener_is_dialer:
            raise self._fail(f"{type_name(kind)} on stream {sid}, which nobody may open here")
        if kind == REQUEST:
            self._receive_request(flags, sid, head, body)
            return
        if sid > self._highest:
            raise self._fail(f"{type_name(kind)} on stream {sid}, which is not open yet")
        if kind == RESET and not self.opens:
            self._resets += 1
            if self._resets > max(1000, 4 * self._max_streams):
                raise self._end_by(GOAWAY_ENHANCE_YOUR_CALM, "too many RESETs")
        s = self._streams.get(sid)
        if s is None:  # closed: whatever still arrives for it is dropped
            if self._delayed and (kind == RESET or (kind == RESPONSE and flags & END)):
                self._undelay(sid)
            elif kind == RESET:
                self._refusals.pop(sid, None)
        elif kind == RESET:
            self._receive_reset(s, head)
        elif flags & CRITICAL:
            self._break(s, Reason.UNKNOWN_FLAG, "a frame has an unknown critical flag")
        elif kind == RESPONSE:
            self._receive_response(s, flags, head, body)
        elif kind == MESSAGE:
            self._receive_message(s, flags, head, body)
        else:
            self._receive_window(s, int.from_bytes(body, "big"))

    def _receive_request(self, flags: int, sid: int, head: bytes, body: bytes) -> None:
        if self.opens:
            raise self._fail("REQUEST from the side that opens no calls")
        if sid <= self._highest:
            raise self._fail(f"REQUEST on stream {sid}, not above {self._highest}")
        if self.peer_drained:
            raise self._fail("REQUEST after DRAINED")
        self._highest = sid
        if flags & CRITICAL:
            self._refuse(sid, Reason.UNKNOWN_FLAG)
            return
        refused, most = len(self._refusals), self._max_streams
        if len(self._streams) + refused >= most or self.held + refused >= 2 * most:  # W-END-9
            self._refuse(sid, Reason.QUEUE_FULL)
            return
        probe = Stream()  # the owner's object is made for a call that is let in
        probe.bits, probe.recv_window = 0, self._window
        wrong = self._account(probe, REQUEST, flags, head, body)
        if wrong is not None:
            self._refuse(sid, wrong[0])  # the reason is the peer's to act on: a refusal carries no text
            return
        self.held += 1
        self._streams[sid] = s = self._owner.accept()
        s.id = sid
        s.bits = probe.bits | HELD
        s.send_credit = self._peer_window
        s.recv_window = probe.recv_window
        s.recv_pending = 0
        if probe.bits & IN_MESSAGE:
            s.msg_total, s.msg_got = probe.msg_total, probe.msg_got
        s.on_request(flags, head, body)

    def _receive_response(self, s: Stream, flags: int, head: bytes, body: bytes) -> None:
        if not self.opens:
            self._break(s, Reason.STREAM_PROTOCOL, "RESPONSE from the side that opened the call")
            return
        if s.bits & GOT_RESPONSE and not flags & END:
            self._break(s, Reason.STREAM_PROTOCOL, "a second RESPONSE without END")
            return
        wrong = self._account(s, RESPONSE, flags, head, body)
        if wrong is not None:
            self._break(s, *wrong)
            return
        s.bits |= GOT_RESPONSE
        if flags & END:
            self._remove(s)  # also this side's direction: what it still had to say is void
        s.on_response(flags, head, body)

    def _receive_message(self, s: Stream, flags: int, head: bytes, body: bytes) -> None:
        if s.bits & REMOTE_END:
            self._break(s, Reason.STREAM_PROTOCOL, "MESSAGE after END")
            return
        if self.opens and flags & END:
            self._break(s, Reason.STREAM_PROTOCOL, "a server ends by RESPONSE, not by MESSAGE")
            return
        wrong = self._account(s, MESSAGE, flags, head, body)
        if wrong is not None:
            self._break(s, *wrong)
            return
        s.on_message(flags, head, body)

    def _account(self, s: Stream, kind: int, flags: int, head: bytes, body: bytes) -> tuple[Reason, str] | None:
        """Checks a frame's part of a message against credit and announced length, and books it.

        Returns what is wrong.
        """
        bad = Reason.STREAM_PROTOCOL
        last = kind == RESPONSE and flags & END
        if not flags & MSG:
            if body:
                return bad, "a body without MSG"
            if flags & MORE:
                return bad, "MORE without MSG"
            if s.bits & IN_MESSAGE and not last:
                return bad, "a message was left unfinished"
            s.bits &= ~IN_MESSAGE
        else:
            if flags & MORE and flags & END:
                return bad, "MORE and END on one frame"
            s.recv_window -= FRAME_COST + len(body)
            if s.recv_window < 0:
                return bad, "more than the granted credit"
            if s.bits & IN_MESSAGE:
                if kind != MESSAGE and not last:
                    return bad, "a message was left unfinished"
                s.msg_got += len(body)
                if s.msg_got > s.msg_total or (not flags & MORE and s.msg_got != s.msg_total):
                    return bad, "fragments do not sum to total_length"
                if not flags & MORE:
                    s.bits &= ~IN_MESSAGE
            elif flags & MORE:
                try:
                    total = scan_total(head)
                except HeadError:
                    return Reason.BAD_HEAD, "the head does not parse"
                if total == 0 or len(body) > total:
                    return bad, "a first fragment that does not fit its total_length"
                s.msg_total, s.msg_got = total, len(body)
                s.bits |= IN_MESSAGE
        if flags & END:
            s.bits |= REMOTE_END
        return None

    def _receive_window(self, s: Stream, grant: int) -> None:
        if grant == 0 or s.send_credit + grant > MAX_CREDIT:
            self._break(s, Reason.STREAM_PROTOCOL, "a WINDOW of 0, or credit above 2^31-1")
            return
        s.send_credit += grant
        if s.bits & BLOCKED:
            s.on_credit(self._resume(s))

    def _receive_reset(self, s: Stream, head: bytes) -> None:
        try:
            reset = ResetHead.parse(head)
        except HeadError:
            reset = ResetHead(refuse(Reason.STREAM_PROTOCOL, self.origin, "a RESET whose head does not parse"))
        self._remove(s)
        s.on_reset(reset.status, reset.http2_code)

    def _break(self, s: Stream, reason: Reason, why: str) -> None:
        """Ends a stream whose peer broke a rule, and that stream alone (W-CONN-2)."""
        status = refuse(reason, self.origin, why)
        status.disposition = Disposition.UNKNOWN  # bytes of it may be with a handler already
        self.reset(s, status)
        s.on_failed(status)

    def _refuse(self, sid: int, reason: Reason) -> None:
        """Answers a REQUEST that is not let in.

        Refusals are encoded when they are taken, so that a peer that cancels before it reads does not make the queue
        grow (W-FLOW-10, W-FLOW-13).
        """
        if len(self._refusals) >= self._max_streams:
            raise self._end_by(GOAWAY_ENHANCE_YOUR_CALM, "refusals are not read")
        if not self._refusals:
            self._wake()
        self._refusals[sid] = reason
