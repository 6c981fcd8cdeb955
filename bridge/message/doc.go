// Package message makes a protocol of a proxy's connections of a codec for single frames (package bridge).
//
// [Conn] is a machine of core/proxy/session. A client's frame becomes a REQUEST whose message is the frame, head and payload, verbatim, and
// whose content type says so; what its head says of the call is said in the REQUEST's head. Where the call leaves the mesh by the same protocol,
// the frame is written with another id. So nothing of it has to be understood twice, and nothing can be lost on the way.
package message
