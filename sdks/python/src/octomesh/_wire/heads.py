"""The heads of a call's frames: octo.wire.v1 RequestHead, ResponseHead and Reset.

A head that is sent is joined from pieces, so that a caller keeps those that do not change from call to call::

    fixed = method_piece(b"shop.cart", b"shop.v1.Cart", b"Get", UNARY)     # once per method
    head = timeout_piece(left_us) + fixed + entry_fields(METADATA, entries)

A head that arrives is read by `RequestHeads.parse` and `ResponseHeads.parse`. Calls of one method have the same head
but for a few bytes, so both keep what they read of short heads, in bounded memory: **what they return is shared and
must not be changed.**
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from octomesh._wire.proto import (
    Entry,
    HeadError,
    Piece,
    bytes_field,
    bytes_field_always,
    entry_fields,
    fields,
    fixed64_field,
    parse_entry,
    uint_field,
)
from octomesh._wire.status import Status, status_field

UNARY: Final = 1
CLIENT_STREAM: Final = 2
SERVER_STREAM: Final = 3
BIDI_STREAM: Final = 4

METADATA: Final = 7
"""The number of metadata entries, in a request's head and in a response's."""
TRAILERS: Final = 8
"""The number of trailer entries in a response's head."""
BAGGAGE: Final = 10
"""The number of baggage entries in a request's head."""

HOP_CALLER: Final = 100
HOP_VERIFIED_CALLER: Final = 101
HOP_ATTEMPT: Final = 102
HOP_TRACEPARENT: Final = 103
HOP_LANE: Final = 104
HOP_TIMINGS: Final = 105
HOP_TARGET: Final = 106
HOP_SHADOW: Final = 107

WANT_TIMINGS: Final[Piece] = uint_field(20, 1)
"""Asks everybody on the way for timings (W-TIMINGS-1)."""
IDEMPOTENT: Final[Piece] = uint_field(14, 1)
HEADERS_PRESENT: Final[Piece] = uint_field(6, 1)
"""Initial metadata, even if it has no entry, is in this head or an earlier one (W-STREAM-3)."""


def timeout_piece(us: int) -> Piece:
    """`timeout_us`; it must be the head's first piece. See `octomesh._wire.timeout.timeout_us`."""
    return b"\t" + us.to_bytes(8, "little") if us else b""


def method_piece(target: bytes, service: bytes, method: bytes, kind: int) -> Piece:
    """Whom and what a call wants; kind is one of UNARY to BIDI_STREAM."""
    return bytes_field(3, target) + bytes_field(4, service) + bytes_field(5, method) + uint_field(6, kind)


def trace_piece(traceparent: bytes, tracestate: bytes = b"") -> Piece:
    """The W3C trace context of a request."""
    if not traceparent and not tracestate:
        return b""
    return bytes_field(8, traceparent) + bytes_field(9, tracestate)


def call_piece(hash_key: bytes = b"", attempt: int = 0, call_id: bytes = b"") -> Piece:
    """What a caller says of one call."""
    if not hash_key and not attempt and not call_id:
        return b""
    return bytes_field(11, hash_key) + uint_field(12, attempt) + bytes_field(13, call_id)


def encodings_piece(encoding: bytes, accepted: Sequence[bytes]) -> Piece:
    """A request's message_encoding and accepted_encodings."""
    if not encoding and not accepted:
        return b""
    return bytes_field(15, encoding) + b"".join([bytes_field_always(16, a) for a in accepted])


def total_length_piece(n: int) -> Piece:
    """`total_length`, which has the same number in every head."""
    return uint_field(2, n)


def beginning(head: bytes) -> bytes:
    """What an answer begins with, of its final head: for a RESPONSE that goes before it (W-MSG-13)."""
    out = []
    try:
        for tag, value in fields(head):
            number = tag >> 3
            if 3 <= number <= 7:
                out.append(uint_field(number, value) if isinstance(value, int) else bytes_field_always(number, value))
    except HeadError:
        return b""
    return b"".join(out)


def scan_total(head: bytes) -> int:
    """`total_length` of any head; 0 if it has none. Raises `HeadError`."""
    total = 0
    for tag, value in fields(head):
        if tag == 0x10:
            total = value
        elif tag >> 3 == 2:
            raise HeadError("total_length is no number")
    return total


class RequestHead:
    """Opens a call. Hop fields have been applied (W-HOP-2): `traceparent`, for one, is the last hop's word.

    Defaults are the class' own, so that reading a head sets only what it holds.
    """

    timeout_us: int = 0
    """What is left of the caller's time; 0: no deadline. `RequestHeads.parse` returns it apart."""
    total_length: int = 0
    target: bytes = b""
    service: bytes = b""
    method: bytes = b""
    call_kind: int = 0
    metadata: Sequence[Entry] = ()
    traceparent: bytes = b""
    """Whatever arrived, valid or not. `RequestHeads.parse` returns it apart."""
    tracestate: bytes = b""
    baggage: Sequence[Entry] = ()
    hash_key: bytes = b""
    attempt: int = 0
    call_id: bytes = b""
    idempotent: bool = False
    message_encoding: bytes = b""
    accepted_encodings: Sequence[bytes] = ()
    content_type: bytes = b""
    authority: bytes = b""
    path: bytes = b""
    want_timings: bool = False
    caller: bytes = b""
    """Hop field: the application that calls."""
    verified_caller: bytes | None = None
    """Hop field; None: no hop has spoken of the caller, b"": it was not verified."""
    lane: bytes = b""
    """Hop field."""
    shadow: bool = False
    """Hop field: a copy whose answer nobody gets (W-HOP-9)."""
    from_sdk: bool = True
    """The head has no hop field, and no singular field twice, as one that comes from an SDK must (W-HOP-3)."""

    @classmethod
    def parse(cls, b: bytes) -> RequestHead:
        """Reads a serialized octo.wire.v1.RequestHead. Raises `HeadError`."""
        h = cls()
        own = h.__dict__
        hops: dict[int, Any] = {}
        for tag, value in fields(b):
            name = _REQUEST_FIELDS.get(tag)
            if name is not None:
                if name in own:
                    h.from_sdk = False
                own[name] = value
                continue
            number = tag >> 3
            if number > 20:
                if 100 <= number <= 127:
                    h.from_sdk = False
                    if _HOP_KINDS.get(number, tag & 7) != tag & 7:
                        raise HeadError(f"hop field {number} has wire type {tag & 7}")
                    hops[number] = value
                continue
            name = _REPEATED.get(tag)
            if name is None:
                raise HeadError(f"field {number} of a RequestHead has wire type {tag & 7}")
            own.setdefault(name, []).append(value if number == 16 else parse_entry(value))
        for name in _FLAGS & own.keys():
            own[name] = bool(own[name])
        if h.attempt > _M32:
            h.attempt &= _M32
        if hops:
            h._hop(hops)
        return h

    def _hop(self, hops: dict[int, Any]) -> None:
        """The last hop's word counts, over the head's own field of the same meaning too (W-HOP-2)."""
        self.caller = hops.get(HOP_CALLER, b"")
        self.verified_caller = hops.get(HOP_VERIFIED_CALLER)
        self.attempt = hops.get(HOP_ATTEMPT, self.attempt) & _M32
        self.traceparent = hops.get(HOP_TRACEPARENT, self.traceparent)
        self.lane = hops.get(HOP_LANE, b"")
        self.target = hops.get(HOP_TARGET, self.target)
        self.shadow = bool(hops.get(HOP_SHADOW, 0))

    def encode(self) -> bytes:
        """The serialized head: its own fields in the order of their numbers, then hop fields."""
        return b"".join(
            (
                fixed64_field(1, self.timeout_us),
                uint_field(2, self.total_length),
                method_piece(self.target, self.service, self.method, self.call_kind),
                entry_fields(METADATA, self.metadata),
                trace_piece(self.traceparent, self.tracestate),
                entry_fields(BAGGAGE, self.baggage),
                call_piece(self.hash_key, self.attempt, self.call_id),
                uint_field(14, self.idempotent),
                encodings_piece(self.message_encoding, self.accepted_encodings),
                bytes_field(17, self.content_type),
                bytes_field(18, self.authority),
                bytes_field(19, self.path),
                uint_field(20, self.want_timings),
                bytes_field(HOP_CALLER, self.caller),
                b"" if self.verified_caller is None else bytes_field_always(HOP_VERIFIED_CALLER, self.verified_caller),
                bytes_field(HOP_LANE, self.lane),
                uint_field(HOP_SHADOW, self.shadow),
            )
        )


_REQUEST_FIELDS: Final[dict[int, str]] = {
    1 << 3 | 1: "timeout_us",
    2 << 3: "total_length",
    3 << 3 | 2: "target",
    4 << 3 | 2: "service",
    5 << 3 | 2: "method",
    6 << 3: "call_kind",
    8 << 3 | 2: "traceparent",
    9 << 3 | 2: "tracestate",
    11 << 3 | 2: "hash_key",
    12 << 3: "attempt",
    13 << 3 | 2: "call_id",
    14 << 3: "idempotent",
    15 << 3 | 2: "message_encoding",
    17 << 3 | 2: "content_type",
    18 << 3 | 2: "authority",
    19 << 3 | 2: "path",
    20 << 3: "want_timings",
}
_REPEATED: Final[dict[int, str]] = {7 << 3 | 2: "metadata", 10 << 3 | 2: "baggage", 16 << 3 | 2: "accepted_encodings"}
_FLAGS: Final = frozenset(("idempotent", "want_timings"))
_M32: Final = 0xFFFF_FFFF
_HOP_KINDS: Final[dict[int, int]] = {
    HOP_CALLER: 2,
    HOP_VERIFIED_CALLER: 2,
    HOP_ATTEMPT: 0,
    HOP_TRACEPARENT: 2,
    HOP_LANE: 2,
    HOP_TIMINGS: 2,
    HOP_TARGET: 2,
    HOP_SHADOW: 0,
}

_MAX_KEPT: Final = 512
"""Bytes of a head that is kept; longer ones are read each time."""
_KEEP: Final = 256
"""Heads that are kept; then the memory begins anew."""


_OWN_TRACE: Final = b"B7"
"""How a traceparent of the usual 55 bytes begins: tag and length."""
_HOP_TRACE: Final = b"\xba\x067"
"""The same of a hop's."""
_TRACE: Final = 55


class RequestHeads:
    """Reads request heads and keeps what it read: one for a process or a listener. Not for several threads.

    Calls of one caller and method differ in their time and their trace, which are cut out before the rest is looked up.
    """

    __slots__ = ("_plain", "_traced")

    def __init__(self) -> None:
        self._plain: dict[bytes, RequestHead] = {}
        # By where traces stand, and a head without them: the head, and whose trace counts.
        self._traced: dict[bytes, tuple[RequestHead, int]] = {}

    def parse(self, head: bytes) -> tuple[int, bytes, RequestHead]:
        """The timeout in microseconds, 0 for no deadline; the traceparent, valid or not; and the head.

        The head is shared, and its own `timeout_us` and `traceparent` may be another call's. Raises `HeadError`.
        """
        if head[:1] == b"\t" and len(head) >= 9:
            timeout, rest = int.from_bytes(head[1:9], "little"), head[9:]
        else:
            timeout, rest = 0, head
        own = rest.find(_OWN_TRACE, 0, -_TRACE)  # with room for the value behind it
        if own >= 0:
            hop = rest.find(_HOP_TRACE, own + 57, -_TRACE)
            if hop >= 0:
                key = b"3" + rest[: own + 2] + rest[own + 57 : hop + 3] + rest[hop + 58 :]
            else:
                key = b"1" + rest[: own + 2] + rest[own + 57 :]
        else:
            hop = rest.find(_HOP_TRACE, 0, -_TRACE)
            if hop < 0:
                h = self._plain.get(rest)
                if h is not None:
                    return timeout, h.traceparent, h
                return self._read(timeout, rest, rest is not head, b"", ())
            key = b"2" + rest[: hop + 3] + rest[hop + 58 :]
        kept = self._traced.get(key)
        if kept is None:
            return self._read(timeout, rest, rest is not head, key, (own, hop))
        h, whose = kept
        if whose == _NEITHER:
            return timeout, h.traceparent, h
        at = own + 2 if whose == _OWN else hop + 3
        return timeout, rest[at : at + _TRACE], h

    def _read(
        self, timeout: int, rest: bytes, timed: bool, key: bytes, traces: tuple[int, ...]
    ) -> tuple[int, bytes, RequestHead]:
        h = RequestHead.parse(rest)
        if "timeout_us" in h.__dict__:  # only a foreign encoder's: the last one wins, and an SDK sends one at most
            h.from_sdk = h.from_sdk and not timed
            return h.timeout_us, h.traceparent, h
        if len(rest) > _MAX_KEPT:
            return timeout, h.traceparent, h
        if len(self._plain) + len(self._traced) >= _KEEP:
            self._plain.clear()
            self._traced.clear()
        if not traces:
            self._plain[rest] = h
        elif all(_begins_a_field(rest, at) for at in traces if at >= 0):
            self._traced[key] = (h, _whose_counts(rest, *traces))
        return timeout, h.traceparent, h


_NEITHER: Final = 0
_OWN: Final = 1
_HOPS: Final = 2


def _whose_counts(rest: bytes, own: int, hop: int) -> int:
    """Which of the two traces that are cut out is the head's traceparent: a hop's last one, else its own last one."""
    if hop >= 0:
        return _HOPS if _last(rest, hop + 58, HOP_TRACEPARENT) else _NEITHER
    return _OWN if _last(rest, 0, HOP_TRACEPARENT) and _last(rest, own + 57, 8) else _NEITHER


def _last(head: bytes, behind: int, number: int) -> bool:
    """Whether no field of the number comes behind an offset."""
    return all(tag >> 3 != number for tag, _ in fields(head[behind:]))


def _begins_a_field(head: bytes, at: int) -> bool:
    """Whether what looks like a field at head[at:] is one: then it is in every head that is the same up to there."""
    try:
        fields(head[:at])
    except HeadError:
        return False
    return True


class ResponseHead:
    """Answers a call. Defaults are the class' own."""

    status: Status | None = None
    """With END: how the call ended; None: success."""
    total_length: int = 0
    message_encoding: bytes = b""
    accepted_encodings: Sequence[bytes] = ()
    content_type: bytes = b""
    headers_present: bool = False
    metadata: Sequence[Entry] = ()
    trailers: Sequence[Entry] = ()
    timings: bytes = b""
    """Hop field: a serialized Timings."""

    @classmethod
    def parse(cls, b: bytes) -> ResponseHead:
        """Reads a serialized octo.wire.v1.ResponseHead. Raises `HeadError`."""
        h = cls()
        own = h.__dict__
        for tag, value in fields(b):
            number = tag >> 3
            name = _RESPONSE_FIELDS.get(tag)
            if name is None:
                if number <= 8 or number == HOP_TIMINGS:
                    raise HeadError(f"field {number} of a ResponseHead has wire type {tag & 7}")
            elif number in (7, 8):
                own.setdefault(name, []).append(parse_entry(value))
            elif number == 1:
                h.status = Status.parse(value)
            elif number == 4:
                own.setdefault(name, []).append(value)
            else:
                own[name] = bool(value) if number == 6 else value
        return h

    def encoded(self, encoding: bytes) -> ResponseHead:
        """The same head with another encoding: one that was read is shared."""
        h = ResponseHead()
        h.__dict__.update(self.__dict__, message_encoding=encoding)
        return h

    def encode(self) -> bytes:
        """The serialized head."""
        return b"".join(
            (
                status_field(self.status),
                uint_field(2, self.total_length),
                bytes_field(3, self.message_encoding),
                b"".join([bytes_field_always(4, a) for a in self.accepted_encodings]),
                bytes_field(5, self.content_type),
                uint_field(6, self.headers_present),
                entry_fields(METADATA, self.metadata),
                entry_fields(TRAILERS, self.trailers),
                bytes_field(HOP_TIMINGS, self.timings),
            )
        )


_RESPONSE_FIELDS: Final[dict[int, str]] = {
    1 << 3 | 2: "status",
    2 << 3: "total_length",
    3 << 3 | 2: "message_encoding",
    4 << 3 | 2: "accepted_encodings",
    5 << 3 | 2: "content_type",
    6 << 3: "headers_present",
    7 << 3 | 2: "metadata",
    8 << 3 | 2: "trailers",
    HOP_TIMINGS << 3 | 2: "timings",
}


class ResponseHeads:
    """Reads response heads and keeps what it read of short ones: one for a process or a channel.

    Not for several threads.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[bytes, ResponseHead] = {b"": ResponseHead()}

    def parse(self, head: bytes) -> ResponseHead:
        """The head, which is shared. Raises `HeadError`."""
        h = self._kept.get(head)
        if h is None:
            h = ResponseHead.parse(head)
            if len(head) <= _MAX_KEPT:
                if len(self._kept) >= _KEEP:
                    self._kept.clear()
                self._kept[head] = h
        return h


class ResetHead:
    """Ends a stream at once."""

    __slots__ = ("http2_code", "status")

    def __init__(self, status: Status, http2_code: int = 0) -> None:
        self.status = status
        self.http2_code = http2_code

    @classmethod
    def parse(cls, b: bytes) -> ResetHead:
        """Reads a serialized octo.wire.v1.Reset. Raises `HeadError`."""
        h = cls(Status())
        for tag, value in fields(b):
            if tag == 0x0A:
                h.status = Status.parse(value)
            elif tag == 0x10:
                h.http2_code = value & 0xFFFF_FFFF
            elif tag >> 3 in (1, 2):
                raise HeadError(f"field {tag >> 3} of a Reset has wire type {tag & 7}")
        return h

    def encode(self) -> bytes:
        """The serialized octo.wire.v1.Reset."""
        return status_field(self.status) + uint_field(2, self.http2_code)
