package wire

// Liveness decides from half-second ticks when to ping a silent peer and when it is gone. Any received
// byte is liveness. Its owner calls Tick every 500 ms.
type Liveness struct {
	silent int // ticks without a byte
	misses int // ticks without a byte since the ping, that count
	pinged bool
}

// Verdict is what a tick asks for.
type Verdict uint8

// The verdicts.
const (
	Alive Verdict = iota
	SendPing
	Gone
)

const (
	// pingAfterTicks is how long an idle link may be silent before either end pings: 5 s.
	pingAfterTicks = 10
	// urgentMisses: while a unary call waits, three ticks of 500 ms without a byte are the end.
	urgentMisses = 3
	// idleMisses: otherwise two spans of 5 s.
	idleMisses = 2 * pingAfterTicks
)

// Tick takes half a second's news: whether a byte arrived, whether the socket was drained, so that
// silence proves something, and whether this side waits for a unary call.
func (l *Liveness) Tick(received, drained, waiting bool) Verdict {
	if received {
		*l = Liveness{}
		return Alive
	}
	l.silent++
	if !l.pinged {
		if waiting || l.silent >= pingAfterTicks {
			l.pinged = true
			return SendPing
		}
		return Alive
	}
	if drained {
		l.misses++
	}
	limit := idleMisses
	if waiting {
		limit = urgentMisses
	}
	if l.misses >= limit {
		return Gone
	}
	return Alive
}

// Missed tells whether there was a miss since the last byte (W-LIVE-6).
func (l *Liveness) Missed() bool { return l.misses > 0 }
