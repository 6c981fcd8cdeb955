"""The heads of a connection's own frames: octo.wire.v1 Hello, Welcome and GoAway."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeVar

from octomesh._wire.limits import UNSET_LIMITS, Limits
from octomesh._wire.proto import HeadError, bytes_field, bytes_field_always, fields, uint_field

ROLE_CALL: Final = 1
"""The dialer opens calls."""
ROLE_SERVE: Final = 2
"""The acceptor opens calls."""

PEER_SDK: Final = 1
PEER_PROXY: Final = 2
PEER_GATEWAY: Final = 3

GOAWAY_DRAINING: Final = 1
GOAWAY_ID_EXHAUSTED: Final = 2
GOAWAY_PROTOCOL_ERROR: Final = 3
GOAWAY_ENHANCE_YOUR_CALM: Final = 4
GOAWAY_REFUSED: Final = 5

LAST_GRACEFUL: Final = (1 << 32) - 1
"""The `last` of a GOAWAY that permits re-sending nothing (W-GOAWAY-1)."""

_GOAWAY_NAMES: Final = ("UNSPECIFIED", "DRAINING", "ID_EXHAUSTED", "PROTOCOL_ERROR", "ENHANCE_YOUR_CALM", "REFUSED")


def goaway_name(code: int) -> str:
    """The name of a GOAWAY's code; an unknown one counts as UNSPECIFIED."""
    return _GOAWAY_NAMES[code] if 0 <= code < len(_GOAWAY_NAMES) else _GOAWAY_NAMES[0]


@dataclass(slots=True)
class Hello:
    """The dialer's first and only word before Welcome."""

    role: int = 0
    kind: int = 0
    """PEER_SDK to PEER_GATEWAY; unknown counts as an SDK (W-HAND-8)."""
    lowest_version: int = 0
    """0: `Connection.hello` fills in the versions of this SDK."""
    highest_version: int = 0
    sdk: bytes = b""
    sdk_version: bytes = b""
    environment: bytes = b""
    application: bytes = b""
    instance: bytes = b""
    incarnation: int = 0
    targets: list[bytes] = field(default_factory=list)
    limits: Limits = UNSET_LIMITS
    features: list[bytes] = field(default_factory=list)
    credentials: bytes = b""

    def encode(self) -> bytes:
        """The serialized octo.wire.v1.Hello."""
        return b"".join(
            (
                uint_field(1, self.lowest_version),
                uint_field(2, self.highest_version),
                uint_field(3, self.role),
                uint_field(4, self.kind),
                bytes_field(5, self.sdk),
                bytes_field(6, self.sdk_version),
                bytes_field(7, self.environment),
                bytes_field(8, self.application),
                bytes_field(9, self.instance),
                uint_field(10, self.incarnation),
                *(bytes_field_always(11, t) for t in self.targets),
                bytes_field_always(12, self.limits.encode()),
                *(bytes_field_always(13, f) for f in self.features),
                bytes_field(14, self.credentials),
            )
        )

    @classmethod
    def parse(cls, b: bytes) -> Hello:
        """Reads a serialized octo.wire.v1.Hello. Raises `HeadError`."""
        return _read(cls(), b, _HELLO, frozenset((11, 13)), 12)


@dataclass(slots=True)
class Welcome:
    """The acceptor's answer to a Hello that it accepts."""

    version: int = 0
    """`Connection.welcome` fills it in."""
    kind: int = 0
    instance: bytes = b""
    incarnation: int = 0
    limits: Limits = UNSET_LIMITS
    features: list[bytes] = field(default_factory=list)
    software_version: bytes = b""

    def encode(self) -> bytes:
        """The serialized octo.wire.v1.Welcome."""
        return b"".join(
            (
                uint_field(1, self.version),
                uint_field(2, self.kind),
                bytes_field(3, self.instance),
                uint_field(4, self.incarnation),
                bytes_field_always(5, self.limits.encode()),
                *(bytes_field_always(6, f) for f in self.features),
                bytes_field(7, self.software_version),
            )
        )

    @classmethod
    def parse(cls, b: bytes) -> Welcome:
        """Reads a serialized octo.wire.v1.Welcome. Raises `HeadError`."""
        return _read(cls(), b, _WELCOME, frozenset((6,)), 5)


@dataclass(slots=True)
class GoAway:
    """Asks the peer to move, or says why the connection ends."""

    code: int = 0
    last: int = 0
    final: bool = False
    message: bytes = b""
    offset: int = 0
    """With PROTOCOL_ERROR: where the frame at fault begins, in bytes since the connection began."""
    retry_after_ms: int = 0

    @property
    def graceful(self) -> bool:
        """Open calls go on after it (W-GOAWAY-2)."""
        return self.code in (GOAWAY_DRAINING, GOAWAY_ID_EXHAUSTED)

    def encode(self) -> bytes:
        """The serialized octo.wire.v1.GoAway."""
        return b"".join(
            (
                uint_field(1, self.code),
                uint_field(2, self.last),
                uint_field(3, self.final),
                bytes_field(4, self.message),
                uint_field(5, self.offset),
                uint_field(6, self.retry_after_ms),
            )
        )

    @classmethod
    def parse(cls, b: bytes) -> GoAway:
        """Reads a serialized octo.wire.v1.GoAway. Raises `HeadError`."""
        g = _read(cls(), b, _GOAWAY, frozenset(), 0)
        g.final = bool(g.final)
        return g


_HELLO: Final = {
    1 << 3: "lowest_version",
    2 << 3: "highest_version",
    3 << 3: "role",
    4 << 3: "kind",
    5 << 3 | 2: "sdk",
    6 << 3 | 2: "sdk_version",
    7 << 3 | 2: "environment",
    8 << 3 | 2: "application",
    9 << 3 | 2: "instance",
    10 << 3: "incarnation",
    11 << 3 | 2: "targets",
    12 << 3 | 2: "limits",
    13 << 3 | 2: "features",
    14 << 3 | 2: "credentials",
}
_WELCOME: Final = {
    1 << 3: "version",
    2 << 3: "kind",
    3 << 3 | 2: "instance",
    4 << 3: "incarnation",
    5 << 3 | 2: "limits",
    6 << 3 | 2: "features",
    7 << 3 | 2: "software_version",
}
_GOAWAY: Final = {
    1 << 3: "code",
    2 << 3: "last",
    3 << 3: "final",
    4 << 3 | 2: "message",
    5 << 3: "offset",
    6 << 3: "retry_after_ms",
}
T = TypeVar("T", Hello, Welcome, GoAway)
_WIDE: Final = frozenset(("incarnation", "offset"))


def _read(into: T, b: bytes, names: dict[int, str], repeated: frozenset[int], limits: int) -> T:
    """Reads a head by the table of its fields' tags; fields beyond the table's numbers are unknown and skipped."""
    last = max(names) >> 3
    for tag, value in fields(b):
        number = tag >> 3
        if number > last:
            continue
        name = names.get(tag)
        if name is None:
            raise HeadError(f"field {number} of a {type(into).__name__} has wire type {tag & 7}")
        if number in repeated:
            getattr(into, name).append(value)
        elif number == limits:
            setattr(into, "limits", Limits.parse(value))  # noqa: B010  not every one of T has limits
        else:
            setattr(into, name, value if tag & 7 or name in _WIDE else value & 0xFFFF_FFFF)
    return into
