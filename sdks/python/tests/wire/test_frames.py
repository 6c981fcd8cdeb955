"""Frames: headers, valid and not, and streams of bytes however they are cut (frame.json, malformed.json)."""

from __future__ import annotations

from typing import Any

import pytest

import vectors
from octomesh._wire.conn import WireError
from octomesh._wire.frame import HEADER, PREFIX, FrameError, check_header, frame_cost, type_name
from octomesh._wire.hello import GOAWAY_PROTOCOL_ERROR

from .calls import Call, Recorder, callee


@vectors.each("frame.json")
def test_header(given: dict[str, Any], want: dict[str, Any]) -> None:
    b = bytes.fromhex(given["header"])
    word, flags, head_len, stream, body_len = HEADER.unpack(b)
    if want["valid"] or want.get("error") == "stream":
        check_header(word, body_len, given["max_frame_body"])
    if want.get("error") == "stream":  # a header alone does not show it
        conn, _ = callee()
        with pytest.raises(WireError):
            conn.feed(b + bytes(head_len + body_len))
        return
    if not want["valid"]:
        with pytest.raises(FrameError) as e:
            check_header(word, body_len, given["max_frame_body"])
        assert e.value.rule == want["error"]
        if given["max_frame_body"] == 1 << 16:  # reported without waiting for the rest
            conn, _ = callee()
            with pytest.raises(WireError):
                conn.feed(b)
        return
    assert (word & 0xFF, flags, head_len, stream, body_len) == tuple(
        want[k] for k in ("type", "flags", "head_len", "stream", "body_len")
    )
    if want["name"] != "UNKNOWN":
        assert type_name(word & 0xFF) == want["name"]
        assert frame_cost(flags, body_len) == want["cost"]
    if b[5] == 0:
        assert HEADER.pack(PREFIX | want["type"], flags, head_len, stream, body_len) == b


class Reading(Recorder):
    """What becomes of a stream of bytes, as malformed.json has it."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.delivered: list[dict[str, int]] = []
        conn, _ = callee()
        conn._owner = self
        self.end: dict[str, int] | None = None
        for piece in pieces:
            try:
                conn.feed(piece)
            except WireError as e:
                assert self.end is None, "a connection ends once"
                self.end = {"code": e.code}
                if e.code == GOAWAY_PROTOCOL_ERROR:
                    self.end["offset"] = e.offset
                assert conn.closed
        self.left = len(conn._partial)
        self.reset = [
            {"stream": c.id, "code": c.status.code, "reason": int(c.status.reason)}
            for c in self.calls
            if c.status is not None and isinstance(c, Noting) and c.failed
        ]

    def accept(self) -> Call:
        return Noting(self)

    def result(self) -> dict[str, Any]:
        return {"delivered": self.delivered, "reset": self.reset, "left": self.left, "end": self.end}


class Noting(Call):
    __slots__ = ("failed", "reading")

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.reading = reading
        self.failed = False

    def on_request(self, flags: int, head: bytes, body: bytes) -> None:
        self.reading.delivered.append({"type": 16, "stream": self.id})

    def on_message(self, flags: int, head: bytes, body: bytes) -> None:
        self.reading.delivered.append({"type": 18, "stream": self.id})

    def on_reset(self, status: Any, http2_code: int) -> None:
        self.reading.delivered.append({"type": 20, "stream": self.id})

    def on_failed(self, status: Any) -> None:
        self.failed = True
        self.status = status


def whole_of(delivered: list[dict[str, int]]) -> list[dict[str, int]]:
    """Those of the delivered frames that are about calls: the others come by other ways."""
    return [d for d in delivered if d["type"] >= 16]


@vectors.each("malformed.json")
def test_however_it_is_cut(given: dict[str, Any], want: dict[str, Any]) -> None:
    b = vectors.from_chunks(given["bytes"])
    expected = {**want, "delivered": whole_of(want["delivered"])}
    assert Reading([b]).result() == expected
    assert Reading([b[i : i + 1] for i in range(len(b))]).result() == expected
    if len(b) <= 4096:
        for cut in range(len(b)):
            assert Reading([b[:cut], b[cut:]]).result() == expected, f"cut at {cut}"


@vectors.each("malformed.json")
def test_other_words_are_delivered(given: dict[str, Any], want: dict[str, Any]) -> None:
    """Pongs, goodbyes and drains, in their number."""
    reading = Reading([vectors.from_chunks(given["bytes"])])
    assert len(reading.said) == sum(d["type"] < 16 and d["type"] != 3 for d in want["delivered"])
