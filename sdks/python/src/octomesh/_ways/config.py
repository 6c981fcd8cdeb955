"""The settings of a channel: what is given counts over the environment's variables."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from octomesh._decide.ratio import WHOLE
from octomesh._decide.switch import Mode, Word, parse_environment
from octomesh._settings import DEFAULT_MAX_RECEIVE, PROCESS, Identity, directories, split_address, unix_path
from octomesh._wire.limits import UNSET_LIMITS, Limits
from octomesh.tls import TLS, Security, over_tcp

DIRECTORY: Final = "octo.directory"
"""The target of Directories."""
_NODE: Final = re.compile("[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,254}")
"""What a switch can name (D-WATCH-12)."""


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
    limits: Limits = UNSET_LIMITS
    max_receive: int = DEFAULT_MAX_RECEIVE
    """The largest response message in bytes."""

    @property
    def knowledge(self) -> tuple[object, ...]:
        """What channels must have in common to learn from the same sources, and to share direct connections."""
        return (
            self.identity, self.mode, self.proxy, self.directories, self.node, self.zone, self.state, self.tls,
            self.server_identity, self.limits,
        )  # fmt: skip

    @property
    def word(self) -> Word | None:
        """What the kill switch says by the environment, or by an argument in its place; None: nothing."""
        if self.mode != "auto":
            return Word(Mode(self.mode))
        return None if self.permille is None else Word(permille=self.permille)

    def watched(self, target: str) -> bool:
        """Whether Directories are asked about a target.

        Who can only go by the proxy needs to know nothing (S-SWITCH-6), and who has nothing to choose from neither.
        """
        chooses = self.mode != "on" or bool(self.switch_file)
        return chooses and bool(self.proxy or self.directories or self.state) and target != DIRECTORY

    def check(self, target: str) -> None:
        """Refuse settings that leave a target's calls nowhere to go, and TLS that cannot be. Raises `ValueError`."""
        if not target:
            raise ValueError("the target has no name")
        if not self.proxy and not self.direct and not self.watched(target):
            raise ValueError(
                "no proxy's socket (OCTO_SOCKET, socket), no direct endpoint (direct), and no Directory "
                "(OCTO_DIRECTORY, directory) or state (OCTO_STATE, state) that would know one"
            )
        for endpoint in self.direct:
            split_address(endpoint.address)
            if endpoint.weight < 0:
                raise ValueError(f"endpoint {endpoint.address}: weight {endpoint.weight} is negative")
            if self.tls is not None:
                over_tcp(endpoint.address)
        if self.tls is not None:
            Security(self.tls, self.identity.environment, self.server_identity)
        elif self.server_identity:
            raise ValueError("server_identity needs tls")

    def to_directory(self, *, by_proxy: bool) -> Config:
        """The settings of a channel to the Directory, by the proxy alone or to the control plane's alone."""
        to = replace(
            self,
            server_identity="",
            state="",
            switch_file="",
            permille=None,
            direct=(),
            max_receive=DEFAULT_MAX_RECEIVE,
        )
        if by_proxy:
            return replace(to, mode="on")
        return replace(to, mode="off", proxy="", direct=tuple(Endpoint(a) for a in self.directories))


def config_of(
    identity: Identity,
    *,
    socket: str | None,
    direct: Sequence[str | Endpoint],
    directory: Sequence[str] | None,
    mode: str | None,
    permille: int | None,
    switch_file: str | None,
    fallback: bool,
    state: str | None,
    zone: str | None,
    tls: TLS | None,
    server_identity: str,
    limits: Limits,
    max_receive: int,
) -> Config:
    """Fill in from the environment what is not given. Raises `ValueError`, which names what cannot be."""
    mode = (mode if mode is not None else os.environ.get("OCTO_MODE")) or "auto"
    if mode not in ("auto", "on", "off"):
        raise ValueError(f"mode {mode!r} (from OCTO_MODE): want auto, on or off")
    if permille is None:
        word = parse_environment(None, os.environ.get("OCTO_PERMILLE"))
        permille = None if word is None else word.permille
    elif not 0 <= permille <= WHOLE:
        raise ValueError(f"permille {permille}: want 0 to {WHOLE}")
    proxy = unix_path(_given(socket, "OCTO_SOCKET"))
    switch_file = _given(switch_file, "OCTO_SWITCH_FILE")
    if mode == "on" and not proxy:
        raise ValueError("mode is on, but no proxy's socket is given: set OCTO_SOCKET, or the argument socket")
    if mode == "off" and not switch_file:  # nobody can switch it on
        proxy = ""
    return Config(
        identity=identity,
        mode=mode,
        proxy=proxy,
        direct=tuple(Endpoint(e) if isinstance(e, str) else e for e in direct),
        directories=directories(directory),
        node=node(),
        zone=_given(zone, "OCTO_ZONE"),
        state=_given(state, "OCTO_STATE"),
        switch_file=switch_file,
        permille=permille,
        fallback=fallback,
        tls=tls,
        server_identity=server_identity,
        limits=limits,
        max_receive=max_receive,
    )


def _given(argument: str | None, variable: str) -> str:
    return argument if argument is not None else os.environ.get(variable, "")


def node() -> str:
    """This host's name by OCTO_NODE, else its own; empty where it is none by which a switch could name it."""
    name = os.environ.get("OCTO_NODE") or PROCESS.host
    return name if _NODE.fullmatch(name) else ""
