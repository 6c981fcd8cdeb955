"""The states of the way to one proxy, as its connections have them (S-STATE)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from octomesh._decide.path import STEPS, Advice, Do, Event, Path, PathState
from octomesh._peer import until

if TYPE_CHECKING:
    from octomesh._peer import ClientLink, Peer

UNSURE: Final = -1
"""Of `Guard.tenths`: a call has to look closer."""


class Guard:
    """Keeps the states of the way to one proxy, for one loop.

    Its peer tells it what happens, it has the peer dialed and pinged, and calls ask it where to go. A word that has
    become untrue before it came here says nothing.
    """

    def __init__(self, peer: Peer) -> None:
        self.path: Final = Path()
        self.tenths = STEPS
        """What calls need most of the time: how much of its share the mesh gets, 0 for nothing, or `UNSURE`."""
        self._peer = peer
        self._listeners: dict[int, Callable[[], None]] = {}
        self._changed: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> PathState:
        """Where the way stands."""
        return self.path.state

    def listen(self, user: object, listener: Callable[[], None]) -> None:
        """Have a listener called after each change, until `unlisten`. It must not raise."""
        self._listeners[id(user)] = listener

    def unlisten(self, user: object) -> None:
        """End what `listen` began. The second time does nothing."""
        self._listeners.pop(id(user), None)

    def on(self, event: Event, link: ClientLink | None = None) -> None:
        """Take an event, and whose it is."""
        peer, path = self._peer, self.path
        if peer.closed or self._outdated(event, link):
            return
        before = (path.state, path.scale, path.wake)
        do = path.on(event, peer.loop.time(), random.random())  # noqa: S311  it spreads
        if do is Do.DIAL:
            peer.redial()
        elif do is Do.PING and link is not None:
            link.ping()
        # A connection that stands, and a wait that is over, are news without another state.
        if event in _NEWS or (path.state, path.scale, path.wake) != before:
            self._publish()

    def _outdated(self, event: Event, link: ClientLink | None) -> bool:
        """Something else has come in between."""
        peer = self._peer
        if event is Event.NEED:
            return not peer.idle
        if event in (Event.LOST, Event.GONE, Event.FAILED):
            return peer.usable() is not None
        return event is not Event.DUE and peer.current is not link

    def _publish(self) -> None:
        now = self._peer.loop.time()
        advice, until_ = self.path.calls(now)
        self.tenths = self.path.scale if advice is Advice.MESH else 0 if advice is Advice.DIRECT else UNSURE
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = until_ if advice is Advice.WAIT else self.path.wake
        if at is not None:
            self._timer = self._peer.loop.call_at(at, self.on, Event.DUE)
        for listener in list(self._listeners.values()):
            listener()

    def changed(self) -> asyncio.Future[None]:
        """What is done with the next change. Nobody may cancel it: wait for it by `asyncio.shield`."""
        if self._changed is None:
            self._changed = self._peer.loop.create_future()
        return self._changed

    def need(self) -> bool:
        """Want a connection: it is begun if there is none. False: calls would go direct, since the proxy is gone."""
        self.on(Event.NEED)
        return self.path.calls(self._peer.loop.time())[0] is not Advice.DIRECT

    async def advice(self, deadline: float | None) -> Advice:
        """What the state means for a call that could go direct, after the wait that it asks for."""
        if self.tenths > 0 and self._peer.usable() is not None:
            return Advice.MESH
        self.on(Event.NEED)
        while True:
            advice, _ = self.path.calls(self._peer.loop.time())
            if advice is not Advice.WAIT or self._peer.closed:
                return advice
            await until(self.changed(), deadline)

    def close(self) -> None:
        """End it, and let those go on who wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None


_NEWS: Final = (Event.WELCOMED, Event.DUE)
