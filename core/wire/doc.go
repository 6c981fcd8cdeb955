// Package wire is the enhanced protocol without any input or output: bytes in, events out.
//
// It is judged by proto/spec/wire.md and by conformance/vectors; six languages follow the same rules.
// Three parts build on each other:
//
//   - Frames: [ParseHeader], [Header.Append]. Sixteen bytes, then a head, then a body.
//   - Heads: hand-written protobuf for octo.wire.v1, so that a program that links this package carries
//     no generated code and a hop can patch a head without decoding it. Parsed heads borrow the buffer
//     they were parsed from.
//   - [Conn]: the state of one connection and of its streams: ids, credit, fragments, resets, leaving.
//     [Conn.Feed] takes bytes that arrived and tells what they mean; [Conn.Open], [Conn.Send] and their
//     kin append to the output that [Conn.Take] hands to whoever writes it.
//
// A Conn does no locking, starts no goroutine and reads no clock: its owner locks it, feeds it, writes
// its output and calls [Conn.Tick]. Nothing is allocated for a unary call once a connection is warm.
package wire
