"""Connections on which this process calls.

The channels of one loop that have the same address and identity share one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable
from typing import Final
from weakref import WeakKeyDictionary

from octomesh._calls import UnaryCall
from octomesh._link import Link, RefusedError
from octomesh._settings import split_address
from octomesh._wire.conn import DIALER
from octomesh._wire.hello import Hello
from octomesh._wire.status import Origin
from octomesh.tls import TLS_TIMEOUT, PeerError, Security

_DIALS: Final = 3
"""How often in a row a peer is dialed that answers that it leaves."""


class ClientLink(Link):
    """A connection on which this process calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hello: Hello, secure: Security | None = None) -> None:
        super().__init__(loop, DIALER, Origin.CLIENT_SDK, hello.limits)
        self._hello = hello
        self._secure = secure

    def begin(self) -> None:
        """Introduce this process, to whom it wants to call."""
        if self._secure is not None and self.transport is not None:
            try:
                self._secure.check(self.transport, of_server=True)
            except PeerError as error:
                self.fail(RefusedError(str(error)))
                self.abort()
                return
        self.conn.hello(self._hello)

    def waiting(self) -> bool:
        """A unary call is open."""
        return any(isinstance(s, UnaryCall) for s in self.conn.streams())

    def moving(self) -> None:
        """Open no more calls here, and say so: the next one dials anew."""
        self.conn.drained()


async def dial(address: str, hello: Hello, secure: Security | None = None) -> ClientLink:
    """Connect, and shake hands. Raises `OSError` or `RefusedError`."""
    for again in reversed(range(_DIALS)):
        try:
            return await _dial_once(address, hello, secure)
        except RefusedError as error:
            if not error.draining or not again:
                raise
    raise AssertionError


async def _dial_once(address: str, hello: Hello, secure: Security | None) -> ClientLink:
    loop = asyncio.get_running_loop()
    path, host, port = split_address(address)
    link = ClientLink(loop, hello, secure)
    if path:
        await loop.create_unix_connection(lambda: link, path)
    elif secure is not None:
        await loop.create_connection(
            lambda: link, host, port, ssl=secure.client, server_hostname="", ssl_handshake_timeout=TLS_TIMEOUT
        )
    else:
        await loop.create_connection(lambda: link, host, port)
    await link.shaken
    return link


class Peer:
    """Who is called: the connection that takes calls now, and the dial that makes one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dial: Callable[[], Awaitable[ClientLink]]) -> None:
        self.loop: Final = loop
        self.pid: Final = os.getpid()
        self.users: set[int] = set()
        self._dial = dial
        self._link: ClientLink | None = None
        self._dialing: asyncio.Task[ClientLink] | None = None

    def usable(self) -> ClientLink | None:
        """Return a connection that takes calls, if there is one."""
        link = self._link
        return link if link is not None and link.conn.takes_calls else None

    def dialed(self) -> asyncio.Task[ClientLink]:
        """Return the dial that is under way, or begin one."""
        if self._dialing is None or self._dialing.done():
            self._dialing = self.loop.create_task(self._connect())
            self._dialing.add_done_callback(lambda t: t.cancelled() or t.exception())
        return self._dialing

    async def _connect(self) -> ClientLink:
        self._link = await self._dial()
        return self._link

    async def leave(self, user: object) -> None:
        """One of those who share it needs it no more; the last one closes it."""
        self.users.discard(id(user))
        if self.users:
            return
        peers = _PEERS.get(self.loop, {})
        for key in [k for k, p in peers.items() if p is self]:
            del peers[key]
        if self._dialing is not None and not self._dialing.done():
            self._dialing.cancel()
        link, self._link = self._link, None
        if link is not None:
            link.conn.finish(0)
            link.close()
            await link.lost


_PEERS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Peer]]] = WeakKeyDictionary()


def shared_peer(user: object, key: Hashable, dial: Callable[[], Awaitable[ClientLink]]) -> Peer:
    """Return the running loop's peer of a key, for one more user. What the parent of a fork had is not taken."""
    loop = asyncio.get_running_loop()
    peers = _PEERS.setdefault(loop, {})
    peer = peers.get(key)
    if peer is None or peer.pid != os.getpid():
        peer = peers[key] = Peer(loop, dial)
    peer.users.add(id(user))
    return peer
