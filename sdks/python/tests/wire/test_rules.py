"""The smaller rules of the protocol: windows, time, texts, timings, liveness."""

from __future__ import annotations

from typing import Any

import pytest

import vectors
from octomesh._wire.conn import Connection
from octomesh._wire.frame import END, HEADER, MESSAGE, MORE, MSG, PREFIX, REQUEST, frame_cost
from octomesh._wire.inbox import Budget, Inbox
from octomesh._wire.limits import MAX_BAGGAGE, MAX_METADATA, Limits
from octomesh._wire.liveness import ALIVE, GONE, SEND_PING, Liveness
from octomesh._wire.status import Reason, rule_of
from octomesh._wire.stream import Stream
from octomesh._wire.text import RESERVED, baggage_size, metadata_size, shown, valid_key, valid_traceparent, valid_value
from octomesh._wire.timeout import timeout_ns, timeout_us
from octomesh._wire.timings import StageKind, parse_stages, server_stages, stages_of

from .calls import Call, callee, opener

Given = dict[str, Any]


@vectors.each("window.json", "limits")
def test_limits(given: Given, want: Given) -> None:
    assert Limits(**given).normalized()._asdict() == want


@vectors.each("window.json", "sender")
def test_sender(given: Given, want: Given) -> None:
    """A message that credit does not cover waits, whole or in part, and nothing more than credit is ever sent."""
    conn, owner = opener()
    call = Call(owner)
    conn.open(call, 0, b"")
    conn.take()
    call.send_credit = given["credit"]
    for step, result in zip(given["steps"], want["steps"], strict=True):
        if "window" in step:
            conn.feed(HEADER.pack(PREFIX | 19, 0, 0, 1, 4) + step["window"].to_bytes(4, "big"))
            if result.get("error"):
                assert call.status is not None
                assert call.status.reason == Reason.STREAM_PROTOCOL
                return
        else:
            fits = frame_cost(MSG, step["send"]) <= call.send_credit
            assert fits == result["may"]
            if fits:
                assert conn.send(call, MESSAGE, MSG, b"", bytes(step["send"]))
        assert call.send_credit == result["credit"]


@vectors.each("window.json", "receiver")
def test_receiver(given: Given, want: Given) -> None:
    conn, owner = callee(Limits(stream_window=given["stream_window"]))
    conn.feed(HEADER.pack(PREFIX | REQUEST, 0, 0, 1, 0))
    call = owner.calls[0]
    for step, result in zip(given["steps"], want["steps"], strict=True):
        if "consume" in step:
            conn.consume(call, step["consume"])
        elif step.get("end"):
            conn.feed(HEADER.pack(PREFIX | MESSAGE, END, 0, 1, 0))
        else:
            conn.feed(HEADER.pack(PREFIX | MESSAGE, MSG, 0, 1, step["receive"]) + bytes(step["receive"]))
            assert (call.status is not None) == ("error" in result)
            if call.status is not None:
                return
        out = conn.take()
        assert (int.from_bytes(out[16:20], "big") if out else 0) == result["grant"]


class Consuming(Connection):
    """Notes what counts as consumed."""

    __slots__ = ("consumed",)

    consumed: int

    def consume(self, s: Stream, cost: int) -> None:
        self.consumed += cost


@vectors.each("window.json", "assembler")
def test_assembler(given: Given, want: Given) -> None:
    conn = Consuming(1, callee()[1])
    inbox = Inbox(1 << 30, Budget(1 << 30))
    stream = Stream()
    steps = given["steps"]
    for i, (step, result) in enumerate(zip(steps, want["steps"], strict=True)):
        conn.consumed = 0
        if step.get("take"):
            inbox.take(conn, stream)
        else:
            rest = steps[i:]
            whole = 0
            for other in rest:  # what the connection would have read off the first fragment
                whole += other.get("fragment", 0)
                if "fragment" in other and not other["more"]:
                    break
            stream.msg_total = whole
            assert inbox.add(conn, stream, MSG | (MORE if step["more"] else 0), bytes(step["fragment"])) == 0
        assert conn.consumed == result["consumed"]


@vectors.each("timeout.json", "encode")
def test_timeout_is_rounded_up(given: Given, want: Given) -> None:
    assert timeout_us(int(given["left_ns"])) == int(want["timeout_us"])


@vectors.each("timeout.json", "decode")
def test_timeout_is_read(given: Given, want: Given) -> None:
    ns = timeout_ns(int(given["timeout_us"]))
    assert (ns == 0) == want["none"]
    assert ns == int(want.get("timeout_us", "0")) * 1000


@vectors.each("timeout.json", "remaining")
def test_what_is_left(given: Given, want: Given) -> None:
    """As a relay's outgoing call has it."""
    us = int(given["timeout_us"])
    if us == 0:
        assert int(want.get("timeout_us", "0")) == 0
        return
    left = timeout_ns(us) - int(given["elapsed_ns"])
    assert (left <= 0) == want["expired"]
    if left > 0:
        assert timeout_us(left) == int(want["timeout_us"])


@vectors.each("timeout.json", "user")
def test_a_users_timeout(given: Given, want: Given) -> None:
    ns = int(given["timeout_ns"])
    assert (ns > 0) == want["send"]
    if ns > 0:
        assert timeout_us(ns) == int(want["timeout_us"])
    else:
        rule = rule_of(want["reason"])
        assert (rule.code, 1) == (want["code"], want["disposition"])  # nothing was sent: E-TABLE-2


@vectors.each("timings.json")
def test_timings(given: Given, want: Given) -> None:
    made = stages_of(
        bytes.fromhex(given["received"]),
        bytes.fromhex(given["instance"]),
        int(given["total_ns"]),
        int(given["request_ns"]),
        int(given["response_ns"]),
        client=given["role"] == "client",
    )
    assert made.hex() == want["timings"]
    assert sum(s.duration_us for s in parse_stages(made)) == int(want["sum_us"])


def test_server_stages() -> None:
    stages = parse_stages(server_stages(b"s-1", 1_000, 21_999, 61_999, 67_000))
    assert [(s.kind, s.duration_us) for s in stages] == [
        (StageKind.SERVER_QUEUE, 20),
        (StageKind.HANDLER, 40),
        (StageKind.SERVER_RESPONSE, 5),
    ]
    unseen = parse_stages(server_stages(b"s-1", 1_000, None, 0, 5_000))
    assert [(s.kind, s.duration_us) for s in unseen] == [(StageKind.SERVER_QUEUE, 4)]
    assert server_stages(b"s-1", 1_000, None, 0, 1_999) == b""


@vectors.each("traceparent.json")
def test_traceparent(given: Given, want: Given) -> None:
    assert valid_traceparent(given["traceparent"].encode()) == want["valid"]


@vectors.each("metadata.json", "entry")
def test_entry_of_a_user(given: Given, want: Given) -> None:
    key, value = bytes.fromhex(given["key"]), bytes.fromhex(given["value"])
    assert (valid_key(key) and not key.startswith(RESERVED) and valid_value(key, value)) == want["ok"]


@vectors.each("metadata.json", "received")
def test_entry_that_arrives(given: Given, want: Given) -> None:
    assert shown(bytes.fromhex(given["key"]), bytes.fromhex(given["value"])) == want["shown"]


@vectors.each("metadata.json", "size")
def test_sizes(given: Given, want: Given) -> None:
    entries = [(b"k" * e["key_len"], b"v" * e["value_len"]) for e in given["entries"] for _ in range(e["count"])]
    assert given["limit"] in (MAX_METADATA, MAX_BAGGAGE)
    size = metadata_size(entries) if given["limit"] == MAX_METADATA else baggage_size(entries)
    assert size == want["size"]
    assert (size <= given["limit"]) == want["ok"]


@vectors.each("liveness.json")
def test_liveness(given: Given, want: Given) -> None:
    names = {ALIVE: "alive", SEND_PING: "ping", GONE: "gone"}
    live = Liveness()
    for step, result in zip(given["steps"], want["steps"], strict=True):
        verdicts = [names[live.tick(step["received"], step["drained"], step["unary"])] for _ in range(step["repeat"])]
        assert verdicts[:-1] == ["alive"] * (len(verdicts) - 1)
        assert verdicts[-1] == result["verdict"]


def test_a_miss_is_told() -> None:
    live = Liveness()
    assert live.tick(False, True, True) == SEND_PING
    assert not misses(live)
    live.tick(False, False, True)
    assert not misses(live), "a socket that was not drained proves nothing"
    live.tick(False, True, True)
    assert misses(live)
    live.tick(True, True, True)
    assert not misses(live)


def misses(live: Liveness) -> bool:
    return live.missed


@pytest.mark.parametrize("t", [b"", b"00-", b"00-" + b"0" * 200])
def test_odd_traceparents(t: bytes) -> None:
    assert not valid_traceparent(t)
