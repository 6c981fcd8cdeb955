"""What the SDK measured on both ways goes to a Directory, again and again (D-REP)."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from octo.directory.v1.directory_pb2 import ErrorCount, PathReport, ReportRequest, ReportResponse
from octomesh._directory.calls import REPORT
from octomesh._ways.target import LATENCY_BUCKETS, Counted, PathStats
from octomesh.errors import RpcError

if TYPE_CHECKING:
    from octomesh._directory.watch import Source

FIRST_REPORT: Final = 10.0
"""Seconds until the first, ±50 %."""
_TIMEOUT: Final = 5.0
_FAREWELL_TIMEOUT: Final = 0.2
"""Seconds that a process that ends waits for its last report to be taken."""
_MAX_PATHS: Final = 2000
"""Paths in one report."""
_NOTHING: Final = Counted(0, 0, (0,) * LATENCY_BUCKETS, {})


def since(now: Counted, before: Counted, target: str, path: PathReport.Path) -> PathReport | None:
    """What was counted after an earlier moment; None: nothing."""
    if (now.calls, now.saved) == (before.calls, before.saved):
        return None
    failed = ((kind, count - before.failed.get(kind, 0)) for kind, count in now.failed.items())
    return PathReport(
        target=target,
        path=path,
        calls=now.calls - before.calls,
        saved_by_fallback=now.saved - before.saved,
        latency_buckets=[n - b for n, b in zip(now.latency, before.latency, strict=True)],
        errors=[ErrorCount(code=code, origin=origin, count=count) for (code, origin), count in failed if count],
    )


class Reporter:
    """Says what was measured, and knows what was taken already."""

    def __init__(self, source: Source) -> None:
        self._source: Final = source
        self._taken: dict[PathStats, Counted] = {}
        self._one: Final = asyncio.Lock()

    async def run(self) -> None:
        """Report for as long as the source is used."""
        pause = FIRST_REPORT * (0.5 + random.random())  # noqa: S311  it spreads
        while True:
            await asyncio.sleep(pause)
            pause = await self.deliver(_TIMEOUT) or pause

    async def farewell(self) -> None:
        """Report what the last channel to a target leaves, if its proxy is there to take it."""
        proxy = self._source.proxy
        if proxy is not None and proxy.usable:
            await self.deliver(_FAREWELL_TIMEOUT)

    async def deliver(self, timeout: float) -> float:
        """Report what has not been, and return in how many seconds to come again; 0: as before."""
        try:
            async with asyncio.timeout(timeout), self._one:
                return await self._deliver(timeout)
        except TimeoutError:
            return 0.0

    async def _deliver(self, timeout: float) -> float:
        identity, request = self._source.config.identity, ReportRequest()
        now: dict[PathStats, Counted] = {}
        seen = set()
        for watcher in self._source.watchers.values():
            state = watcher.state
            for stats, path in ((state.mesh, PathReport.PATH_MESH), (state.direct, PathReport.PATH_DIRECT)):
                seen.add(stats)
                counted = stats.counted()
                part = since(counted, self._taken.get(stats, _NOTHING), state.target, path)
                if part is not None and len(request.paths) < _MAX_PATHS:
                    request.paths.append(part)
                    now[stats] = counted
        self._taken = {stats: counted for stats, counted in self._taken.items() if stats in seen}
        if not now:
            return 0.0
        request.environment, request.application = identity.environment, identity.application
        request.instance, request.incarnation = identity.instance, identity.incarnation
        try:
            response = await self._send(request, timeout)
        except RpcError:
            return 0.0  # it is all in the next one
        self._taken.update(now)
        return response.interval_ms / 1000

    async def _send(self, request: ReportRequest, timeout: float) -> ReportResponse:
        """Report to the proxy while it is there, else to the control plane."""
        proxy, plane = self._source.proxy, self._source.plane
        if proxy is not None and (plane is None or proxy.usable):
            return await proxy.channel.unary(REPORT, request, {"timeout": timeout})
        assert plane is not None  # noqa: S101  somebody is there to report to
        try:
            return await plane.acquire().unary(REPORT, request, {"timeout": timeout})
        finally:
            await plane.release()
