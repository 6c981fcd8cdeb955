"""Messages from fragments, and plain bytes from compressed ones, within their bounds."""

from __future__ import annotations

import gzip
import zlib

import pytest

from octomesh._wire.compression import EncodingError, compress, compressed_limit, decompress
from octomesh._wire.conn import Connection
from octomesh._wire.frame import COMPRESSED, HEADER, MESSAGE, MORE, MSG, PREFIX, REQUEST
from octomesh._wire.heads import total_length_piece
from octomesh._wire.inbox import Budget, Inbox
from octomesh._wire.status import Reason

from .calls import Call, callee


class Open:
    """A stream on which messages arrive."""

    def __init__(self, limit: int = 1 << 20, budget: int = 1 << 30) -> None:
        self.conn, owner = callee()
        self.conn.feed(HEADER.pack(PREFIX | REQUEST, 0, 0, 1, 0))
        self.call: Call = owner.calls[0]
        self.budget = Budget(budget)
        self.inbox = Inbox(limit, self.budget)

    def frame(self, flags: int, body: bytes, total: int = 0) -> int:
        head = total_length_piece(total)
        self.conn.feed(HEADER.pack(PREFIX | MESSAGE, flags, len(head), 1, len(body)) + head + body)
        assert self.call.status is None
        return self.inbox.add(self.conn, self.call, self.call.frames[-1][1], self.call.frames[-1][3])

    def take(self) -> tuple[bytes, bool]:
        return self.inbox.take(self.conn, self.call)


def test_messages_come_in_their_order() -> None:
    s = Open()
    assert s.frame(MSG, b"one") == 0
    assert s.frame(MSG | MORE | COMPRESSED, b"tw", 3) == 0
    assert s.inbox.assembling
    assert s.frame(MSG, b"o") == 0
    assert not s.inbox.assembling
    assert s.frame(MSG, b"") == 0
    assert [s.take() for _ in range(3)] == [(b"one", False), (b"two", True), (b"", False)]
    with pytest.raises(IndexError):
        s.take()


def test_the_limit_is_looked_at_before_memory_is_taken() -> None:
    s = Open(limit=100)
    assert s.frame(MSG, bytes(101)) == Reason.MESSAGE_TOO_LARGE
    assert s.frame(MSG | MORE, b"a", 101) == Reason.MESSAGE_TOO_LARGE
    assert not s.inbox.assembling
    assert s.budget.left == 1 << 30


def test_a_compressed_message_may_be_a_little_over() -> None:
    assert Open(limit=100).frame(MSG | COMPRESSED, bytes(compressed_limit(100))) == 0
    assert Open(limit=100).frame(MSG | COMPRESSED, bytes(compressed_limit(100) + 1)) == Reason.MESSAGE_TOO_LARGE
    noise = zlib.compress(bytes(range(256)) * 40)  # does not get smaller
    assert len(compress(noise)) <= compressed_limit(len(noise))


def test_the_budget_is_given_back_when_a_message_is_taken() -> None:
    s = Open(budget=1000)
    s.frame(MSG | MORE, b"a", 600)
    assert s.budget.left == 400
    s.frame(MSG, bytes(599))
    assert s.budget.left == 400
    assert s.frame(MSG | MORE, b"a", 401) == Reason.OVERLOADED
    s.take()
    assert s.budget.left == 1000


def test_the_budget_is_given_back_when_a_call_ends() -> None:
    s = Open(budget=1000)
    s.frame(MSG | MORE, b"a", 300)
    s.frame(MSG, bytes(299))
    s.frame(MSG | MORE, b"a", 300)
    assert s.budget.left == 400
    s.inbox.drop()
    s.inbox.drop()
    assert s.budget.left == 1000
    assert not s.inbox.waiting


def test_a_message_larger_than_the_window_does_not_wait_for_itself() -> None:
    s = Open()
    size, piece = 1 << 20, 60_000
    for at in range(0, size, piece):
        n = min(piece, size - at)
        assert s.frame(MSG | (MORE if at + n < size else 0), bytes(n), 0 if at else size) == 0
    assert len(s.take()[0]) == size


def test_a_slow_application_stops_its_sender() -> None:
    s = Open(limit=1 << 20)
    window = s.call.recv_window
    s.frame(MSG, b"waits")
    for at in range(0, 3 * 60_000, 60_000):
        s.frame(MSG | MORE, bytes(60_000), 0 if at else 1 << 20)
    s.conn.take()
    assert s.call.recv_window == window - 3 * 60_064 - 69, "nothing goes back while a message waits"
    s.take()
    assert s.call.recv_window == window


def test_gzip_there_and_back() -> None:
    for plain in (b"", b"a", bytes(100_000), bytes(range(256)) * 100):
        assert decompress(compress(plain), b"gzip", len(plain)) == plain
        assert decompress(gzip.compress(plain), b"gzip", len(plain)) == plain
    two = gzip.compress(b"one ") + gzip.compress(b"two")
    assert decompress(two, b"gzip", 100) == b"one two"


@pytest.mark.parametrize(
    ("data", "encoding", "reason"),
    [
        (compress(bytes(1001)), b"gzip", Reason.MESSAGE_TOO_LARGE),
        (gzip.compress(bytes(600)) * 2, b"gzip", Reason.MESSAGE_TOO_LARGE),
        (compress(bytes(10))[:-1], b"gzip", Reason.BAD_MESSAGE),
        (b"", b"gzip", Reason.BAD_MESSAGE),
        (b"no gzip", b"gzip", Reason.BAD_MESSAGE),
        (compress(b"a") + b"tail", b"gzip", Reason.BAD_MESSAGE),
        (b"a", b"identity", Reason.BAD_MESSAGE),
        (b"a", b"", Reason.BAD_MESSAGE),
        (b"a", b"zstd", Reason.UNKNOWN_ENCODING),
    ],
)
def test_what_does_not_decompress(data: bytes, encoding: bytes, reason: Reason) -> None:
    with pytest.raises(EncodingError) as e:
        decompress(data, encoding, 1000)
    assert e.value.reason == reason


def test_a_bomb_costs_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self._real = real(bits)

        def decompress(self, data: bytes, limit: int) -> bytes:
            asked.append(limit)
            return self._real.decompress(data, limit)

        @property
        def eof(self) -> bool:
            return self._real.eof

        @property
        def unused_data(self) -> bytes:
            return self._real.unused_data

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(EncodingError, match="over 1000 bytes"):
        decompress(compress(bytes(10_000_000)), b"gzip", 1000)
    assert asked == [1001]


def test_nothing_goes_back_on_a_closed_stream() -> None:
    s = Open()
    s.frame(MSG, bytes(60_000))
    s.frame(MSG, bytes(60_000))
    s.frame(MSG, bytes(60_000))
    s.conn.abort()
    s.conn.take()
    for _ in range(3):
        s.take()
    assert s.conn.take() == b""
    assert isinstance(s.conn, Connection)
