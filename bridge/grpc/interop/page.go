package main

const opening = "# Interoperability\n" + `
Suites, clients and servers that others have written for gRPC, unmodified, through a client's proxy and a server's proxy. The same runs without proxies beside it: what
fails there, too, is not the mesh's fault, and is named below the table.
` + "\n```sh\n" + `make interop            # all of it, some five minutes; writes this page
make interop-quick      # the rows that take seconds, as in make ci
make interop-check      # all of it, as in make full: fails where a row is not as it stands here
` + "```\n" + `
How it is done: [bridge/grpc/interop](../bridge/grpc/interop). Versions are pinned by its go.mod, by tools/pins and beside the programs in peers; these install what they
need into tools/interop (` + "`make bootstrap-interop`" + `).

- **grpc-go interop**: the 18 cases of grpc-go's own client that need no credentials of Google's; ` + "`pick_first_unary`" + ` is left out, since grpc-go's own server fails it.
- **connectrpc conformance**: gRPC over HTTP/2, plain and by TLS. In server mode its clients call a server behind both proxies; in client mode a client calls its servers through them.
- **h2spec**: an HTTP/2 suite that knows nothing of gRPC. Alone, the endpoint answers as a web server would. At a proxy's port each request that is not gRPC is refused
  at its first frame, so that h2spec skips what needs an answer with a body, and does not see what the endpoint says of frames behind the refusal. It is held against
  grpc-go's own server, which must pass fewer cases (113 or 114).
- **Libraries of gRPC's in other languages**: their clients call services of the Go SDK and the Python SDK, and clients of both SDKs call their servers: the four kinds of
  call, metadata with ` + "`-bin`" + `, errors with details, unknown methods, messages of 3 MiB, gzip, deadlines and cancellation up to the other end. Without proxies, each library calls itself;
  tonic fails ` + "`deadline`" + ` there, since it bounds the time until an answer begins, and no more. The proxies end the call in time.
`
