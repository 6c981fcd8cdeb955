"""The enhanced protocol without input or output: bytes in, hooks called, bytes out.

Judged by proto/spec/wire.md and conformance/vectors. The parts, each usable by itself:

- `octomesh._wire.conn`: `Connection`, the state of one connection and of its streams; `Owner` and `Stream` are what it
  calls.
- `octomesh._wire.heads`, `hello`, `status`, `timings`: heads as pieces of bytes, and read.
- `octomesh._wire.inbox`, `compression`: messages from fragments, plain bytes from compressed ones, within bounds.
- `octomesh._wire.liveness`, `timeout`, `text`, `limits`, `frame`: rules and numbers.
"""
