"""What an SDK decides, by the vectors that all languages share."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

import vectors
from octomesh._decide import balance, ratio, switch
from octomesh._decide.again import BUDGET, COST, Budget, Ended, Next, Tried, again
from octomesh._decide.path import Advice, Event, Path, PathState, Ways, choose
from octomesh._decide.sources import Source, Sources, Word
from octomesh._decide.sources import Switch as ConsoleSwitch
from octomesh._wire.status import Disposition, Origin, Reason, rule_of

Given = dict[str, Any]


@vectors.each("ratio.json", "murmur3")
def test_murmur3(given: Given, want: Given) -> None:
    assert ratio.murmur3(bytes.fromhex(given["bytes"]), given["seed"]) == want["hash"]


@vectors.each("ratio.json", "splitmix64")
def test_splitmix64(given: Given, want: Given) -> None:
    state = int(given["seed"])
    (outputs,) = want.values()
    for expected in outputs:
        z, state = ratio.splitmix64(state)
        assert str(z) == expected


@vectors.each("ratio.json", "sticky")
def test_sticky(given: Given, want: Given) -> None:
    target, key = bytes.fromhex(given["target"]), bytes.fromhex(given["key"])
    assert ratio.sticky_mesh(target, key, given["permille"]) == want["mesh"]


@vectors.each("ratio.json", "threshold")
def test_threshold(given: Given, want: Given) -> None:
    target, key = bytes.fromhex(given["target"]), bytes.fromhex(given["key"])
    assert ratio.sticky_hash(target, key) == want["hash"]
    for permille in range(1001):
        assert ratio.sticky_mesh(target, key, permille) == (permille >= want["permille"])


@vectors.each("ratio.json", "block")
def test_block(given: Given, want: Given) -> None:
    slots = want["slots"]
    assert ratio.shuffled(int(given["seed"])) == slots
    blocks = ratio.Blocks(lambda: int(given["seed"]))
    for k in range(2 * len(slots)):
        assert (blocks.mesh(0), blocks.mesh(1000), blocks.mesh(1001)) == (False, True, True), "nothing is to be decided"
        share = k % 998 + 1
        assert blocks.mesh(share) == (slots[k % 1000] < share)


@vectors.each("ratio.json", "share")
def test_share(given: Given, want: Given) -> None:
    blocks = ratio.Blocks(lambda: int(given["seed"]))
    decided = [blocks.mesh(given["permille"]) for _ in range(1000)]
    assert sum(decided) == want["mesh"]
    assert (decided.index(True) if any(decided) else -1) == want["first"]


def test_every_block_has_its_share() -> None:
    blocks = ratio.Blocks(lambda: random.getrandbits(64))
    for share in (1, 50, 500, 999):
        for _ in range(3):
            assert sum(blocks.mesh(share) for _ in range(1000)) == share


def said(text: str) -> switch.Word | None:
    return switch.parse_word(text) if text else None


@vectors.each("switch.json", "decide")
def test_who_says_it(given: Given, want: Given) -> None:
    d = switch.decide(said(given["file"]), said(given["environment"]), given.get("console"), given["forbidden"])
    permille = switch.scaled(d.permille, given["scale"]) if given.get("scale") else d.permille
    assert (d.by.value, d.mode.value, permille) == (want["by"], want["mode"], want["permille"])


@vectors.each("switch.json", "file")
def test_file(given: Given, want: Given) -> None:
    if want.get("bad_line"):
        with pytest.raises(ValueError, match=rf"^line {want['bad_line']}:"):
            switch.parse_file(given["text"].encode())
        return
    file = switch.parse_file(given["text"].encode())
    for target, word in want["targets"].items():
        assert switch.word_of(file, target) == said(word)


def test_file_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most"):
        switch.parse_file(b" " * (switch.MAX_FILE + 1))
    assert switch.parse_file(b"\xff\xfe on\n") != {}


def test_environment() -> None:
    assert switch.parse_environment(None, None) is None
    assert switch.parse_environment("auto", "") is None
    assert switch.parse_environment("auto", "50") == switch.Word(permille=50)
    assert switch.parse_environment("off", "50") == switch.Word(switch.Mode.OFF)
    for mode, permille in (("maybe", None), (None, "on"), (None, "1001"), (None, "x")):
        with pytest.raises(ValueError, match="OCTO_"):
            switch.parse_environment(mode, permille)


SOURCES = {"proxy": Source.PROXY, "control_plane": Source.CONTROL_PLANE, "disk": Source.DISK}


@vectors.each("switch.json", "sources")
def test_sources(given: Given, want: Given) -> None:
    s = Sources()
    for step, result in zip(given["steps"], want["steps"], strict=True):
        now = step["at_ms"] / 1000
        source = SOURCES[step["source"]]
        if step["event"] == "ended":
            s.ended(source)
        else:
            there = step.get("switch")
            word = Word(
                known=step["state"] in ("present", "deleted"),
                stale=step["stale"],
                age=step["age_ms"] / 1000,
                switch=ConsoleSwitch(there["permille"], there["revision"]) if there else None,
            )
            s.said(source, word, now)
        counts = s.counts(now)
        assert ("none" if counts is None else counts.name.lower()) == result["endpoints"]
        assert (None if s.switch is None else s.switch.permille) == result.get("permille")
        assert s.ask_control_plane == result["ask_control_plane"]


@vectors.each("path.json", "path")
def test_path(given: Given, want: Given) -> None:
    p = Path()
    for step, result in zip(given["steps"], want["steps"], strict=True):
        now = step["at_ms"] / 1000
        do = p.on(Event(step["event"]), now, step["random"])
        calls, until = p.calls(now)
        assert (p.state.value, calls.value, do.value) == (result["state"], result["calls"], result["do"])
        assert round(until * 1000) == result.get("until_ms", 0)
        if calls is Advice.MESH:
            assert p.scale == result["scale"]
        assert (None if p.wake is None else round(p.wake * 1000)) == result.get("wake_ms")


@vectors.each("path.json", "choose")
def test_choose(given: Given, want: Given) -> None:
    ways = Ways(given["mesh"], given["direct"], given["pinned"])
    way, saved = choose(given["by_mesh"], Advice(given["state"]), ways)
    assert (way.value, saved) == (want["way"], want["saved"])


def test_pauses_do_not_grow_for_ever() -> None:
    p = Path()
    now = 0.0
    p.on(Event.FAILED, now, 0.5)
    for _ in range(40):
        assert p.state is PathState.DIRECT
        assert p.wake is not None
        assert p.wake - now <= 15
        now = p.wake
        p.on(Event.DUE, now, 0.5)
        p.on(Event.FAILED, now, 0.5)


@vectors.each("fallback.json")
def test_fallback(given: Given, want: Given) -> None:
    ended = Ended(given["code"], given["reason"], given["origin"], given["disposition"])
    tried = Tried(*(given[n] for n in ("idempotent", "first_request", "free_used", "resent", "other", "tokens")))
    following, cost, free = again(ended, tried)
    assert (following.value, cost, free) == (want["next"], want["cost"], want["free"])


EVENTS = {
    "dial_failed": Reason.PROXY_UNREACHABLE,
    "unwritten": Reason.PROXY_UNREACHABLE,
    "flush_failed": Reason.CONNECTION_LOST,
    "lost": Reason.CONNECTION_LOST,
    "final_above": Reason.PROXY_DRAINING,
    "final_below": Reason.DRAIN_DEADLINE,
    "timer_before": Reason.DEADLINE,
    "timer_after": Reason.DEADLINE,
}


def attempt(given: Given) -> Ended:
    """How an attempt ends for this SDK; what a peer says is the peer's."""
    if given["event"] == "reset":
        return Ended(rule_of(given["reason"]).code, given["reason"], Origin.CLIENT_PROXY, given["disposition"])
    reason = EVENTS[given["event"]]
    rule = rule_of(reason)
    never_left = given["event"] == "timer_before"
    return Ended(rule.code, reason, Origin.CLIENT_SDK, Disposition.NOT_PROCESSED if never_left else rule.disposition)


@vectors.each("retry.json", "attempt")
def test_attempt(given: Given, want: Given) -> None:
    ended = attempt(given)
    assert (ended.code, ended.reason, ended.disposition) == (want["code"], want["reason"], want["disposition"])


@vectors.each("retry.json", "again")
def test_again(given: Given, want: Given) -> None:
    tried = Tried(
        given["idempotent"], given["first_request"], given["free_used"], resent=0, other=True, tokens=given["tokens"]
    )
    following, cost, _ = again(attempt(given["attempt"]), tried)
    assert (following is not Next.END, cost) == (want["again"], want["cost"])


def test_budget() -> None:
    b = Budget()
    taken = 0
    while b.take(COST):
        taken += 1
    assert taken == BUDGET // COST
    for _ in range(COST):
        assert not b.take(COST)
        b.succeeded()
    assert b.take(COST)
    for _ in range(10 * BUDGET):
        b.succeeded()
    assert b.tenths == BUDGET
    assert b.take(0)


@dataclass(eq=False)
class Endpoint:
    name: str
    weight: int
    in_flight: int
    ejected_until: float


@vectors.each("balance.json", "tiers")
def test_tiers(given: Given, want: Given) -> None:
    names = [i["name"] for i in given["instances"]]
    instances = [balance.Instance(**{k: v for k, v in i.items() if k != "name"}) for i in given["instances"]]
    found = balance.tiers(instances, given["lane"], given["zone"])
    assert [[names[i] for i in tier] for tier in found] == want["tiers"]


@vectors.each("balance.json", "pick")
def test_pick(given: Given, want: Given) -> None:
    tiers = [
        [Endpoint(e["name"], e["weight"], e["in_flight"], e["ejected_until_ms"] / 1000) for e in tier]
        for tier in given["tiers"]
    ]
    skip = [e for tier in tiers for e in tier if e.name in given["skip"]]
    draws = list(given["draws"])
    below: list[int] = []

    def draw(n: int) -> int:
        below.append(n)
        number: int = draws.pop(0)
        return number

    picked = balance.pick(tiers, skip, given["now_ms"] / 1000, draw)
    assert (None if picked is None else picked.name) == want.get("picked")
    assert below == (want.get("below") or [])


@vectors.each("balance.json", "ejection")
def test_ejection(given: Given, want: Given) -> None:
    assert balance.ejection(given["times"]) * 1000 == want["ms"]


def test_dial_budget() -> None:
    b = balance.DialBudget()
    assert sum(b.take(0.0, 0.5) for _ in range(100)) == balance.DIALS
    assert not b.take(0.04, 0.5)
    assert b.take(0.06, 0.5)
    assert not b.take(0.07, 0.5)
    assert sum(b.take(100.0, 0.5) for _ in range(100)) == balance.DIALS
    assert not b.take(100.04, 0.99)
    assert b.take(100.06, 0.99)
    assert not b.take(100.12, 0.0)  # the pause that was drawn with the last
