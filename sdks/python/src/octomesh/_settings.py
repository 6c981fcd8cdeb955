"""Settings of channels and servers: what is given counts over the environment's variables."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from octomesh._wire.hello import PEER_SDK, Hello
from octomesh._wire.limits import Limits

VERSION: Final = "0.1.0"
MAX_PATH: Final = 107
"""Bytes of a Unix socket's path that the system takes."""
DEFAULT_MAX_RECEIVE: Final = 4 << 20


class _Process:
    """What tells this process from others. The child of a fork is another one, with a name and a start of its own."""

    def __init__(self) -> None:
        self.begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        """Draw anew."""
        self.pid = os.getpid()
        self.incarnation = time.time_ns()
        """The start in nanoseconds since 1970: the newest of an instance's name wins (D-REG-3)."""
        self.host = socket.gethostname()
        """The host's name as the system has it; empty: it has none."""


PROCESS: Final = _Process()


def process_incarnation() -> int:
    """The start of this process in nanoseconds since 1970, by which it tells itself from an earlier one of its name.

    The child of a fork starts anew.
    """
    return PROCESS.incarnation


@dataclass(frozen=True)
class Identity:
    """Who this process is to its peers."""

    application: str
    environment: str
    given: str = ""
    """The name of this process among those of its application; empty: application, host and process id."""

    @staticmethod
    def of(application: str | None, environment: str | None, instance: str | None) -> Identity:
        """Fill in what is not given: from the environment's variables, else by the program's file."""
        return Identity(
            application or os.environ.get("OCTO_APPLICATION") or _program(),
            environment or os.environ.get("OCTO_ENVIRONMENT") or "default",
            instance or "",
        )

    @property
    def instance(self) -> str:
        """The name of this process, or of the child of a fork that asks."""
        return self.given or f"{self.application}@{PROCESS.host or 'host'}/{PROCESS.pid}"

    @property
    def incarnation(self) -> int:
        """The start of this process."""
        return PROCESS.incarnation

    def hello(self, role: int, limits: Limits, *targets: str) -> Hello:
        """Make a dialer's first word."""
        return Hello(
            role=role,
            kind=PEER_SDK,
            sdk=b"python",
            sdk_version=VERSION.encode(),
            environment=self.environment.encode(),
            application=self.application.encode(),
            instance=self.instance.encode(),
            incarnation=self.incarnation,
            targets=[t.encode() for t in targets],
            limits=limits,
        )


def _program() -> str:
    """The name of the program's file; of a package that is run its folder's."""
    path = sys.argv[0] if sys.argv else ""
    name = os.path.basename(path)
    if name == "__main__.py":
        name = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return name if name not in ("", "-c", "-m") else "python"


def directories(given: Iterable[str] | None) -> tuple[str, ...]:
    """Addresses of Directories: those that are given, else those of OCTO_DIRECTORY. Raises `ValueError`."""
    if given is None:
        given = (a.strip() for a in os.environ.get("OCTO_DIRECTORY", "").split(","))
    found = tuple(a for a in given if a)
    for address in found:
        try:
            split_address(address)
        except ValueError as error:
            raise ValueError(f"of a Directory (from OCTO_DIRECTORY, or the argument directory): {error}") from None
    return found


def unix_path(path: str) -> str:
    """Return a path that the system can take whole. Raises `ValueError`."""
    size = len(os.fsencode(path))
    if size > MAX_PATH:
        raise ValueError(f"socket path has {size} bytes, the limit is {MAX_PATH}: {path}")
    return path


def split_address(address: str) -> tuple[str, str, int]:
    """Take `host:port`, `[host]:port` or `unix:path` apart: (path, "", 0) or ("", host, port). Raises `ValueError`."""
    if address.startswith("unix:"):
        return unix_path(address.removeprefix("unix:")), "", 0
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"address {address!r}: want host:port, or unix: and a path")
    return "", host.strip("[]"), int(port)
