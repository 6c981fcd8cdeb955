// Package octomesh is the Go SDK of OctoMesh, a service mesh for RPC: clients and servers of protobuf
// services that call each other through a local proxy, or direct, by the same protocol and with the same
// behaviour. It depends on the standard library and protobuf.
//
// A service is a protobuf service; protoc-gen-octo makes a client and a server interface of it. [Dial]
// gives the [Channel] that a client calls through, [NewServer] the [Server] that answers. Errors are of
// type [*Error]. What a call carries besides its messages goes by context and by [CallOption].
//
// The life of a unary call, from file to file:
//
//  1. The generated method calls [CallUnary]; interceptors stand around what follows (streams.go, interceptor.go).
//  2. The channel applies options and deadline, and builds what the head says of this call alone; what it
//     says of the method is built once (call.go, channel.go).
//  3. The path picks a connection: the proxy's, which all channels of the process share, or that of the
//     less loaded of two endpoints. Without a connection one is dialed (path.go, peer.go).
//  4. Under the connection's lock the state machine of core/wire opens a stream and queues one frame. The
//     caller itself writes, and what other callers have queued meanwhile with it; then it waits for one
//     token (call.go, link.go).
//  5. At the server one goroutine reads all that has arrived, and gives each call a method, a context that
//     costs neither timer nor channel, and a place in the workers' queue (session.go, context.go).
//  6. A parked worker decodes the message, runs the handler and queues the answer; answers of a batch are
//     flushed together (workers.go, servercall.go, answer.go).
//  7. The client's reader books the answer and gives the caller its token (link.go). The caller decodes
//     the message, or makes an error of the status (response.go, channel.go, error.go), and sends the call again (retry.go) where
//     it surely ran nowhere.
//
// Streams take the same way with a queue of messages in each direction (inbox.go, streams.go, clientstream.go,
// serverstream.go). A server reaches its proxy by dialing it, and is called on that connection (attach.go).
package octomesh
