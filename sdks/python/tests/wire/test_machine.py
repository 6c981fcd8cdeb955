"""The scripts of conformance/vectors/machine: event → actions of one side of a connection."""

from __future__ import annotations

from typing import Any

import pytest

import vectors

from .machine import Player

FILES = [name for name in vectors.files() if name.startswith("machine/")]


def scripts() -> list[Any]:
    found = []
    for name in FILES:
        vectors.REPLAYED.add((name, None))
        found += [pytest.param(v["input"], v["result"], id=v["id"]) for v in vectors.load(name)]
    return found


@pytest.mark.parametrize("cut", [0, 1, 7, 1000])
@pytest.mark.parametrize(("given", "want"), scripts())
def test_script(given: dict[str, Any], want: dict[str, Any], cut: int) -> None:
    p = Player(given, cut=cut)
    for i, step in enumerate(want["steps"]):
        if cut == 1 and sum(c.get("fill", 0) for c in step["event"].get("receive", []) or []) > 1 << 16:
            p.cut = 1000  # byte by byte that would take long, and shows no more
        p.play(step)
        p.check(f"step {i} {step.get('note', '')}", step["actions"])
