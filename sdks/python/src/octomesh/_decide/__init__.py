"""What an SDK decides, without input, output or a clock: a call's way, and what becomes of it when that fails.

Events, times and random draws go in, what is to be done comes out, alike in every language: proto/spec/switch.md and
directory.md, and the vectors in conformance/vectors.

- `octomesh._decide.ratio`: which calls a share of the mesh takes.
- `octomesh._decide.switch`: whose word on the share counts; the kill switch's file.
- `octomesh._decide.sources`: which of a Directory's sources counts.
- `octomesh._decide.path`: the states of the way to the proxy, and the way of a call in each.
- `octomesh._decide.again`: whether a call that failed goes again, and where; retry budget; what several attempts come
  to.
- `octomesh._decide.balance`: direct balancing.
- `octomesh._decide.registration`: how a registration goes on, and when a stream to a Directory comes again.
"""
