"""How a call ends that does not end well: one error, equal through the mesh and direct (proto/spec/errors.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from octomesh._wire.proto import INT32_MASK, HeadError, bytes_field, bytes_field_always, fields, uint_field
from octomesh._wire.status import (
    Code,
    Disposition,
    Origin,
    Reason,
    Status,
    code_name,
    disposition_name,
    origin_name,
    reason_name,
    refuse,
)

__all__ = ["Code", "Disposition", "Origin", "Reason", "RpcError"]

_CODES: Final[dict[int, Code]] = {c.value: c for c in Code}
_REASONS: Final[dict[int, Reason]] = {r.value: r for r in Reason}
_ORIGINS: Final[dict[int, Origin]] = {o.value: o for o in Origin}
_DISPOSITIONS: Final[dict[int, Disposition]] = {d.value: d for d in Disposition}
_MAX_RETRY_MS: Final = (1 << 32) - 1


class RpcError(Exception):
    """How a call ended. A handler raises it, too: of that only code, message, details and retry_after reach the client.

    One with DEADLINE_EXCEEDED is also a `TimeoutError`. A call that its own task cancels ends with
    `asyncio.CancelledError`, as everything does in asyncio.
    """

    code: Code | int
    """What went wrong; a number without a name travels verbatim."""
    message: str
    """Text for people; no program should depend on it."""
    reason: Reason | int
    """Narrows an error of the mesh's own; an application's has UNSPECIFIED."""
    origin: Origin | int
    """Who concluded it."""
    disposition: Disposition | int
    """Whether a handler may have seen the call."""
    retry_after: float
    """Seconds from now after which a retry may succeed; 0 says nothing."""
    trailers: list[tuple[str, str | bytes]]
    """The metadata that came with the end of the call."""
    accepted_encodings: list[str]
    """What the other end decodes, where it said so."""

    def __new__(cls, code: int = Code.UNKNOWN, *_args: Any, **_more: Any) -> RpcError:  # noqa: PYI034
        """Make a deadline's error the language's own, too."""
        kind = DeadlineExceededError if cls is RpcError and code == Code.DEADLINE_EXCEEDED else cls
        return (TimeoutError if issubclass(kind, TimeoutError) else Exception).__new__(kind)

    def __init__(
        self,
        code: Code | int,
        message: str = "",
        *,
        details: Iterable[Message] = (),
        retry_after: float = 0.0,
    ) -> None:
        """Make an error for a handler to raise.

        details are protobuf messages for programs; an Any is one as it stands, also of a type that this program does
        not know. retry_after is in seconds.
        """
        super().__init__(message)
        if code == Code.OK:
            raise ValueError("OK is no error: a handler returns its response")
        self.code = _CODES.get(code, code)
        self.message = message
        self.reason = Reason.UNSPECIFIED
        self.origin = Origin.UNSPECIFIED
        self.disposition = Disposition.UNKNOWN
        self.retry_after = retry_after
        self.trailers = []
        self.accepted_encodings = []
        self._details = _encode_details(code, message, details)

    @property
    def details(self) -> list[AnyMessage]:
        """The details in their order, also those of types that this program does not know."""
        try:
            return [AnyMessage.FromString(value) for tag, value in fields(self._details) if tag == _DETAIL]
        except (HeadError, DecodeError):
            return []

    def __str__(self) -> str:
        """Say code, message, and who concluded it."""
        text = code_name(self.code)
        if self.message:
            text += f": {self.message}"
        if self.reason or self.origin:
            who = [origin_name(self.origin)]
            if self.reason:
                who.append(reason_name(self.reason))
            text += f" ({', '.join(who)}, {disposition_name(self.disposition)})"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be sent between processes."""
        return type(self), (self.code, self.message), self.__dict__


class DeadlineExceededError(RpcError, TimeoutError):
    """An `RpcError` with DEADLINE_EXCEEDED."""


_DETAIL: Final = 3 << 3 | 2


def _encode_details(code: int, message: str, details: Iterable[Message]) -> bytes:
    """Serialize a google.rpc.Status; nothing where there are no details."""
    packed = b""
    for detail in details:
        if isinstance(detail, AnyMessage):
            holder = detail
        else:
            holder = AnyMessage()
            holder.Pack(detail)
        packed += bytes_field_always(3, holder.SerializeToString())
    if not packed:
        return b""
    return uint_field(1, code & INT32_MASK) + bytes_field(2, message.encode("utf-8", "surrogatepass")) + packed


def from_status(status: Status) -> RpcError:
    """Make the error of a status that is not OK."""
    error = RpcError(status.code, status.message.decode("utf-8", "replace"))
    error.reason = _REASONS.get(status.reason, status.reason)
    error.origin = _ORIGINS.get(status.origin, status.origin)
    error.disposition = _DISPOSITIONS.get(status.disposition, status.disposition)
    error.retry_after = status.retry_after_ms / 1000
    error._details = status.details
    return error


def refused(reason: Reason, message: str) -> RpcError:
    """Make an error that this client's SDK concludes."""
    return from_status(refuse(reason, Origin.CLIENT_SDK, message))


def unsent(reason: Reason, message: str) -> RpcError:
    """Make `refused` for a call of which nothing was sent."""
    status = refuse(reason, Origin.CLIENT_SDK, message)
    status.disposition = Disposition.NOT_PROCESSED
    return from_status(status)


def bad_call(message: str) -> RpcError:
    """Make the error of a call that its caller built wrongly; nothing is sent."""
    status = Status(Code.INVALID_ARGUMENT, 0, Origin.CLIENT_SDK, Disposition.NOT_PROCESSED, message.encode())
    return from_status(status)


def status_of_handler(error: BaseException) -> Status:
    """Make the status that leaves the server of what a handler raised: always the application's own word."""
    if not isinstance(error, RpcError):
        code = Code.DEADLINE_EXCEEDED if isinstance(error, TimeoutError) else Code.UNKNOWN
        return Status(code, 0, Origin.APPLICATION, Disposition.PROCESSED, _text(str(error)))
    retry = min(max(round(error.retry_after * 1000), 0), _MAX_RETRY_MS)
    details = error._details
    return Status(error.code, 0, Origin.APPLICATION, Disposition.PROCESSED, _text(error.message), details, retry)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")
