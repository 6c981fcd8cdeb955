"""Who a process says that it is: each child of a fork is another one, as behind a server that forks its workers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from echo.v1.echo_octo import Echo, EchoClient, EchoClientSync
from echo.v1.echo_pb2 import Message

import octomesh
from directories import FakeDirectory, until, word
from elsewhere import elsewhere, served
from octomesh._settings import PROCESS, Identity

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
PATIENCE = 30.0


class Service(Echo):
    """Says who called, and on which connection."""

    async def say(self, request: Message, context: octomesh.ServerContext, /) -> Message:
        return Message(text=f"{context.peer.instance} {context.peer.address}")


@pytest.fixture
def address() -> Iterator[str]:
    """A server in a thread of its own."""
    with served(Service()) as address:
        yield address


def in_child(what: Callable[[], Any]) -> Any:
    """What a function returns in the child of a fork."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(into, json.dumps(what()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(into)
    with os.fdopen(out, "rb") as f:
        said = f.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(said)


def test_a_later_process_has_the_newer_incarnation() -> None:
    before = octomesh.process_incarnation()
    first, second = in_child(octomesh.process_incarnation), in_child(octomesh.process_incarnation)
    assert before < first < second
    assert octomesh.process_incarnation() == before


def test_what_was_made_before_the_fork_has_the_name_of_the_child() -> None:
    identity = Identity.of("shop", "test", None)
    given = Identity.of("shop", "test", "shop-1")
    assert identity.instance == f"shop@{PROCESS.host}/{os.getpid()}"
    names = {identity.instance, *(in_child(lambda: identity.instance) for _ in range(2))}
    assert len(names) == 3
    assert in_child(lambda: given.instance) == "shop-1"


def test_workers_of_a_server_that_forks_are_processes_of_their_own(address: str) -> None:
    """The channel is made, and used, before the workers are: they have neither its connection nor its name."""
    with octomesh.SyncChannel("echo", direct=[address], mode="off", application="shop") as channel:
        client = EchoClientSync(channel)

        def call() -> tuple[str, int]:
            return client.say(Message(text="hello"), timeout=PATIENCE).text, octomesh.process_incarnation()

        seen = [call(), *(tuple(in_child(call)) for _ in range(2)), call()]
    assert seen[0] == seen[3]
    assert len({said for said, _ in seen[:3]}) == 3, "each has a name and a connection of its own"
    assert len({said.split()[1] for said, _ in seen[:3]}) == 3
    assert len({incarnation for _, incarnation in seen[:3]}) == 3


def test_a_worker_forked_within_a_running_loop_calls_in_one_of_its_own(address: str) -> None:
    channel = octomesh.Channel("echo", direct=[address], mode="off", application="shop")
    client = EchoClient(channel)

    async def call() -> str:
        return (await client.say(Message(text="hello"), timeout=PATIENCE)).text

    async def parent() -> tuple[str, str]:
        mine = await call()

        def child() -> str:
            asyncio._set_running_loop(None)  # the parent's does not run here
            return asyncio.run(call())

        worker = in_child(child)
        assert await call() == mine
        await channel.close()
        return mine, worker

    mine, worker = asyncio.run(parent())
    assert len({mine.split()[0], worker.split()[0]}) == 2
    assert len({mine.split()[1], worker.split()[1]}) == 2


def test_the_environment_names_the_application_else_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTO_APPLICATION", "shop")
    monkeypatch.setenv("OCTO_ENVIRONMENT", "prod")
    assert Identity.of(None, None, None) == Identity("shop", "prod")
    assert octomesh.Server("stock", mode="off").identity.instance.startswith("shop@")
    assert Identity.of("cart", "test", "cart-1") == Identity("cart", "test", "cart-1")
    monkeypatch.delenv("OCTO_APPLICATION")
    for path, name in (
        ("/srv/shop/main.py", "main.py"),
        ("/srv/shop/__main__.py", "shop"),
        ("-c", "python"),
        ("", "python"),
    ):
        monkeypatch.setattr(sys, "argv", [path])
        assert Identity.of(None, None, None).application == name


def test_each_worker_registers_itself() -> None:
    """The server is made before the fork; what it says of itself is the worker's own."""
    fake = FakeDirectory()
    fake.publishes = True
    with elsewhere() as run:
        run(fake.listen("127.0.0.1:0"))
        server = octomesh.Server(
            "echo", listen="127.0.0.1:0", socket="", application="shop", environment="test", directory=[fake.address]
        ).add(Service())

        def work() -> None:
            async def serve() -> None:
                await server.start()
                await until(lambda: server.registration.phase is octomesh.RegistrationPhase.PUBLISHED)
                await server.stop()

            asyncio.run(serve())

        async def said() -> tuple[str, int, str]:
            request = await asyncio.wait_for(fake.requests.get(), PATIENCE)
            return request.instance, request.incarnation, request.direct_address

        seen = []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                try:
                    work()
                    os._exit(0)
                finally:
                    os._exit(1)
            seen.append(run(said()))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert run(said())[:2] == seen[-1][:2], "the same one leaves"
        run(fake.stop())
    assert len({instance for instance, _, _ in seen}) == len({incarnation for _, incarnation, _ in seen}) == 2
    assert octomesh.process_incarnation() not in {incarnation for _, incarnation, _ in seen}


def test_each_worker_asks_for_itself(tmp_path: Path) -> None:
    """What the parent has learned is the parent's: its stream goes on there, and workers have streams of their own."""
    fake = FakeDirectory()
    with elsewhere() as run:
        server = octomesh.Server("echo", listen="127.0.0.1:0", mode="off", environment="test").add(Service())
        run(server.start())
        fake.said["echo"] = word(server.addresses[0], permille=0, revision=7)
        run(fake.listen("127.0.0.1:0"))
        settings = {"socket": "", "directory": [fake.address], "state": str(tmp_path), "environment": "test"}
        with octomesh.SyncChannel("echo", **settings) as channel:
            client = EchoClientSync(channel)

            def call() -> list[Any]:
                text = client.say(Message(text="hello"), timeout=PATIENCE).text
                status = channel.status()
                return [text.split()[0], status.direct, status.revision, status.source]

            mine, workers = call(), [in_child(call) for _ in range(2)]
            assert len({name for name, *_ in (mine, *workers)}) == 3
            assert mine[1:] == [1, 7, "control plane"]
            assert all(worker[1:3] == [1, 7] for worker in workers)
            assert fake.watched == 3
            assert call() == mine
        run(server.stop(0))
        run(fake.stop())
