"""The server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Self

from google.protobuf.any_pb2 import Any as AnyMessage
from octo.conformance.v1 import control_pb2 as control
from octo.conformance.v1 import service_pb2 as service
from octo.conformance.v1.service_octo import Conformance, ConformanceClient

import octomesh
from testee.client import data, entries, files, value

if TYPE_CHECKING:
    from testee.control import Testee

DRIVING = ("conformance-response-bin", "conformance-call-id")
BEGAN = service.LedgerEntry.EVENT_BEGAN
DEFINITION = service.ResponseDefinition


class Crash(BaseException):
    """What ends a thread."""


def registration(do: control.StartServer) -> octomesh.Registration:
    """What the server says of itself.

    Not asked to, it says nothing: the reference peer, in a proxy's place, expects no connection and no call beside
    those of its script.
    """
    said = do.registration
    return octomesh.Registration(
        off=not do.HasField("registration"),
        zone=said.zone,
        weight=said.weight if said.HasField("weight") else None,
        tags=dict(said.tags),
    )


class Serving(Conformance):
    """One server that runs, and its service."""

    def __init__(self, testee: Testee, do: control.StartServer) -> None:
        self.testee = testee
        self.name = do.name
        self.ledger = testee.ledger(do.ledger)
        self.server = octomesh.Server(
            do.target,
            listen=do.listen or (),
            socket=do.socket,
            mode="auto",
            application=do.target,
            environment=do.environment,
            instance=do.name,
            tls=files(do),
            directory=do.registration.directories,
            registration=registration(do),
        ).add(self)

    async def start(self) -> str:
        """Serve; returns where direct calls go, if it listens."""
        await self.server.start()
        await asyncio.wait_for(self.server.ready(), 10)
        return next(iter(self.server.addresses), "")

    async def unary(self, request: service.CallRequest, context: octomesh.ServerContext, /) -> service.CallResponse:
        """Answer as the definition says."""
        return await self._unary("Unary", request, context)

    async def idempotent(
        self, request: service.CallRequest, context: octomesh.ServerContext, /
    ) -> service.CallResponse:
        """As unary."""
        return await self._unary("Idempotent", request, context)

    async def throw(self, request: service.CallRequest, context: octomesh.ServerContext, /) -> service.CallResponse:
        """As unary."""
        return await self._unary("Throw", request, context)

    async def _unary(
        self, method: str, request: service.CallRequest, context: octomesh.ServerContext
    ) -> service.CallResponse:
        with Handling(self, method, context, request) as h:
            return await h.single([request.data])

    async def server_stream(
        self, request: service.CallRequest, context: octomesh.ServerContext, /
    ) -> AsyncIterator[service.CallResponse]:
        """Answer with a stream."""
        with Handling(self, "ServerStream", context, request) as h:
            if h.definition.echo:
                yield service.CallResponse(data=request.data)
                h.sent()
            async for response in h.stream():
                yield response
                h.sent()
            await h.after()

    async def client_stream(
        self, requests: AsyncIterator[service.CallRequest], context: octomesh.ServerContext, /
    ) -> service.CallResponse:
        """Read a stream."""
        with Handling(self, "ClientStream", context, None) as h:
            return await h.single([r.data async for r in h.read(requests)])

    async def bidi(
        self, requests: AsyncIterator[service.CallRequest], context: octomesh.ServerContext, /
    ) -> AsyncIterator[service.CallResponse]:
        """Read a stream, and answer with one."""
        with Handling(self, "Bidi", context, None) as h:
            async for request in h.read(requests):
                if h.definition.echo:
                    yield service.CallResponse(data=request.data)
                    h.sent()
            async for response in h.stream():
                yield response
                h.sent()
            await h.after()

    async def relay(self, request: service.CallRequest, context: octomesh.ServerContext, /) -> service.CallResponse:
        """Call the next hop with what this call has brought."""
        with Handling(self, "Relay", context, request) as h:
            if not h.definition.hops:
                raise octomesh.RpcError(octomesh.Code.INVALID_ARGUMENT, "a relay without a hop")
            client = ConformanceClient(self.testee.channel(h.definition.hops[0].channel))
            del h.definition.hops[0]
            call: Callable[..., Awaitable[service.CallResponse]] = client.relay if h.definition.hops else client.unary
            return await call(
                request, metadata=list(zip(DRIVING, (h.definition.SerializeToString(), h.call_id), strict=True))
            )


class Handling:
    """One call in its handler: from the ledger's first word to its last."""

    def __init__(
        self,
        serving: Serving,
        method: str,
        context: octomesh.ServerContext,
        request: service.CallRequest | None,
    ) -> None:
        self._serving = serving
        self._method = method
        self._context = context
        self._request = request
        self._read = 0 if request is None else 1
        self._sent = 0
        self.call_id = ""
        self.definition = DEFINITION()

    def __enter__(self) -> Self:
        context, info = self._context, service.RequestInfo()
        shown = []
        for key, text in context.metadata:
            if key == DRIVING[0] and isinstance(text, bytes):
                self.definition = DEFINITION.FromString(text)
            elif key == DRIVING[1] and isinstance(text, str):
                self.call_id = text
            else:
                shown.append((key, text))
        for at in self.definition.at:
            if at.server == self._serving.name and at.HasField("response"):
                self.definition = at.response
                break
        info.metadata.extend(entries(shown))
        info.baggage.extend(entries(context.baggage))
        left = context.time_left()
        if left is not None:
            info.remaining_us = int(left * 1e6)
        info.traceparent, info.tracestate = context.traceparent, context.tracestate
        info.application, info.verified = context.peer.application, context.peer.verified
        info.hops_left = len(self.definition.hops)
        if self.definition.ledger_request and self._request is not None:
            info.request = self._request.SerializeToString()
        self._serving.testee.handlers += 1
        self._tell(BEGAN, info=info)
        for entry in self.definition.headers:
            context.set_header(entry.key, value(entry))
        if self.definition.early_headers:
            context.send_headers()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._tell(service.LedgerEntry.EVENT_CANCELLED)
        self._tell(service.LedgerEntry.EVENT_ENDED, self._read)
        self._serving.testee.handlers -= 1
        self._serving.testee.gates.pop(self.call_id, None)

    def _tell(self, event: service.LedgerEntry.Event, count: int = 0, info: service.RequestInfo | None = None) -> None:
        self._serving.ledger.write(
            service.LedgerEntry(
                call_id=self.call_id,
                event=event,
                server=self._serving.name,
                method=self._method,
                count=count,
                info=info,
            )
        )

    async def _hold(self, at: service.ResponseDefinition.Hold) -> None:
        """Wait where the definition says so, until released or cancelled."""
        if self.definition.hold == at:
            self._tell(service.LedgerEntry.EVENT_HELD)
            await self._serving.testee.gates[self.call_id].wait()

    async def single(self, requests: list[bytes]) -> service.CallResponse:
        """Answer with one message."""
        await self._hold(DEFINITION.HOLD_BEFORE_RESPONSES)
        response = service.CallResponse()
        if self.definition.responses:
            response.data = data(self.definition.responses[0])
        if self.definition.echo:
            response.data = b"".join(requests)
        self._status()
        return response

    async def read(self, requests: AsyncIterator[service.CallRequest]) -> AsyncIterator[service.CallRequest]:
        """Read requests, all or as many as the definition says."""
        d = self.definition
        while not d.HasField("read") or self._read < d.read:
            try:
                request = await anext(requests)
            except StopAsyncIteration:
                return
            self._read += 1
            yield request

    async def stream(self) -> AsyncIterator[service.CallResponse]:
        """Give the responses of the definition."""
        await self._hold(DEFINITION.HOLD_BEFORE_RESPONSES)
        responses = self.definition.responses
        for i in range(len(responses) + self.definition.repeat):
            yield service.CallResponse(data=data(responses[min(i, len(responses) - 1)]))

    async def after(self) -> None:
        """End as the definition says."""
        await self._hold(DEFINITION.HOLD_AFTER_RESPONSES)
        self._status()

    def sent(self) -> None:
        """A response was taken."""
        self._sent += 1
        if self.definition.ledger_sends:
            self._tell(service.LedgerEntry.EVENT_SENT, self._sent)

    def _status(self) -> None:
        d = self.definition
        for entry in d.trailers:
            self._context.set_trailer(entry.key, value(entry))
        if d.throw == DEFINITION.THROW_NATIVE:
            raise ValueError(d.status.message)
        if d.throw == DEFINITION.THROW_CRASH:
            raise Crash(d.status.message)
        if d.HasField("status") and d.status.code != octomesh.Code.OK:
            details = [AnyMessage(type_url=x.type_url, value=x.value) for x in d.status.details]
            raise octomesh.RpcError(d.status.code, d.status.message, details=details)
