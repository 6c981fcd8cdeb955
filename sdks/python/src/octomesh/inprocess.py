"""A channel to a server of the same process: the real protocol without an address, for tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from octomesh._peer import ClientLink, Peer, shared_peer
from octomesh._wire.hello import ROLE_CALL
from octomesh.channel import Channel
from octomesh.interceptors import Interceptor
from octomesh.server import Server, ServerLink


class _InProcess(Channel):
    def __init__(self, server: Server, interceptors: Sequence[Interceptor]) -> None:
        identity = server.identity
        super().__init__(
            server.target,
            socket="",
            mode="off",
            application=identity.application,
            environment=identity.environment,
            interceptors=interceptors,
        )
        self._address = "this process"
        self._server = server

    def _shared(self) -> Peer:
        return shared_peer(self, self, self._meet)

    async def _meet(self) -> ClientLink:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        server = self._server
        await loop.connect_accepted_socket(lambda: ServerLink(loop, server, None), far)
        link = ClientLink(loop, self._identity.hello(ROLE_CALL, self._limits))
        await loop.create_connection(lambda: link, sock=near)
        await link.shaken
        return link


def in_process(server: Server, *, interceptors: Sequence[Interceptor] = ()) -> Channel:
    """Make a channel whose calls go to a server of this process, which needs no `start` and no address."""
    return _InProcess(server, interceptors)
