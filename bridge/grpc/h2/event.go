package h2

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// EventKind says what arrived.
type EventKind uint8

// What [Conn.Feed] can tell.
const (
	// EventNone: nothing to do.
	EventNone EventKind = iota
	// EventPreface: a client introduced itself; answer by [Conn.Start].
	EventPreface
	// EventReady: the server's SETTINGS have come; streams may be opened.
	EventReady
	// EventHeaders: a header list: of a new stream at a server, the first one at a client, or, with Trailers, the last one.
	EventHeaders
	// EventData: bytes of a stream, of which Flow count against its window until [Conn.Consume].
	EventData
	// EventReset: the peer ended the stream with Code; it is closed.
	EventReset
	// EventFailed: the peer broke a rule of the stream, or, with Unprocessed, left without having seen it; it is closed.
	EventFailed
	// EventPong: the answer to [Conn.Ping].
	EventPong
	// EventGoAway: the peer leaves, for Code. Streams that it will not see fail, each by an event of its own.
	EventGoAway
	// EventDrained: the peer knows that this side leaves, and opens no more streams.
	EventDrained
)

// Event is what a frame meant. Fields and Data borrow: until the next Feed the one, as long as the fed bytes the other.
type Event struct {
	Kind   EventKind
	Stream *Stream
	// User is Stream.User as it was when the frame arrived, also where the frame closed the stream.
	User     any
	Fields   []hpack.HeaderField
	Trailers bool
	Data     []byte
	Flow     int
	End      bool // the peer says nothing more on the stream

	Code        http2.ErrCode
	Message     string
	Unprocessed bool
	Pong        uint64
}

// Stream is one exchange. It belongs to its Conn, and a closed one is used again: whoever keeps a pointer compares
// User with what it put there before each use.
type Stream struct {
	ID uint32
	// User is the owner's. A closed stream's is nil.
	User any
	// Want is how many bytes the next EventData may bring at most. 0: any number.
	Want int

	sendWindow int64 // what the peer lets us send
	recvWindow int64 // what we let the peer send
	pending    int64 // consumed and not granted yet
	grown      int64 // beyond the initial window

	contentLength int64 // announced; -1: not
	received      int64

	gotHeaders bool
	recvEnd    bool // the peer has half-closed
	sentEnd    bool // we have half-closed
	blocked    bool // a Data waits for room

	turn          bool // it was its turn, and it has not sent since
	queued        bool // in the connection's queue, between before and after
	before, after *Stream
}

// RemoteEnded tells whether the peer has half-closed.
func (s *Stream) RemoteEnded() bool { return s.recvEnd }

// LocalEnded tells whether this side has half-closed.
func (s *Stream) LocalEnded() bool { return s.sentEnd }
