"""What a process does around its calls: forks, several event loops, a successor at the same address."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from echo.v1.echo_octo import Echo, EchoClient, EchoClientSync
from echo.v1.echo_pb2 import Message

import octomesh
from elsewhere import served

PATIENCE = 30.0


class Service(Echo):
    async def say(self, request: Message, _context: octomesh.ServerContext, /) -> Message:
        return request


@pytest.fixture
def address() -> Iterator[str]:
    """A server in a thread of its own."""
    with served(Service()) as address:
        yield address


def test_a_channel_calls_from_one_loop_after_another(address: str) -> None:
    channel = octomesh.Channel("echo", direct=[address], mode="off")
    client = EchoClient(channel)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        for runner in (first, second, first):
            answer = runner.run(client.say(Message(text="hello"), timeout=PATIENCE))
            assert answer.text == "hello"
        for runner in (first, second):
            runner.run(channel.close())


def test_the_child_of_a_fork_calls_on_a_connection_of_its_own(address: str) -> None:
    with octomesh.SyncChannel("echo", direct=[address], mode="off") as channel:
        client = EchoClientSync(channel)
        assert client.say(Message(text="parent"), timeout=PATIENCE).text == "parent"
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = client.say(Message(text="child"), timeout=PATIENCE).text == "child"
            finally:
                os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.say(Message(text="parent"), timeout=PATIENCE).text == "parent"


async def test_a_server_that_stops_leaves_its_successors_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    old = octomesh.Server("echo", listen=f"unix:{path}", mode="off").add(Service())
    await old.start()
    new = octomesh.Server("echo", listen=f"unix:{path}", mode="off").add(Service())
    await new.start()
    await old.stop()
    async with octomesh.Channel("echo", direct=[f"unix:{path}"], mode="off") as channel:
        assert (await EchoClient(channel).say(Message(text="new"), timeout=PATIENCE)).text == "new"
    await new.stop()
    assert not path.exists()
