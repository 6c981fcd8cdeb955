"""The testee of the Python SDK: a program that the conformance runner tells to serve and to call.

The runner speaks to it on standard input and output, as proto/octo/conformance/v1/control.proto says.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "gen"))

from testee.control import Testee


def main() -> None:
    """Keep the real standard output for reports: whatever prints from here on must not break the framing."""
    out = os.dup(1)
    os.dup2(2, 1)
    asyncio.run(Testee(out).run())


if __name__ == "__main__":
    main()
