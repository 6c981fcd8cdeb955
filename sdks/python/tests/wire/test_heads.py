"""Heads: bytes ↔ fields, odd ones, bad ones; what wins, and who may send what (head, patch and status.json)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import vectors
from octomesh._wire.frame import HEADER, MESSAGE, MORE, MSG, PREFIX, REQUEST
from octomesh._wire.heads import RequestHead, RequestHeads, ResetHead, ResponseHead, ResponseHeads, scan_total
from octomesh._wire.hello import GoAway, Hello, Welcome
from octomesh._wire.limits import MAX_SDK_HEAD, Limits
from octomesh._wire.proto import HeadError
from octomesh._wire.status import (
    Disposition,
    Reason,
    Status,
    code_name,
    disposition_name,
    origin_name,
    reason_name,
    rule_of,
    worse,
)
from octomesh._wire.timings import parse_stages

from .calls import callee

Fields = dict[str, Any]

BIG = {"timeout_us", "total_length", "incarnation", "offset"}
ENTRIES = {"metadata", "trailers", "baggage"}
RENAMED = {
    "details": "details_bin",
    "timings": "hop_timings",
    "caller": "hop_caller",
    "verified_caller": "hop_verified_caller",
    "lane": "hop_lane",
}
NOT_FIELDS = {"from_sdk", "shadow"}


def names_of(head: Any) -> list[str]:
    kind = type(head)
    return list(getattr(kind, "__slots__", None) or kind.__annotations__)


def rendered(head: Any) -> Fields:
    """A head as head.json has it: by proto names, defaults left out."""
    out: Fields = {}
    for name in names_of(head):
        value = getattr(head, name)
        if name in NOT_FIELDS or not value or value == Limits():
            continue
        out[RENAMED.get(name, name)] = render(name, value)
    return {k: v for k, v in out.items() if v != {}}


def render(name: str, value: Any) -> Any:
    if name in ENTRIES:
        return [{n: b.hex() for n, b in (("key", k), ("value", v)) if b} for k, v in value]
    if name in BIG:
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Limits):
        return {k: v for k, v in value._asdict().items() if v}
    if isinstance(value, Status):
        return rendered(value)
    if isinstance(value, list):
        return [b.hex() for b in value]
    return value


def check_head(kind: Any, given: Fields, want: Fields) -> None:
    b = bytes.fromhex(given["bytes"])
    if not want["valid"]:
        with pytest.raises(HeadError):
            kind.parse(b)
        return
    head = kind.parse(b)
    assert rendered(head) == want["fields"]
    if want["canonical"]:
        assert head.encode() == b


@vectors.each("head.json", "RequestHead")
def test_request_head(given: Fields, want: Fields) -> None:
    check_head(RequestHead, given, want)


@vectors.each("head.json", "ResponseHead")
def test_response_head(given: Fields, want: Fields) -> None:
    check_head(ResponseHead, given, want)


@vectors.each("head.json", "Reset")
def test_reset_head(given: Fields, want: Fields) -> None:
    check_head(ResetHead, given, want)


@vectors.each("head.json", "Hello")
def test_hello(given: Fields, want: Fields) -> None:
    check_head(Hello, given, want)


@vectors.each("head.json", "Welcome")
def test_welcome(given: Fields, want: Fields) -> None:
    check_head(Welcome, given, want)


@vectors.each("head.json", "GoAway")
def test_goaway(given: Fields, want: Fields) -> None:
    check_head(GoAway, given, want)


@vectors.each("status.json", "status")
def test_status(given: Fields, want: Fields) -> None:
    check_head(Status, given, want)


@vectors.each("head.json", "MessageHead")
def test_message_head(given: Fields, want: Fields) -> None:
    """Read where a connection does: on a first fragment."""
    head = bytes.fromhex(given["bytes"])
    total = int(want["fields"].get("total_length", "0")) if want["valid"] else 0
    if want["valid"]:
        assert scan_total(head) == total
    else:
        with pytest.raises(HeadError):
            scan_total(head)
    conn, owner = callee()
    conn.feed(HEADER.pack(PREFIX | REQUEST, 0, 0, 1, 0))
    conn.feed(HEADER.pack(PREFIX | MESSAGE, MSG | MORE, len(head), 1, 0) + head)
    call = owner.calls[0]
    if total:
        assert call.frames[-1][0] == "message"
        assert call.msg_total == total
    else:
        assert call.status is not None
        assert call.status.reason == (Reason.STREAM_PROTOCOL if want["valid"] else Reason.BAD_HEAD)


@vectors.each("patch.json", "effective")
def test_hop_fields_win(given: Fields, want: Fields) -> None:
    b = bytes.fromhex(given["head"])
    h = RequestHead.parse(b)
    assert str(h.timeout_us) == want["timeout_us"]
    assert str(h.total_length) == want["total_length"]
    assert h.attempt == want["attempt"]
    assert h.traceparent.hex() == want["traceparent"]
    assert h.caller.hex() == want["caller"]
    assert h.lane.hex() == want["lane"]
    assert h.shadow == want.get("shadow", False)
    if "target" in want:
        assert h.target.hex() == want["target"]
    verified = None if h.verified_caller is None else h.verified_caller.hex()
    assert verified == want.get("verified_caller")


@vectors.each("patch.json", "admit")
def test_who_may_send_what(given: Fields, want: Fields) -> None:
    b = vectors.from_chunks(given["head"])
    reason = 0
    try:
        if given["message"] == "ResponseHead":
            ResponseHead.parse(b)
        else:
            head = RequestHeads().parse(b)[2]
            if given["from"] == "sdk" and not head.from_sdk:
                reason = Reason.BAD_HEAD
    except HeadError:
        reason = Reason.BAD_HEAD
    if given["from"] == "sdk" and len(b) > MAX_SDK_HEAD:
        reason = Reason.HEAD_TOO_LARGE
    assert reason == want.get("reason", 0)
    if reason:
        rule = rule_of(reason)
        assert (rule.code, rule.disposition) == (want["code"], want["disposition"])


def request_heads() -> list[Any]:
    valid = [v for v in vectors.load("head.json") if v.get("kind") == "RequestHead" and v["result"]["valid"]]
    return [pytest.param(bytes.fromhex(v["input"]["bytes"]), id=v["id"]) for v in valid]


@pytest.mark.parametrize("head", request_heads())
@pytest.mark.parametrize("timed", [False, True])
def test_kept_heads_are_what_is_read(head: bytes, timed: bool) -> None:
    if timed:
        head = b"\t" + (5).to_bytes(8, "little") + head
    plain = RequestHead.parse(head)
    heads = RequestHeads()
    for _ in range(3):
        timeout, traceparent, h = heads.parse(head)
        assert (timeout, traceparent) == (plain.timeout_us, plain.traceparent)
        differing = {n for n in names_of(h) if getattr(h, n) != getattr(plain, n)}
        assert differing <= {"timeout_us"}


OWN = b"\x42\x37"
HOPS = b"\xba\x06\x37"
TRACES = [b"00-%032x-%016x-01" % (n, n) for n in range(1, 5)]


@pytest.mark.parametrize(
    "shape",
    [
        [b"\x1a\x01t", OWN, 0, b"\x28\x01"[:0]],
        [b"\x1a\x01t", OWN, 0, HOPS, 1],
        [b"\x1a\x01t", HOPS, 1],
        [b"\x1a\x01t", HOPS, 1, OWN, 0],
        [OWN, 0, OWN, 1],
        [OWN, 0, HOPS, 1, HOPS, 2],
        [b"\x1a\x39" + OWN, 0],  # in a text, where it only looks like a field
        [b"\x1a\x39" + OWN, 0, OWN, 1],
        [b"\x1a\x3a" + HOPS, 0, HOPS, 1],
        [b"\x1a\x03B7x", OWN, 0],
        [b"\x42\x02ab", HOPS, 1],
    ],
)
def test_traces_are_cut_out_where_they_are(shape: list[Any]) -> None:
    heads = RequestHeads()
    for turn in range(4):
        head = b"".join([p if isinstance(p, bytes) else TRACES[(p + turn) % 4] for p in shape])
        plain = RequestHead.parse(head)
        _, traceparent, h = heads.parse(head)
        assert traceparent == plain.traceparent
        assert {n for n in names_of(h) if getattr(h, n) != getattr(plain, n)} <= {"traceparent"}


def test_a_trace_that_is_cut_off_is_a_bad_head() -> None:
    heads = RequestHeads()
    heads.parse(b"\x1a\x01t" + OWN + TRACES[0])
    for n in range(55):
        with pytest.raises(HeadError):
            heads.parse(b"\x1a\x01t" + OWN + TRACES[0][:n])


def test_kept_heads_are_bounded() -> None:
    heads, answers = RequestHeads(), ResponseHeads()
    for n in range(2000):
        method = b"m%d" % n
        assert heads.parse(b"\x2a" + bytes((len(method),)) + method)[2].method == method
        assert answers.parse(b"\x2a" + bytes((len(method),)) + method).content_type == method
    assert len(heads._plain) + len(heads._traced) <= 256
    assert len(answers._kept) <= 256
    long = b"\x1a\xd8\x04" + b"t" * 600
    assert heads.parse(long)[2].target == b"t" * 600
    assert long not in heads._plain


def test_a_second_timeout_wins_and_is_no_sdks() -> None:
    heads = RequestHeads()
    first = b"\t" + (7).to_bytes(8, "little")
    for later in (9, 0):
        for _ in range(2):
            timeout, _, h = heads.parse(first + b"\x1a\x01t" + b"\t" + later.to_bytes(8, "little"))
            assert timeout == later
            assert not h.from_sdk
        timeout, _, h = heads.parse(b"\x1a\x01t" + b"\t" + later.to_bytes(8, "little"))
        assert timeout == later
        assert h.from_sdk


@vectors.each("status.json", "code")
def test_code_names(given: Fields, want: Fields) -> None:
    assert code_name(given["number"]) == want["name"]


@vectors.each("status.json", "origin")
def test_origin_names(given: Fields, want: Fields) -> None:
    assert origin_name(given["number"]) == want["name"]


@vectors.each("status.json", "disposition")
def test_disposition_names(given: Fields, want: Fields) -> None:
    assert disposition_name(given["number"]) == want["name"]


@vectors.each("status.json", "reason")
def test_reasons(given: Fields, want: Fields) -> None:
    number = given["number"]
    assert reason_name(number) == want["name"]
    assert rule_of(number)._asdict() == {k: want[k] for k in ("code", "disposition", "path")}


@vectors.each("status.json", "worst")
def test_worst(given: Fields, want: Fields) -> None:
    found, *rest = given["dispositions"]
    for d in rest:
        found = worse(found, d)
    assert found == want["disposition"]


@vectors.each("status.json", "again")
def test_another_path(given: Fields, want: Fields) -> None:
    other = rule_of(given["reason"]).path and given["disposition"] == Disposition.NOT_PROCESSED
    assert other == want["other_path"]


@pytest.mark.parametrize(
    ("parse", "head"),
    [
        (RequestHead.parse, "a00600"),  # hop_caller as a number
        (ResponseHead.parse, "c80600"),  # hop_timings as a number
        (ResetHead.parse, "0801"),
        (ResetHead.parse, "1200"),
        (Hello.parse, "62020a00"),  # a limit as bytes
        (parse_stages, "0801"),
        (parse_stages, "0a020a00"),
        (parse_stages, "0a0108"),
    ],
)
def test_a_known_field_in_another_wire_type_is_a_bad_head(parse: Callable[[bytes], object], head: str) -> None:
    with pytest.raises(HeadError):
        parse(bytes.fromhex(head))


def test_unknown_fields_are_skipped() -> None:
    unknown = b"\xf8\x07\x05" + b"\xfa\x07\x01x"
    assert Hello.parse(b"\x62" + bytes((2 + len(unknown),)) + b"\x08\x07" + unknown).limits.max_streams == 7
    assert RequestHead.parse(b"\x1a\x01t" + unknown).target == b"t"
    assert ResetHead.parse(unknown + b"\x10\x09").http2_code == 9


def test_a_long_head_with_a_trace_is_read_each_time() -> None:
    heads = RequestHeads()
    head = b"\x1a\xd8\x04" + b"t" * 600 + OWN + TRACES[0]
    for _ in range(2):
        assert heads.parse(head)[1] == TRACES[0]
    assert not heads._traced


def test_a_status_shows_what_it_is() -> None:
    status = Status(5, 99, 1, 2, b"no such cart")
    assert repr(status) == "Status(NOT_FOUND, REASON_99, APPLICATION, PROCESSED, b'no such cart')"
    assert status == Status.parse(status.encode())
    assert status != Status(5)
