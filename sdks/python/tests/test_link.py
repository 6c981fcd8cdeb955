"""When a connection is given up: its peer is silent, and reads nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certificates import Authority, spiffe
from octomesh._link import Link, unsent
from octomesh._settings import Identity
from octomesh._wire.conn import DIALER
from octomesh._wire.frame import MSG
from octomesh._wire.hello import ROLE_CALL
from octomesh._wire.limits import Limits
from octomesh._wire.liveness import TICK
from octomesh._wire.status import Disposition, Origin, Reason, Status
from octomesh._wire.stream import Stream
from octomesh.tls import Security
from proxies import RawLink, RawProxy
from raw import say_head
from virtual import in_virtual_time

ROOM = Limits(stream_window=64 << 20)
GIVEN_UP = 5 * TICK
"""Seconds within which a link with a waiting call is given up, whenever in a tick its peer fell silent."""


class Call(Stream):
    def on_closed(self, _status: object) -> None:
        pass


class Asking(Link):
    """The side of a caller that always waits for an answer."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop(), DIALER, Origin.CLIENT_SDK, ROOM)

    def begin(self) -> None:
        self.conn.hello(Identity("shop", "test").hello(ROLE_CALL, ROOM))

    def waiting(self) -> bool:
        return True

    def say(self, size: int, call: Stream | None = None) -> None:
        """Open a call with a long request."""
        self.conn.open(call or Call(), MSG, say_head(), bytes(size))


class Silent(RawLink):
    """A peer that says nothing more once it is told to stop, and reads what a test tells it to read."""

    def read(self) -> int:
        """Take from the socket what is there, and return how many bytes that were."""
        assert self.transport is not None
        fd, taken = self.transport.get_extra_info("socket").fileno(), 0
        try:
            while data := os.read(fd, 1 << 20):
                taken += len(data)
        except BlockingIOError:
            pass
        return taken


@asynccontextmanager
async def connected(folder: Path, secure: bool) -> AsyncIterator[tuple[Asking, Silent]]:
    """Two ends that have shaken hands over a real pair of sockets; the other one is silent from now on."""
    loop = asyncio.get_running_loop()
    tls = Security(Authority().files(folder, spiffe("echo")), "test") if secure else None
    near, far = socket.socketpair()
    link, peer = Asking(), Silent(RawProxy(folder / "none", ROOM))
    name = "" if tls else None
    await asyncio.gather(
        loop.connect_accepted_socket(lambda: peer, far, ssl=tls.server if tls else None),
        loop.create_connection(lambda: link, sock=near, ssl=tls.client if tls else None, server_hostname=name),
    )
    await link.shaken
    peer.stop()
    try:
        yield link, peer
    finally:
        for end in (link, peer):
            end.abort()
            await end.lost


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@in_virtual_time
async def test_who_reads_what_is_before_the_question_is_not_given_up(tmp_path: Path, secure: bool) -> None:
    async with connected(tmp_path, secure) as (link, peer):
        link.say(32 << 20)
        for _ in range(30):
            await asyncio.sleep(TICK)
            assert not link.lost.done()
            assert peer.read()
        await asyncio.sleep(GIVEN_UP)
        assert link.silent
        assert link.lost.done()


@pytest.mark.parametrize("size", [1, 32 << 20], ids=["what fits the socket", "more than that"])
@in_virtual_time
async def test_who_reads_nothing_is_given_up(tmp_path: Path, size: int) -> None:
    async with connected(tmp_path, False) as (link, _):
        link.say(size)
        await asyncio.sleep(GIVEN_UP)
        assert link.silent


@in_virtual_time
async def test_what_the_socket_takes_at_once_is_no_sign_of_life(tmp_path: Path) -> None:
    """Calls go on while the peer is silent: their bytes wait in the kernel, and say nothing of who reads them."""
    async with connected(tmp_path, False) as (link, _):
        for _ in range(4):
            link.say(100)
            await asyncio.sleep(TICK)
        await asyncio.sleep(TICK)
        assert link.silent


@in_virtual_time
async def test_a_socket_that_was_full_between_two_ticks_says_as_much(tmp_path: Path) -> None:
    async with connected(tmp_path, False) as (link, peer):
        for _ in range(10):
            await asyncio.sleep(TICK / 2)
            link.say(1 << 20)
            await asyncio.sleep(0)  # what a turn brings together is written behind it
            assert unsent(link.transport)
            while unsent(link.transport):
                peer.read()
                await asyncio.sleep(0)
            await asyncio.sleep(TICK / 2)
            assert not unsent(link.transport)
        assert not link.silent


class Told(Call):
    """Keeps how it ended."""

    def __init__(self) -> None:
        self.status: Status | None = None

    def on_ended(self, status: Status) -> None:
        self.status = status


async def test_of_what_nothing_was_written_is_told(tmp_path: Path) -> None:
    """The first call was written; the second one finds a socket that nobody reads any more, and takes nothing."""
    async with connected(tmp_path, False) as (link, peer):
        first, second = Told(), Told()
        link.say(1, first)
        await asyncio.sleep(0)
        assert peer.transport is not None
        with socket.socket(fileno=os.dup(peer.transport.get_extra_info("socket").fileno())) as far:
            far.shutdown(socket.SHUT_RDWR)
        link.say(1, second)
        await link.lost
    assert first.status is not None
    assert second.status is not None
    assert (first.status.reason, first.status.disposition) == (Reason.CONNECTION_LOST, Disposition.UNKNOWN)
    assert (second.status.reason, second.status.disposition) == (Reason.PROXY_UNREADY, Disposition.NOT_PROCESSED)
