"""How a registration goes on, as sdks/go/internal/directory has it."""

from __future__ import annotations

import pytest

from octomesh._decide.registration import Ended, Phase, Progress

HALF = 0.5
"""The middle of what is spread."""


def test_a_registration_goes_on_until_it_is_over() -> None:
    r = Progress()

    def ended(how: Ended, retry_after: float, want: float) -> None:
        r.begin()
        assert r.ended(how, retry_after, "gone", HALF) == pytest.approx(want)
        assert (r.phase, r.reason) == (Phase.CONNECTING, "gone")

    def said(phase: Phase, over: bool) -> None:
        r.begin()
        assert r.said(phase, "why") is over
        assert r.phase is phase

    r.begin()
    assert r.phase is Phase.CONNECTING
    ended(Ended.LOST, 0, 0.1)
    ended(Ended.LOST, 0, 0.2)
    for _ in range(10):
        r.ended(Ended.LOST, 0, "", HALF)
    ended(Ended.LOST, 0, 10)
    ended(Ended.REFUSED, 0, 30)
    ended(Ended.LOST, 3, 3.375)
    said(Phase.PENDING, False)
    said(Phase.PUBLISHED, False)
    assert r.reason == ""
    ended(Ended.MOVED, 0, 0.02)
    ended(Ended.LOST, 0, 0.1)  # what it heard has ended the doubling
    said(Phase.SUPERSEDED, True)
    said(Phase.WITHDRAWN, True)


@pytest.mark.parametrize("how", Ended)
def test_pauses_are_spread(how: Ended) -> None:
    assert Progress().ended(how, 0, "", 0.999) >= 2 * Progress().ended(how, 0, "", 0)


def test_nobody_comes_sooner_than_he_was_told() -> None:
    assert Progress().ended(Ended.LOST, 1, "", 0) >= 1
