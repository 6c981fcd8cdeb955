"""Calls of a stranger's service, of all four kinds, by asyncio and from a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import octomesh
from greet.v1.greet_pb2 import GreetRequest, GreetResponse
from odd import snake_case_pb2
from odd.snake_case_octo import import_, importClient, importClientSync

Word: Any = getattr(getattr(snake_case_pb2, "None"), "class")


def word(text: str) -> Any:
    return Word(**{"lambda": text})


def text_of(message: Any) -> str:
    text: str = getattr(message, "lambda")
    return text


class Odd(import_):
    """It lacks none."""

    async def pass_(self, request: Any, _context: octomesh.ServerContext, /) -> Any:
        return request

    async def get_http(self, requests: AsyncIterator[Any], _context: octomesh.ServerContext, /) -> GreetResponse:
        return GreetResponse(text="".join([text_of(request) async for request in requests]))

    async def range(self, request: GreetRequest, _context: octomesh.ServerContext, /) -> AsyncIterator[Any]:
        for letter in request.name:
            yield word(letter)

    async def yield_(
        self, requests: AsyncIterator[Any], _context: octomesh.ServerContext, /
    ) -> AsyncIterator[GreetResponse]:
        async for request in requests:
            yield GreetResponse(text=text_of(request))


async def by_asyncio(client: importClient) -> None:
    assert text_of(await client.pass_(word("a"))) == "a"
    sending = client.get_http()
    for text in "abc":
        await sending.send(word(text))
    assert (await sending.close_and_receive()).text == "abc"
    assert [text_of(m) async for m in client.range(GreetRequest(name="xyz"))] == ["x", "y", "z"]
    async with client.yield_() as chat:
        await chat.send(word("hi"))
        answer = await chat.receive()
        assert answer is not None
        assert answer.text == "hi"
        await chat.close_send()
        assert await chat.receive() is None
    try:
        await client.lacking(getattr(snake_case_pb2, "None")())
    except octomesh.RpcError as error:
        assert error.code is octomesh.Code.UNIMPLEMENTED
    else:
        raise AssertionError("a method that is lacking answers")


def from_a_thread(address: str) -> None:
    with octomesh.SyncChannel("odd", mode="off", direct=[address]) as channel:
        client = importClientSync(channel)
        assert text_of(client.pass_(word("a"))) == "a"
        sending = client.get_http()
        for text in "abc":
            sending.send(word(text))
        assert sending.close_and_receive().text == "abc"
        assert [text_of(m) for m in client.range(GreetRequest(name="xyz"))] == ["x", "y", "z"]
        with client.yield_() as chat:
            chat.send(word("hi"))
            answer = chat.receive()
            assert answer is not None
            assert answer.text == "hi"
            chat.close_send()
            assert chat.receive() is None


async def main() -> None:
    server = octomesh.Server("odd", mode="off", listen="127.0.0.1:0").add(Odd())
    await server.start()
    async with octomesh.Channel("odd", mode="off", direct=server.addresses) as channel:
        await by_asyncio(importClient(channel))
    await asyncio.to_thread(from_a_thread, server.addresses[0])
    assert await server.stop()


asyncio.run(main())
print("ok")
