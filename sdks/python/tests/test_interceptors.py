"""Code around calls, at servers and at callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from echo.v1.echo_octo import Echo, EchoClient
from echo.v1.echo_pb2 import Message

import octomesh
from octomesh import Code, Origin, RpcError
from octomesh._wire.frame import END, MSG, RESPONSE
from octomesh._wire.heads import ResponseHead
from octomesh._wire.timings import StageKind, parse_stages
from raw import PATIENCE, caller, say_head


class Service(Echo):
    async def say(self, request: Message, context: octomesh.ServerContext, /) -> Message:
        if request.text == "no":
            raise RpcError(Code.NOT_FOUND, "nothing here")
        if request.text == "sleep":
            await asyncio.sleep(0.002)
        return Message(number=request.number + 1, text=context.traceparent)

    async def watch(self, request: Message, _context: octomesh.ServerContext, /) -> AsyncIterator[Message]:
        for n in range(request.number):
            yield Message(number=n)

    async def collect(self, requests: AsyncIterator[Message], _context: octomesh.ServerContext, /) -> Message:
        return Message(number=sum([request.number async for request in requests]))


class Journal:
    """Notes what an interceptor sees."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def watching(self, name: str) -> octomesh.Interceptor:
        async def watch(call: octomesh.Call, proceed: octomesh.Next, /) -> Any:
            def saw(what: str) -> Any:
                def note(message: Any) -> Any:
                    self.lines.append(f"{name} {what} {message.number}")
                    return message

                return note

            def ended(error: BaseException | None) -> None:
                how = error.code if isinstance(error, RpcError) else Code.OK if error is None else type(error)
                self.lines.append(f"{name} ends {getattr(how, 'name', how)}")

            call.on_send.append(saw("sends"))
            call.on_receive.append(saw("receives"))
            call.on_end.append(ended)
            self.lines.append(f"{name} begins {call.method.name}")
            return await proceed(call)

        return watch

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


async def test_a_servers_interceptors_see_calls_of_all_kinds() -> None:
    far = Journal()
    server = octomesh.Server("echo", mode="off", interceptors=[far.watching("a"), far.watching("b")]).add(Service())
    async with octomesh.in_process(server) as channel:
        client = EchoClient(channel)
        await client.say(Message(number=7), timeout=PATIENCE)
        assert far.take() == [
            "a begins Say",
            "b begins Say",
            "b receives 7",
            "a receives 7",
            "a sends 8",
            "b sends 8",
            "b ends OK",
            "a ends OK",
        ]
        assert [m.number async for m in client.watch(Message(number=2), timeout=PATIENCE)] == [0, 1]
        assert far.take() == [
            "a begins Watch",
            "b begins Watch",
            "b receives 2",
            "a receives 2",
            "a sends 0",
            "b sends 0",
            "a sends 1",
            "b sends 1",
            "b ends OK",
            "a ends OK",
        ]
        with pytest.raises(RpcError):
            await client.say(Message(text="no"), timeout=PATIENCE)
        assert far.take()[-2:] == ["b ends NOT_FOUND", "a ends NOT_FOUND"]
        with pytest.raises(RpcError):
            await client.again(Message(), timeout=PATIENCE)
        assert far.take()[-2:] == ["b ends UNIMPLEMENTED", "a ends UNIMPLEMENTED"]
    await server.stop()


async def test_a_servers_interceptor_may_answer_change_and_refuse() -> None:
    async def guard(call: octomesh.Call, proceed: octomesh.Next, /) -> Any:
        context = call.context
        assert context is not None
        words = dict(context.metadata)
        if "x-token" not in words:
            raise RpcError(Code.UNAUTHENTICATED, "no token")
        if words["x-token"] == "cached":
            return Message(text="from memory")
        context.set_header("served-by", "guard")
        call.request = Message(number=call.request.number * 2)
        with octomesh.trace_context(f"00-{'1' * 32}-{'2' * 16}-01"):
            return await proceed(call)

    server = octomesh.Server("echo", mode="off", interceptors=[guard]).add(Service())
    async with octomesh.in_process(server) as channel:
        client = EchoClient(channel)
        with pytest.raises(RpcError) as caught:
            await client.say(Message(), timeout=PATIENCE)
        assert (caught.value.code, caught.value.origin) == (Code.UNAUTHENTICATED, Origin.APPLICATION)
        with pytest.raises(RpcError) as caught:
            await client.watch(Message(), timeout=PATIENCE).receive()
        assert caught.value.code is Code.UNAUTHENTICATED
        info = octomesh.CallInfo()
        answer = await client.say(Message(number=5), timeout=PATIENCE, metadata=[("x-token", "t")], info=info)
        assert answer.number == 11
        assert info.headers == [("served-by", "guard")]
        answer = await client.say(Message(), timeout=PATIENCE, metadata=[("x-token", "cached")])
        assert answer.text == "from memory"
    await server.stop()


async def test_a_server_says_where_the_time_went_to_who_asks() -> None:
    server = octomesh.Server("echo", listen="127.0.0.1:0", mode="off", instance="echo-1").add(Service())
    await server.start()
    raw = await caller(server.addresses[0])
    body = Message(text="sleep").SerializeToString()
    for head, wanted in ((say_head(want_timings=True), True), (say_head(), False)):
        raw.call(head, MSG | END, body)
        stages = parse_stages(ResponseHead.parse((await raw.next(RESPONSE))[3]).timings)
        assert bool(stages) == wanted
        if wanted:
            handler = {stage.kind: stage for stage in stages}[StageKind.HANDLER]
            assert handler.duration_us >= 2000
            assert handler.instance == b"echo-1"
    raw.call(say_head(want_timings=True, method=b"No"), MSG | END)
    stages = parse_stages(ResponseHead.parse((await raw.next(RESPONSE))[3]).timings)
    assert {stage.kind for stage in stages} <= {StageKind.SERVER_QUEUE}
    raw.writer.close()
    await server.stop(0)
