"""One service of the shop as a process: flags, the word that it is ready, and a graceful end.

Where calls go is the SDK's matter: OCTO_SOCKET, OCTO_MODE and OCTO_ENVIRONMENT say it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import octomesh
from checkout import trace

DRAIN = 3.0
"""Seconds that open calls may go on once the process was asked to end."""


@dataclass
class Process:
    """This process, an instance of a target."""

    target: str
    name: str
    listen: str = ""
    direct: dict[str, list[octomesh.Endpoint]] = field(default_factory=dict)
    weight: int = 100
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_flags(cls, target: str) -> Self:
        """Read the command line."""
        flags = argparse.ArgumentParser(prog=target)
        flags.add_argument("--instance", default=target, help=f"name of this instance among those of {target}")
        flags.add_argument(
            "--direct-listen",
            default="",
            help="host:port for direct calls; port 0: any (default: none, the proxy brings all calls)",
        )
        flags.add_argument(
            "--direct",
            action="append",
            default=[],
            type=_endpoints,
            help="target=host:port@weight,... to call a target direct; for each that is called (default: by the proxy)",
        )
        flags.add_argument("--weight", type=int, default=100, help="share of calls, relative to other instances")
        flags.add_argument(
            "--tag",
            action="append",
            default=[],
            type=_tag,
            help="key=value by which routes choose instances; may stand several times",
        )
        given = flags.parse_args()
        return cls(target, given.instance, given.direct_listen, dict(given.direct), given.weight, dict(given.tag))

    def dial(self, target: str) -> octomesh.Channel:
        """Make a channel to a target that this service calls."""
        return octomesh.Channel(target, application=self.target, instance=self.name, direct=self.direct.get(target, ()))

    async def serve(self, service: octomesh.Service, leave: Callable[[], None]) -> None:
        """Serve until the process is asked to end, and say on standard output when calls can come."""
        server = octomesh.Server(
            self.target,
            application=self.target,
            instance=self.name,
            listen=self.listen or (),
            interceptors=[trace.interceptor(self.target, self.name)],
            registration=octomesh.Registration(weight=self.weight, tags=self.tags),
        ).add(service)
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        await server.start()
        ready = asyncio.create_task(self._say_ready(server))
        await told.wait()
        ready.cancel()
        leave()
        await server.stop(DRAIN)

    async def _say_ready(self, server: octomesh.Server) -> None:
        await server.ready()
        line: dict[str, object] = {"ready": True, "target": self.target, "instance": self.name}
        if server.addresses:
            line["direct"] = server.addresses[0]
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _endpoints(text: str) -> tuple[str, list[octomesh.Endpoint]]:
    target, equals, all_of_them = text.partition("=")
    if not equals or not target:
        raise argparse.ArgumentTypeError(f"{text!r}: want target=host:port@weight, more of them behind commas")
    endpoints = []
    for at in all_of_them.split(","):
        address, _, weight = at.partition("@")
        if weight and not weight.isdecimal():
            raise argparse.ArgumentTypeError(f"weight {weight!r} of {address} is no number")
        endpoints.append(octomesh.Endpoint(address, weight=int(weight or 1)))
    return target, endpoints


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r}: want key=value")
    return key, value
