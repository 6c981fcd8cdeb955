// Package transport moves bytes between a socket and a state machine, in the two ways that keep a system
// call's cost away from the single call:
//
//   - reading: whoever reads takes all that is there, up to 132 KiB at once, and handles every frame of it
//     before anything is written ([Conn.Read]). Buffers are borrowed only while there is something to read.
//   - writing: frames for one socket gather in one buffer, and whoever finds nobody flushing flushes until
//     it is empty ([Conn.Flush]). Nobody waits: what a full socket does not take is left to a goroutine.
//
// It uses the standard library alone, since the Go SDK and the proxy share it.
package transport
