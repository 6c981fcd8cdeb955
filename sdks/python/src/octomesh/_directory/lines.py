"""The ways to Directories: by the local proxy, and to the control plane itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from octomesh._ways.config import DIRECTORY, Config
from octomesh._ways.route import shared_proxy, unshare_proxy

if TYPE_CHECKING:
    from octomesh.channel import Channel


def channel(config: Config, *, by_proxy: bool) -> Channel:
    """A channel to the Directory, by the proxy alone or to the control plane's alone. No user's interceptor sees it."""
    from octomesh.channel import Channel  # whose targets are watched, and so it comes here itself

    return Channel.of(DIRECTORY, config.to_directory(by_proxy=by_proxy))


class ProxyLine:
    """The way to the proxy's Directory, over the connection that calls take."""

    def __init__(self, config: Config) -> None:
        self.channel: Final = channel(config, by_proxy=True)
        self._peer: Final = shared_proxy(config, self)

    @property
    def usable(self) -> bool:
        """A connection stands."""
        return self._peer.usable() is not None

    async def stands(self, away: Callable[[], None]) -> None:
        """Wait for a connection, which is asked for; away is called while there is no proxy to be had."""
        guard = self._peer.guard
        assert guard is not None  # noqa: S101  a proxy has one
        while True:
            there = guard.need()
            if self.usable:
                return
            if not there:
                away()
            await asyncio.shield(guard.changed())

    async def close(self) -> None:
        """Give it back."""
        await self.channel.close()
        await unshare_proxy(self._peer, self)


class PlaneLine:
    """The way to the control plane's Directories. There is a connection while somebody uses it, and no longer."""

    def __init__(self, config: Config) -> None:
        self._config: Final = config
        self._channel: Channel | None = None
        self._users = 0

    def acquire(self) -> Channel:
        """The channel, for one more user."""
        self._users += 1
        if self._channel is None:
            self._channel = channel(self._config, by_proxy=False)
        return self._channel

    async def release(self) -> None:
        """Give it back; the last user closes it."""
        self._users -= 1
        if not self._users:
            channel, self._channel = self._channel, None
            if channel is not None:
                await channel.close()
