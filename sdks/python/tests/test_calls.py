"""Calls of all kinds, in one process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from echo.v1.echo_octo import Echo, EchoClient
from echo.v1.echo_pb2 import Message

import octomesh


class Service(Echo):
    async def say(self, request: Message, context: octomesh.ServerContext, /) -> Message:
        if request.text == "no":
            raise octomesh.RpcError(octomesh.Code.NOT_FOUND, "nothing here", details=[Message(text="why")])
        if request.text == "crash":
            raise ValueError("boom")
        if request.text == "slow":
            await asyncio.sleep(60)
        for key, value in context.metadata:
            context.set_header(f"h-{key}", value)
        context.set_trailer("t", "1")
        return Message(text=request.text, number=len(request.data))

    async def watch(self, request: Message, _context: octomesh.ServerContext, /) -> AsyncIterator[Message]:
        for n in range(request.number):
            yield Message(number=n, data=bytes(len(request.data)))

    async def collect(self, requests: AsyncIterator[Message], _context: octomesh.ServerContext, /) -> Message:
        total = 0
        async for request in requests:
            total += request.number
        return Message(number=total)

    async def chat(
        self, requests: AsyncIterator[Message], _context: octomesh.ServerContext, /
    ) -> AsyncIterator[Message]:
        async for request in requests:
            yield Message(number=-request.number)


@pytest.fixture
async def client() -> AsyncIterator[EchoClient]:
    server = octomesh.Server("echo").add(Service())
    async with octomesh.in_process(server) as channel:
        yield EchoClient(channel)
    assert await server.stop()


async def test_unary(client: EchoClient) -> None:
    info = octomesh.CallInfo()
    answer = await client.say(
        Message(text="hello", data=b"x" * 300_000), metadata=[("k", "v"), ("b-bin", b"\0")], info=info
    )
    assert (answer.text, answer.number) == ("hello", 300_000)
    assert info.headers == [("h-k", "v"), ("h-b-bin", b"\0")]
    assert info.trailers == [("t", "1")]


async def test_many_at_once(client: EchoClient) -> None:
    answers = await asyncio.gather(*(client.say(Message(text=str(n))) for n in range(1000)))
    assert [a.text for a in answers] == [str(n) for n in range(1000)]


async def test_errors(client: EchoClient) -> None:
    with pytest.raises(octomesh.RpcError) as caught:
        await client.say(Message(text="no"))
    error = caught.value
    assert error.code is octomesh.Code.NOT_FOUND
    assert (error.message, error.origin, error.disposition) == (
        "nothing here",
        octomesh.Origin.APPLICATION,
        octomesh.Disposition.PROCESSED,
    )
    detail = Message()
    assert error.details[0].Unpack(detail)
    assert detail.text == "why"
    with pytest.raises(octomesh.RpcError, match="boom") as caught:
        await client.say(Message(text="crash"))
    assert caught.value.code is octomesh.Code.UNKNOWN
    with pytest.raises(octomesh.RpcError) as caught:
        await client.again(Message())
    assert caught.value.code is octomesh.Code.UNIMPLEMENTED


async def test_deadline_and_cancel(client: EchoClient) -> None:
    with pytest.raises(TimeoutError) as caught:
        await client.say(Message(text="slow"), timeout=0.05)
    assert isinstance(caught.value, octomesh.RpcError)
    with pytest.raises(TimeoutError):
        await client.say(Message(), timeout=0)
    task = asyncio.create_task(client.say(Message(text="slow")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_streams(client: EchoClient) -> None:
    assert [m.number async for m in client.watch(Message(number=5))] == [0, 1, 2, 3, 4]
    assert [len(m.data) async for m in client.watch(Message(number=3, data=bytes(300_000)))] == [300_000] * 3
    assert [m async for m in client.watch(Message())] == []
    stream = client.collect()
    for n in range(1000):
        await stream.send(Message(number=n, data=bytes(1000)))
    assert (await stream.close_and_receive()).number == sum(range(1000))
    async with client.chat() as chat:
        for n in range(3):
            await chat.send(Message(number=n))
            answer = await chat.receive()
            assert answer is not None
            assert answer.number == -n
        await chat.close_send()
        assert await chat.receive() is None


async def test_many_cancelled_calls_harm_no_other(client: EchoClient) -> None:
    """Thousands within half a second are more than the peer bears on one connection (W-FLOW-13, W-FLOW-14)."""
    for n in range(6):
        calls = [asyncio.create_task(client.say(Message(text="slow"))) for _ in range(1000)]
        answer = asyncio.create_task(client.say(Message(text=str(n))))
        await asyncio.sleep(0)  # they are sent, or wait for a stream
        for call in calls:
            call.cancel()
        assert (await answer).text == str(n)
        assert all(isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*calls, return_exceptions=True))


async def test_a_stream_that_is_left_is_cancelled(client: EchoClient) -> None:
    async for message in client.watch(Message(number=1_000_000, data=bytes(1000))):
        if message.number == 3:
            break
    for turn in itertools.count():
        if not asyncio.all_tasks() - {asyncio.current_task()} or turn > 1000:
            break
        await asyncio.sleep(0.001)
    assert turn < 1000
