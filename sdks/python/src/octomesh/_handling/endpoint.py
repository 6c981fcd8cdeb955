"""What a server has for each of its methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from octomesh._generated import Method
from octomesh.interceptors import Interceptor


class Endpoint:
    """A method with what handles it."""

    __slots__ = ("function", "interceptors", "method", "parse", "respond", "streams_in", "streams_out")

    def __init__(
        self, method: Method[Any, Any], function: Callable[..., Any], interceptors: Sequence[Interceptor]
    ) -> None:
        self.method = method
        self.function = function
        self.interceptors = tuple(interceptors)
        self.parse: Callable[[bytes], Any] = method.request.FromString
        self.respond = method.response
        self.streams_in = method.kind.streams_in
        self.streams_out = method.kind.streams_out
