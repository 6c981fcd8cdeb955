"""Blocking calls and the process around them: interrupts, threads that end, interpreters that exit, signals to stop.

What ends a process is tried in a process of its own.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from echo.v1.echo_octo import Echo, EchoClientSync
from echo.v1.echo_pb2 import Message

import octomesh
from elsewhere import PATIENCE, served
from octomesh import Code, Origin, Reason, RpcError


class Waiting(Echo):
    """Its handlers wait until their caller has gone, and tell of both."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def say(self, request: Message, _context: octomesh.ServerContext, /) -> Message:
        if request.text == "at once":
            return request
        await self._wait()
        return request

    async def watch(self, request: Message, _context: octomesh.ServerContext, /) -> AsyncIterator[Message]:
        yield request
        await self._wait()

    async def _wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
def waiting() -> Iterator[tuple[Waiting, str]]:
    service = Waiting()
    with served(service) as address:
        yield service, address


def channel(address: str) -> octomesh.SyncChannel:
    return octomesh.SyncChannel("echo", direct=[address], mode="off")


@contextmanager
def program(text: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own, to which the test talks by its standard input and output."""
    path = os.pathsep.join(p for p in sys.path if p)
    head = "import sys\nimport octomesh\nfrom echo.v1.echo_octo import *\nfrom echo.v1.echo_pb2 import Message\n"
    with subprocess.Popen(
        [sys.executable, "-c", head + text, *args],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


CALLING = """
channel = octomesh.SyncChannel("echo", direct=[sys.argv[1]], mode="off")
client = EchoClientSync(channel)
"""


def test_an_interrupt_ends_a_call_that_waits(waiting: tuple[Waiting, str]) -> None:
    service, address = waiting
    text = """
try:
    client.say(Message())
except KeyboardInterrupt:
    print("interrupted", client.say(Message(text="at once")).text)
"""
    with program(CALLING + text, address) as process:
        assert service.begun.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        assert service.cancelled.wait(PATIENCE), "the call goes on alone"
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "interrupted at once\n", "")


def test_a_program_ends_although_its_calls_and_channel_are_open(waiting: tuple[Waiting, str]) -> None:
    service, address = waiting
    text = """
import threading
def call():
    client.say(Message())
threading.Thread(target=call, daemon=True).start()
stream = client.watch(Message(text="first"))
print(stream.receive().text, flush=True)
"""
    with program(CALLING + text, address) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        assert service.begun.wait(PATIENCE)
        _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (0, "")
        assert service.cancelled.wait(PATIENCE)


def test_a_thread_that_ends_with_an_open_stream_cancels_its_call(waiting: tuple[Waiting, str]) -> None:
    service, address = waiting
    with channel(address) as ch:
        client = EchoClientSync(ch)

        def run() -> None:
            stream = client.watch(Message(text="first"))
            assert (first := stream.receive()) is not None
            assert first.text == "first"

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(PATIENCE)
        gc.collect()
        assert service.cancelled.wait(PATIENCE)
        assert client.say(Message(text="at once"), timeout=PATIENCE).text == "at once"


def test_threads_share_a_channel_and_one_closes_it(waiting: tuple[Waiting, str]) -> None:
    service, address = waiting
    ch = channel(address)
    client = EchoClientSync(ch)
    ended: list[RpcError] = []

    def run() -> None:
        with pytest.raises(RpcError) as caught:
            client.say(Message())
        ended.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    assert service.begun.wait(PATIENCE)
    ch.close()
    thread.join(PATIENCE)
    assert [(e.code, e.reason, e.origin) for e in ended] == [(Code.CANCELLED, Reason.CANCELLED, Origin.CLIENT_SDK)]


def test_a_blocking_call_in_a_loops_thread_is_refused(waiting: tuple[Waiting, str]) -> None:
    _, address = waiting
    with channel(address) as ch:

        async def main() -> None:
            with pytest.raises(RuntimeError, match="use Channel and await"):
                EchoClientSync(ch).say(Message())

        asyncio.run(main())


SERVING = """
import asyncio
class Service(Echo):
    async def say(self, request, _context, /):
        print("begun", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        return request
class Server(octomesh.Server):
    async def stop(self, drain_timeout=None):
        print("stopping", flush=True)
        return await super().stop(drain_timeout)
asyncio.run(Server("echo", listen=sys.argv[1], mode="off").add(Service()).serve())
"""


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_ends_what_it_has_begun(tmp_path: Path, told: signal.Signals) -> None:
    path = tmp_path / "s"
    answers: list[str] = []
    with program(SERVING, f"unix:{path}") as process, channel(f"unix:{path}") as ch:
        assert process.stdin is not None
        assert process.stdout is not None
        client = EchoClientSync(ch)
        ch.ready()
        thread = threading.Thread(
            target=lambda: answers.append(client.say(Message(text="whole"), timeout=PATIENCE).text)
        )
        thread.start()
        assert process.stdout.readline() == "begun\n"
        process.send_signal(told)
        assert process.stdout.readline() == "stopping\n"
        process.stdin.write("\n")
        process.stdin.flush()
        thread.join(PATIENCE)
        _, err = process.communicate(timeout=PATIENCE)
    assert (answers, process.returncode, err) == (["whole"], 0, "")
    assert not path.exists()
