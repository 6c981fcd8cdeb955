"""The Python SDK's sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from google.protobuf.wrappers_pb2 import BytesValue

import octomesh
from octobench_sides.side import (
    ENVIRONMENT,
    SERVICE,
    STREAM_MESSAGES,
    TARGET,
    Caller,
    Exchange,
    Side,
    Spec,
    start_workers,
)

ECHO = octomesh.Method(SERVICE, "Echo", octomesh.Kind.UNARY, BytesValue, BytesValue)
STREAM = octomesh.Method(SERVICE, "Stream", octomesh.Kind.SERVER_STREAMING, BytesValue, BytesValue)
CHAT = octomesh.Method(SERVICE, "Chat", octomesh.Kind.BIDI_STREAMING, BytesValue, BytesValue)


class Echo(octomesh.Service):
    """What generated code would make of the service."""

    SERVICE = SERVICE
    METHODS = {"echo": ECHO, "stream": STREAM, "chat": CHAT}  # noqa: RUF012

    async def echo(self, request: BytesValue, _context: octomesh.ServerContext, /) -> BytesValue:
        """Answer one message."""
        return BytesValue(value=request.value)

    async def stream(self, request: BytesValue, _context: octomesh.ServerContext, /) -> AsyncIterator[BytesValue]:
        """Answer many times."""
        for _ in range(STREAM_MESSAGES):
            yield BytesValue(value=request.value)

    async def chat(
        self, requests: AsyncIterator[BytesValue], _context: octomesh.ServerContext, /
    ) -> AsyncIterator[BytesValue]:
        """Answer each message."""
        async for request in requests:
            yield BytesValue(value=request.value)


async def server(spec: Spec) -> Side:
    """Answer by the SDK: listen, or attach to the proxy that is to be dialed."""
    make = partial(octomesh.Server, TARGET, environment=ENVIRONMENT, application=TARGET)
    if spec.dial:
        running = make(mode="on", socket=spec.dial.removeprefix("unix:"))
    else:
        running = make(mode="off", listen=spec.listen.removeprefix("tcp:"))
    running.add(Echo())
    await running.start()
    await running.ready()
    address = next(iter(running.addresses), "")
    if address and not address.startswith("unix:"):
        address = f"tcp:{address}"

    async def stop() -> None:
        await running.stop(0)

    return Side(stop=stop, address=address)


async def mesh_client(spec: Spec) -> Side:
    """Call through a proxy."""
    return await _client(
        spec,
        [
            octomesh.Channel(
                TARGET,
                mode="on",
                socket=spec.dial.removeprefix("unix:"),
                environment=ENVIRONMENT,
                application=f"caller-{i}",
            )
            for i in range(spec.load.connections)
        ],
    )


async def direct_client(spec: Spec) -> Side:
    """Call a server direct."""
    address = spec.dial.removeprefix("tcp:")
    return await _client(
        spec,
        [
            octomesh.Channel(TARGET, mode="off", direct=[address], environment=ENVIRONMENT, application=f"caller-{i}")
            for i in range(spec.load.connections)
        ],
    )


class _Chat:
    """A bidi call."""

    def __init__(self, stream: octomesh.BidiStream[BytesValue, BytesValue]) -> None:
        self._stream = stream

    async def send(self, message: BytesValue) -> None:
        """Send one."""
        await self._stream.send(message)

    async def receive(self) -> BytesValue:
        """Receive one."""
        message = await self._stream.receive()
        if message is None:
            raise ValueError("the stream has ended")
        return message


async def _client(spec: Spec, channels: list[octomesh.Channel]) -> Side:
    async def stop() -> None:
        for channel in channels:
            await channel.close()

    return await start_workers(spec, [_caller(channel, spec.load.timeout) for channel in channels], stop)


def _caller(channel: octomesh.Channel, timeout: float | None) -> Caller:
    options = octomesh.CallOptions() if timeout is None else octomesh.CallOptions(timeout=timeout)

    async def bidi() -> Exchange:
        return _Chat(channel.bidi_stream(CHAT, {}))

    return Caller(lambda m: channel.unary(ECHO, m, options), lambda m: channel.server_stream(STREAM, m, options), bidi)
