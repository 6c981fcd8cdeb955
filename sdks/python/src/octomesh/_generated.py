"""What generated code needs, and what its users see of that: methods, kinds, services, options."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeAlias, TypedDict, TypeVar

from google.protobuf.message import Message

if TYPE_CHECKING:
    from octomesh.channel import CallInfo
    from octomesh.streams import BidiStream, ReceiveStream, SendStream
    from octomesh.sync import SyncBidiStream, SyncReceiveStream, SyncSendStream
    from octomesh.timings import Timings

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

GENERATIONS: Final = (1,)
"""The generations of generated code that this SDK knows."""

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
"""Keys and values in their order. Values are bytes under keys that end in `-bin`, else ASCII text."""


def require_gen(generation: int) -> None:
    """Stop the import of generated code that this SDK does not know, or no longer. Raises `ImportError`."""
    if generation not in GENERATIONS:
        known = ", ".join(map(str, GENERATIONS))
        raise ImportError(
            f"this code is of generation {generation} of protoc-gen-octo, and the installed octomesh knows {known}: "
            "update octomesh, or generate with the plugin that belongs to it"
        )


class Kind(IntEnum):
    """The shape of a method. The numbers are those of octo.wire.v1.CallKind."""

    UNARY = 1
    CLIENT_STREAMING = 2
    SERVER_STREAMING = 3
    BIDI_STREAMING = 4

    @property
    def streams_in(self) -> bool:
        """The client may send any number of messages."""
        return self in (Kind.CLIENT_STREAMING, Kind.BIDI_STREAMING)

    @property
    def streams_out(self) -> bool:
        """The server may send any number of messages."""
        return self in (Kind.SERVER_STREAMING, Kind.BIDI_STREAMING)


class Method(Generic[Req, Res]):
    """One method of a protobuf service. Generated code makes it, and nobody changes it."""

    __slots__ = ("idempotent", "kind", "name", "request", "response", "service", "timeout")

    def __init__(
        self,
        service: str,
        name: str,
        kind: Kind,
        request: type[Req],
        response: type[Res],
        *,
        idempotent: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Describe a method: timeout is the default budget of a call in seconds, None for none."""
        self.service: Final = service
        self.name: Final = name
        self.kind: Final = kind
        self.request: Final = request
        self.response: Final = response
        self.idempotent: Final = idempotent
        self.timeout: Final = timeout

    @property
    def full_name(self) -> str:
        """`service/method`."""
        return f"{self.service}/{self.name}"

    def __repr__(self) -> str:
        return f"<Method {self.full_name}>"


class Service:
    """The base of the classes that implement services; generated code derives from it."""

    SERVICE: ClassVar[str]
    """The protobuf service's full name."""
    METHODS: ClassVar[Mapping[str, Method[Any, Any]]] = {}
    """By the names of the functions that handle them."""


class CallOptions(TypedDict, total=False):
    """What a call may be given beside its request."""

    timeout: float | None
    """Seconds from now, in place of the method's default; the deadline of the handler that calls holds beside it. 0 or
    less ends the call before anything is sent."""
    metadata: Metadata
    """Goes one hop."""
    baggage: Mapping[str, str | bytes]
    """Goes down the whole chain of calls, over what the handler's own call brought."""
    hash_key: str
    """What the call is about: calls with equal keys stay on one path, and with a ring go to one instance."""
    wait_for_ready: bool
    """Wait for a connection until the deadline instead of failing as soon as a dial has failed."""
    idempotent: bool
    """Running twice does the same as running once, in place of what the method says."""
    compression: str
    """`"gzip"` or `"identity"`, of the requests. Default: identity."""
    max_receive: int
    """The largest response message in bytes, uncompressed. Default: 4 MiB."""
    info: CallInfo
    """Of a unary call: is filled in at its end."""
    timings: Timings
    """Asks where the call's time goes, and is filled in at its end."""


class Caller(Protocol):
    """What generated clients call through: a `Channel`."""

    def unary(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> Coroutine[Any, Any, Res]:
        """Call a method with one request and one response."""

    def server_stream(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> ReceiveStream[Res]:
        """Call a method that answers with a stream."""

    def client_stream(self, method: Method[Req, Res], options: CallOptions, /) -> SendStream[Req, Res]:
        """Call a method that takes a stream."""

    def bidi_stream(self, method: Method[Req, Res], options: CallOptions, /) -> BidiStream[Req, Res]:
        """Call a method with a stream each way."""


class SyncCaller(Protocol):
    """What generated clients for threads call through: a `SyncChannel`."""

    def unary(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> Res:
        """Call a method with one request and one response."""

    def server_stream(self, method: Method[Req, Res], request: Req, options: CallOptions, /) -> SyncReceiveStream[Res]:
        """Call a method that answers with a stream."""

    def client_stream(self, method: Method[Req, Res], options: CallOptions, /) -> SyncSendStream[Req, Res]:
        """Call a method that takes a stream."""

    def bidi_stream(self, method: Method[Req, Res], options: CallOptions, /) -> SyncBidiStream[Req, Res]:
        """Call a method with a stream each way."""
