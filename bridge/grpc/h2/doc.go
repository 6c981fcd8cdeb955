// Package h2 is one side of an HTTP/2 connection without any input or output: bytes in, events out.
//
// It keeps to the shape of core/wire: [Conn.Feed] takes bytes that arrived and says what they mean, [Conn.Headers],
// [Conn.Data] and their kin append to the output that [Conn.Take] hands to whoever writes it. A Conn does no locking, starts
// no goroutine and reads no clock. Both roles share it.
//
// What a peer may make us hold is bounded: a stream's data by its window, which opens only as the owner consumes; header
// blocks by [MaxHeaderList]; answers that the peer does not read by [maxAnswers]; frames that cost nothing by what a
// tick may bring. Who goes beyond is told to calm down, and the connection ends.
package h2
