"""The wire's time: microseconds that are left (W-TIME).

Nanoseconds are the owner's clock's, as `time.monotonic_ns` has it.
"""

from __future__ import annotations

from typing import Final

MAX_TIMEOUT_US: Final = 3_153_600_000_000_000
"""A hundred years of 365 days: a longer timeout is sent and read as this."""


def timeout_us(left_ns: int) -> int:
    """What is left, above 0, as the wire has it: rounded up, so that a sliver is not taken for no deadline."""
    return min(-(-left_ns // 1000), MAX_TIMEOUT_US)


def timeout_ns(us: int) -> int:
    """The wire's microseconds in nanoseconds; 0 is no deadline."""
    return min(us, MAX_TIMEOUT_US) * 1000
