"""Metadata and baggage as users have them, and as the wire does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from octomesh._wire import text
from octomesh.errors import bad_call

MetadataList: TypeAlias = list[tuple[str, str | bytes]]


def check_entry(key: str, value: str | bytes) -> tuple[bytes, bytes]:
    """Return an entry in bytes. Raises `RpcError` with INVALID_ARGUMENT for what may not stand there."""
    try:
        name = key.encode("ascii")
        data = value.encode("ascii") if isinstance(value, str) else bytes(value)
    except (UnicodeEncodeError, AttributeError, TypeError):
        raise bad_call(f"metadata {key!r}: keys and values are ASCII; keys that end in -bin take bytes") from None
    if not text.valid_key(name):
        raise bad_call(f"metadata key {key!r}: want lower-case letters, digits, '-', '_' and '.'")
    if name.startswith(text.RESERVED):
        raise bad_call(f"metadata key {key!r}: keys that begin with octo- are the SDK's own")
    if not text.valid_value(name, data):
        raise bad_call(
            f"metadata {key!r}: a value has characters outside of 0x20 to 0x7E; keys that end in -bin take any bytes"
        )
    return name, data


def checked(entries: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Return entries in bytes, each checked."""
    return [check_entry(key, value) for key, value in entries]


def shown(entries: Sequence[tuple[bytes, bytes]]) -> MetadataList:
    """Return what users get to see of entries that arrived."""
    return [
        (key.decode(), value if key.endswith(b"-bin") else value.decode())
        for key, value in entries
        if text.shown(key, value)
    ]
