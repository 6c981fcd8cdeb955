"""Reads conformance/vectors: bytes, values and scripts that every implementation replays in its own tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[3] / "conformance" / "vectors"

REPLAYED: Final[set[tuple[str, str | None]]] = set()
"""Files and kinds that a test has asked for."""


@cache
def load(name: str) -> list[dict[str, Any]]:
    """The vectors of a file, such as `machine/ids.json`."""
    file = json.loads((ROOT / name).read_text(encoding="utf-8"))
    vectors: list[dict[str, Any]] = file["vectors"]
    assert vectors, f"{name} has no vectors"
    return vectors


def each(name: str, kind: str | None = None) -> pytest.MarkDecorator:
    """Runs a test for every vector of a file and kind, as `given` and `want`; None: of a file without kinds."""
    vectors = [v for v in load(name) if v.get("kind") == kind]
    assert vectors, f"{name} has no vectors of kind {kind}"
    REPLAYED.add((name, kind))
    return pytest.mark.parametrize(
        ("given", "want"), [pytest.param(v["input"], v["result"], id=v["id"]) for v in vectors]
    )


def files() -> list[str]:
    """The names of all files of vectors."""
    found = [*ROOT.glob("*.json"), *ROOT.glob("machine/*.json")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def from_chunks(chunks: list[dict[str, Any]]) -> bytes:
    """A run of bytes in pieces: hex, once or repeated, or so many zeros."""
    parts = []
    for piece in chunks:
        parts.append(bytes.fromhex(piece.get("hex", "")) * max(piece.get("repeat", 1), 1))
        parts.append(bytes(piece.get("fill", 0)))
    return b"".join(parts)
