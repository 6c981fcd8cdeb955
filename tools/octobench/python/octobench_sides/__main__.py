"""One side of a measurement, as tools/octobench/side says.

Told by a Spec what it is, it says that it is ready, and then answers each line by a sample.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import platform
import sys

from octobench_sides.side import Spec, Start, run

# The kinds of side, and the modules and functions that are them: no side has the other library in its process.
KINDS = {
    "python-sdk-server": ("sdk", "server"),
    "python-sdk-client": ("sdk", "mesh_client"),
    "python-sdk-direct-client": ("sdk", "direct_client"),
    "python-grpcio-server": ("grpcio", "server"),
    "python-grpcio-client": ("grpcio", "client"),
}


def main(args: list[str]) -> int:
    """Be the side that the arguments say."""
    if args == ["--version"]:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("grpcio", "protobuf")]
        print(f"{platform.python_implementation()} {platform.python_version()}, {', '.join(versions)}")
        return 0
    if len(args) != 2 or args[0] != "_end":
        print("octobench_sides: octobench starts this program", file=sys.stderr)
        return 2
    spec = Spec.parse(json.loads(args[1]))
    if spec.kind not in KINDS:
        print(f"octobench_sides: no side is called {spec.kind!r}; there are {', '.join(KINDS)}", file=sys.stderr)
        return 2
    module, function = KINDS[spec.kind]
    start: Start = getattr(importlib.import_module(f"octobench_sides.{module}"), function)
    asyncio.run(run(start, spec))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
