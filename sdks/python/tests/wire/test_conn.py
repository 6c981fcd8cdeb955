"""What owners of connections rely on beside the vectors: hooks that raise, late handlers, misuse, memory."""

from __future__ import annotations

import pytest

from octomesh._wire.conn import Connection, NotOpenError, StreamLimitError, WireError
from octomesh._wire.frame import (
    DRAINED,
    END,
    HEADER,
    MESSAGE,
    MORE,
    MSG,
    PREFIX,
    REQUEST,
    RESET,
    RESPONSE,
    WINDOW,
)
from octomesh._wire.heads import ResetHead, total_length_piece
from octomesh._wire.hello import (
    GOAWAY_DRAINING,
    GOAWAY_ENHANCE_YOUR_CALM,
    ROLE_CALL,
    ROLE_SERVE,
    GoAway,
    Hello,
    Welcome,
)
from octomesh._wire.limits import MAX_HEAD, Limits
from octomesh._wire.status import Reason, Status, refuse

from .calls import Call, callee, opener


def frame(kind: int, flags: int, sid: int, head: bytes = b"", body: bytes = b"") -> bytes:
    return HEADER.pack(PREFIX | kind, flags, len(head), sid, len(body)) + head + body


def request(sid: int, body: bytes = b"q") -> bytes:
    return frame(REQUEST, MSG | END, sid, b"", body)


def join(a: Connection, b: Connection) -> None:
    """Carries what two sides say until both are silent."""
    while True:
        there, back = a.take(), b.take()
        if not there and not back:
            return
        b.feed(there)
        a.feed(back)


def test_what_a_hook_raises_costs_no_frame() -> None:
    conn, owner = callee()

    class Broken(Call):
        def on_request(self, flags: int, head: bytes, body: bytes) -> None:
            super().on_request(flags, head, body)
            if body == b"bad":
                raise ZeroDivisionError

    owner.accept = lambda: Broken(owner)  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        conn.feed(request(1) + request(3, b"bad") + request(5) + request(7)[:10])
    conn.feed(request(7)[10:])
    assert [c.data for c in owner.calls] == [b"q", b"bad", b"q", b"q"]
    with pytest.raises(ZeroDivisionError):
        conn.feed(frame(REQUEST, 0, 9) + frame(REQUEST, MSG, 11, b"", b"bad") + request(13))
    conn.feed(b"")
    assert [c.id for c in owner.calls] == [1, 3, 5, 7, 9, 11, 13]


def test_a_handler_that_returns_late_counts_until_then() -> None:
    conn, owner = callee(Limits(max_streams=2))
    conn.feed(request(1) + request(3) + frame(RESET, 0, 1) + request(5) + frame(RESET, 0, 3) + request(7))
    assert [c.id for c in owner.calls] == [1, 3, 5, 7], "as many handlers of reset streams as there may be open ones"
    conn.feed(frame(RESET, 0, 5) + request(9))
    assert [c.id for c in owner.calls] == [1, 3, 5, 7]
    assert b"\x00\x00\x00\x09" in conn.take(), "refused"
    conn.release(owner.calls[0])
    conn.release(owner.calls[0])
    conn.feed(request(11))
    assert conn.held == 4
    assert [c.id for c in owner.calls] == [1, 3, 5, 7, 11]


def test_a_handler_that_has_returned_is_forgotten_with_its_stream() -> None:
    """Its answer waits for credit when the caller goes away."""
    conn, owner = callee()
    conn.feed(request(1))
    call = owner.calls[0]
    assert not conn.send(call, RESPONSE, MSG | END, b"", bytes(1 << 20))
    conn.release(call)
    assert conn.held == 1
    conn.feed(frame(RESET, 0, 1, ResetHead(refuse(Reason.CANCELLED, 5)).encode()))
    assert conn.held == 0
    assert call.rest == (0, 0, b"", b""), "the answer's memory is given back"


def test_a_long_answer_ends_its_stream_when_credit_has_come() -> None:
    server, served = callee()
    client, owner = opener()
    call = Call(owner)
    assert client.open(call, MSG | END, b"", b"q")
    join(client, server)
    body = bytes(range(256)) * 8192
    assert not server.send(served.calls[0], RESPONSE, MSG | END, b"\x30\x01", body)
    with pytest.raises(RuntimeError):
        server.send(served.calls[0], MESSAGE, MSG, b"", b"early")
    while not call.closed:
        join(client, server)
        if not call.closed:
            client.consume(call, 131_072)
    assert call.data == body
    assert call.frames[-1][2] == b"\x30\x01", "the head rides on the last fragment"
    assert served.calls[0].credits[-1]
    assert not any(served.calls[0].credits[:-1])
    assert server.held == server.open_streams == client.open_streams == 0


def test_what_is_sent_on_a_closed_stream_is_dropped() -> None:
    conn, owner = opener()
    call = Call(owner)
    conn.open(call, 0, b"")
    conn.take()
    conn.feed(frame(RESPONSE, END, 1))
    assert conn.send(call, MESSAGE, MSG, b"", b"late")
    conn.reset(call, Status(1))
    conn.consume(call, 1 << 20)
    assert conn.take() == b""


def test_an_answer_voids_a_request_that_waits_for_credit() -> None:
    conn, owner = opener()
    call = Call(owner)
    assert not conn.open(call, MSG | END, b"", bytes(1 << 20))
    conn.take()
    conn.feed(frame(RESPONSE, MSG | END, 1, b"", b"no"))
    assert call.closed
    assert not call.blocked
    assert call.rest == (0, 0, b"", b"")
    conn.feed(frame(WINDOW, 0, 1, b"", (1 << 20).to_bytes(4, "big")))
    assert conn.take() == b""


def test_a_head_that_does_not_fit_changes_nothing() -> None:
    conn, owner = opener()
    call = Call(owner)
    for flags, body in ((MSG | END, b"a"), (0, b"")):
        with pytest.raises(ValueError, match="does not fit a frame"):
            conn.open(call, flags, bytes(MAX_HEAD + 1), body)
    assert conn.open_streams == 0
    assert conn.take() == b""
    conn.open(call, 0, bytes(MAX_HEAD))
    assert call.id == 1
    credit = call.send_credit
    for body in (b"a", bytes(1 << 20)):
        with pytest.raises(ValueError, match="does not fit a frame"):
            conn.send(call, MESSAGE, MSG, bytes(MAX_HEAD + 1), body)
    assert call.send_credit == credit


def test_a_head_without_room_for_the_length_goes_alone() -> None:
    client, owner = opener(peer=Limits(stream_window=1 << 20))
    server, served = callee(Limits(stream_window=1 << 20))
    head = b"\x1a\xfc\xff\x03" + bytes(MAX_HEAD - 4)
    body = bytes(200_000)
    call = Call(owner)
    assert client.open(call, MSG | END, head, body)
    join(client, server)
    got = served.calls[0]
    assert got.frames[0] == ("request", 0, head, b"")
    assert got.data == body
    assert got.remote_ended
    assert server.send(got, RESPONSE, MSG, head, body)
    server.send(got, RESPONSE, MSG | END, b"\x30\x01", body)
    for _ in range(5):
        join(client, server)
        client.consume(call, 200_000)
    assert call.closed
    assert call.status is None
    assert call.data == body + body
    assert [f[0] for f in call.frames].count("response") == 2


def test_no_calls_where_none_may_go() -> None:
    conn, owner = opener(peer=Limits(max_streams=1))
    with pytest.raises(NotOpenError):
        Connection(0, owner).open(Call(owner), 0, b"")
    conn.open(Call(owner), 0, b"")
    assert (conn.room, conn.takes_calls) == (0, True)
    with pytest.raises(StreamLimitError):
        conn.open(Call(owner), 0, b"")
    conn.drained()
    assert (conn.room, conn.takes_calls) == (0, False)
    with pytest.raises(NotOpenError):
        conn.open(Call(owner), 0, b"")
    callees, _ = callee()
    with pytest.raises(NotOpenError):
        callees.open(Call(owner), 0, b"")


def test_ids_run_out() -> None:
    conn, owner = opener()
    conn._next_id = 4_293_918_719
    conn.open(Call(owner), MSG | END, b"")
    assert conn.ids_exhausted
    assert (conn.room, conn.takes_calls) == (0, False)
    with pytest.raises(NotOpenError):
        conn.open(Call(owner), MSG | END, b"")


@pytest.mark.parametrize("role", [ROLE_CALL, ROLE_SERVE])
def test_handshake(role: int) -> None:
    (dialer, at_dialer), (acceptor, at_acceptor) = opener(), callee()
    dialer = Connection(0, at_dialer, Limits(max_streams=7))
    acceptor = Connection(1, at_acceptor, Limits(max_frame_body=100_000))
    dialer.hello(Hello(role=role, application=b"shop.web", targets=[b"a", b"b"], features=[b"x"]))
    assert not dialer.ready
    acceptor.feed(dialer.take())
    (hello,) = at_acceptor.said
    assert isinstance(hello, Hello)
    assert (hello.application, hello.targets, hello.features) == (b"shop.web", [b"a", b"b"], [b"x"])
    assert acceptor.peer.max_streams == 7
    acceptor.welcome(Welcome(instance=b"i-1"))
    dialer.feed(acceptor.take())
    (welcome,) = at_dialer.said
    assert isinstance(welcome, Welcome)
    assert (welcome.instance, welcome.version) == (b"i-1", 1)
    assert dialer.peer.max_frame_body == 100_000
    assert dialer.ready
    assert acceptor.ready
    assert dialer.opens == (role == ROLE_CALL)
    assert acceptor.opens == (role == ROLE_SERVE)
    opens, owner = (dialer, at_dialer) if dialer.opens else (acceptor, at_acceptor)
    opens.open(Call(owner), MSG | END, b"", b"q")
    join(dialer, acceptor)
    assert owner.calls[0].id == (1 if role == ROLE_CALL else 2)


def test_what_is_received_in_pieces_takes_little_time_and_memory() -> None:
    """A large body that comes in many reads is not copied once for each of them."""
    body = 8 << 20
    conn, owner = callee(Limits(max_frame_body=body))
    data = frame(REQUEST, MSG | END, 1, b"", bytes(body))
    held = set()
    for at in range(0, len(data), 4096):
        conn.feed(data[at : at + 4096])
        held.add(id(conn._partial))
    assert len(owner.calls[0].data) == body
    assert len(held) <= 2
    assert len(conn._partial) == 0


def test_a_body_over_the_limit_is_refused_before_it_comes() -> None:
    conn, owner = callee()
    with pytest.raises(WireError) as e:
        conn.feed(request(1) + HEADER.pack(PREFIX | REQUEST, MSG | END, 0, 3, (64 << 10) + 1))
    assert e.value.offset == 17
    assert len(owner.calls) == 1
    assert len(conn._partial) == 0
    conn.feed(bytes(100_000))
    assert len(conn._partial) == 0, "what comes after the error is discarded"


def test_a_connection_that_is_closed_by_a_hook_delivers_nothing_more() -> None:
    conn, owner = callee()

    class Ending(Call):
        def on_request(self, flags: int, head: bytes, body: bytes) -> None:
            super().on_request(flags, head, body)
            conn.end(GOAWAY_ENHANCE_YOUR_CALM, "enough")
            conn.abort()

    owner.accept = lambda: Ending(owner)  # type: ignore[method-assign]
    conn.feed(request(1) + request(3) + request(5)[:5])
    conn.feed(request(5)[5:])
    assert [c.id for c in owner.calls] == [1]
    assert conn.closed
    assert conn.open_streams == 0


def test_finish_from_a_hook() -> None:
    conn, owner = callee()

    class Finishing(Call):
        def on_request(self, flags: int, head: bytes, body: bytes) -> None:
            super().on_request(flags, head, body)
            conn.finish(GOAWAY_DRAINING)

    owner.accept = lambda: Finishing(owner)  # type: ignore[method-assign]
    conn.feed(request(1) + request(3))
    (call,) = owner.calls
    assert call.status is not None
    assert call.status.reason == Reason.PROXY_DRAINING
    assert conn.held == 1
    conn.release(call)
    assert conn.held == 0


def test_leaving_says_so_once() -> None:
    conn, _ = callee()
    conn.leave(GOAWAY_DRAINING, "restart")
    first = conn.take()
    conn.leave(GOAWAY_DRAINING)
    assert conn.take() == b""
    client, owner = opener()
    client.feed(first)
    (said,) = owner.said
    assert isinstance(said, GoAway)
    assert said.graceful
    assert said.message == b"restart"
    assert client.peer_leaves
    assert client.takes_calls, "until it has a successor it may go on"
    client.drained()
    client.drained()
    conn.feed(client.take())
    assert conn.peer_drained
    assert conn.done
    assert client.done


def test_a_call_after_drained_ends_the_connection() -> None:
    conn, _ = callee()
    conn.feed(frame(DRAINED, 0, 0))
    with pytest.raises(WireError, match="REQUEST after DRAINED"):
        conn.feed(request(1))


def test_the_owner_is_told_of_output_once_per_take() -> None:
    conn, owner = opener()
    for _ in range(3):
        for _ in range(4):
            conn.open(Call(owner), MSG | END, b"", b"q")
        conn.take()
    assert owner.woken == 3
    assert conn.queued == 0
    conn.open(Call(owner), MSG | END, b"abc", b"q")
    assert conn.queued == 16 + 3 + 1


def test_ping_and_pong_go_first() -> None:
    conn, owner = opener()
    conn.open(Call(owner), MSG | END, b"", b"q")
    assert conn.ping(7)
    assert not conn.ping(8), "one is unanswered"
    conn.feed(frame(3, 0, 0, b"", (9).to_bytes(8, "big")))
    out = conn.take()
    assert [out[3], out[24 + 3], out[48 + 3]] == [4, 3, REQUEST]
    conn.feed(frame(4, 0, 0, b"", (7).to_bytes(8, "big")))
    assert owner.said == [7]
    assert conn.ping(8)


def test_resets_are_counted_between_ticks() -> None:
    conn, owner = callee(Limits(max_streams=1))

    def cancelled_calls(begin: int, n: int) -> None:
        for sid in range(begin, begin + 2 * n, 2):
            conn.feed(request(sid) + frame(RESET, 0, sid))
            conn.release(owner.calls[-1])

    cancelled_calls(1, 1000)
    conn.tick()
    cancelled_calls(2001, 1000)
    with pytest.raises(WireError) as e:
        cancelled_calls(4001, 1)
    assert e.value.code == GOAWAY_ENHANCE_YOUR_CALM


def test_a_reset_is_sent_also_where_its_details_are_too_long() -> None:
    conn, owner = callee()
    conn.feed(request(1))
    status = Status(5, details=bytes(70_000), message=b"m", retry_after_ms=9)
    conn.reset(owner.calls[0], status)
    client, clients = opener()
    call = Call(clients)
    client.open(call, MSG | END, b"", b"q")
    client.feed(conn.take())
    assert call.status is not None
    assert (call.status.code, call.status.retry_after_ms, call.status.details) == (5, 9, b"")


def test_fragments_are_followed_to_their_sum() -> None:
    conn, owner = callee()
    conn.feed(frame(REQUEST, MSG | MORE, 1, total_length_piece(5), b"abc"))
    call = owner.calls[0]
    assert call.receiving
    conn.feed(frame(MESSAGE, MSG | END, 1, b"", b"de"))
    assert not call.receiving
    assert call.remote_ended
    assert call.data == b"abcde"
    conn.feed(frame(REQUEST, MSG | MORE, 3, total_length_piece(5), b"abc") + frame(MESSAGE, MSG | END, 3, b"", b"d"))
    status = owner.calls[1].status
    assert status is not None
    assert status.reason == Reason.STREAM_PROTOCOL
