package side

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/histogram"
)

// The kinds of load.
const (
	Unary = "unary"
	// ServerStream is calls whose one request is answered by StreamMessages messages. Messages are counted.
	ServerStream = "server-stream"
	// Bidi is streams that stay open: a message goes when the answer to the one before has come.
	Bidi = "bidi"
)

// StreamMessages is how many messages answer a call of the kind ServerStream.
const StreamMessages = 100

// Load is what a client does.
type Load struct {
	Kind        string
	Size        int // of request and response, or of each message of a stream, in bytes
	Connections int
	InFlight    int // calls or streams, on all connections together; in an open loop at most
	// Rate is how many calls are begun a second, on all connections together, whatever becomes of those
	// before: an open loop. 0: a closed loop, where a call follows an answer.
	Rate    float64       `json:",omitempty"`
	Timeout time.Duration `json:",omitempty"` // of each call; 0: none
}

// On is how many calls connection i keeps in flight.
func (l Load) On(i int) int {
	n := l.InFlight / l.Connections
	if i < l.InFlight%l.Connections {
		n++
	}
	return n
}

// Column names a load as ParseLoad reads it: what is the default, 1 KiB and unary, is left out.
func (l Load) Column() string {
	s := fmt.Sprintf("%d:%d", l.Connections, l.InFlight)
	if l.Rate > 0 {
		s += "@" + strconv.FormatFloat(l.Rate, 'f', -1, 64)
	}
	if l.Size != defaultSize {
		s += "/" + sizeText(l.Size)
	}
	if l.Kind != Unary {
		s += "/" + l.Kind
	}
	return s
}

const defaultSize = 1024

// ParseLoad reads connections:calls in flight[@calls a second][/size][/kind], such as 1:16,
// 1:100@5000 or 4:16/16k/bidi. Sizes are bytes, or KiB and MiB with k and m behind them.
func ParseLoad(text string) (Load, error) {
	l := Load{Kind: Unary, Size: defaultSize}
	shape, rest, _ := strings.Cut(text, "/")
	shape, rate, open := strings.Cut(shape, "@")
	connections, inFlight, _ := strings.Cut(shape, ":")
	var err error
	if l.Connections, err = strconv.Atoi(connections); err == nil {
		l.InFlight, err = strconv.Atoi(inFlight)
	}
	if err != nil || l.Connections < 1 || l.InFlight < l.Connections {
		return l, fmt.Errorf("load %q is not connections:calls in flight, at least one on each connection", text)
	}
	if open {
		if l.Rate, err = strconv.ParseFloat(rate, 64); err != nil || !(l.Rate > 0 && l.Rate <= 1e8) {
			return l, fmt.Errorf("load %q: %q is not a rate of calls a second", text, rate)
		}
	}
	for part := range strings.SplitSeq(rest, "/") {
		switch part {
		case Unary, ServerStream, Bidi:
			l.Kind = part
		case "":
		default:
			if l.Size, err = parseSize(part); err != nil {
				return l, fmt.Errorf("load %q: %q is neither a size up to 4 MiB nor one of %s, %s and %s", text, part, Unary, ServerStream, Bidi)
			}
		}
	}
	if l.Rate > 0 && l.Kind == Bidi {
		return l, fmt.Errorf("load %q: bidi streams have no open loop", text)
	}
	return l, nil
}

// maxSize is below what gRPC and the SDKs take by default.
const maxSize = 4<<20 - 1024

func parseSize(text string) (int, error) {
	number, unit := text, 1
	if n, ok := strings.CutSuffix(text, "k"); ok {
		number, unit = n, 1<<10
	} else if n, ok := strings.CutSuffix(text, "m"); ok {
		number, unit = n, 1<<20
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err == nil && n > uint64(maxSize/unit) {
		err = fmt.Errorf("more than %d bytes", maxSize)
	}
	return int(n) * unit, err
}

func sizeText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dm", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dk", n>>10)
	}
	return strconv.Itoa(n)
}

// Counter counts what one goroutine of a client has got. Any may read meanwhile. The zero value is ready.
type Counter struct {
	latencies histogram.Recorder
	messages  atomic.Uint64
}

// Observe counts a call, or of a bidi stream a message and its answer.
func (c *Counter) Observe(latency time.Duration) { c.latencies.Observe(latency) }

// Got counts answers.
func (c *Counter) Got(messages uint64) { c.messages.Add(messages) }
