package wire_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/octomesh/octomesh/core/wire"
)

// reading is what became of a stream of bytes; it prints, to be compared.
type reading struct {
	Delivered []struct {
		Type   uint8
		Stream uint32
	}
	Reset []struct {
		Stream uint32
		Code   int32
		Reason uint32
	}
	Left int
	End  *struct {
		Code   uint8
		Offset *uint64
	}
}

func (r reading) String() string {
	end := "open"
	if r.End != nil {
		end = fmt.Sprintf("GOAWAY %d", r.End.Code)
		if r.End.Offset != nil {
			end += fmt.Sprintf(" at %d", *r.End.Offset)
		}
	}
	return fmt.Sprintf("delivered %v, reset %v, left %d, %s", r.Delivered, r.Reset, r.Left, end)
}

// read feeds pieces to a fresh callee, as an owner with a read buffer does.
func read(pieces ...[]byte) reading {
	c := accepting(wire.Limits{})
	var r reading
	var ev wire.Event
	var buf []byte
	for _, p := range pieces {
		buf = append(buf, p...)
		for len(buf) > 0 {
			n, err := c.Feed(buf, &ev)
			if ended := new(wire.ConnError); errors.As(err, &ended) {
				r.fail(ended)
			}
			if n == 0 && err == nil {
				break
			}
			r.note(&ev, err)
			buf = buf[n:]
		}
	}
	r.Left = len(buf)
	return r
}

func (r *reading) fail(e *wire.ConnError) {
	r.End = &struct {
		Code   uint8
		Offset *uint64
	}{Code: uint8(e.Code)}
	if e.Code == wire.GoAwayProtocolError {
		r.End.Offset = &e.Offset
	}
}

func (r *reading) note(ev *wire.Event, err error) {
	switch {
	case err != nil || ev.Kind == wire.EventNone:
	case ev.Kind == wire.EventFailed:
		r.Reset = append(r.Reset, struct {
			Stream uint32
			Code   int32
			Reason uint32
		}{ev.Frame.Stream, int32(ev.Status.Code), uint32(ev.Status.Reason)})
	default:
		r.Delivered = append(r.Delivered, struct {
			Type   uint8
			Stream uint32
		}{uint8(ev.Frame.Type), ev.Frame.Stream})
	}
}

func TestMalformedVectors(t *testing.T) {
	const cutUpTo = 4096
	eachVector(t, "malformed.json", func(t *testing.T, v vector) {
		b := in[struct{ Bytes chunks }](t, v.Input).Bytes.bytes()
		want := in[reading](t, v.Result).String()
		if got := read(b).String(); got != want {
			t.Fatalf("at once:\n got %s\nwant %s", got, want)
		}
		pieces := make([][]byte, len(b))
		for i := range b {
			pieces[i] = b[i : i+1]
		}
		if got := read(pieces...).String(); got != want {
			t.Errorf("byte by byte:\n got %s\nwant %s", got, want)
		}
		for cut := range min(len(b), cutUpTo) {
			if got := read(b[:cut], b[cut:]).String(); got != want {
				t.Fatalf("cut at %d:\n got %s\nwant %s", cut, got, want)
			}
			if len(b) > cutUpTo {
				break
			}
		}
	})
}
