"""A channel to a server of the same process: the real protocol without an address, for tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

from octomesh._peer import ClientLink, Peer
from octomesh._settings import Identity
from octomesh._ways.config import Config, Endpoint
from octomesh._ways.pool import Pool
from octomesh._ways.route import Route
from octomesh._wire.hello import ROLE_CALL
from octomesh.channel import Channel
from octomesh.interceptors import Interceptor
from octomesh.server import Server, ServerLink

_ADDRESS: Final = "this process"


class _InProcess(Channel):
    def __init__(self, server: Server, interceptors: Sequence[Interceptor]) -> None:
        self._server = server
        own = server.identity
        identity = Identity(own.application, own.environment)
        self._init(server.target, Config(identity, mode="off", direct=(Endpoint(_ADDRESS),)), interceptors)

    def _begin(self) -> Route:
        pool = Pool(self._config, self.target, asyncio.get_running_loop())
        pool.add(_ADDRESS, self._meet)
        return Route(self._config, self.target, self._changed, None, pool)

    async def _meet(self, peer: Peer) -> ClientLink:
        loop = peer.loop
        near, far = socket.socketpair()
        server = self._server
        await loop.connect_accepted_socket(lambda: ServerLink(loop, server, None), far)
        link = ClientLink(loop, self._config.identity.hello(ROLE_CALL, self._config.limits), peer)
        await loop.create_connection(lambda: link, sock=near)
        await link.shaken
        return link


def in_process(server: Server, *, interceptors: Sequence[Interceptor] = ()) -> Channel:
    """Make a channel whose calls go to a server of this process, which needs no `start` and no address."""
    return _InProcess(server, interceptors)
