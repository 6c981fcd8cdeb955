package bridgetest

import (
	"bytes"
	"testing"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/core/wire"
)

// Fuzz gives a codec any bytes: whatever reads as a frame reads as the same one from its own bytes alone and after it was written again.
func Fuzz(f *testing.F, codec bridge.FrameCodec, samples []Sample) {
	for _, s := range samples {
		f.Add(s.Bytes)
		f.Add(s.Bytes[:len(s.Bytes)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		codec := codec
		if s, ok := codec.(bridge.Stateful); ok {
			codec = s.NewConn()
		}
		codec.Sniff(b)
		n := tryDecode(t, codec, b)
		if n <= 0 {
			return
		}
		first, err := decode(codec, b[:n:n])
		if err != nil {
			t.Fatalf("a frame that was read with bytes behind it does not read without: %v", err)
		}
		if out, err := codec.Append(nil, first); err != nil {
			return
		} else if again, err := decode(codec, out); err != nil || again.Kind != first.Kind || again.ID != first.ID || !bytes.Equal(again.Method, first.Method) {
			t.Fatalf("what was written reads as another frame: %v\n%x\n%x", err, b[:n], out)
		}
		if m, ok := codec.(bridge.MetaSetter); ok {
			changed := *first
			if m.SetMeta(&changed, []byte("traceparent"), []byte("00-1-2-01")) == nil {
				rewritten(t, codec, &changed, first)
			}
		}
		if m, ok := codec.(bridge.Mover); ok && first.Kind == bridge.Response {
			changed := *first
			if m.Move(&changed) == nil {
				rewritten(t, codec, &changed, first)
			}
		}
		if first.Kind == bridge.Request {
			st := wire.Status{Code: wire.Unavailable, Message: []byte("no")}
			if out, err := codec.Local(nil, first, &st); err == nil {
				if got, err := decode(codec, out); err != nil || got.Kind != bridge.Response {
					t.Fatalf("a local answer does not read: %v\n%x", err, out)
				}
			}
		}
	})
}

// rewritten checks a frame whose head has got an entry.
func rewritten(t *testing.T, codec bridge.FrameCodec, changed, first *bridge.Frame) {
	t.Helper()
	out, err := codec.Append(nil, changed)
	if err != nil {
		return
	}
	got, err := decode(codec, out)
	if err != nil || got.Kind != first.Kind || got.ID != first.ID || !bytes.Equal(got.Payload, first.Payload) || !bytes.Equal(got.Method, first.Method) {
		t.Fatalf("with another entry it is another frame: %v\n%x", err, out)
	}
}
