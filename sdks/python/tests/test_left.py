"""What users leave half-way, and what is left behind at the end: no task, stream, timer, thread or file."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from echo.v1.echo_octo import Echo, EchoClient, EchoClientSync
from echo.v1.echo_pb2 import Message

import octomesh
from directories import PATIENCE, until
from octomesh._clock import Alarms

DAY = 86_400.0


class Leaving(Echo):
    """Its handlers leave their requests, or wait for their caller to leave."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cleaned = asyncio.Event()

    async def say(self, request: Message, _context: octomesh.ServerContext, /) -> Message:
        if request.text == "wait":
            await self._wait()
        return request

    async def watch(self, request: Message, _context: octomesh.ServerContext, /) -> AsyncIterator[Message]:
        yield request
        await self._wait()

    async def collect(self, requests: AsyncIterator[Message], _context: octomesh.ServerContext, /) -> Message:
        async for request in requests:
            return request
        raise AssertionError("nothing was sent")

    async def chat(
        self, requests: AsyncIterator[Message], _context: octomesh.ServerContext, /
    ) -> AsyncIterator[Message]:
        async for request in requests:
            yield request
            if request.text == "enough":
                return

    async def _wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned.set()


class Ends:
    def __init__(self, tmp_path: Path) -> None:
        self.service = Leaving()
        self.server = octomesh.Server("echo", listen=f"unix:{tmp_path / 's'}", mode="off").add(self.service)
        self.channel = octomesh.Channel("echo", direct=[f"unix:{tmp_path / 's'}"], mode="off")
        self.client = EchoClient(self.channel)

    async def nothing_runs(self) -> None:
        """Both ends have forgotten their calls, and another one works."""
        await until(lambda: not self.server.running)
        assert (await self.client.say(Message(text="next"), timeout=PATIENCE)).text == "next"


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    ends = Ends(tmp_path)
    await ends.server.start()
    async with ends.channel:
        yield ends
    await ends.server.stop(0)


async def test_a_handler_that_leaves_its_requests_has_answered(ends: Ends) -> None:
    async with ends.client.collect(timeout=PATIENCE) as stream:
        await stream.send(Message(text="first"))
        assert (await stream.close_and_receive()).text == "first"
    stream = ends.client.collect(timeout=PATIENCE)
    await stream.send(Message(text="first"))
    answer = asyncio.ensure_future(stream.close_and_receive())
    assert (await answer).text == "first"
    await ends.nothing_runs()


async def test_who_sends_on_to_a_handler_that_has_left_is_told(ends: Ends) -> None:
    async with ends.client.chat(timeout=PATIENCE) as chat:
        await chat.send(Message(text="enough"))
        answer = await chat.receive()
        assert answer is not None
        assert answer.text == "enough"
        assert await chat.receive() is None
        with pytest.raises(octomesh.CallEndedError, match="receiving says how"):
            await chat.send(Message(text="more"))
        assert await chat.receive() is None
    await ends.nothing_runs()


async def test_a_generator_that_the_caller_closes_cancels_its_call(ends: Ends) -> None:
    async def forward() -> AsyncIterator[Message]:
        async for message in ends.client.watch(Message(text="first")):
            yield message

    generator = forward()
    async with aclosing(generator):  # type: ignore[type-var]
        assert (await anext(generator)).text == "first"
    async with asyncio.timeout(PATIENCE):
        await ends.service.cleaned.wait()
    await ends.nothing_runs()


async def test_a_stream_that_is_dropped_cancels_its_call(ends: Ends) -> None:
    stream = ends.client.watch(Message(text="first"))
    assert await stream.receive() is not None
    del stream
    async with asyncio.timeout(PATIENCE):
        await ends.service.cleaned.wait()
    await ends.nothing_runs()


async def test_callers_that_are_cancelled_leave_nothing(ends: Ends) -> None:
    await ends.nothing_runs()
    before = asyncio.all_tasks()
    for turns in range(50):
        calls = [asyncio.create_task(ends.client.say(Message(text="wait"), timeout=DAY)) for _ in range(10)]
        for _ in range(turns):  # before it began, while it is sent, and while its handler waits
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(e) for e in ended} == {asyncio.CancelledError}
    await until(lambda: not ends.server.running)
    await until(lambda: asyncio.all_tasks() <= before)
    await ends.nothing_runs()


async def test_an_answer_that_came_is_not_cancelled_any_more(ends: Ends) -> None:
    stream = ends.client.chat(timeout=PATIENCE)
    await stream.send(Message(text="enough"))
    assert await stream.receive() is not None
    assert await stream.receive() is None
    stream.cancel()
    stream.cancel()
    assert await stream.receive() is None
    await ends.nothing_runs()


class Clock(asyncio.SelectorEventLoop):
    """Counts the timers that are set."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []

    def call_at(self, when: float, *args: object, **kwargs: object) -> asyncio.TimerHandle:
        timer = super().call_at(when, *args, **kwargs)  # type: ignore[arg-type]
        self.timers.append(timer)
        return timer


class Nobody:
    def on_deadline(self) -> None:
        raise AssertionError("it was cleared")


def test_deadlines_share_one_timer_and_are_forgotten() -> None:
    loop = Clock()
    try:
        deadlines = Alarms(loop)
        begin = loop.time()
        owners = [Nobody() for _ in range(1000)]
        held = [weakref.ref(owner) for owner in owners]
        set_ = [deadlines.set(begin + DAY + n, owner) for n, owner in enumerate(owners)]
        assert len(loop.timers) == 1
        for alarm in set_:
            deadlines.clear(alarm)
            deadlines.clear(alarm)
        assert len([t for t in loop.timers if not t.cancelled()]) <= 1
        owners.clear()
        assert [h for h in held if h() is not None] == []
    finally:
        loop.close()


CALLING = """
import asyncio, sys, octomesh
sys.path.insert(0, sys.argv[2])
from echo.v1.echo_octo import EchoClient
from echo.v1.echo_pb2 import Message

async def main():
    channel = octomesh.Channel("echo", direct=[sys.argv[1]], mode="off")
    client = EchoClient(channel)
    print((await client.say(Message(text="hello"), timeout=86400)).text)
    if "close" in sys.argv:
        await channel.close()

asyncio.run(main(), debug=True)
"""


@pytest.mark.parametrize("how", ["close", "forget"])
async def test_a_program_ends_with_its_last_call(ends: Ends, how: str) -> None:
    """Although that call's deadline is a day away; and without a word on standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CALLING,
        ends.server.addresses[0],
        str(Path(__file__).parent / "gen"),
        how,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"hello\n", b"")


def open_files() -> set[str]:
    return {f"{n}: {os.readlink(f'/proc/self/fd/{n}')}" for n in os.listdir("/proc/self/fd") if is_open(n)}


def is_open(number: str) -> bool:
    try:
        os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:  # the listing's own
        return False
    return True


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files of a process are listed in /proc")
def test_no_thread_task_or_file_is_left(tmp_path: Path) -> None:
    async def calls() -> None:
        ends = Ends(tmp_path)
        await ends.server.start()
        async with ends.channel:
            assert (await ends.client.say(Message(text="hello"), timeout=PATIENCE)).text == "hello"
            asyncio.create_task(ends.client.say(Message(text="wait"))).add_done_callback(lambda t: t.exception())
            async with asyncio.timeout(PATIENCE):
                await ends.service.begun.wait()

            def block() -> None:
                with octomesh.SyncChannel("echo", direct=ends.server.addresses, mode="off") as channel:
                    assert EchoClientSync(channel).say(Message(text="hello"), timeout=PATIENCE).text == "hello"

            thread = threading.Thread(target=block)
            thread.start()
            await until(lambda: not thread.is_alive())
        await ends.server.stop(0)
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(calls())  # what a process keeps once it has called, it may keep
    threads, files = set(threading.enumerate()), open_files()
    asyncio.run(calls())
    assert set(threading.enumerate()) <= threads
    assert open_files() <= files
    assert list(tmp_path.iterdir()) == []
