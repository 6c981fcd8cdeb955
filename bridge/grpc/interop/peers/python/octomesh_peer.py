"""The Python SDK as client and as server, through a proxy's socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.wrappers_pb2 import BytesValue
from peer_cases import (
    ECHOED,
    FAIL_TEXT,
    SERVICE,
    Answer,
    CallFailedError,
    Chat,
    Entries,
    Hangs,
    main,
    run_cases,
    until_closed,
)

import octomesh


def _method(name: str, kind: octomesh.Kind) -> octomesh.Method[BytesValue, BytesValue]:
    return octomesh.Method(SERVICE, name, kind, BytesValue, BytesValue)


class Peer(octomesh.Service):
    """The service, as generated code would name its methods."""

    SERVICE = SERVICE
    METHODS = {  # noqa: RUF012
        "echo": _method("Echo", octomesh.Kind.UNARY),
        "watch": _method("Watch", octomesh.Kind.SERVER_STREAMING),
        "collect": _method("Collect", octomesh.Kind.CLIENT_STREAMING),
        "chat": _method("Chat", octomesh.Kind.BIDI_STREAMING),
        "fail": _method("Fail", octomesh.Kind.UNARY),
        "hang": _method("Hang", octomesh.Kind.SERVER_STREAMING),
        "ended": _method("Ended", octomesh.Kind.UNARY),
    }

    def __init__(self) -> None:
        self._hangs = Hangs()

    async def echo(self, request: BytesValue, context: octomesh.ServerContext, /) -> BytesValue:
        for key, value in context.metadata:
            if key in ECHOED:
                context.set_header(key, value)
                context.set_trailer(key, value)
        # A RESPONSE of its own carries the initial metadata ahead of the message (ADR 0015).
        context.send_headers()
        return request

    async def watch(self, request: BytesValue, _context: octomesh.ServerContext, /) -> AsyncIterator[BytesValue]:
        for number in request.value:
            yield BytesValue(value=bytes([number]))

    async def collect(self, requests: AsyncIterator[BytesValue], _context: octomesh.ServerContext, /) -> BytesValue:
        return BytesValue(value=b"".join([request.value async for request in requests]))

    async def chat(
        self, requests: AsyncIterator[BytesValue], _context: octomesh.ServerContext, /
    ) -> AsyncIterator[BytesValue]:
        async for request in requests:
            yield request

    async def fail(self, request: BytesValue, _context: octomesh.ServerContext, /) -> BytesValue:
        raise octomesh.RpcError(octomesh.Code.FAILED_PRECONDITION, FAIL_TEXT, details=[request])

    async def hang(self, request: BytesValue, _context: octomesh.ServerContext, /) -> AsyncIterator[BytesValue]:
        async for body in self._hangs.hang(request.value):
            yield BytesValue(value=body)

    async def ended(self, request: BytesValue, _context: octomesh.ServerContext, /) -> BytesValue:
        await self._hangs.of(request.value).wait()
        return request


async def serve(socket: str, target: str, environment: str) -> None:
    """Attach to a proxy."""
    server = octomesh.Server(target, mode="on", socket=socket, environment=environment, application=target).add(Peer())
    await server.start()
    await server.ready()
    print("listening here", flush=True)
    await until_closed()
    await server.stop(0)


def _failed(error: octomesh.RpcError) -> CallFailedError:
    values = []
    for detail in error.details:
        value = BytesValue()
        if not detail.Unpack(value):
            raise ValueError(f"a detail of type {detail.type_url}")
        values.append(value.value)
    return CallFailedError(int(error.code), error.message, values)


class _Chat:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def send(self, body: bytes) -> None:
        await self._stream.send(BytesValue(value=body))

    async def close_send(self) -> None:
        await self._stream.close_send()

    async def receive(self) -> bytes | None:
        try:
            message: BytesValue | None = await self._stream.receive()
        except octomesh.RpcError as error:
            raise _failed(error) from None
        return None if message is None else message.value

    def cancel(self) -> None:
        self._stream.cancel()


class Calls:
    """Calls by the SDK."""

    def __init__(self, channel: octomesh.Channel) -> None:
        self._channel = channel

    async def unary(self, method: str, body: bytes, metadata: Entries = (), gzip: bool = False) -> Answer:
        info = octomesh.CallInfo()
        options = octomesh.CallOptions(metadata=list(metadata), info=info, compression="gzip" if gzip else "identity")
        try:
            answer = await self._channel.unary(_method(method, octomesh.Kind.UNARY), BytesValue(value=body), options)
        except octomesh.RpcError as error:
            raise _failed(error) from None
        return Answer(answer.value, info.headers, info.trailers)

    async def collect(self, bodies: Sequence[bytes]) -> bytes:
        stream = self._channel.client_stream(_method("Collect", octomesh.Kind.CLIENT_STREAMING), {})
        for body in bodies:
            await stream.send(BytesValue(value=body))
        return (await stream.close_and_receive()).value

    async def server_stream(self, method: str, body: bytes, timeout: float | None = None) -> Chat:
        options = octomesh.CallOptions() if timeout is None else octomesh.CallOptions(timeout=timeout)
        return _Chat(
            self._channel.server_stream(
                _method(method, octomesh.Kind.SERVER_STREAMING), BytesValue(value=body), options
            )
        )

    async def bidi_stream(self, method: str) -> Chat:
        return _Chat(self._channel.bidi_stream(_method(method, octomesh.Kind.BIDI_STREAMING), {}))


async def call(socket: str, target: str, environment: str) -> None:
    """Make the calls of all cases."""
    async with octomesh.Channel(
        target, mode="on", socket=socket, environment=environment, application="interop-client"
    ) as channel:
        await run_cases(Calls(channel), "octomesh")


if __name__ == "__main__":
    main(octomesh.__version__, serve, call)
