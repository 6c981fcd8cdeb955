"""How calls fail, over a real socket: as they do in Go, and the next call works."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from echo.v1.echo_octo import Echo, EchoClient
from echo.v1.echo_pb2 import Message
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

import octomesh
from octomesh import Code, Disposition, Origin, Reason, RpcError
from raw import PATIENCE

Handler = Callable[[Message], Any]


class Service(Echo):
    """Does what the test has put in its place."""

    def __init__(self) -> None:
        self.handle: Handler = lambda request: request
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def say(self, request: Message, _context: octomesh.ServerContext, /) -> Message:
        if request.text == "next":
            return request
        if request.text == "wait":
            self.began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        answer = self.handle(request)
        return await answer if isinstance(answer, Awaitable) else answer  # type: ignore[no-any-return]

    async def watch(self, request: Message, _context: octomesh.ServerContext, /) -> AsyncIterator[Message]:
        yield Message(number=1)
        yield self.handle(request)

    async def chat(
        self, requests: AsyncIterator[Message], _context: octomesh.ServerContext, /
    ) -> AsyncIterator[Message]:
        try:
            async for request in requests:
                yield request
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Ends:
    def __init__(self, service: Service, channel: octomesh.Channel, server: octomesh.Server) -> None:
        self.service = service
        self.client = EchoClient(channel)
        self.channel = channel
        self.server = server

    async def fails(self, handle: Handler) -> RpcError:
        """How a call ends whose handler does something; the next one must work."""
        self.service.handle = handle
        with pytest.raises(RpcError) as caught:
            await self.client.say(Message(), timeout=PATIENCE)
        await self.next_works()
        return caught.value

    async def next_works(self) -> None:
        assert (await self.client.say(Message(text="next"), timeout=PATIENCE)).text == "next"


@pytest.fixture(params=["unix", "tcp"])
async def ends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ends]:
    service = Service()
    listen = f"unix:{tmp_path / 's'}" if request.param == "unix" else "127.0.0.1:0"
    server = octomesh.Server("echo", listen=listen, mode="off").add(service)
    await server.start()
    async with octomesh.Channel("echo", direct=server.addresses, mode="off") as channel:
        yield Ends(service, channel, server)
    await server.stop(0)


def raising(error: BaseException) -> Handler:
    def handle(_request: Message) -> Message:
        raise error

    return handle


def kind_of(error: RpcError) -> tuple[int, int, int, int]:
    return error.code, error.reason, error.origin, error.disposition


CRASHED = (Code.INTERNAL, Reason.HANDLER_CRASHED, Origin.SERVER_SDK, Disposition.PROCESSED)
WRONG_TYPE = (Code.INTERNAL, Reason.BAD_MESSAGE, Origin.SERVER_SDK, Disposition.PROCESSED)
BAD_CALL = (Code.INVALID_ARGUMENT, Reason.UNSPECIFIED, Origin.CLIENT_SDK, Disposition.NOT_PROCESSED)


def of_application(code: int) -> tuple[int, int, int, int]:
    return code, Reason.UNSPECIFIED, Origin.APPLICATION, Disposition.PROCESSED


# What handlers raise.


@pytest.mark.parametrize("code", [*range(1, 18), 999, -1])
async def test_every_code_reaches_the_client(ends: Ends, code: int) -> None:
    error = await ends.fails(raising(RpcError(code, f"code {code}")))
    assert kind_of(error) == of_application(code)
    assert error.message == f"code {code}"


@pytest.mark.parametrize("text", ["100%", "a\r\nb", "ключ 🗝 \0 end", "x" * (8 << 10)])
async def test_a_text_arrives_as_it_is(ends: Ends, text: str) -> None:
    assert (await ends.fails(raising(RpcError(Code.ABORTED, text)))).message == text


async def test_details_arrive_in_order_also_unknown_ones(ends: Ends) -> None:
    unknown = AnyMessage(type_url="type.googleapis.com/no.such.Type", value=b"\1\2\3")
    error = await ends.fails(raising(RpcError(Code.NOT_FOUND, "no", details=[Duration(seconds=1), unknown])))
    lasts = Duration()
    assert error.details[0].Unpack(lasts)
    assert lasts.seconds == 1
    assert error.details[1] == unknown


def endless(request: Message) -> Message:
    return endless(request)


@pytest.mark.parametrize(
    ("handle", "code"),
    [
        (raising(ValueError("plain")), Code.UNKNOWN),
        (raising(TimeoutError("too late")), Code.DEADLINE_EXCEEDED),
        (raising(StopIteration()), Code.UNKNOWN),
        (raising(StopAsyncIteration()), Code.UNKNOWN),
        (raising(BaseExceptionGroup("several", [ValueError("one")])), Code.UNKNOWN),
        (raising(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "\ud800")), Code.UNKNOWN),
        (endless, Code.UNKNOWN),
    ],
)
async def test_an_exception_of_the_language_is_the_applications_own(ends: Ends, handle: Handler, code: Code) -> None:
    assert kind_of(await ends.fails(handle)) == of_application(code)


@pytest.mark.parametrize(
    "crash", [SystemExit("secret"), GeneratorExit("secret"), BaseExceptionGroup("secret", [SystemExit(1)])]
)
async def test_what_ends_programs_ends_the_call_alone(ends: Ends, crash: BaseException, caplog: Any) -> None:
    caplog.set_level(logging.ERROR, "octomesh")
    error = await ends.fails(raising(crash))
    assert kind_of(error) == CRASHED
    assert "secret" not in str(error)
    assert "secret" in caplog.text


async def test_a_task_that_the_handler_waited_for_and_that_was_cancelled_is_a_crash(ends: Ends) -> None:
    async def handle() -> Message:
        inner = asyncio.create_task(asyncio.sleep(PATIENCE))
        inner.cancel()
        await inner
        return Message()

    assert kind_of(await ends.fails(lambda _: handle())) == CRASHED


async def test_the_word_of_a_call_that_the_handler_made_is_not_passed_on_as_its_own(ends: Ends) -> None:
    downstream = RpcError(Code.UNAVAILABLE, "no proxy", retry_after=1.5)
    downstream.reason, downstream.origin = Reason.PROXY_DRAINING, Origin.CLIENT_PROXY
    downstream.disposition = Disposition.NOT_PROCESSED
    error = await ends.fails(raising(downstream))
    assert kind_of(error) == of_application(Code.UNAVAILABLE)
    assert error.retry_after == 1.5


def test_an_interrupt_reaches_who_runs_the_loop_and_the_caller_an_answer(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 's'}"
    ended: list[BaseException] = []
    up = threading.Event()

    def serve() -> None:
        async def main() -> None:
            service = Service()
            service.handle = raising(KeyboardInterrupt())
            server = octomesh.Server("echo", listen=address, mode="off").add(service)
            await server.start()
            up.set()
            try:
                await asyncio.Event().wait()
            finally:
                await server.stop()

        try:
            asyncio.run(main())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    assert up.wait(PATIENCE)

    async def call() -> None:
        async with octomesh.Channel("echo", direct=[address], mode="off") as channel:
            with pytest.raises(RpcError) as caught:
                await EchoClient(channel).say(Message(), timeout=PATIENCE)
            assert kind_of(caught.value) == CRASHED

    asyncio.run(call())
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert [type(error) for error in ended] == [KeyboardInterrupt]


# What handlers and callers give that is no message of theirs.


@pytest.mark.parametrize("given", [None, 7, "text", Duration(), [Message()]], ids=lambda g: type(g).__name__)
async def test_a_handler_that_gives_another_type_fails_its_call_alone(ends: Ends, given: Any) -> None:
    error = await ends.fails(lambda _: given)
    assert kind_of(error) == WRONG_TYPE
    assert f"gave {type(given).__qualname__}" in error.message
    stream = ends.client.watch(Message(), timeout=PATIENCE)
    first = await stream.receive()
    assert first is not None
    assert first.number == 1
    with pytest.raises(RpcError) as caught:
        await stream.receive()
    assert kind_of(caught.value) == WRONG_TYPE
    await ends.next_works()


async def test_a_handler_that_is_no_coroutine_fails_its_call_alone() -> None:
    class Plain(Echo):
        def say(self, request: Message, _context: octomesh.ServerContext, /) -> Any:
            return request

        def watch(self, _request: Message, _context: octomesh.ServerContext, /) -> Any:
            return [Message()]

    server = octomesh.Server("echo", mode="off").add(Plain())
    async with octomesh.in_process(server) as channel:
        client = EchoClient(channel)
        with pytest.raises(RpcError, match="gave Message, not an awaitable") as caught:
            await client.say(Message(), timeout=PATIENCE)
        assert kind_of(caught.value) == WRONG_TYPE
        with pytest.raises(RpcError, match="gave list, not an async iterator") as caught:
            await client.watch(Message(), timeout=PATIENCE).receive()
        assert kind_of(caught.value) == WRONG_TYPE
    await server.stop()


@pytest.mark.parametrize("given", [None, 7, "text", Duration(seconds=1), b""], ids=lambda g: type(g).__name__)
async def test_a_caller_that_gives_another_type_is_told_before_anything_is_sent(ends: Ends, given: Any) -> None:
    with pytest.raises(RpcError, match=r"takes echo\.v1\.Message, not") as caught:
        await ends.client.say(given, timeout=PATIENCE)
    assert kind_of(caught.value) == BAD_CALL
    with pytest.raises(RpcError) as caught:
        await ends.client.watch(given, timeout=PATIENCE).receive()
    assert kind_of(caught.value) == BAD_CALL
    async with ends.client.chat(timeout=PATIENCE) as chat:
        with pytest.raises(RpcError, match=r"takes echo\.v1\.Message, not") as caught:
            await chat.send(given)
        assert kind_of(caught.value)[:3] == BAD_CALL[:3]
        await chat.send(Message(text="the stream goes on"))
        answer = await chat.receive()
        assert answer is not None
        assert answer.text == "the stream goes on"
    await ends.next_works()


@pytest.mark.parametrize(
    ("service", "name", "kind", "reason"),
    [
        ("no.Such", "Say", octomesh.Kind.UNARY, Reason.UNKNOWN_SERVICE),
        ("echo.v1.Echo", "No", octomesh.Kind.UNARY, Reason.UNKNOWN_METHOD),
        ("echo.v1.Echo", "Chat", octomesh.Kind.UNARY, Reason.UNKNOWN_METHOD),
    ],
)
async def test_unknown_services_methods_and_kinds(
    ends: Ends, service: str, name: str, kind: octomesh.Kind, reason: Reason
) -> None:
    with pytest.raises(RpcError) as caught:
        await ends.channel.unary(octomesh.Method(service, name, kind, Message, Message), Message(), {})
    assert kind_of(caught.value) == (Code.UNIMPLEMENTED, reason, Origin.SERVER_SDK, Disposition.NOT_PROCESSED)


# Callers that are cancelled.


async def test_a_task_that_is_cancelled_before_it_began_sends_nothing(ends: Ends) -> None:
    task = asyncio.create_task(ends.client.say(Message(text="wait")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ends.next_works()
    assert not ends.server.running


async def test_a_task_that_is_cancelled_cancels_its_handler(ends: Ends) -> None:
    task = asyncio.create_task(ends.client.say(Message(text="wait")))
    await begun(ends)
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(PATIENCE):
        await ends.service.cancelled.wait()
    await ends.next_works()


async def test_a_task_that_is_cancelled_after_the_end_has_its_answer(ends: Ends) -> None:
    task = asyncio.create_task(ends.client.say(Message(text="next")))
    assert (await task).text == "next"
    assert not task.cancel()
    await ends.next_works()


async def test_a_timeout_of_asyncio_cancels_the_handler(ends: Ends) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await ends.client.say(Message(text="wait"))
    assert not isinstance(caught.value, RpcError)
    async with asyncio.timeout(PATIENCE):
        await ends.service.cancelled.wait()
    await ends.next_works()


async def test_a_group_that_fails_cancels_the_calls_of_its_tasks(ends: Ends) -> None:
    async def fail() -> None:
        await begun(ends)
        raise ValueError("the group is over")

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ends.client.say(Message(text="wait")))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await grouped()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    async with asyncio.timeout(PATIENCE):
        await ends.service.cancelled.wait()
    await ends.next_works()


async def test_a_stream_that_is_cancelled_while_it_waits_ends_so(ends: Ends) -> None:
    chat = ends.client.chat()
    await chat.send(Message(text="one"))
    await chat.receive()
    receiving = asyncio.ensure_future(chat.receive())
    await asyncio.sleep(0)
    chat.cancel()
    chat.cancel()
    with pytest.raises(RpcError) as caught:
        await receiving
    assert kind_of(caught.value)[:3] == (Code.CANCELLED, Reason.CANCELLED, Origin.CLIENT_SDK)
    async with asyncio.timeout(PATIENCE):
        await ends.service.cancelled.wait()
    await ends.next_works()


async def begun(ends: Ends) -> None:
    """Wait until the handler runs."""
    async with asyncio.timeout(PATIENCE):
        await ends.service.began.wait()


# Settings.


def test_a_socket_path_over_the_limit_is_refused_with_the_limit() -> None:
    path = "/" + "x" * 107
    for make in (
        lambda: octomesh.Channel("echo", socket=path),
        lambda: octomesh.Channel("echo", direct=[f"unix:{path}"], mode="off"),
        lambda: octomesh.Server("echo", listen=f"unix:{path}", mode="off"),
        lambda: octomesh.Server("echo", socket=path),
        lambda: octomesh.Server("echo", socket="/" + "ü" * 54),
    ):
        with pytest.raises(ValueError, match="the limit is 107"):
            make()


def test_errors_go_between_processes() -> None:
    import pickle

    error = RpcError(Code.DEADLINE_EXCEEDED, "late", details=[Duration(seconds=3)], retry_after=2)
    error.origin = Origin.CLIENT_PROXY
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, octomesh.DeadlineExceededError)
    assert kind_of(copy) == kind_of(error)
    assert (copy.message, copy.retry_after, len(copy.details)) == ("late", 2, 1)
