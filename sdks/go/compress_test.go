package octomesh_test

import (
	"context"
	"testing"

	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// TestInitialMetadataNamesTheEncoding: for a client of gRPC's it is too late when the message says so.
func TestInitialMetadataNamesTheEncoding(t *testing.T) {
	_, at := serve(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		return m, octomesh.SendHeader(ctx)
	}}, "127.0.0.1:0")
	r := knock(t, at)
	for _, accepted := range []string{"gzip", "br"} {
		h := sayHead()
		h.MessageEncoding, h.AcceptedEncodings = []byte("gzip"), [][]byte{[]byte(accepted)}
		r.send(h.Append(nil), wire.FlagMessage|wire.FlagEnd, nil)
		first := r.next(t, wire.EventResponse)
		got, _ := responseOf(t, first)
		want := ""
		if accepted == "gzip" {
			want = "gzip"
		}
		if first.flags&wire.FlagEnd != 0 || string(got.MessageEncoding) != want {
			t.Errorf("accepts %s: the first RESPONSE has the encoding %q, want %q", accepted, got.MessageEncoding, want)
		}
		last := r.next(t, wire.EventResponse)
		if compressed := last.flags&wire.FlagCompressed != 0; compressed != (want != "") {
			t.Errorf("accepts %s: the message is compressed: %v", accepted, compressed)
		}
	}
}
