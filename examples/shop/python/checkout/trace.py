"""A span of each call that a service of the shop serves, written to the log, as the shop's package in Go does it.

The SDK carries the trace context from a handler into its outgoing calls; to begin spans is left to an interceptor such
as this one.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import octomesh

MESSAGE = "call"
"""The log message under which spans are written, each in the attribute of this name too."""
SERVED_BY = "served-by"
"""The response's metadata key that names the instance, for people who want to know."""

Write = Callable[[dict[str, Any]], None]


def to_stderr(line: dict[str, Any]) -> None:
    """Write a line of JSON."""
    sys.stderr.write(json.dumps(line) + "\n")


def interceptor(target: str, instance: str, write: Write = to_stderr) -> octomesh.Interceptor:
    """Log each call that a server of the target takes."""

    async def span_of(call: octomesh.Call, proceed: octomesh.Next, /) -> Any:
        context = call.context
        if context is None:
            raise TypeError("this interceptor is a server's")
        begin, now = time.monotonic(), datetime.now(UTC)
        parent = context.traceparent.split("-")
        trace_id, parent_id = (parent[1], parent[2]) if len(parent) == 4 else (secrets.token_hex(16), "")
        span_id, left = secrets.token_hex(8), context.time_left()
        context.set_header(SERVED_BY, instance)
        code = "OK"
        try:
            with octomesh.trace_context(f"00-{trace_id}-{span_id}-01", context.tracestate):
                return await proceed(call)
        except octomesh.RpcError as error:
            code = getattr(error.code, "name", str(error.code))
            raise
        except BaseException as error:
            code = "DEADLINE_EXCEEDED" if isinstance(error, TimeoutError) or context.time_left() == 0 else "UNKNOWN"
            raise
        finally:
            span: dict[str, Any] = {
                "trace": trace_id,
                "span": span_id,
                "parent": parent_id,
                "target": target,
                "instance": instance,
                "method": call.method.full_name,
                "caller": context.peer.application,
                "proxied": context.peer.proxied,
                "begin": now.isoformat(),
                "took_us": int((time.monotonic() - begin) * 1e6),
                "code": code,
                "baggage": {key: value for key, value in context.baggage if isinstance(value, str)},
            }
            if left is not None:
                span["budget_us"] = int(left * 1e6)
            write({"time": now.isoformat(), "level": "INFO", "msg": MESSAGE, MESSAGE: span})

    return span_of
