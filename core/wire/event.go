package wire

// EventKind says what a frame meant.
type EventKind uint8

// What [Conn.Feed] can tell.
const (
	// EventNone: nothing to do; also for frames of closed streams and of unknown types.
	EventNone EventKind = iota
	// EventHello: a dialer introduced itself; answer by [Conn.Welcome] or [Conn.Refuse].
	EventHello
	// EventWelcome: the acceptor agreed; calls may go.
	EventWelcome
	// EventRequest: a call was opened. Put something into Stream.Call.
	EventRequest
	// EventResponse: Frame is a RESPONSE. With END the stream is closed.
	EventResponse
	// EventMessage: Frame is a MESSAGE.
	EventMessage
	// EventReset: the peer ended the stream with Status; it is closed.
	EventReset
	// EventFailed: the peer broke a rule of the stream; a RESET with Status is queued, the stream closed.
	EventFailed
	// EventCredit: a Send that found no credit may go on.
	EventCredit
	// EventPong: the answer to [Conn.Ping].
	EventPong
	// EventGoAway: the peer leaves or refuses: GoAway.
	EventGoAway
	// EventDrained: the peer opens no more calls on this connection.
	EventDrained
)

var eventNames = [...]string{
	"none", "hello", "welcome", "request", "response", "message", "reset", "failed", "credit", "pong",
	"goaway", "drained",
}

// String returns the event's name as the vectors have it.
func (k EventKind) String() string { return eventNames[k] }

// Event is what one frame meant. Feed fills only the fields that its kind names; the slices in them
// borrow the bytes that were fed.
type Event struct {
	Kind   EventKind
	Stream *Stream
	// Call is Stream.Call as it was when the frame arrived, also where the frame closed the stream.
	Call  any
	Frame Frame

	Status    Status // EventReset, EventFailed
	HTTP2Code uint32 // EventReset

	Hello   Hello   // EventHello
	Welcome Welcome // EventWelcome
	GoAway  GoAway  // EventGoAway
	Pong    uint64  // EventPong
}

// ConnError ends a connection: what the peer did wrong, and at which byte of what it sent.
type ConnError struct {
	Code    GoAwayCode
	Message string
	Offset  uint64
}

// Error says what was wrong.
func (e *ConnError) Error() string { return "octo: " + e.Code.String() + ": " + e.Message }
