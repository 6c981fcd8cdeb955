"""Code around calls, at their callers and at their servers: one shape for both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from google.protobuf.message import Message

from octomesh._generated import CallOptions, Method

Next: TypeAlias = Callable[["Call"], Awaitable[Any]]


class Call:
    """One call on its way through interceptors."""

    def __init__(self, method: Method[Any, Any], target: str, options: CallOptions) -> None:
        self.method: Final = method
        self.target: Final = target
        self.options: CallOptions = options
        """At a caller: what it was given; an interceptor may put others here. At a server: empty."""
        self.on_send: list[Callable[[Message], Message]] = []
        """See, and may change or refuse by raising, each message that is sent."""
        self.on_receive: list[Callable[[Message], Message]] = []
        """The same of each that is received."""

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


class Interceptor(Protocol):
    """Sees calls: `await proceed(call)` goes on, and returns or raises how the call ended.

    Without it an interceptor answers the call itself, by raising, or with a message where one is due.
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
