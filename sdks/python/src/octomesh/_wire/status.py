"""How a call ended: octo.wire.v1.Status, and the names and rules of its numbers (proto/spec/errors.md).

The enums hold the numbers that version 1 knows. Others travel verbatim, so the fields of a `Status` are plain ints: an
enum's member compares equal to its number, and the functions `…_name` have a text for any number.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from octomesh._wire.proto import INT32_MASK, HeadError, Piece, bytes_field, fields, low_int32, uint_field


class Code(IntEnum):
    """What went wrong. The numbers are google.rpc.Code's."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Origin(IntEnum):
    """Who concluded a status."""

    UNSPECIFIED = 0
    APPLICATION = 1
    SERVER_SDK = 2
    SERVER_PROXY = 3
    CLIENT_PROXY = 4
    CLIENT_SDK = 5
    BRIDGE = 6


class Disposition(IntEnum):
    """Whether a handler may have seen the call."""

    UNKNOWN = 0
    """Somebody may have begun it."""
    NOT_PROCESSED = 1
    """Surely no handler saw it."""
    PROCESSED = 2
    """A handler saw it."""


class Reason(IntEnum):
    """What a status that the mesh itself concluded is about. `REASONS` has each one's rule."""

    UNSPECIFIED = 0
    PROXY_DRAINING = 1
    PROXY_UNREADY = 2
    PROXY_UNREACHABLE = 3
    AUTH_DENIED = 10
    RATE_LIMITED = 11
    CIRCUIT_OPEN = 12
    NO_ENDPOINT = 13
    QUEUE_FULL = 14
    OVERLOADED = 15
    UNKNOWN_TARGET = 16
    FAULT_INJECTED = 17
    UNKNOWN_SERVICE = 20
    UNKNOWN_METHOD = 21
    BAD_HEAD = 22
    HEAD_TOO_LARGE = 23
    MESSAGE_TOO_LARGE = 24
    UNKNOWN_ENCODING = 25
    BAD_MESSAGE = 26
    UNKNOWN_CONTENT_TYPE = 27
    UNKNOWN_FLAG = 28
    STREAM_PROTOCOL = 29
    CONNECTION_LOST = 40
    DRAIN_DEADLINE = 41
    DEADLINE = 42
    CANCELLED = 43
    HANDLER_CRASHED = 44


class ReasonRule(NamedTuple):
    """What the protocol promises of a reason."""

    code: Code
    """The code with which it comes (E-TABLE-1)."""
    disposition: Disposition
    """The disposition with which it originates where nothing of the call was begun (E-DISP-6)."""
    path: bool
    """The path failed: with NOT_PROCESSED the call may take another one (E-DISP-7)."""


_NOT: Final = Disposition.NOT_PROCESSED
_MAYBE: Final = Disposition.UNKNOWN

REASONS: Final[dict[int, ReasonRule]] = {
    Reason.PROXY_DRAINING: ReasonRule(Code.UNAVAILABLE, _NOT, True),
    Reason.PROXY_UNREADY: ReasonRule(Code.UNAVAILABLE, _NOT, True),
    Reason.PROXY_UNREACHABLE: ReasonRule(Code.UNAVAILABLE, _NOT, True),
    Reason.AUTH_DENIED: ReasonRule(Code.PERMISSION_DENIED, _NOT, False),
    Reason.RATE_LIMITED: ReasonRule(Code.RESOURCE_EXHAUSTED, _NOT, False),
    Reason.CIRCUIT_OPEN: ReasonRule(Code.UNAVAILABLE, _NOT, False),
    Reason.NO_ENDPOINT: ReasonRule(Code.UNAVAILABLE, _NOT, False),
    Reason.QUEUE_FULL: ReasonRule(Code.RESOURCE_EXHAUSTED, _NOT, False),
    Reason.OVERLOADED: ReasonRule(Code.RESOURCE_EXHAUSTED, _NOT, False),
    Reason.UNKNOWN_TARGET: ReasonRule(Code.UNIMPLEMENTED, _NOT, False),
    Reason.FAULT_INJECTED: ReasonRule(Code.UNAVAILABLE, _NOT, False),
    Reason.UNKNOWN_SERVICE: ReasonRule(Code.UNIMPLEMENTED, _NOT, False),
    Reason.UNKNOWN_METHOD: ReasonRule(Code.UNIMPLEMENTED, _NOT, False),
    Reason.BAD_HEAD: ReasonRule(Code.INVALID_ARGUMENT, _NOT, False),
    Reason.HEAD_TOO_LARGE: ReasonRule(Code.RESOURCE_EXHAUSTED, _NOT, False),
    Reason.MESSAGE_TOO_LARGE: ReasonRule(Code.RESOURCE_EXHAUSTED, _MAYBE, False),
    Reason.UNKNOWN_ENCODING: ReasonRule(Code.UNIMPLEMENTED, _MAYBE, False),
    Reason.BAD_MESSAGE: ReasonRule(Code.INTERNAL, _MAYBE, False),
    Reason.UNKNOWN_CONTENT_TYPE: ReasonRule(Code.UNIMPLEMENTED, _NOT, False),
    Reason.UNKNOWN_FLAG: ReasonRule(Code.UNIMPLEMENTED, _MAYBE, False),
    Reason.STREAM_PROTOCOL: ReasonRule(Code.INTERNAL, _MAYBE, False),
    Reason.CONNECTION_LOST: ReasonRule(Code.UNAVAILABLE, _MAYBE, False),
    Reason.DRAIN_DEADLINE: ReasonRule(Code.UNAVAILABLE, _MAYBE, False),
    Reason.DEADLINE: ReasonRule(Code.DEADLINE_EXCEEDED, _MAYBE, False),
    Reason.CANCELLED: ReasonRule(Code.CANCELLED, _MAYBE, False),
    Reason.HANDLER_CRASHED: ReasonRule(Code.INTERNAL, Disposition.PROCESSED, False),
}

_NO_RULE: Final = ReasonRule(Code.UNKNOWN, _MAYBE, False)


def rule_of(reason: int) -> ReasonRule:
    """The rule of a reason. Of an unknown one nothing is promised (E-REASON-1)."""
    return REASONS.get(reason, _NO_RULE)


def _names(enum: type[IntEnum]) -> dict[int, str]:
    return {m.value: m.name for m in enum}


_CODE_NAMES: Final = _names(Code)
_ORIGIN_NAMES: Final = _names(Origin)
_DISPOSITION_NAMES: Final = _names(Disposition)
_REASON_NAMES: Final = _names(Reason)


def code_name(code: int) -> str:
    """`"NOT_FOUND"`, or `"CODE_99"` for a number without a name."""
    return _CODE_NAMES.get(code) or f"CODE_{code}"


def origin_name(origin: int) -> str:
    """`"CLIENT_SDK"`, or `"ORIGIN_99"`."""
    return _ORIGIN_NAMES.get(origin) or f"ORIGIN_{origin}"


def disposition_name(disposition: int) -> str:
    """`"NOT_PROCESSED"`, or `"DISPOSITION_99"`."""
    return _DISPOSITION_NAMES.get(disposition) or f"DISPOSITION_{disposition}"


def reason_name(reason: int) -> str:
    """`"DEADLINE"`, or `"REASON_99"`."""
    return _REASON_NAMES.get(reason) or f"REASON_{reason}"


_RANK: Final = {Disposition.PROCESSED: 2, Disposition.NOT_PROCESSED: 0}


def worse(a: int, b: int) -> int:
    """The worse of two dispositions: PROCESSED, then UNKNOWN, then NOT_PROCESSED (E-DISP-4)."""
    return b if _RANK.get(b, 1) > _RANK.get(a, 1) else a  # type: ignore[call-overload]


class Status:
    """How a call ended, as it stands on the wire.

    Texts are bytes, since nobody refuses a head for their encoding (W-HEAD-7).
    """

    __slots__ = ("code", "details", "disposition", "message", "origin", "reason", "retry_after_ms")

    def __init__(
        self,
        code: int = 0,
        reason: int = 0,
        origin: int = 0,
        disposition: int = 0,
        message: bytes = b"",
        details: bytes = b"",
        retry_after_ms: int = 0,
    ) -> None:
        self.code = code
        self.reason = reason
        self.origin = origin
        self.disposition = disposition
        self.message = message
        self.details = details
        """A serialized google.rpc.Status, untouched."""
        self.retry_after_ms = retry_after_ms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Status) and all(getattr(self, n) == getattr(other, n) for n in Status.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"Status({code_name(self.code)}, {reason_name(self.reason)}, {origin_name(self.origin)}, "
            f"{disposition_name(self.disposition)}, {self.message!r})"
        )

    def encode(self) -> bytes:
        """The serialized octo.wire.v1.Status."""
        return b"".join(
            (
                uint_field(1, self.code & INT32_MASK),
                uint_field(2, self.reason),
                bytes_field(3, self.message),
                bytes_field(4, self.details),
                uint_field(5, self.origin),
                uint_field(6, self.disposition),
                uint_field(7, self.retry_after_ms),
            )
        )

    @classmethod
    def parse(cls, b: bytes) -> Status:
        """Reads a serialized octo.wire.v1.Status. Raises `HeadError`."""
        s = cls()
        for tag, value in fields(b):
            if tag > _LAST_STATUS_TAG:
                continue
            name = _STATUS_FIELDS.get(tag)
            if name is None:
                raise HeadError(f"field {tag >> 3} of a Status has wire type {tag & 7}")
            setattr(s, name, value)
        s.code = low_int32(s.code)
        s.reason &= 0xFFFF_FFFF
        s.retry_after_ms &= 0xFFFF_FFFF
        if s.disposition > Disposition.PROCESSED:  # an unknown one counts as UNKNOWN (E-DISP-1)
            s.disposition = 0
        return s


_STATUS_FIELDS: Final[dict[int, str]] = {
    1 << 3: "code",
    2 << 3: "reason",
    3 << 3 | 2: "message",
    4 << 3 | 2: "details",
    5 << 3: "origin",
    6 << 3: "disposition",
    7 << 3: "retry_after_ms",
}
_LAST_STATUS_TAG: Final = 7 << 3 | 7


def refuse(reason: int, origin: int, message: str | bytes = b"") -> Status:
    """The status of a reason as its rule has it, concluded by `origin`."""
    rule = rule_of(reason)
    text = message.encode() if isinstance(message, str) else message
    return Status(rule.code, reason, origin, rule.disposition, text)


def status_field(status: Status | None) -> Piece:
    """A response's status field; nothing for a status that says nothing but success (W-STREAM-8)."""
    encoded = status.encode() if status is not None else b""
    return bytes_field(1, encoded)
