"""What a side accepts from the other: octo.wire.v1.Limits (W-HAND-7), and the protocol's own bounds.

Bytes, unless said otherwise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from octomesh._wire.proto import HeadError, Piece, fields, uint_field

DEFAULT_MAX_STREAMS: Final = 1024
DEFAULT_STREAM_WINDOW: Final = 256 << 10
MIN_FRAME_BODY: Final = 64 << 10
"""Everybody accepts this much."""
MAX_FRAME_BODY: Final = 536_870_911
PREFERRED_FRAGMENT: Final = 60 << 10
"""Leaves room for a header and a head beside it in 64 KiB (W-FRAME-11)."""
FRAME_COST: Final = 64
"""The part of a MSG frame's cost that does not depend on its body (W-FLOW-1)."""
MAX_CREDIT: Final = (1 << 31) - 1
MAX_HEAD: Final = (1 << 16) - 1
"""The longest head that a header can announce."""
MAX_SDK_HEAD: Final = 61_440
"""The longest head that an SDK sends (W-HEAD-9)."""
HOP_ALLOWANCE: Final = 1024
MAX_METADATA: Final = 16_384
"""Of one call, counting key, value and 32 for each entry (W-HEAD-10)."""
MAX_BAGGAGE: Final = 512
"""Of one call, counting keys and values."""
ENTRY_OVERHEAD: Final = 32


class Limits(NamedTuple):
    """What one side accepts. 0 means the default."""

    max_streams: int = 0
    """Streams open at once."""
    stream_window: int = 0
    """Credit of a new stream."""
    max_frame_body: int = 0

    def normalized(self) -> Limits:
        """These limits as both sides read them: defaults for zeros, and what is under the protocol's minimum lifted."""
        body = min(max(self.max_frame_body, MIN_FRAME_BODY), MAX_FRAME_BODY)
        window = max(self.stream_window or DEFAULT_STREAM_WINDOW, 2 * (body + FRAME_COST))
        return Limits(self.max_streams or DEFAULT_MAX_STREAMS, min(window, MAX_CREDIT), body)

    def encode(self) -> Piece:
        """The serialized octo.wire.v1.Limits."""
        return uint_field(1, self.max_streams) + uint_field(2, self.stream_window) + uint_field(3, self.max_frame_body)

    @classmethod
    def parse(cls, b: bytes) -> Limits:
        """Reads a serialized octo.wire.v1.Limits. Raises `HeadError`."""
        values = [0, 0, 0]
        for tag, value in fields(b):
            number = tag >> 3
            if number > 3:
                continue
            if tag & 7:
                raise HeadError("a limit is no number")
            values[number - 1] = value & 0xFFFF_FFFF
        return cls(*values)


UNSET_LIMITS: Final = Limits()
"""The defaults."""
