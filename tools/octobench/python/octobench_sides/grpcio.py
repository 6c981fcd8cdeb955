"""grpcio's sides, by grpc.aio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

from octobench_sides.side import SERVICE, STREAM_MESSAGES, Caller, Exchange, Side, Spec, start_workers

# What grpcio's documentation and our own tries say is best for many small calls on one connection: a
# connection of its own for each channel, no retries, no pings that measure bandwidth.
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.http2.bdp_probe", 0),
]
PARSE, SERIALIZE = BytesValue.FromString, BytesValue.SerializeToString


async def _echo(request: BytesValue, _context: object) -> BytesValue:
    return BytesValue(value=request.value)


async def _stream(request: BytesValue, _context: object) -> AsyncIterator[BytesValue]:
    for _ in range(STREAM_MESSAGES):
        yield BytesValue(value=request.value)


async def _chat(requests: AsyncIterator[BytesValue], _context: object) -> AsyncIterator[BytesValue]:
    async for request in requests:
        yield BytesValue(value=request.value)


async def server(spec: Spec) -> Side:
    """Answer by grpcio."""
    running = grpc.aio.server(options=OPTIONS)
    running.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                SERVICE,
                {
                    "Echo": grpc.unary_unary_rpc_method_handler(_echo, PARSE, SERIALIZE),
                    "Stream": grpc.unary_stream_rpc_method_handler(_stream, PARSE, SERIALIZE),
                    "Chat": grpc.stream_stream_rpc_method_handler(_chat, PARSE, SERIALIZE),
                },
            ),
        )
    )
    running.add_insecure_port(spec.listen)
    await running.start()

    async def stop() -> None:
        await running.stop(None)

    return Side(stop=stop, address=spec.listen)


class _Chat:
    """A bidi call."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: BytesValue) -> None:
        """Send one."""
        await self._call.write(message)

    async def receive(self) -> BytesValue:
        """Receive one."""
        message: BytesValue = await self._call.read()
        return message


async def client(spec: Spec) -> Side:
    """Call by grpcio, each connection one of its channels."""
    channels = [grpc.aio.insecure_channel(spec.dial, options=OPTIONS) for _ in range(spec.load.connections)]

    async def stop() -> None:
        for channel in channels:
            await channel.close(None)

    return await start_workers(spec, [_caller(channel, spec.load.timeout) for channel in channels], stop)


def _caller(channel: Any, timeout: float | None) -> Caller:
    echo = channel.unary_unary(f"/{SERVICE}/Echo", SERIALIZE, PARSE)
    stream = channel.unary_stream(f"/{SERVICE}/Stream", SERIALIZE, PARSE)
    chat = channel.stream_stream(f"/{SERVICE}/Chat", SERIALIZE, PARSE)

    async def bidi() -> Exchange:
        return _Chat(chat())

    if timeout is None:
        return Caller(echo, stream, bidi)
    return Caller(lambda m: echo(m, timeout=timeout), lambda m: stream(m, timeout=timeout), bidi)
