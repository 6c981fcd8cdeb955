"""Rules of the texts that users set and receive: metadata, baggage, trace context (W-HEAD-8, W-HEAD-10, W-HEAD-11)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from octomesh._wire.limits import ENTRY_OVERHEAD
from octomesh._wire.proto import Entry

RESERVED: Final = b"octo-"
"""Keys that begin so are the SDK's own."""

_KEY: Final = re.compile(rb"[a-z0-9._-]+")
_VALUE: Final = re.compile(rb"[\x20-\x7e]*")
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:(?<!^00.{53})-.*)?", re.DOTALL
)


def valid_key(key: bytes) -> bool:
    """The key may stand on the wire."""
    return _KEY.fullmatch(key) is not None


def valid_value(key: bytes, value: bytes) -> bool:
    """The value may stand under the key: any bytes for one that ends in `-bin`, else 0x20 to 0x7E."""
    return key.endswith(b"-bin") or _VALUE.fullmatch(value) is not None


def shown(key: bytes, value: bytes) -> bool:
    """An entry that arrived is shown to the user: it breaks no rule, and is not reserved."""
    return not key.startswith(RESERVED) and valid_key(key) and valid_value(key, value)


def metadata_size(entries: Iterable[Entry]) -> int:
    """What entries count against the limit of metadata."""
    return sum([len(k) + len(v) + ENTRY_OVERHEAD for k, v in entries])


def baggage_size(entries: Iterable[Entry]) -> int:
    """What entries count against the limit of baggage."""
    return sum([len(k) + len(v) for k, v in entries])


def valid_traceparent(t: bytes) -> bool:
    """The form of Trace Context level 1: version, trace id, parent id, flags. Later versions may be longer."""
    return _TRACEPARENT.fullmatch(t) is not None
