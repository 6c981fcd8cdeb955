"""An owner of a connection that does what a script of machine/*.json says, and notes what the connection does."""

from __future__ import annotations

from typing import Any, Final

import vectors
from octo.wire.v1 import connection_pb2, head_pb2
from octomesh._wire.conn import ACCEPTOR, DIALER, Connection, NotOpenError, StreamLimitError, WireError
from octomesh._wire.frame import END, MESSAGE, MSG, REQUEST, RESPONSE, TYPE_NAMES
from octomesh._wire.hello import GoAway, Hello, Welcome
from octomesh._wire.limits import Limits
from octomesh._wire.status import Origin, Reason, Status, refuse
from octomesh._wire.stream import Stream

ROLES: Final = {"call": 1, "serve": 2}
TYPES: Final = {"REQUEST": REQUEST, "RESPONSE": RESPONSE, "MESSAGE": MESSAGE}

Note = dict[str, Any]


class Call(Stream):
    """One call of a player."""

    __slots__ = ("player",)

    def __init__(self, player: Player) -> None:
        self.player = player

    def _arrived(self, kind: str, flags: int, body: bytes) -> None:
        self.player.deliver(kind, stream=self.id, flags=flags, body_len=len(body))

    def on_request(self, flags: int, head: bytes, body: bytes) -> None:
        self.player.calls[self.id] = self
        self._arrived("request", flags, body)

    def on_response(self, flags: int, head: bytes, body: bytes) -> None:
        self._arrived("response", flags, body)
        assert self.closed == (flags & END != 0)

    def on_message(self, flags: int, head: bytes, body: bytes) -> None:
        self._arrived("message", flags, body)

    def on_credit(self, done: bool) -> None:
        self.player.deliver("credit", stream=self.id)
        assert done == (not self.blocked)

    def on_reset(self, status: Status, http2_code: int) -> None:
        self.player.deliver("reset", **self._how(status), http2_code=http2_code)

    def on_failed(self, status: Status) -> None:
        self.player.deliver("failed", **self._how(status))

    def on_ended(self, status: Status) -> None:
        self.player.ended.append(self._how(status))

    def _how(self, status: Status) -> Note:
        assert self.closed
        return {
            "stream": self.id,
            "code": status.code,
            "reason": int(status.reason),
            "disposition": int(status.disposition),
        }


class Player:
    """The owner: it takes every call, and closes when it is due."""

    def __init__(self, setup: Note, *, cut: int = 0, cut_at: int = 0) -> None:
        """What arrives is fed in pieces of cut bytes, or in two that part at an offset; 0: whole."""
        self.dialer = setup["side"] == "dialer"
        side = DIALER if self.dialer else ACCEPTOR
        self.conn = Connection(side, self, Limits(**setup["local"]), Origin.SERVER_PROXY)
        if setup.get("skip_handshake"):
            self.conn.resume(ROLES[setup["role"]], Limits(**setup["peer"]))
        self.cut = cut
        self.cut_at = cut_at
        self.calls: dict[int, Call] = {}
        self.delivers: list[Note] = []
        self.ended: list[Note] = []
        self.writes: list[Note] = []
        self.blocked: list[int] = []
        self.refused: str | None = None
        self.closed = False
        self.close = False
        self.woken = 0

    def deliver(self, kind: str, **what: Any) -> None:
        self.delivers.append({"kind": kind, **what})

    # What a connection tells.

    def on_hello(self, hello: Hello) -> None:
        self.deliver("hello", role=hello.role)

    def on_welcome(self, welcome: Welcome) -> None:
        self.deliver("welcome", version=welcome.version)

    def on_pong(self, payload: int) -> None:
        self.deliver("pong", payload=f"{payload:016x}")

    def on_goaway(self, goaway: GoAway) -> None:
        self.deliver("goaway", code=goaway.code, last=goaway.last, final=goaway.final)
        if self.conn.closed or (goaway.final and self.conn.opens):
            self.conn.abort()

    def on_drained(self) -> None:
        self.deliver("drained")

    def on_output(self) -> None:
        self.woken += 1

    def accept(self) -> Call:
        return Call(self)

    # What a script has it do.

    def play(self, step: Note) -> None:
        self.delivers, self.ended, self.blocked, self.refused, self.close = [], [], [], None, False
        for name, given in step["event"].items():
            if name == "receive":
                self.receive(vectors.from_chunks(given))
            else:
                self.act(name, given)
        if not self.closed and (self.conn.closed or (self.conn.done and self.dialer)):
            self.closed = self.close = True
        self.writes = []
        if not step.get("hold"):
            out = self.conn.take()
            assert self.woken > 0 or not out, "the owner is told of output"
            self.woken = 0
            self.writes = read_frames(out)

    def receive(self, data: bytes) -> None:
        size = self.cut or len(data) or 1
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        if self.cut_at:
            pieces = [data[: self.cut_at], data[self.cut_at :]]
        try:
            for piece in pieces:
                self.conn.feed(piece)
        except WireError:
            self.conn.abort()

    def act(self, name: str, e: Note) -> None:
        conn = self.conn
        code = e.get("code", 0)
        if name == "hello":
            conn.hello(Hello(role=e["role"]))
        elif name == "accept":
            conn.welcome(Welcome())
        elif name == "refuse":
            conn.refuse(GoAway(code))
        elif name == "open":
            self.open(e)
        elif name == "send":
            s = self.calls[e["stream"]]
            done = conn.send(s, TYPES[e["type"]], e["flags"], bytes.fromhex(e.get("head", "")), bytes(e["body_len"]))
            self._sent(s, done)
        elif name == "consume":
            conn.consume(self.calls[e["stream"]], e["cost"])
        elif name == "reset":
            conn.reset(self.calls[e["stream"]], Status(code, e["reason"], disposition=e["disposition"]))
        elif name == "started":
            conn.started(self.calls[e["stream"]])
        elif name == "released":
            self.release()
        elif name == "leave":
            conn.leave(code)
        elif name == "final":
            conn.finish(code)
        elif name == "drained":
            conn.drained()
        elif name == "ping":
            conn.ping(int(e["payload"], 16))
        elif name == "tick":
            conn.tick()
        elif name == "cancels":
            self.cancels(e["calls"])
        elif name == "lost":
            conn.lost(unwritten=e.get("unwritten", False))
        else:
            raise AssertionError(f"unknown event {name}")

    def cancels(self, calls: int) -> None:
        """Opens and cancels unary calls. A REQUEST and a RESET go out for each."""
        for _ in range(calls):
            s = Call(self)
            assert self.conn.open(s, MSG | END, b"", b"\0")
            self.conn.reset(s, refuse(Reason.CANCELLED, Origin.CLIENT_SDK))
            out = read_frames(self.conn.take())
            assert [(f["type"], f["stream"]) for f in out] == [("REQUEST", s.id), ("RESET", s.id)]
        self.woken = 0

    def open(self, e: Note) -> None:
        s = Call(self)
        room, takes = self.conn.room, self.conn.takes_calls
        try:
            done = self.conn.open(s, e["flags"], bytes.fromhex(e.get("head", "")), bytes(e["body_len"]))
        except StreamLimitError:
            self.refused = "stream_limit"
            assert (room, takes) == (0, True)
        except NotOpenError:
            self.refused = "not_open"
            assert (room, takes) == (0, False)
        else:
            assert room > 0
            assert takes
            self.calls[s.id] = s
            self._sent(s, done)

    def _sent(self, s: Call, done: bool) -> None:
        assert done == (not s.blocked)
        if not done:
            self.blocked.append(s.id)

    def release(self) -> None:
        """Some handler whose stream was reset has returned."""
        held = self.conn.held
        for s in self.calls.values():
            if s.closed and self.conn.held == held:
                self.conn.release(s)
        assert self.conn.held == held - 1

    # Whether that is what was expected.

    def check(self, at: str, want: list[Note]) -> None:
        delivers = [w for w in want if "deliver" in w]
        assert not match(self.delivers, delivers, "deliver"), f"{at}: deliveries: {self.delivers}"
        self._check_writes(at, want)
        for w in want:
            if "ended" in w:
                assert any(holds(e, w["ended"]) for e in self.ended), f"{at}: {w} is not in {self.ended}"
        assert len(self.ended) == sum("ended" in w for w in want), f"{at}: ended {self.ended}"
        assert len(self.blocked) == sum("blocked" in w for w in want), f"{at}: blocked {self.blocked}"
        assert self.close == any("close" in w for w in want), f"{at}: close {self.close}"
        assert self.refused == next((w["refused"] for w in want if "refused" in w), None), f"{at}: refused"

    def _check_writes(self, at: str, want: list[Note]) -> None:
        for w in want:
            place = w.get("write", {}).get("place")
            if place and self.writes:
                frame = self.writes[0 if place == "first" else -1]
                assert holds(frame, w["write"]), f"{at}: {w['write']['type']} is not the {place} of {self.writes}"
        wants: dict[int, list[Note]] = {}
        for w in want:
            action = w.get("write") or w.get("sends")
            if action is not None:
                wants.setdefault(action["stream"], []).append({"": action, "optional": w.get("optional", False)})
        for sid in wants.keys() | {w["stream"] for w in self.writes}:
            whole = join_fragments([w for w in self.writes if w["stream"] == sid])
            wrong = match(whole, wants.get(sid, []), "")
            assert not wrong, f"{at}: stream {sid}: {wrong}; all: {self.writes}"


def holds(got: Note, want: Note) -> bool:
    """Whether got has all that is expected."""
    return all(got.get(k) == v for k, v in want.items() if k != "place")


def match(got: list[Note], want: list[Note], of: str) -> str:
    """Compares in order; optional expectations may be missing. Says what does not fit."""
    got = list(got)
    for w in want:
        if got and holds(got[0], w[of]):
            got.pop(0)
        elif not w.get("optional"):
            return f"missing {w[of]}, there is {got}"
    return f"unexpected {got}" if got else ""


def join_fragments(frames: list[Note]) -> list[Note]:
    """Adds what `sends` asks of a message to its frames: a later fragment goes into its first."""
    whole: list[Note] = []
    for frame in frames:
        flags = frame["flags"]
        if whole and whole[-1]["more"]:
            m = whole[-1]
            m["bytes"] += frame["body_len"]
            m["last_type"], m["last_head"] = frame["type"], frame["head"]
            m["end"], m["more"] = flags & 1 != 0, flags & 2 != 0
            if not m["more"] and m["bytes"] != m["total_length"]:
                m["type"] = f"a message whose total_length is {m['total_length']}"
        else:
            more = {
                "bytes": frame["body_len"],
                "last_type": frame["type"],
                "end": flags & 1 != 0,
                "more": flags & 2 != 0,
            }
            whole.append({**frame, **more})
    return whole


def read_frames(b: bytes) -> list[Note]:
    """Reads written frames by the protobuf library, not by the package under test."""
    out = []
    while b:
        head_end = 16 + int.from_bytes(b[6:8], "big")
        end = head_end + int.from_bytes(b[12:16], "big")
        assert b[:3] == b"\x0c\x70\x01"
        assert b[5] == 0
        assert len(b) >= end
        frame: Note = {
            "type": TYPE_NAMES[b[3]],
            "flags": b[4],
            "stream": int.from_bytes(b[8:12], "big"),
            "body_len": end - head_end,
        }
        out.append({**frame, **read_head(frame["type"], b[16:head_end], b[head_end:end])})
        b = b[end:]
    return out


def read_head(kind: str, head: bytes, body: bytes) -> Note:
    if kind == "HELLO":
        hello = connection_pb2.Hello.FromString(head)
        return {
            "lowest_version": hello.lowest_version,
            "highest_version": hello.highest_version,
            "role": int(hello.role),
        }
    if kind == "WELCOME":
        return {"version": connection_pb2.Welcome.FromString(head).version}
    if kind == "GOAWAY":
        goaway = connection_pb2.GoAway.FromString(head)
        return {"code": int(goaway.code), "last": goaway.last, "final": goaway.final, "offset": goaway.offset}
    if kind == "RESET":
        status = head_pb2.Reset.FromString(head).status
        return {"code": status.code, "reason": int(status.reason), "disposition": int(status.disposition)}
    if kind in ("PING", "PONG"):
        return {"payload": body.hex()}
    if kind == "WINDOW":
        return {"credit": int.from_bytes(body, "big")}
    of = head_pb2.RequestHead if kind == "REQUEST" else head_pb2.ResponseHead
    return {"total_length": of.FromString(head).total_length, "head": head.hex(), "last_head": head.hex()}
