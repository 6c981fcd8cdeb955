// Package record is the way from a call's path to those who tell of calls, the span exporter and the access
// log: a [Note] is taken where the call begins, a [Record] is made where it ends, and a bounded [Queue] takes
// it to a goroutine that has time. Nobody on the call's path ever waits.
package record

import (
	"iter"
	"sync"

	"github.com/octomesh/octomesh/core/telemetry/meter"
	"github.com/octomesh/octomesh/core/telemetry/trace"
)

// Text is a piece of text that is kept of a call.
type Text uint8

// The texts.
const (
	Target      Text = iota
	Method           // "service/method"
	Caller           // the calling application
	Lane             // that the call asked for
	Traceparent      // as it came
	Tracestate
	metadata
	texts
)

// Bounds of what is kept of one call.
const (
	maxText     = 512 // bytes of one text; the rest is cut off
	maxMetadata = 1024
	// MaxKeys bounds the keys of metadata that are kept.
	MaxKeys = 16
)

// Note is what is kept of a call while it is open: what a request's head says is gone when the call ends. It
// is made to be used again; the zero Note keeps nothing.
type Note struct {
	// On: something shall be told of the call.
	On bool
	// Span: a span shall be made; Context names it, and Parent the caller's.
	Span    bool
	Context trace.Context
	Parent  trace.SpanID
	// Shadow: the call is a copy of another one.
	Shadow bool
	// Generation of the configuration that the call has.
	Generation uint64

	keys []string
	text []byte
	ends [texts]uint16
	next Text
}

// Reset empties the note and keeps its memory.
func (n *Note) Reset() {
	if n.On {
		*n = Note{text: n.text[:0]}
	}
}

// Keep keeps a text. Texts are kept in their order, each once at most.
func (n *Note) Keep(t Text, v []byte) {
	n.skip(t)
	n.text = append(n.text, v[:min(len(v), maxText)]...)
	n.ends[t], n.next = uint16(len(n.text)), t+1
}

// skip closes the texts before t.
func (n *Note) skip(t Text) {
	for ; n.next < t; n.next++ {
		n.ends[n.next] = uint16(len(n.text))
	}
}

// Keys says which keys KeepMetadata means. They must not change, and be MaxKeys at most.
func (n *Note) Keys(keys []string) { n.keys = keys }

// KeepMetadata keeps a value of the i-th key, unless too much is kept already. It comes behind all texts.
func (n *Note) KeepMetadata(i int, v []byte) {
	n.skip(metadata)
	v = v[:min(len(v), maxText)]
	if len(n.text)-int(n.begin(metadata))+3+len(v) > maxMetadata {
		return
	}
	n.text = append(n.text, byte(i), byte(len(v)>>8), byte(len(v)))
	n.text = append(n.text, v...)
	n.ends[metadata] = uint16(len(n.text))
}

func (n *Note) begin(t Text) uint16 {
	if t == 0 {
		return 0
	}
	return n.ends[t-1]
}

// Text returns a text that was kept, or nothing.
func (n *Note) Text(t Text) []byte {
	if from, to := n.begin(t), n.ends[t]; to > from {
		return n.text[from:to]
	}
	return nil
}

// Metadata yields the metadata that was kept.
func (n *Note) Metadata() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for b := n.Text(metadata); len(b) >= 3; {
			size := int(b[1])<<8 | int(b[2])
			if !yield(n.keys[b[0]], b[3:3+size]) {
				return
			}
			b = b[3+size:]
		}
	}
}

// Record is a call that has ended. Strings are of things that do not change; what was borrowed stands in the
// note.
type Record struct {
	Note
	// Arrived and Sent are on the proxy's monotonic clock, in nanoseconds. Sent is when the call was last
	// handed to somebody; 0: never.
	Arrived, Sent int64
	Took          int64 // nanoseconds from the arrival to the end
	Inbound       bool
	Attempts      int
	Route         string
	Endpoint      string // the instance that had the call
	Address       string // where the call was sent
	Code          int32
	// The names of what ended the call; "" for none.
	CodeName, Reason, Origin, Disposition string
	// Calls has the histogram that gets the call as an exemplar; may be nil.
	Calls *meter.Calls
}

var records = sync.Pool{New: func() any { return new(Record) }}

// New returns an empty record that holds a copy of the note. Whoever has it last gives it back by Drop.
func New(n *Note) *Record {
	r := records.Get().(*Record)
	text := append(r.text[:0], n.text...)
	*r = Record{Note: *n}
	r.text = text
	return r
}

// Drop gives the record back.
func (r *Record) Drop() { records.Put(r) }
