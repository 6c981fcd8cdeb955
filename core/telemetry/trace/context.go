// Package trace knows W3C Trace Context: what a call's traceparent says, whether the call is sampled, and what
// the traceparent says that goes on.
package trace

import (
	"encoding/hex"
	"math/rand/v2"
)

// ID names a trace; all zeros: none.
type ID [16]byte

// SpanID names a span of a trace; all zeros: none.
type SpanID [8]byte

// String returns the id in lower-case hex.
func (t ID) String() string { return hex.EncodeToString(t[:]) }

// String returns the id in lower-case hex.
func (s SpanID) String() string { return hex.EncodeToString(s[:]) }

// Context is what a traceparent says: the trace, the caller's span in it, and flags.
type Context struct {
	Trace ID
	Span  SpanID
	Flags byte
}

// Sampled is the flag that says that the caller may have recorded the trace; Random says that the trace id's
// last seven bytes are random.
const (
	Sampled = 0x01
	Random  = 0x02
)

// Size is the length of a traceparent of version 00.
const Size = 2 + 1 + 32 + 1 + 16 + 1 + 2

// Sampled tells whether the caller may have recorded the trace.
func (c *Context) Sampled() bool { return c.Flags&Sampled != 0 }

// Parse reads a traceparent. One that Trace Context calls invalid counts as absent: ok is false.
func Parse(b []byte) (c Context, ok bool) {
	if len(b) < Size || b[2] != '-' || b[35] != '-' || b[52] != '-' {
		return c, false
	}
	var version [1]byte
	if !unhex(version[:], b[:2]) || version[0] == 0xff || len(b) > Size && (version[0] == 0 || b[Size] != '-') {
		return c, false
	}
	var flags [1]byte
	if !unhex(c.Trace[:], b[3:35]) || !unhex(c.Span[:], b[36:52]) || !unhex(flags[:], b[53:55]) {
		return Context{}, false
	}
	if c.Trace == (ID{}) || c.Span == (SpanID{}) {
		return Context{}, false
	}
	c.Flags = flags[0]
	if version[0] != 0 {
		c.Flags &= Sampled // what other flags mean in a later version is not known
	}
	return c, true
}

// unhex decodes lower-case hex, the only form that Trace Context allows.
func unhex(dst, src []byte) bool {
	for i := range dst {
		hi, lo := digit(src[2*i]), digit(src[2*i+1])
		if hi|lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// Append appends the traceparent, in version 00.
func (c *Context) Append(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = hex.AppendEncode(dst, c.Trace[:])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, c.Span[:])
	const digits = "0123456789abcdef"
	return append(dst, '-', digits[c.Flags>>4], digits[c.Flags&15])
}

// NewRoot returns the context of a trace that begins: random ids, sampled.
func NewRoot() (c Context) {
	for c.Trace == (ID{}) {
		put(c.Trace[:8], rand.Uint64())
		put(c.Trace[8:], rand.Uint64())
	}
	c.Span, c.Flags = NewSpanID(), Sampled|Random
	return c
}

// NewSpanID returns a random span id.
func NewSpanID() (s SpanID) {
	for s == (SpanID{}) {
		put(s[:], rand.Uint64())
	}
	return s
}

func put(b []byte, v uint64) {
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
}

// Share is a part of calls, drawn at random.
type Share struct{ below uint64 }

// Permille returns the share of n in a thousand; n above 1000 counts as all.
func Permille(n uint32) Share {
	if n >= 1000 {
		return Share{^uint64(0)}
	}
	return Share{^uint64(0) / 1000 * uint64(n)}
}

// Draw tells whether the next call is one of the share. It draws only where the answer is open.
func (s Share) Draw() bool {
	switch s.below {
	case 0:
		return false
	case ^uint64(0):
		return true
	}
	return rand.Uint64() < s.below
}
