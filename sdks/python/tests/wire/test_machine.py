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


def received(step: dict[str, Any]) -> int:
    """How many bytes arrive in a step."""
    return len(vectors.from_chunks(step["event"].get("receive") or []))


def play(p: Player, steps: list[dict[str, Any]]) -> None:
    for i, step in enumerate(steps):
        p.play(step)
        p.check(f"step {i} {step.get('note', '')}", step["actions"])


@pytest.mark.parametrize("cut", [0, 1, 7, 1000])
@pytest.mark.parametrize(("given", "want"), scripts())
def test_script(given: dict[str, Any], want: dict[str, Any], cut: int) -> None:
    if cut == 1 and max(map(received, want["steps"])) > 1 << 16:
        cut = 61  # byte by byte that would take long, and shows no more
    play(Player(given, cut=cut), want["steps"])


@pytest.mark.parametrize(("given", "want"), scripts())
def test_script_that_is_cut_in_two_anywhere(given: dict[str, Any], want: dict[str, Any]) -> None:
    """Each arrival of up to 4096 bytes, at every offset; longer ones at those of the first."""
    longest = max((n for n in map(received, want["steps"]) if n <= 4096), default=0)
    for at in range(1, max(longest, 2)):
        play(Player(given, cut_at=at), want["steps"])
