// Package bridge is what a further protocol implements so that its clients and servers take part in the mesh.
//
// A protocol of messages (a request, at most one answer, each a frame that says how long it is) gives a [FrameCodec], which reads and
// writes single frames and knows nothing of sockets, calls or time. Package bridge/message makes a session.Protocol of it, with all that
// the codec does not do: ids, limits, deadlines, cancellation, heartbeats, leaving. Package bridge/bridgetest holds a codec to what it
// promises here, and bridge/kitex is one. docs/guides/further-protocols.md shows how to write one.
//
// A protocol with streams implements core/proxy/session.Protocol itself, as bridge/grpc does (docs/adr/0017-frames-through-the-mesh.md).
package bridge
