"""The little of protobuf's encoding that heads need. See proto/octo/wire/v1 for the fields.

Heads are coded by hand: the SDK then holds no generated code of its own, breaking W-HEAD-4 is seen where a protobuf
library would let it pass, and for heads of a few fields it is faster than making a message object.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final, TypeAlias

Piece: TypeAlias = bytes
"""A part of a serialized head. Pieces may be joined in any order, but for the timeout, which comes first (W-HEAD-3)."""

Entry: TypeAlias = tuple[bytes, bytes]
"""Key and value of one metadata or baggage entry."""

INT32_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
"""A negative int32 travels as the 64 bits of its sign extension."""

_FIXED64: Final = Struct("<Q")
_ONE: Final = [bytes((n,)) for n in range(256)]
_MAX_NUMBER: Final = (1 << 29) - 1


class HeadError(ValueError):
    """A head does not parse, or breaks a rule of its fields: BAD_HEAD (W-END-7)."""


def uvarint(v: int) -> bytes:
    """A varint of up to 64 bits."""
    if v < 0x80:
        return _ONE[v]
    out = bytearray()
    while v >= 0x80:
        out.append(v & 0x7F | 0x80)
        v >>= 7
    out.append(v)
    return bytes(out)


def read_uvarint(b: bytes, at: int) -> tuple[int, int]:
    """The varint at b[at:] and the offset behind it. Raises `HeadError`, or IndexError where b ends too soon."""
    v = shift = 0
    while True:
        byte = b[at]
        at += 1
        if shift == 63 and byte > 1:
            raise HeadError("a varint is over 64 bits")
        v |= (byte & 0x7F) << shift
        if byte < 0x80:
            return v, at
        shift += 7


def fields(b: bytes) -> list[tuple[int, Any]]:
    """The fields of a message in their order, each with its tag (number << 3 | wire type) and value: an int or bytes.

    Raises `HeadError` where the bytes are no fields of the kinds that protobuf still writes (W-HEAD-4).
    """
    out: list[tuple[int, Any]] = []
    at, end = 0, len(b)
    try:
        while at < end:
            tag = b[at]
            at += 1
            if tag >= 0x80:
                tag, at = read_uvarint(b, at - 1)
                if tag >> 3 > _MAX_NUMBER:
                    raise HeadError(f"field number {tag >> 3}")
            if tag < 8:
                raise HeadError("field number 0")
            kind = tag & 7
            if kind == 2:
                size = b[at]
                at += 1
                if size >= 0x80:
                    size, at = read_uvarint(b, at - 1)
                if size > end - at:
                    raise HeadError("a field is longer than what is left of the head")
                out.append((tag, b[at : at + size]))
                at += size
            elif kind == 0:
                value = b[at]
                at += 1
                if value >= 0x80:
                    value, at = read_uvarint(b, at - 1)
                out.append((tag, value))
            elif kind == 1:
                out.append((tag, int.from_bytes(b[at : at + 8], "little")))
                at += 8
            elif kind == 5:
                out.append((tag, int.from_bytes(b[at : at + 4], "little")))
                at += 4
            else:
                raise HeadError(f"wire type {kind}")
    except IndexError:
        raise HeadError("the head ends inside a field") from None
    if at != end:
        raise HeadError("the head ends inside a field")
    return out


def uint_field(number: int, v: int) -> Piece:
    """A varint field, unless it holds the default 0."""
    return uvarint(number << 3) + uvarint(v) if v else b""


def bytes_field(number: int, v: bytes) -> Piece:
    """A bytes field, unless it is empty."""
    return bytes_field_always(number, v) if v else b""


def bytes_field_always(number: int, v: bytes) -> Piece:
    """A bytes field, also an empty one: for repeated and hop fields."""
    size = len(v)
    if number < 16 and size < 0x80:
        return _ONE[number << 3 | 2] + _ONE[size] + v
    return uvarint(number << 3 | 2) + uvarint(len(v)) + v


def fixed64_field(number: int, v: int) -> Piece:
    """A fixed64 field, unless it holds the default 0."""
    return uvarint(number << 3 | 1) + _FIXED64.pack(v) if v else b""


def entry_fields(number: int, entries: Sequence[Entry]) -> Piece:
    """Repeated octo.wire.v1.Entry."""
    if not entries:
        return b""
    return b"".join([bytes_field_always(number, bytes_field(1, k) + bytes_field(2, v)) for k, v in entries])


def parse_entry(b: bytes) -> Entry:
    """Reads an octo.wire.v1.Entry. Raises `HeadError`."""
    key = value = b""
    for tag, v in fields(b):
        if tag == 0x0A:
            key = v
        elif tag == 0x12:
            value = v
        elif tag >> 3 in (1, 2):
            raise HeadError("an entry's key or value is no bytes")
    return key, value


def low_int32(v: int) -> int:
    """The int32 in the low bits of a varint."""
    v &= 0xFFFF_FFFF
    return v - (1 << 32) if v >> 31 else v
