package h2_test

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
)

// TestAClientMayPingAfterEveryPieceOfALongMessage: gRPC's own clients measure the way by a PING whenever DATA comes, also in the middle of a message that
// goes out piece by piece. Without DATA in between the same PINGs are too many.
func TestAClientMayPingAfterEveryPieceOfALongMessage(t *testing.T) {
	p := newPeer(t, h2.Config{})
	p.open(1, true)
	p.feed()
	s := p.c.Stream(1)
	p.c.Headers(s, h2.AppendField(nil, ":status", "200"), false)
	const piece = 1<<16 - 1 // the windows
	for body := make([]byte, 10*piece); ; {
		body = body[p.c.Data(s, nil, body, false):]
		if len(body) == 0 {
			break
		}
		_ = p.WritePing(false, [8]byte{2, 4, 16})
		_ = p.WriteWindowUpdate(0, piece)
		_ = p.WriteWindowUpdate(1, piece)
		p.feed()
		p.take()
		if p.err != nil {
			t.Fatalf("with %d pieces to come: %v", len(body)/piece, p.err)
		}
	}
	for range 4 {
		_ = p.WritePing(false, [8]byte{2, 4, 16})
	}
	p.feed()
	p.ended(http2.ErrCodeEnhanceYourCalm)
}
