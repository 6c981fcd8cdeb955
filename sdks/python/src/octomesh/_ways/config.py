"""The settings of a channel: what is given counts over the environment's variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from octomesh._settings import Identity
from octomesh._wire.limits import Limits
from octomesh.tls import TLS


class Endpoint(NamedTuple):
    """A server that is called direct."""

    address: str
    """`host:port`, `[host]:port` for IPv6, or `unix:path`."""
    weight: int = 1
    """Its share relative to the others'; 0 gets no calls."""


@dataclass(frozen=True)
class Config:
    """All that a channel goes by. Equal ones may share connections and what is known."""

    identity: Identity
    mode: str = "auto"
    """`auto`, `on` or `off`, as OCTO_MODE or an argument in its place says."""
    proxy: str = ""
    """The path of the socket of the local proxy that calls may go to; empty: none."""
    direct: tuple[Endpoint, ...] = ()
    """What a user gave in place of the instances that a Directory knows."""
    directories: tuple[str, ...] = ()
    """Addresses of the control plane's Directories."""
    node: str = ""
    """This host's name, by which a switch may name it; empty: none does."""
    zone: str = ""
    """Where this process stands; empty: zones do not matter."""
    state: str = ""
    """The folder where what is known is kept; empty: nowhere."""
    switch_file: str = ""
    """The kill switch's file; empty: none."""
    permille: int | None = None
    """The kill switch's share by the environment, or an argument in its place; None: it says nothing."""
    fallback: bool = True
    """Calls go the other way when one fails."""
    tls: TLS | None = None
    server_identity: str = ""
    limits: Limits = Limits()  # noqa: RUF009  a tuple
    max_receive: int = 4 << 20
    """The largest response message in bytes."""

    @property
    def knowledge(self) -> tuple[object, ...]:
        """What channels must have in common to learn from the same sources, and to share direct connections."""
        return (
            self.identity, self.mode, self.proxy, self.directories, self.node, self.zone, self.state, self.tls,
            self.server_identity, self.limits,
        )  # fmt: skip
