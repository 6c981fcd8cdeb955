"""Properties that hold for any input. OCTO_FUZZ_EXAMPLES asks for more of it, and for other input each time."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octo.wire.v1 import connection_pb2, head_pb2, status_pb2
from octomesh._wire.conn import ACCEPTOR, DIALER, Connection, WireError
from octomesh._wire.frame import END, HEADER, MESSAGE, MORE, MSG, PREFIX, REQUEST, RESPONSE
from octomesh._wire.heads import RequestHead, RequestHeads, ResetHead, ResponseHead
from octomesh._wire.hello import GoAway, Hello, Welcome
from octomesh._wire.inbox import Budget, Inbox
from octomesh._wire.limits import Limits
from octomesh._wire.proto import HeadError, bytes_field_always, uvarint
from octomesh._wire.status import Origin, Status
from octomesh._wire.stream import HELD

from .calls import Call, Recorder

EXAMPLES = int(os.environ.get("OCTO_FUZZ_EXAMPLES", "0"))
fuzz = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

# Frames: mostly sensible ones, on few streams, so that they meet; some bent, some bytes.

totals = st.integers(0, 300).map(lambda n: b"\x10" + uvarint(n))
heads = st.one_of(st.just(b""), totals, st.binary(max_size=12))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([3, 4, 5, 6, 16, 16, 16, 17, 17, 18, 18, 18, 19, 20, 1, 2, 99]))
    flags = draw(st.sampled_from([0, END, MSG, MSG, MSG | END, MSG | END, MSG | MORE, 0x88, 0x48, 0x0C, MORE]))
    sid = draw(st.sampled_from([0, 1, 3, 5, 7, 2])) if kind >= 16 else draw(st.sampled_from([0, 0, 0, 1]))
    body = draw(st.binary(max_size=200))
    if kind in (3, 4):
        body = bytes(8)
    elif kind == 19:
        body = draw(st.sampled_from([b"\0\0\0\1", b"\0\1\0\0", bytes(4), b"\xff" * 4]))
    elif kind < 16 or kind == 20:
        body = b""
    head = draw(heads)
    return HEADER.pack(PREFIX | kind, flags, len(head), sid, len(body)) + head + body


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """What a peer sends."""
    b = b"".join(draw(st.lists(frames(), max_size=20)))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2)):
        if at < len(b):
            b = b[:at] + bytes((value,)) + b[at + 1 :]
    return b + draw(st.binary(max_size=20))


sides = st.sampled_from([DIALER, ACCEPTOR])


class Slow(Connection):
    """Goes the long way with every frame, and with all bytes at once."""

    __slots__ = ("pending",)

    pending: bytes

    def feed(self, data: bytes) -> None:
        b = self.pending + data
        while len(b) >= 16 and not self.closed:
            word, flags, head_len, sid, body_len = HEADER.unpack_from(b)
            self._check(word, body_len)
            end = 16 + head_len + body_len
            if end > len(b):
                break
            frame, b = b[16:end], b[end:]
            self._receive(word & 0xFF, flags, sid, frame[:head_len], frame[head_len:])
            self._offset += end
        self.pending = b


def make(kind: type[Connection], side: int, role: int) -> tuple[Connection, Recorder]:
    owner = Recorder()
    conn = kind(side, owner, Limits(max_streams=3), Origin.SERVER_SDK)
    conn.resume(role)
    if isinstance(conn, Slow):
        conn.pending = b""
    if conn.opens:
        for body in (b"a", b"b", bytes(300_000)):
            conn.open(Call(owner), MSG | END, b"", body)
    return conn, owner


def outcome(conn: Connection, owner: Recorder, pieces: list[bytes]) -> Any:
    error = None
    for piece in pieces:
        try:
            conn.feed(piece)
        except WireError as e:
            error = str(e), e.offset
    calls = [(c.id, c.frames, c.credits, c.status, c.bits & HELD, still_open(c)) for c in owner.calls]
    state = [conn.held, conn.open_streams, conn.closed, conn.room, conn.peer_drained, conn.peer_leaves]
    return error, calls, owner.said, state, conn.take()


def still_open(c: Call) -> Any:
    return None if c.closed else (c.bits, c.recv_window, c.send_credit)


def cut(b: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(b), *(n % (len(b) + 1) for n in at)})
    return [b[x:y] for x, y in pairwise(edges)] or [b""]


@fuzz
@given(streams(), st.lists(st.integers(0, 4000), max_size=6), sides, st.sampled_from([1, 2]))
def test_the_short_way_and_the_long_are_one(b: bytes, cuts: list[int], side: int, role: int) -> None:
    """However the bytes are cut, and whichever way a frame takes, the same comes of them."""
    whole = outcome(*make(Connection, side, role), [b])
    assert outcome(*make(Connection, side, role), cut(b, cuts)) == whole
    assert outcome(*make(Slow, side, role), [b]) == whole


# Heads: what this package takes the protobuf library takes for the same.

KINDS: list[tuple[Any, type[Message]]] = [
    (RequestHead, head_pb2.RequestHead),
    (ResponseHead, head_pb2.ResponseHead),
    (ResetHead, head_pb2.Reset),
    (Status, status_pb2.Status),
    (Hello, connection_pb2.Hello),
    (Welcome, connection_pb2.Welcome),
    (GoAway, connection_pb2.GoAway),
]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Fields of any number and wire type, some of them nested."""
    out = b""
    for number in draw(st.lists(st.one_of(st.integers(1, 21), st.integers(99, 108)), max_size=6)):
        kind = draw(st.sampled_from([0, 0, 1, 2, 2, 2, 5]))
        out += uvarint(number << 3 | kind)
        if kind == 0:
            out += uvarint(draw(st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))))
        elif kind == 2:
            inner = draw(
                st.one_of(st.binary(max_size=6), st.binary(max_size=4).map(lambda v: bytes_field_always(1, v)))
            )
            out += uvarint(len(inner)) + inner
        else:
            out += draw(st.binary(min_size=8 if kind == 1 else 4, max_size=8 if kind == 1 else 4))
    return out + draw(st.sampled_from([b"", b"", b"", b"\x08", b"\x0a\xff", b"\x80", b"\x0b", b"\0"]))


@fuzz
@given(st.sampled_from(KINDS), st.one_of(messages(), st.binary(max_size=40)))
def test_heads_are_read_as_protobuf_reads_them(kinds: tuple[Any, type[Message]], b: bytes) -> None:
    ours, theirs = kinds
    try:
        head = ours.parse(b)
    except HeadError:
        return
    want = theirs()
    try:
        want.ParseFromString(b)
    except DecodeError as e:
        raise AssertionError(f"{b.hex()} is taken by us only") from e
    again = theirs()
    again.ParseFromString(head.encode())
    if ours in (RequestHead, ResponseHead):  # hop fields and unknown ones are not written again
        for name in ("service", "method", "metadata", "trailers", "message_encoding", "content_type", "total_length"):
            if hasattr(want, name):
                assert getattr(again, name) == getattr(want, name)
        return
    for m in (want, again):
        m.DiscardUnknownFields()
        alike(m)
    assert again == want


def alike(m: Message) -> None:
    """An unknown disposition counts as UNKNOWN (E-DISP-1); an empty message and none say the same."""
    for name in ("limits", "status"):
        if name in m.DESCRIPTOR.fields_by_name and not getattr(m, name).ByteSize():
            m.ClearField(name)
    status = getattr(m, "status", m)
    if isinstance(status, status_pb2.Status) and status.disposition not in (0, 1, 2):
        status.disposition = status_pb2.DISPOSITION_UNKNOWN


trace = st.integers(1, 5).map(lambda n: b"00-%032x-%016x-01" % (n, n))
pieces = st.one_of(
    trace.map(lambda t: b"B7" + t),
    trace.map(lambda t: b"\xba\x067" + t),
    st.sampled_from(
        [
            b"\x1a\x01t",
            b"\x22\x01s",
            b"\x30\x01",
            b"\x3a\x39B7",
            b"\x1a\x3a\xba\x067",
            b"\x42\x01x",
            b"B7",
            b"\xba\x067",
        ]
    ),
    st.integers(0, 9).map(lambda n: b"\t" + n.to_bytes(8, "little")),
)


@fuzz
@given(st.lists(st.lists(pieces, max_size=6), min_size=1, max_size=12))
def test_kept_request_heads_are_what_is_read(all_pieces: list[list[bytes]]) -> None:
    heads = RequestHeads()
    for parts in all_pieces * 2:
        b = b"".join(parts)
        try:
            plain: RequestHead | None = RequestHead.parse(b)
        except HeadError:
            plain = None
        try:
            timeout, traceparent, h = heads.parse(b)
        except HeadError:
            assert plain is None
            continue
        assert plain is not None
        assert (timeout, traceparent) == (plain.timeout_us, plain.traceparent)
        differing = {n for n in RequestHead.__annotations__ if getattr(h, n) != getattr(plain, n)}
        assert differing <= {"timeout_us", "traceparent"}


# Two ends: what one sends the other gets, whatever the sizes, windows and cuts.


class Side:
    """An end that assembles what it gets and takes it at once or later."""

    def __init__(self, side: int, limits: Limits) -> None:
        self.owner = Recorder()
        self.conn = Connection(side, self.owner, limits, Origin.CLIENT_SDK)
        self.got: dict[int, list[bytes]] = {}
        self.inboxes: dict[int, Inbox] = {}
        self.seen: dict[int, int] = {}
        self.budget = Budget()

    def collect(self) -> None:
        for call in self.owner.calls:
            inbox = self.inboxes.setdefault(call.id, Inbox(1 << 24, self.budget))
            for _, flags, _, body in call.frames[self.seen.get(call.id, 0) :]:
                if flags & MSG:
                    assert inbox.add(self.conn, call, flags, body) == 0
            self.seen[call.id] = len(call.frames)

    def take(self) -> None:
        for call in self.owner.calls:
            inbox = self.inboxes[call.id]
            while inbox.waiting:
                self.got.setdefault(call.id, []).append(inbox.take(self.conn, call)[0])


sizes = st.one_of(st.integers(0, 100), st.integers(60_000, 70_000), st.integers(120_000, 400_000))


@fuzz
@given(
    st.lists(st.lists(sizes, min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from([0, 131_200, 200_000]),
    st.sampled_from([0, 100_000]),
    st.lists(st.integers(0, 1 << 20), max_size=4),
)
def test_what_one_side_sends_the_other_gets(
    calls: list[list[int]], window: int, body_limit: int, cuts: list[int]
) -> None:
    client = Side(DIALER, Limits(stream_window=window))
    server = Side(ACCEPTOR, Limits(stream_window=window, max_frame_body=body_limit))
    client.conn.resume(1, server.conn.local)
    server.conn.resume(1, client.conn.local)
    sent: dict[int, list[bytes]] = {}
    waiting: list[tuple[Call, list[bytes]]] = []
    for lengths in calls:
        messages = [bytes((n % 251,)) * n for n in lengths]
        call = Call(client.owner)
        client.conn.open(call, 0, b"\x2a\x01m")
        sent[call.id] = messages
        waiting.append((call, list(messages)))
    answered: set[int] = set()
    for turn in range(400):
        for call, messages in waiting:
            if messages and not call.blocked:
                message = messages.pop(0)
                client.conn.send(call, MESSAGE, MSG if messages else MSG | END, b"", message)
        for call in server.owner.calls:
            if call.remote_ended and call.id not in answered and len(server.got.get(call.id, [])) == len(sent[call.id]):
                answered.add(call.id)
                server.conn.send(call, RESPONSE, MSG | END, b"\x30\x01", b"".join(server.got[call.id]))
        out, back = client.conn.take(), server.conn.take()
        for piece in cut(out, cuts):
            server.conn.feed(piece)
        for piece in cut(back, cuts):
            client.conn.feed(piece)
        for side in (client, server):
            side.collect()
            if turn % 2:
                side.take()
        if not client.conn.open_streams and not client.conn.queued:
            break
    client.take()
    assert server.got == sent
    assert client.got == {sid: [b"".join(messages)] for sid, messages in sent.items()}
    assert server.conn.held == server.conn.open_streams == 0
    assert client.budget.left == server.budget.left == Budget().left


def test_requests_of_the_fuzz_are_let_in() -> None:
    """The frames above are such that calls are opened at all."""
    conn, owner = make(Connection, ACCEPTOR, 1)
    conn.feed(HEADER.pack(PREFIX | REQUEST, MSG | END, 0, 1, 1) + b"x")
    assert len(owner.calls) == 1
