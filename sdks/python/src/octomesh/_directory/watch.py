"""Where the channels of one loop learn of targets, and report to: a proxy, the control plane's Directories, a disk."""

from __future__ import annotations

import asyncio
from typing import Final

from octomesh._directory.calls import apart
from octomesh._directory.lines import PlaneLine, ProxyLine
from octomesh._directory.report import Reporter
from octomesh._directory.watcher import Watcher, Watching
from octomesh._ways.config import Config
from octomesh._ways.loops import PerLoop


class Source:
    """Where channels with equal `Config.knowledge` learn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: Config) -> None:
        self.loop: Final = loop
        self.config: Final = config
        self.users = 0
        self.watchers: Final[dict[str, Watcher]] = {}
        self.proxy: Final = ProxyLine(config) if config.proxy and config.mode != "off" else None
        """To the Directory of the proxy; None: there is none to be asked."""
        self.plane: Final = PlaneLine(config) if config.directories else None
        """To those of the control plane; None: none is known."""
        self.reporter: Final = Reporter(self)
        self._reporting: asyncio.Task[None] | None = None

    def use(self, target: str) -> Watching:
        """Watch a target, for one more user."""
        if self._reporting is None and (self.proxy is not None or self.plane is not None):
            self._reporting = apart(self.loop, self.reporter.run())
        watcher = self.watchers.get(target)
        if watcher is None:
            watcher = self.watchers[target] = Watcher(self, target)
            watcher.begin()
        watcher.users += 1
        self.users += 1
        return Watching(self, watcher)

    async def leave(self, watcher: Watcher) -> None:
        """Give a watcher back; the last user of it ends it, and that of the source what all have in common."""
        watcher.users -= 1
        try:
            if not watcher.users:
                await self.reporter.farewell()
        finally:  # also of who is cancelled meanwhile
            try:
                if not watcher.users and self.watchers.get(watcher.target) is watcher:
                    del self.watchers[watcher.target]
                    await watcher.close()
            finally:
                self.users -= 1
                if not self.users:
                    await self._close()

    async def _close(self) -> None:
        sources = _SOURCES.here()
        if sources.get(self.config.knowledge) is self:
            del sources[self.config.knowledge]
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        if self.proxy is not None:
            await self.proxy.close()


_SOURCES: Final[PerLoop[Source]] = PerLoop()


def watch(config: Config, target: str) -> Watching:
    """Watch a target in the running loop."""
    sources = _SOURCES.here()
    source = sources.get(config.knowledge)
    if source is None:
        source = sources[config.knowledge] = Source(asyncio.get_running_loop(), config)
    return source.use(target)
