"""Code around calls, at their callers and at their servers: one shape for both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from google.protobuf.message import Message

from octomesh._generated import CallOptions, Method
from octomesh.errors import Code, Disposition, Origin, RpcError

if TYPE_CHECKING:
    from octomesh.context import ServerContext

Next: TypeAlias = Callable[["Call"], Awaitable[Any]]


class Call:
    """One call on its way through interceptors. It is valid until the call has ended."""

    def __init__(
        self,
        method: Method[Any, Any],
        target: str,
        options: CallOptions,
        request: Any = None,
        context: ServerContext | None = None,
    ) -> None:
        self.method: Final = method
        self.target: Final = target
        """The called target's name."""
        self.options: CallOptions = options
        """At a caller: what it was given; an interceptor may put others here. At a server: empty."""
        self.request: Any = request
        """The request of a method that has exactly one, else None. It may be replaced before `proceed`."""
        self.context: Final = context
        """At a server: what its handler gets, too. At a caller: None."""
        self.on_send: list[Callable[[Message], Message]] = []
        """See, and may change or refuse by raising, each message that is sent."""
        self.on_receive: list[Callable[[Message], Message]] = []
        """The same of each that is received."""
        self.on_end: list[Callable[[BaseException | None], None]] = []
        """Told once when the call has ended, with how it failed or None. A caller's stream ends when its end was
        received, or it was cancelled."""

    def sending(self, message: Any) -> Any:
        """Show a message that is sent to those who asked."""
        for see in self.on_send:
            message = see(message)
        return message

    def received(self, message: Any) -> Any:
        """Show a message that came."""
        for see in reversed(self.on_receive):
            message = see(message)
        return message

    def ended(self, error: BaseException | None) -> None:
        """Tell of the end those who asked, the last first, once."""
        told, self.on_end = self.on_end, []
        for tell in reversed(told):
            tell(error)


class Interceptor(Protocol):
    """Sees calls, of all kinds: `await proceed(call)` goes on, and returns or raises how the call ended.

    A caller's stream is open when it returns; `Call.on_end` tells of the end. Without it an interceptor answers the
    call itself: by raising, or with a message where one is due. What it adds to a call it adds before.
    """

    async def __call__(self, call: Call, proceed: Next, /) -> Any:
        """Handle a call."""


async def intercepted(
    interceptors: Sequence[Interceptor], call: Call, last: Next, received: Callable[[Any], Any] | None = None
) -> Any:
    """Run a call through interceptors, the first outermost."""

    async def end(c: Call) -> Any:
        answer = await last(c)
        return answer if received is None else received(answer)

    def around(interceptor: Interceptor, inner: Next) -> Next:
        async def step(c: Call) -> Any:
            return await interceptor(c, inner)

        return step

    step: Next = end
    for interceptor in reversed(interceptors):
        step = around(interceptor, step)
    return await step(call)


def own_error(error: BaseException) -> BaseException:
    """Return what a caller gets of an error: one of an interceptor's own counts as this client's."""
    if isinstance(error, RpcError) or not isinstance(error, Exception):
        return error
    code = Code.DEADLINE_EXCEEDED if isinstance(error, TimeoutError) else Code.UNKNOWN
    said = RpcError(code, str(error))
    said.origin = Origin.CLIENT_SDK
    return said


def unanswered(why: str) -> RpcError:
    """Make the error of an interceptor that neither went on nor raised."""
    error = RpcError(Code.INTERNAL, why)
    error.origin, error.disposition = Origin.CLIENT_SDK, Disposition.NOT_PROCESSED
    return error
