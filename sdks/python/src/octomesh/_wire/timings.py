"""Where a call spent its time: octo.wire.v1.Timings (W-TIMINGS).

Durations are nanoseconds of the owner's clock unless the name says us.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from octomesh._wire.proto import HeadError, Piece, bytes_field, bytes_field_always, fields, uint_field
from octomesh._wire.timeout import MAX_TIMEOUT_US

_MAX_INSTANCE: Final = 64
_MAX_TIMINGS: Final = 768


class StageKind(IntEnum):
    """A part of a call's way that takes time."""

    UNSPECIFIED = 0
    SDK_QUEUE = 1
    """In the client SDK, before the request was enqueued."""
    PROXY_REQUEST = 2
    PROXY_RESPONSE = 3
    SERVER_QUEUE = 4
    """In the server SDK, before the handler."""
    HANDLER = 5
    LINK = 6
    """Between a process and the next one, both ways together."""
    SERVER_RESPONSE = 7
    """In the server SDK, behind the handler."""
    SDK_RESPONSE = 8
    """In the client SDK, with the final response."""


class Stage(NamedTuple):
    """One part of where a call spent its time."""

    kind: int
    duration_us: int
    instance: bytes
    """The process that measured."""


def stage_piece(kind: int, us: int, instance: bytes) -> Piece:
    """A stage of a serialized Timings; nothing if it took no time (W-TIMINGS-5)."""
    if us <= 0:
        return b""
    return bytes_field_always(1, uint_field(1, kind) + uint_field(2, us) + bytes_field(3, instance[:_MAX_INSTANCE]))


def parse_stages(b: bytes) -> list[Stage]:
    """The stages of a serialized Timings. Raises `HeadError`."""
    out = []
    for tag, value in fields(b):
        if tag == 0x0A:
            out.append(_parse_stage(value))
        elif tag >> 3 == 1:
            raise HeadError("a stage is no message")
    return out


def _parse_stage(b: bytes) -> Stage:
    kind = us = 0
    instance = b""
    for tag, value in fields(b):
        if tag == 0x08:
            kind = value
        elif tag == 0x10:
            us = value
        elif tag == 0x1A:
            instance = value
        elif tag >> 3 <= 3:
            raise HeadError(f"field {tag >> 3} of a stage has wire type {tag & 7}")
    return Stage(kind, us, instance)


def stages_of(
    received: bytes, instance: bytes, total: int, request: int, response: int, *, client: bool = True
) -> bytes:
    """What a process makes of the Timings that a final response came with: those, and its own stages.

    Together they add up to total, the time from the request's arrival (at a client: the call's begin) to the final
    response's enqueueing (its end); request is the part of it up to the request's enqueueing, response the part from
    the final response's arrival on.
    """
    try:
        known = sum([min(s.duration_us, MAX_TIMEOUT_US) for s in parse_stages(received)])
    except HeadError:
        received, known = b"", 0
    if len(received) > _MAX_TIMINGS:
        received, known = b"", 0
    req, res = max(request, 0) // 1000, max(response, 0) // 1000
    link = max(total, 0) // 1000 - req - res - min(known, MAX_TIMEOUT_US)
    first, last = (
        (StageKind.SDK_QUEUE, StageKind.SDK_RESPONSE) if client else (StageKind.PROXY_REQUEST, StageKind.PROXY_RESPONSE)
    )
    own = (
        stage_piece(StageKind.LINK, link, instance)
        + stage_piece(first, req, instance)
        + stage_piece(last, res, instance)
    )
    return received + own


def server_stages(instance: bytes, arrived: int, began: int | None, ended: int, now: int) -> bytes:
    """What a server SDK says of a call that arrived, was begun and ended by its handler, and is answered now.

    began is None if no handler saw it (W-TIMINGS-2).
    """
    if began is None:
        return stage_piece(StageKind.SERVER_QUEUE, (now - arrived) // 1000, instance)
    return (
        stage_piece(StageKind.SERVER_QUEUE, (began - arrived) // 1000, instance)
        + stage_piece(StageKind.HANDLER, (ended - began) // 1000, instance)
        + stage_piece(StageKind.SERVER_RESPONSE, (now - ended) // 1000, instance)
    )
