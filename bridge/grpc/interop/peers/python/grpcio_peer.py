"""grpcio as client and as server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from peer_cases import (
    ECHOED,
    FAIL_TEXT,
    FAILED_PRECONDITION,
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

PARSE, SERIALIZE = BytesValue.FromString, BytesValue.SerializeToString


class Peer:
    """The service. Its answers are compressed where the client takes that."""

    def __init__(self) -> None:
        self._hangs = Hangs()

    async def echo(self, request: BytesValue, context: Any) -> BytesValue:
        back = [entry for entry in context.invocation_metadata() if entry[0] in ECHOED]
        await context.send_initial_metadata(back)
        context.set_trailing_metadata(back)
        return request

    async def watch(self, request: BytesValue, _context: Any) -> AsyncIterator[BytesValue]:
        for number in request.value:
            yield BytesValue(value=bytes([number]))

    async def collect(self, requests: AsyncIterator[BytesValue], _context: Any) -> BytesValue:
        return BytesValue(value=b"".join([request.value async for request in requests]))

    async def chat(self, requests: AsyncIterator[BytesValue], _context: Any) -> AsyncIterator[BytesValue]:
        async for request in requests:
            yield request

    async def fail(self, request: BytesValue, context: Any) -> BytesValue:
        detail = AnyMessage()
        detail.Pack(request)
        await context.abort_with_status(
            rpc_status.to_status(Status(code=FAILED_PRECONDITION, message=FAIL_TEXT, details=[detail]))
        )
        raise AssertionError("it has aborted")

    async def hang(self, request: BytesValue, _context: Any) -> AsyncIterator[BytesValue]:
        async for body in self._hangs.hang(request.value):
            yield BytesValue(value=body)

    async def ended(self, request: BytesValue, _context: Any) -> BytesValue:
        await self._hangs.of(request.value).wait()
        return request


async def serve() -> None:
    """Serve at a port of the system's choice."""
    peer, server = Peer(), grpc.aio.server(compression=grpc.Compression.Gzip)
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(peer.echo, PARSE, SERIALIZE),
        "Watch": grpc.unary_stream_rpc_method_handler(peer.watch, PARSE, SERIALIZE),
        "Collect": grpc.stream_unary_rpc_method_handler(peer.collect, PARSE, SERIALIZE),
        "Chat": grpc.stream_stream_rpc_method_handler(peer.chat, PARSE, SERIALIZE),
        "Fail": grpc.unary_unary_rpc_method_handler(peer.fail, PARSE, SERIALIZE),
        "Hang": grpc.unary_stream_rpc_method_handler(peer.hang, PARSE, SERIALIZE),
        "Ended": grpc.unary_unary_rpc_method_handler(peer.ended, PARSE, SERIALIZE),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    await until_closed()
    await server.stop(None)


def _failed(error: grpc.aio.AioRpcError) -> CallFailedError:
    status = rpc_status.from_call(_Ended(error))
    return CallFailedError(
        error.code().value[0], error.details() or "", [_value(detail) for detail in (status.details if status else ())]
    )


class _Ended:
    """An error as rpc_status knows calls."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.trailing_metadata, self.code, self.details = error.trailing_metadata, error.code, error.details


def _value(detail: AnyMessage) -> bytes:
    value = BytesValue()
    if not detail.Unpack(value):
        raise ValueError(f"a detail of type {detail.type_url}")
    return value.value


class _Chat:
    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, body: bytes) -> None:
        await self._call.write(BytesValue(value=body))

    async def close_send(self) -> None:
        await self._call.done_writing()

    async def receive(self) -> bytes | None:
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None
        except asyncio.CancelledError:
            raise CallFailedError(1, "cancelled here") from None
        return None if message is grpc.aio.EOF else message.value

    def cancel(self) -> None:
        self._call.cancel()


class Calls:
    """Calls by grpcio."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    async def unary(self, method: str, body: bytes, metadata: Entries = (), gzip: bool = False) -> Answer:
        compression = grpc.Compression.Gzip if gzip else None
        call = self._channel.unary_unary(f"/{SERVICE}/{method}", SERIALIZE, PARSE)(
            BytesValue(value=body), metadata=tuple(metadata), compression=compression
        )
        try:
            answer = await call
            return Answer(answer.value, list(await call.initial_metadata()), list(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None

    async def collect(self, bodies: Sequence[bytes]) -> bytes:
        call = self._channel.stream_unary(f"/{SERVICE}/Collect", SERIALIZE, PARSE)
        answer: BytesValue = await call(BytesValue(value=body) for body in bodies)
        return answer.value

    async def server_stream(self, method: str, body: bytes, timeout: float | None = None) -> Chat:
        return _Chat(
            self._channel.unary_stream(f"/{SERVICE}/{method}", SERIALIZE, PARSE)(
                BytesValue(value=body), timeout=timeout
            )
        )

    async def bidi_stream(self, method: str) -> Chat:
        return _Chat(self._channel.stream_stream(f"/{SERVICE}/{method}", SERIALIZE, PARSE)())


async def call(address: str) -> None:
    """Make the calls of all cases."""
    async with grpc.aio.insecure_channel(address) as channel:
        await run_cases(Calls(channel), "grpcio")


if __name__ == "__main__":
    main(grpc.__version__, serve, call)
