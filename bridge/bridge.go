package bridge

import (
	"errors"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// Kind says what a frame is.
type Kind uint8

// The kinds. A codec leaves none of its frames without one.
const (
	Request   Kind = iota + 1 // of a call that is answered
	OneWay                    // of a call that is not
	Response                  // the answer, also one that says that the call failed
	Heartbeat                 // asks for a sign of life; [FrameCodec].Local answers it
	Ignored                   // says nothing that anybody waits for, such as the answer to a heartbeat
)

// String returns the kind's name.
func (k Kind) String() string {
	names := [...]string{"none", "request", "one-way", "response", "heartbeat", "ignored"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Frame is one frame of a foreign protocol. What Decode puts into its slices are pieces of the bytes that were decoded, valid as long as
// these; nothing is copied.
type Frame struct {
	Kind Kind
	// ID ties an answer to its request on one connection. Where calls go on, the engine puts another number in its place.
	ID uint64
	// Key is the id of a protocol whose ids are no numbers; empty: ID is all there is. Append writes Key where it is not empty, else ID, so
	// that such a codec's Decode gives the number back where the id reads as one, as an answer's does.
	Key []byte

	// Target is the application that a request is for, where the protocol names it. Empty: the proxy's configuration knows, or Service is it.
	Target []byte
	// Service and Method are what a request wants: names for routes, policies and people.
	Service, Method []byte
	// Caller is what the calling application calls itself. Nobody has verified it.
	Caller []byte
	// Timeout is how long the caller waits, from the frame's arrival. 0: it does not say.
	Timeout time.Duration
	// Meta is what routes, lanes and traces may go by: keys of a-z, 0-9, "-", "_" and "."; printable ASCII as values. The keys "traceparent"
	// and "tracestate" are W3C's. Others are left out by the engine. None of it is needed to write the frame again.
	Meta []wire.Entry
	// Status is how the call of a Response ended: its code, and who says so by Origin: OriginApplication for the error that a handler gave
	// (an exception, a business status), OriginServerSDK for one of the framework. Metrics, breakers and retries go by it; the client reads
	// the frame itself.
	Status wire.Status
	// Moves: the sender of a Response asks that further calls come on another connection.
	Moves bool

	// Note is the codec's own, of a Request: Local gets it back. It tells, for one, how the client encodes its payloads.
	Note uint32

	// Head is the frame up to its payload, verbatim, and Payload the rest. Neither is ever changed but by Append, which writes the id anew.
	Head, Payload []byte
}

// Reset empties the frame and keeps the memory of its lists.
func (f *Frame) Reset() { *f = Frame{Meta: f.Meta[:0]} }

// Verdict is what a connection's first bytes say about its protocol.
type Verdict uint8

// The verdicts.
const (
	No   Verdict = iota // it is not spoken
	More                // too few bytes have come
	Yes
)

// Info is what an engine has to know of a protocol.
type Info struct {
	// Name is in lower case: "kitex".
	Name string
	// ContentType is how the mesh calls messages that are frames of the protocol: "application/x-kitex-ttheader". Two codecs with the same
	// one read each other's frames.
	ContentType string
	// Multiplexed: several calls may be open on one connection, and are answered in any order. Else there is one at a time, and the engine
	// closes a connection whose call is cancelled, since the answer may still come.
	Multiplexed bool
	// MaxFrame is the longest frame in bytes, head and payload. 0: [DefaultMaxFrame]. It is at most that.
	MaxFrame int
}

// DefaultMaxFrame is the longest frame, 16 MiB, unless Info says less.
const DefaultMaxFrame = 16 << 20

// Limit is MaxFrame with its default.
func (i *Info) Limit() int {
	if i.MaxFrame <= 0 || i.MaxFrame > DefaultMaxFrame {
		return DefaultMaxFrame
	}
	return i.MaxFrame
}

// Errors of codecs. Others do as well: each error of Decode ends the connection, and its text is logged.
var (
	// ErrTooLong: the frame announces more bytes than MaxFrame.
	ErrTooLong = errors.New("the frame is longer than the protocol's limit")
	// ErrMalformed: a length or a field breaks the protocol.
	ErrMalformed = errors.New("the frame is malformed")
)

// FrameCodec reads and writes the frames of one protocol. It has no state, unless it is [Stateful], and may be used by several connections
// at once.
type FrameCodec interface {
	Info() Info
	// Sniff tells by a connection's first bytes whether a client speaks the protocol. It says More only as long as some further bytes
	// could make it say Yes.
	Sniff(prefix []byte) Verdict
	// Decode reads the frame at the start of in into f, which is empty, and returns its length. 0 and no error: the frame is not there
	// whole; Decode is called again, with the same bytes and more behind them. A length that in shows already is checked before more
	// is asked for: over MaxFrame it is ErrTooLong. Decode neither keeps nor changes in, and takes no memory by the word of a length.
	Decode(in []byte, f *Frame) (n int, err error)
	// Append appends f to out: Head and Payload as they are, but for the id, which f has.
	Append(out []byte, f *Frame) ([]byte, error)
	// Local appends the frame by which this side itself answers req: with an error, or, where the status is OK, a heartbeat. Of req it
	// gets Kind, ID, Key, Service, Method and Note. st.Message is for people, and says where the error comes from.
	Local(out []byte, req *Frame, st *wire.Status) ([]byte, error)
}

// Stateful is a codec that remembers something of a connection, such as names that are sent once: NewConn makes the one of a connection.
// What it has decoded on one connection it must be able to append on another.
type Stateful interface {
	NewConn() FrameCodec
}

// MetaSetter is a codec that can put an entry into a frame's head, for who reads it at the other end. f.Head becomes another slice. The
// engine passes on the trace context by it.
type MetaSetter interface {
	SetMeta(f *Frame, key, value []byte) error
}

// Mover is a codec whose answers can ask the client to use another connection from then on. Without it, a client learns that a proxy
// leaves by the end of a connection without calls.
type Mover interface {
	// Move puts it into the head of an answer. f.Head becomes another slice.
	Move(answer *Frame) error
}
