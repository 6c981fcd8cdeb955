"""Settings of channels and servers: what is given counts over the environment's variables."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Final

from octomesh._wire.hello import PEER_SDK, Hello
from octomesh._wire.limits import Limits

VERSION: Final = "0.1.0"
MAX_PATH: Final = 107
"""Bytes of a Unix socket's path that the system takes."""
DEFAULT_MAX_RECEIVE: Final = 4 << 20
INCARNATION: Final = secrets.randbits(63) | 1
"""Tells this process from the one before with the same name."""


@dataclass(frozen=True)
class Identity:
    """Who this process is to its peers."""

    application: str
    environment: str
    instance: str

    @staticmethod
    def of(application: str | None, environment: str | None, instance: str | None, fallback: str) -> Identity:
        """Fill in what is not given."""
        return Identity(
            application or os.environ.get("OCTO_APPLICATION") or fallback,
            environment or os.environ.get("OCTO_ENVIRONMENT") or "default",
            instance or f"{application or fallback}-{os.getpid()}",
        )

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
            incarnation=INCARNATION,
            targets=[t.encode() for t in targets],
            limits=limits,
        )


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
