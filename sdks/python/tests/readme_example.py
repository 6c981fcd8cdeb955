"""What the README shows stands between "README" and "end"; test_readme.py runs it, and compares."""

from __future__ import annotations

# README server
from collections.abc import AsyncIterator

import octomesh
from echo.v1 import echo_pb2
from echo.v1.echo_octo import Echo


class EchoService(Echo):
    async def say(self, request: echo_pb2.Message, context: octomesh.ServerContext, /) -> echo_pb2.Message:
        if not request.text:
            raise octomesh.RpcError(octomesh.Code.INVALID_ARGUMENT, "nothing to say")
        return echo_pb2.Message(text=request.text)

    async def watch(
        self, request: echo_pb2.Message, context: octomesh.ServerContext, /
    ) -> AsyncIterator[echo_pb2.Message]:
        for number in range(request.number):
            yield echo_pb2.Message(number=number)


async def serve_echo() -> None:
    await octomesh.Server("echo", listen="127.0.0.1:7000").add(EchoService()).serve()
# end


# README client
from echo.v1.echo_octo import EchoClient


async def call_echo() -> None:
    async with octomesh.Channel("echo", direct=["127.0.0.1:7000"]) as channel:
        client = EchoClient(channel)
        try:
            answer = await client.say(echo_pb2.Message(text="hello"), timeout=0.5, metadata=[("x-user", "7")])
        except octomesh.RpcError as error:
            if error.code is octomesh.Code.INVALID_ARGUMENT:
                raise SystemExit("say something") from None
            raise
        print(answer.text)
# end


# README threads
from echo.v1.echo_octo import EchoClientSync


def call_from_a_thread() -> None:
    with octomesh.SyncChannel("echo", direct=["127.0.0.1:7000"]) as channel:
        client = EchoClientSync(channel)
        print(client.say(echo_pb2.Message(text="hello"), timeout=0.5).text)
        for event in client.watch(echo_pb2.Message(number=10)):
            print(event.number)
# end


async def read_stream(client: EchoClient) -> None:
    # README streaming
    async for event in client.watch(echo_pb2.Message(number=10)):
        print(event.number)
    # end


# README interceptor
import logging
import time

log = logging.getLogger(__name__)


async def logged(call: octomesh.Call, proceed: octomesh.Next, /) -> object:
    begin = time.perf_counter()
    try:
        return await proceed(call)
    finally:
        log.info("%s took %.1f ms", call.method.full_name, (time.perf_counter() - begin) * 1000)
# end


# README testing
async def test_say() -> None:
    server = octomesh.Server("echo").add(EchoService())
    async with octomesh.in_process(server) as channel:
        answer = await EchoClient(channel).say(echo_pb2.Message(text="hello"))
    assert answer.text == "hello"
    await server.stop()
# end


# README registration
async def serve_in_a_zone() -> None:
    said = octomesh.Registration(zone="east-1", weight=50, tags={"lane": "blue"})
    await octomesh.Server("echo", listen="127.0.0.1:7000", registration=said).add(EchoService()).serve()
# end
