"""Frames: sixteen bytes, then a head, then a body (proto/spec/wire.md, Frame and Types).

Plain ints, since they are compared per frame.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

HEADER_SIZE: Final = 16
MAGIC: Final = 0x0C70
VERSION: Final = 1

HELLO: Final = 1
WELCOME: Final = 2
PING: Final = 3
PONG: Final = 4
GOAWAY: Final = 5
DRAINED: Final = 6
REQUEST: Final = 16
RESPONSE: Final = 17
MESSAGE: Final = 18
WINDOW: Final = 19
RESET: Final = 20

TYPE_NAMES: Final = {
    HELLO: "HELLO",
    WELCOME: "WELCOME",
    PING: "PING",
    PONG: "PONG",
    GOAWAY: "GOAWAY",
    DRAINED: "DRAINED",
    REQUEST: "REQUEST",
    RESPONSE: "RESPONSE",
    MESSAGE: "MESSAGE",
    WINDOW: "WINDOW",
    RESET: "RESET",
}

END: Final = 0x01
"""Half-close: the sender says nothing more on the stream."""
MORE: Final = 0x02
"""The message goes on in a later frame of the stream."""
COMPRESSED: Final = 0x04
"""The message is encoded as the head's message_encoding says."""
MSG: Final = 0x08
"""The frame carries a message or a part of one, even of 0 bytes."""
CRITICAL: Final = 0x80
"""Whoever does not know it must reset the stream; version 1 defines none."""

PREFIX: Final = MAGIC << 16 | VERSION << 8
"""A header's first four bytes as one number, less the type: one comparison sees magic, version and type."""

HEADER: Final = Struct(">IBxHII")
"""PREFIX | type, flags, head length, stream id, body length."""

FIXED_BODY: Final = {HELLO: 0, WELCOME: 0, PING: 8, PONG: 8, GOAWAY: 0, DRAINED: 0, WINDOW: 4, RESET: 0}
"""The only body length that a type may have, for those that have one (W-FRAME-6)."""


class FrameError(ValueError):
    """A broken framing rule: the connection cannot be trusted any more.

    `rule` is the first of magic, version, body_limit and body_length that the header breaks.
    """

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(text)
        self.rule = rule


def type_name(kind: int) -> str:
    """The name that the specification uses, or the number."""
    return TYPE_NAMES.get(kind) or f"type {kind}"


def check_header(word: int, body_len: int, max_body: int) -> None:
    """Checks what a header alone can show, in the order of W-FRAME-8: `word` is its first four bytes.

    Raises `FrameError`.
    """
    if word >> 16 != MAGIC:
        raise FrameError("magic", f"magic is {word >> 16:#06x}, want 0x0c70: the peer does not speak this protocol")
    if word >> 8 & 0xFF != VERSION:
        raise FrameError("version", f"frame version is {word >> 8 & 0xFF}, want 1")
    if body_len > max_body:
        raise FrameError("body_limit", f"frame body of {body_len} bytes is over the announced max_frame_body")
    if FIXED_BODY.get(word & 0xFF, body_len) != body_len:
        raise FrameError("body_length", f"frame body of {body_len} bytes does not fit the frame's type")


def frame_cost(flags: int, body_len: int) -> int:
    """What a frame takes of its stream's credit (W-FLOW-1)."""
    return 64 + body_len if flags & MSG else 0
