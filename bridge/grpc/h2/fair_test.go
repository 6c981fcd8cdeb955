package h2_test

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
)

// download is an answer that has more to send than any window takes.
type download struct {
	stream *h2.Stream
	sent   int
}

// TestStreamsThatWaitForTheConnectionsWindowTakeTurns: the window opens by little, and each of many streams could use all of it.
func TestStreamsThatWaitForTheConnectionsWindowTakeTurns(t *testing.T) {
	const streams, piece, rounds = 300, 16 << 10, 4
	p := newPeer(t, h2.Config{})
	_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	all := map[uint32]*download{}
	body := make([]byte, piece)
	send := func(d *download) {
		for n := piece; n == piece; d.sent += n {
			n = p.c.Data(d.stream, nil, body, false)
		}
	}
	for n := range uint32(streams) {
		id := 2*n + 1
		p.open(id, true)
		p.feed()
		d := &download{stream: p.c.Stream(id)}
		all[id] = d
		p.c.Headers(d.stream, h2.AppendField(nil, ":status", "200"), false)
		send(d)
	}
	credits := 0
	for range rounds * streams {
		_ = p.WriteWindowUpdate(0, piece)
		p.said = p.said[:0]
		p.feed()
		for s := p.c.Turn(); s != nil; s = p.c.Turn() {
			credits++
			send(all[s.ID])
		}
		p.take()
	}
	if p.err != nil {
		t.Fatal(p.err)
	}
	least, most := 1<<30, 0
	for _, d := range all {
		least, most = min(least, d.sent), max(most, d.sent)
	}
	if least < (rounds-1)*piece || most > (rounds+5)*piece {
		t.Errorf("of %d rounds, each for all, one stream got %d and another %d", rounds, least/piece, most/piece)
	}
	if credits > 3*rounds*streams {
		t.Errorf("%d times a stream was told to go on, for %d pieces", credits, rounds*streams)
	}
}

// TestAClientMayOpenItsWindowsAsOftenAsItGetsData: with windows of 64 KiB that is twice for each 16 KiB, on a fast machine far more often than frames
// that say nothing may come. Without DATA in between the same frames are too many.
func TestAClientMayOpenItsWindowsAsOftenAsItGetsData(t *testing.T) {
	p := newPeer(t, h2.Config{})
	p.open(1, true)
	p.feed()
	s := p.c.Stream(1)
	p.c.Headers(s, h2.AppendField(nil, ":status", "200"), false)
	const piece = 16 << 10
	for n := range 10_000 {
		if got := p.c.Data(s, nil, make([]byte, piece), false); got != piece {
			t.Fatalf("%d bytes of piece %d were sent", got, n)
		}
		_ = p.WriteWindowUpdate(0, piece)
		_ = p.WriteWindowUpdate(1, piece)
		p.feed()
		p.take()
		if p.err != nil {
			t.Fatalf("piece %d: %v", n, p.err)
		}
	}
	for n := 0; p.err == nil && n < 200_000; n++ {
		_ = p.WriteWindowUpdate(1, 1)
		p.feed()
	}
	p.ended(http2.ErrCodeEnhanceYourCalm)
}

// TestAnswersThatCrossTheirCallsEndHarmNobody: a thousand calls run out of time at once, and the server gives up as many at the same moment.
func TestAnswersThatCrossTheirCallsEndHarmNobody(t *testing.T) {
	p := newServerPeer(t)
	const calls = 1000
	for n := range calls {
		s, err := p.c.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		p.c.Headers(s, p.block(), true)
		if n > 0 {
			p.c.Reset(s, http2.ErrCodeCancel)
		}
	}
	p.take()
	answer := h2.AppendField(nil, ":status", "200")
	for n := range uint32(calls) {
		id := 2*(calls-1-n) + 1 // the one that is open is answered last
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: answer, EndHeaders: true})
		for range 50 {
			_ = p.WriteData(id, false, []byte("a message"))
		}
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h2.AppendField(nil, "grpc-status", "4"), EndHeaders: true, EndStream: true})
	}
	p.feed()
	if p.err != nil {
		t.Fatal(p.err)
	}
	if n := p.c.Queued(); n > 1<<10 {
		t.Errorf("%d bytes were said to what nobody waits for", n)
	}
	if last := p.said[len(p.said)-1]; last.Stream.ID != 1 || !last.Trailers || !last.End {
		t.Errorf("what came last was %v of stream %d", last.Kind, last.Stream.ID)
	}
}

// TestUploadsThatAreRefusedMayStillArrive: what a client had sent of calls that were answered early was within its rights.
func TestUploadsThatAreRefusedMayStillArrive(t *testing.T) {
	p := newPeer(t, h2.Config{})
	const calls = 1000
	for n := range uint32(calls) {
		p.open(2*n+1, false)
		p.feed()
		p.c.Headers(p.c.Stream(2*n+1), h2.AppendField(nil, ":status", "200"), true)
	}
	p.take()
	for n := range uint32(calls) {
		for range 50 {
			_ = p.WriteData(2*n+1, false, []byte("a message"))
		}
		_ = p.WriteData(2*n+1, true, nil)
	}
	p.feed()
	if p.err != nil {
		t.Fatal(p.err)
	}
	if n := p.c.Queued(); n > 0 {
		t.Errorf("%d bytes were said to what nobody waits for", n)
	}
}

// TestAClientMayCancelAllItHasOpen at once, and once in a while.
func TestAClientMayCancelAllItHasOpen(t *testing.T) {
	const streams = 1500
	p := newPeer(t, h2.Config{MaxStreams: streams})
	for tick := range uint32(3) {
		for n := range uint32(streams) {
			p.open(2*(tick*streams+n)+1, true)
		}
		for n := range uint32(streams) {
			_ = p.WriteRSTStream(2*(tick*streams+n)+1, http2.ErrCodeCancel)
		}
		p.feed()
		if p.err != nil || p.c.OpenStreams() > 0 {
			t.Fatalf("tick %d: %v, %d streams are open", tick, p.err, p.c.OpenStreams())
		}
		p.c.Tick()
	}
	for n := range uint32(streams + 1) {
		p.open(2*(3*streams+n)+1, true)
		_ = p.WriteRSTStream(2*(3*streams+n)+1, http2.ErrCodeCancel)
	}
	p.feed()
	p.ended(http2.ErrCodeEnhanceYourCalm)
}
