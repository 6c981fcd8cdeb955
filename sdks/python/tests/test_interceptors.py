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
    try:
        raw = await caller(server.addresses[0])
        body = Message(text="sleep").SerializeToString()
        for head, wanted in ((say_head(want_timings=True), True), (say_head(), False)):
            raw.call(head, MSG | END, body)
            stages = parse_stages(ResponseHead.parse((await raw.next(RESPONSE))[3]).timings)
            assert bool(stages) == wanted
            if wanted:
                handler = {stage.kind: stage for stage in stages}[StageKind.HANDLER]
                assert handler.duration_us >= 1000, "it sleeps for 2 ms, less what a loop's timer may come too early"
                assert handler.instance == b"echo-1"
        raw.call(say_head(want_timings=True, method=b"No"), MSG | END)
        stages = parse_stages(ResponseHead.parse((await raw.next(RESPONSE))[3]).timings)
        assert {stage.kind for stage in stages} <= {StageKind.SERVER_QUEUE}
        raw.writer.close()
    finally:
        await server.stop(0)


async def test_a_callers_interceptors_see_calls_of_all_kinds() -> None:
    near = Journal()
    server = octomesh.Server("echo", mode="off").add(Service())
    interceptors = [near.watching("a"), near.watching("b")]
    async with octomesh.in_process(server, interceptors=interceptors) as channel:
        client = EchoClient(channel)
        await client.say(Message(number=7), timeout=PATIENCE)
        assert near.take() == [
            "a begins Say", "b begins Say", "a sends 7", "b sends 7", "b receives 8", "a receives 8",
            "b ends OK", "a ends OK",
        ]  # fmt: skip
        assert [m.number async for m in client.watch(Message(number=2), timeout=PATIENCE)] == [0, 1]
        assert near.take() == [
            "a begins Watch", "b begins Watch", "a sends 2", "b sends 2", "b receives 0", "a receives 0",
            "b receives 1", "a receives 1", "b ends OK", "a ends OK",
        ]  # fmt: skip
        stream = client.collect(timeout=PATIENCE)
        await stream.send(Message(number=3))
        await stream.send(Message(number=4))
        assert (await stream.close_and_receive()).number == 7
        assert near.take() == [
            "a begins Collect", "b begins Collect", "a sends 3", "b sends 3", "a sends 4", "b sends 4",
            "b receives 7", "a receives 7", "b ends OK", "a ends OK",
        ]  # fmt: skip
        with pytest.raises(RpcError):
            await client.say(Message(text="no"), timeout=PATIENCE)
        assert near.take()[-2:] == ["b ends NOT_FOUND", "a ends NOT_FOUND"]
        with pytest.raises(RpcError):
            await client.chat(timeout=PATIENCE).receive()
        assert near.take()[-2:] == ["b ends UNIMPLEMENTED", "a ends UNIMPLEMENTED"]
        async with client.watch(Message(number=1_000_000), timeout=PATIENCE) as left:
            await left.receive()
        assert near.take()[-2:] == ["b ends CANCELLED", "a ends CANCELLED"]
    await server.stop()


class Refusing:
    """An interceptor that does what a test says, and a client behind it."""

    def __init__(self, act: octomesh.Interceptor) -> None:
        self.server = octomesh.Server("echo", mode="off").add(Service())
        self.channel = octomesh.in_process(self.server, interceptors=[act])

    async def __aenter__(self) -> EchoClient:
        return EchoClient(await self.channel.__aenter__())

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop(0)


async def test_a_callers_interceptor_may_answer_change_and_refuse() -> None:
    async def answers(_call: octomesh.Call, _proceed: octomesh.Next, /) -> Any:
        return Message(text="from memory")

    async with Refusing(answers) as client:
        assert (await client.say(Message(), timeout=PATIENCE)).text == "from memory"
        with pytest.raises(RpcError, match="opened no stream") as caught:
            await client.watch(Message(), timeout=PATIENCE).receive()
        assert (caught.value.code, caught.value.origin) == (Code.INTERNAL, Origin.CLIENT_SDK)

    async def refuses(_call: octomesh.Call, _proceed: octomesh.Next, /) -> Any:
        raise ValueError("not today")

    async with Refusing(refuses) as client:
        for call in (client.say(Message(), timeout=PATIENCE), client.chat(timeout=PATIENCE).receive()):
            with pytest.raises(RpcError, match="not today") as caught:
                await call
            assert (caught.value.code, caught.value.origin) == (Code.UNKNOWN, Origin.CLIENT_SDK)
            assert isinstance(caught.value.__cause__, ValueError)

    async def says_nothing(_call: octomesh.Call, _proceed: octomesh.Next, /) -> Any:
        return None

    async with Refusing(says_nothing) as client:
        with pytest.raises(RpcError, match="instead of a response"):
            await client.say(Message(), timeout=PATIENCE)

    async def changes(call: octomesh.Call, proceed: octomesh.Next, /) -> Any:
        call.options = {**call.options, "metadata": [("x-added", "!")]}
        call.request = Message(number=20)
        return await proceed(call)

    async with Refusing(changes) as client:
        assert (await client.say(Message(number=1), timeout=PATIENCE)).number == 21
        assert len([m async for m in client.watch(Message(number=1), timeout=PATIENCE)]) == 20

    async def begins_a_trace(call: octomesh.Call, proceed: octomesh.Next, /) -> Any:
        with octomesh.trace_context(f"00-{'3' * 32}-{'4' * 16}-01"):
            return await proceed(call)

    async with Refusing(begins_a_trace) as client:
        assert (await client.say(Message(), timeout=PATIENCE)).text == f"00-{'3' * 32}-{'4' * 16}-01"

    async def repents(call: octomesh.Call, proceed: octomesh.Next, /) -> Any:
        await proceed(call)
        raise RpcError(Code.ABORTED, "after all not")

    async with Refusing(repents) as client:
        with pytest.raises(RpcError, match="after all not"):
            await client.watch(Message(number=5), timeout=PATIENCE).receive()


async def test_timings_add_up_to_what_the_caller_waited() -> None:
    server = octomesh.Server("echo", mode="off", application="echo", instance="echo-1").add(Service())
    async with octomesh.in_process(server) as channel:
        client = EchoClient(channel)
        timings = octomesh.Timings()
        await client.say(Message(text="sleep"), timeout=PATIENCE, timings=timings)
        # It sleeps for twice that, less what a timer may come too early.
        assert timings.of(octomesh.StageKind.HANDLER) >= 0.001
        assert timings.total - 2e-6 <= sum(stage.seconds for stage in timings.stages) <= timings.total + 1e-9
        assert {s.instance for s in timings.stages if s.kind is octomesh.StageKind.HANDLER} == {"echo-1"}
        timings = octomesh.Timings()
        with pytest.raises(RpcError):
            await client.say(Message(text="no"), timeout=PATIENCE, timings=timings)
        assert timings.total > 0
        timings = octomesh.Timings()
        assert len([m async for m in client.watch(Message(number=2), timeout=PATIENCE, timings=timings)]) == 2
        assert timings.total - 2e-6 <= sum(stage.seconds for stage in timings.stages) <= timings.total + 1e-9
        assert timings.of(octomesh.StageKind.HANDLER) > 0
        timings = octomesh.Timings()
        with pytest.raises(TimeoutError):
            await client.say(Message(), timeout=0, timings=timings)
    await server.stop()
