"""The encodings of messages, and their bounds (W-HEAD-12, SEM-10, SEM-11)."""

from __future__ import annotations

import zlib
from typing import Final

from octomesh._wire.status import Reason

IDENTITY: Final = b"identity"
GZIP: Final = b"gzip"
ENCODINGS: Final[tuple[bytes, ...]] = (IDENTITY, GZIP)
"""What this SDK decodes: what it says in accepted_encodings."""

_GZIP_BITS: Final = 31
_FASTEST: Final = 1


class EncodingError(Exception):
    """A message cannot be decoded; `reason` is UNKNOWN_ENCODING, MESSAGE_TOO_LARGE or BAD_MESSAGE."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def compressed_limit(limit: int) -> int:
    """What a message of `limit` bytes takes at most when it is compressed and does not get smaller.

    A compressed one that is longer is refused by its length alone.
    """
    return limit + limit // 1000 + 64


def compress(plain: bytes) -> bytes:
    """Plain in gzip, for speed rather than size."""
    c = zlib.compressobj(_FASTEST, zlib.DEFLATED, _GZIP_BITS)
    return c.compress(plain) + c.flush()


def decompress(data: bytes, encoding: bytes, limit: int) -> bytes:
    """A compressed message's plain bytes. It stops at limit + 1 of them, so that a bomb costs no more.

    Raises `EncodingError`.
    """
    if encoding in (b"", IDENTITY):
        raise EncodingError(Reason.BAD_MESSAGE, "a compressed message without an encoding")
    if encoding != GZIP:
        raise EncodingError(Reason.UNKNOWN_ENCODING, "compressed by an encoding that this SDK does not have")
    out = bytearray()
    while True:  # gzip may hold several members
        d = zlib.decompressobj(_GZIP_BITS)
        try:
            out += d.decompress(data, limit + 1 - len(out))
        except zlib.error as e:
            raise EncodingError(Reason.BAD_MESSAGE, f"the message does not decompress: {e}") from None
        if len(out) > limit:
            raise EncodingError(Reason.MESSAGE_TOO_LARGE, f"the message is over {limit} bytes")
        if not d.eof:
            raise EncodingError(Reason.BAD_MESSAGE, "the compressed message is cut off")
        data = d.unused_data
        if not data:
            return bytes(out)
