"""Where a channel's calls go, and why, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from octomesh._decide.path import PathState
from octomesh._decide.sources import Source

if TYPE_CHECKING:
    from octomesh._ways.route import Route

_SOURCES: Final = {None: "none", Source.PROXY: "proxy", Source.CONTROL_PLANE: "control plane", Source.DISK: "disk"}


@dataclass(frozen=True)
class ChannelStatus:
    """Where a channel's calls go, and why, for people. Programs take `CallInfo.path` to know about one call."""

    target: str
    proxy: str
    """The state of the way to the local proxy: `none`, `mesh`, `suspect`, `direct`, `probe` or `returning`."""
    permille: int
    """How many of 1000 calls take the mesh, by the switch."""
    tenths: int
    """How much of that the mesh gets now: 10, or less while it is coming back, 0 while it is away."""
    by: str
    """Who decides the switch: `target`, which forbids direct calls, `file`, `environment`, `console` or `default`."""
    revision: int
    """Of the console's switch; 0: there is none."""
    direct: int
    """How many instances can be called direct, by this process' knowledge."""
    source: str
    """Whose word the instances are: `option`, `proxy`, `control plane`, `disk` or `none`."""
    age: float
    """How old it is, in seconds."""
    stale: bool
    """Nobody vouches for it any more."""
    fallback: bool
    """Calls go the other way when one fails."""

    def __str__(self) -> str:
        stale = ", stale" if self.stale else ""
        return (
            f"{self.target}: {self.permille} permille by the mesh ({self.by}, revision {self.revision}), "
            f"proxy {self.proxy} ({self.tenths}/10), "
            f"{self.direct} instances by {self.source} ({self.age:.3g} s old{stale})"
        )


def status_of(route: Route) -> ChannelStatus:
    """The status of the channel that a route is of."""
    decision, (mesh, direct, pinned) = route.settled()
    guard = None if route.proxy is None else route.proxy.guard
    source, age, stale, revision = "none", 0.0, False, 0
    if route.watch is not None:
        state = route.watch.state
        age, stale = route.watch.freshness()
        source = _SOURCES[state.source]
        revision = 0 if state.console is None else state.console.revision
    if route.fixed is not None:
        source, age, stale = "option", 0.0, False
    return ChannelStatus(
        target=route.target,
        proxy="none" if guard is None else guard.state.value,
        permille=decision.permille,
        tenths=0 if guard is None or guard.state is PathState.SUSPECT else guard.path.scale,
        by=decision.by.value,
        revision=revision,
        direct=0 if route.direct is None else route.direct.count,
        source=source,
        age=age,
        stale=stale,
        fallback=mesh and direct and not pinned,
    )
