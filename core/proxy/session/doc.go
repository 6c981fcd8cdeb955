// Package session is the proxy's data path: connections, the calls on them, and the frames that go from
// one to the other.
//
// The life of a call:
//
//  1. A session's reader takes all that has arrived and feeds it, frame by frame, to its wire.Conn.
//  2. A REQUEST makes a [Call]; the session's [Handler] looks at the head and decides: forward to a
//     session, refuse, or park until something happens.
//  3. Forwarding opens a stream on the other session and appends the frame to its output, with hop fields
//     put around the head; the head itself is only patched.
//  4. At the end of the batch every session that was appended to is flushed once.
//  5. Frames of the answer come in by the other session's reader and go back the same way.
//  6. What finds no credit waits in the call's queue, bounded by the window that its sender was granted;
//     a WINDOW lets it go on, and the sender gets its credit back when the last byte has left.
//
// No goroutine, timer or channel is made for a call: readers do everything, and one sweep ends what has
// run out of time.
//
// Locks: a call's lock comes before a session's, and nobody holds two sessions' locks. A reader holds its
// session's lock only while it feeds one frame; it then takes the call's lock and, under that, the other
// session's. Whoever handles a call holds a reference, since ended calls are used again.
package session
