"""What a server says of its instance, and how that fares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from octomesh._decide.registration import Phase as RegistrationPhase
from octomesh._settings import split_address
from octomesh.errors import RpcError

__all__ = ["Registration", "RegistrationPhase", "RegistrationStatus"]

MAX_WEIGHT: Final = 1_000_000
"""The greatest that a Directory takes."""


@dataclass(frozen=True)
class RegistrationStatus:
    """How a server's registration fares."""

    phase: RegistrationPhase = RegistrationPhase.OFF
    reason: str = ""
    """For people: what it waits for, or why it is over."""
    error: RpcError | None = None
    """How the last stream to the Directory ended; None while one stands that has said something."""


@dataclass(frozen=True)
class Registration:
    """What a server says of its instance to the Directory, beside its name and its target."""

    off: bool = False
    """The server does not register."""
    address: str = ""
    """`host:port` at which others reach the server directly.

    Empty: the first TCP address that it listens on, if that is of one host. A server that listens on all addresses of
    its host, as with `0.0.0.0:7000`, must name one, or it gets no direct calls.
    """
    weight: int | None = None
    """Its share of calls relative to the other instances, 0 to 1000000. None: the default, 100; 0: no calls."""
    zone: str = ""
    """Where it stands, for calls to the nearest. Empty: its proxy's."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What subsets and lanes select by."""
    changed: Callable[[RegistrationStatus], None] | None = None
    """Called with each new status, one after the other, in the server's loop. It must not wait."""

    def check(self) -> None:
        """Refuse what cannot be registered. Raises `ValueError`."""
        if self.address:
            try:
                path, _, port = split_address(self.address)
            except ValueError:
                path, port = "?", 0
            if path or not port:
                raise ValueError(f"the address to register is {self.address!r}: want host:port")
        if self.weight is not None and not 0 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"the weight to register is {self.weight}: want 0 to {MAX_WEIGHT}")
