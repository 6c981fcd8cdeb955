"""Every vector of every file is replayed by some test."""

from __future__ import annotations

import importlib
from pathlib import Path

import vectors

HOPS_ONLY = {
    ("patch.json", "patch"): "hops write into heads that they pass on",
    ("patch.json", "overflow"): "hops add to heads",
    ("retry.json", "conclude"): "hops answer for several attempts",
}


def test_every_vector_is_replayed() -> None:
    here = Path(__file__).parent
    importlib.import_module("test_state")
    for path in [*here.glob("wire/test_*.py"), *here.glob("decide/test_*.py")]:
        importlib.import_module(f"{path.parent.name}.{path.stem}")
    there_are = {(name, v.get("kind")) for name in vectors.files() for v in vectors.load(name)}
    assert there_are - vectors.REPLAYED == set(HOPS_ONLY)
