package octomesh

import (
	"encoding/hex"
	"testing"

	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
	"github.com/octomesh/octomesh/sdks/go/internal/vectors"
)

type entryVector struct{ Key, Value string }

func (v entryVector) decode(t *testing.T) (key, value string) {
	k, err := hex.DecodeString(v.Key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(v.Value)
	if err != nil {
		t.Fatal(err)
	}
	return string(k), string(b)
}

func TestMetadataVectors(t *testing.T) {
	vectors.Each(t, "metadata.json", "entry", func(t *testing.T, in entryVector, out struct {
		OK   bool
		Code Code
	}) {
		err := checkEntry(in.decode(t))
		if (err == nil) != out.OK || err != nil && (err.Code != out.Code || err.Disposition != DispositionNotProcessed) {
			t.Fatal(err)
		}
	})
	vectors.Each(t, "metadata.json", "received", func(t *testing.T, in entryVector, out struct{ Shown bool }) {
		k, v := in.decode(t)
		m := fromEntries([]wire.Entry{{Key: []byte(k), Value: []byte(v)}}, false)
		if (len(m) == 1) != out.Shown {
			t.Fatal(m)
		}
	})
	type sizes struct {
		Entries []struct {
			Count  int
			KeyLen int `json:"key_len"`
			ValLen int `json:"value_len"`
		}
		Limit int
	}
	vectors.Each(t, "metadata.json", "size", func(t *testing.T, in sizes, out struct {
		OK   bool
		Size int
	}) {
		var m Metadata
		for _, e := range in.Entries {
			for range e.Count {
				m = append(m, Entry{string(make([]byte, e.KeyLen)), string(make([]byte, e.ValLen))})
			}
		}
		if m.size(entryOverhead) != out.Size || (out.Size <= defaultMaxMetadata) != out.OK || in.Limit != defaultMaxMetadata {
			t.Fatal(m.size(entryOverhead))
		}
	})
}

func TestTraceparentVectors(t *testing.T) {
	vectors.Each(t, "traceparent.json", "", func(t *testing.T, in struct{ Traceparent string }, out struct{ Valid bool }) {
		if validTraceparent(in.Traceparent) != out.Valid {
			t.Fatalf("%q: %v", in.Traceparent, !out.Valid)
		}
	})
}

// attemptVector is how one attempt ended.
type attemptVector struct {
	Event       string
	Disposition Disposition
	Reason      Reason
}

// error is what the SDK makes of it.
func (a attemptVector) error() *Error {
	switch a.Event {
	case "dial_failed", "unwritten":
		return unsent(wire.ReasonProxyUnreachable, "")
	case "lost", "flush_failed":
		return refused(wire.ReasonConnectionLost, "")
	case "final_above":
		return refused(wire.ReasonProxyDraining, "")
	case "final_below":
		return refused(wire.ReasonDrainDeadline, "")
	case "timer_before":
		return unsent(wire.ReasonDeadline, "")
	case "timer_after":
		return refused(wire.ReasonDeadline, "")
	}
	return &Error{Code: Code(wire.Reason(a.Reason).Rule().Code), Reason: a.Reason, Disposition: a.Disposition, Origin: OriginClientProxy}
}

func TestRetryVectors(t *testing.T) {
	vectors.Each(t, "retry.json", "attempt", func(t *testing.T, in attemptVector, out struct {
		Code        Code
		Disposition Disposition
		Reason      Reason
	}) {
		if e := in.error(); e.Code != out.Code || e.Disposition != out.Disposition || e.Reason != out.Reason {
			t.Fatal(e)
		}
	})
	type question struct {
		Attempt      attemptVector
		FirstRequest bool `json:"first_request"`
		FreeUsed     bool `json:"free_used"`
		Idempotent   bool
		Tokens       int64
	}
	vectors.Each(t, "retry.json", "again", func(t *testing.T, in question, out struct {
		Again bool
		Cost  int64
	}) {
		next, cost, _ := fallback.Again(in.Attempt.error().ended(), fallback.Call{
			Idempotent: in.Idempotent, FirstRequest: in.FirstRequest, FreeUsed: in.FreeUsed, Tokens: in.Tokens, Other: true,
		})
		if again := next != fallback.End; again != out.Again || cost != out.Cost {
			t.Fatalf("again %v at %d, want %v at %d", again, cost, out.Again, out.Cost)
		}
	})
}

func TestAssemblerVectors(t *testing.T) {
	type step struct {
		Fragment *int
		More     bool
		Take     bool
	}
	vectors.Each(t, "window.json", "assembler", func(t *testing.T, in struct{ Steps []step }, out struct{ Steps []struct{ Consumed int64 } }) {
		for i, s := range in.Steps {
			if got := replay(t, in.Steps[:i+1], func(s step) (*int, bool) { return s.Fragment, s.More }); got != out.Steps[i].Consumed {
				t.Fatalf("step %d, %+v: %d consumed, want %d", i, s, got, out.Steps[i].Consumed)
			}
		}
	})
}

// replay does all steps with a new inbox and returns what the last of them gave back. The state machine
// shows it by the credit that is left: what came in and was not given back.
func replay[S any](t *testing.T, steps []S, of func(S) (*int, bool)) int64 {
	b := inbox{limit: 1 << 30, budget: &budget{max: 1 << 30}}
	var last int64
	wc := wire.NewConn(wire.Config{Side: wire.Acceptor})
	wc.Resume(wire.RoleCall, wire.Limits{})
	for i, s := range steps {
		size, more := of(s)
		if size == nil {
			_, last = b.take()
			continue
		}
		f := wire.Frame{Header: wire.Header{Type: wire.TypeMessage, Flags: wire.FlagMessage, BodyLen: uint32(*size)}, Body: make([]byte, *size)}
		if more {
			f.Flags |= wire.FlagMore
		}
		before := b.held
		if _, reason := b.add(wc, new(wire.Stream), &f); reason != 0 {
			t.Fatalf("step %d: %v", i, reason)
		}
		last = f.Cost() - (b.held - before)
	}
	return last
}
