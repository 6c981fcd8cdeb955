package grpc_test

import (
	"testing"

	"golang.org/x/net/http2"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/wire"
)

// FuzzFeed gives both roles any bytes, in two pieces, and does with the calls what a session would: nothing panics, bytes are
// taken in order, events name calls that are open, and what is held stays within what was sent.
func FuzzFeed(f *testing.F) {
	for _, side := range []bool{true, false} {
		for _, seed := range seeds() {
			f.Add(seed, uint16(40), side)
			f.Add(seed, uint16(len(seed)-3), side)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, server bool) {
		side := wire.Dialer
		if server {
			side = wire.Acceptor
		}
		c := bridge.NewConn(&protocol().Config, side, wire.OriginClientProxy)
		var streams []*wire.Stream
		head := wire.RequestHead{Service: []byte("s"), Method: []byte("m")}
		waits := make(map[*wire.Stream]*wire.Out) // what there was no room for
		say := func(s *wire.Stream, o *wire.Out) {
			if !c.Send(s, o) {
				waits[s] = o
			}
		}
		used := 0
		for _, end := range []int{min(int(cut), len(b)), len(b)} {
			c.Begin()
			for range 4*len(b) + 100 {
				var ev wire.Event
				n, err := c.Feed(b[used:end], &ev)
				if used += n; err != nil {
					return
				}
				if n == 0 && ev.Kind == wire.EventNone {
					break
				}
				switch ev.Kind {
				case wire.EventHello:
					c.Welcome(wire.Welcome{})
				case wire.EventWelcome:
					if s, err := c.Open(c); err == nil {
						streams = append(streams, s)
						say(s, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage, Head: head.Append(nil), Body: []byte("xyz")})
					}
				case wire.EventRequest:
					var h wire.RequestHead
					if h.Parse(ev.Frame.Head) != nil || !h.FromSDK {
						t.Fatal("a head that no SDK may send")
					}
					ev.Stream.Call = c
					streams = append(streams, ev.Stream)
					delete(waits, ev.Stream) // an earlier call's
					say(ev.Stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage, Body: make([]byte, 100)})
				case wire.EventReset, wire.EventFailed:
					if ev.Call != c || ev.Stream.Call != nil {
						t.Fatal("a stream of nobody has ended, or is open still")
					}
					if server {
						c.Release()
					}
				case wire.EventResponse, wire.EventMessage:
					if ev.Call != c {
						t.Fatal("a frame of nobody's call")
					}
					if ev.Stream.Call == c {
						c.Consume(ev.Stream, ev.Frame.Cost())
					}
				}
			}
			takeTurns(t, c, waits, len(b)+100)
		}
		for _, s := range streams {
			if s.Call == c {
				c.Reset(s, &wire.ResetHead{Status: wire.Refuse(wire.ReasonDeadline, wire.OriginClientProxy, "late")})
			}
		}
		c.Lost(false, nil)
	})
}

// takeTurns sends what waits for as long as streams get their turn, which most is enough for.
func takeTurns(t *testing.T, c *bridge.Conn, waits map[*wire.Stream]*wire.Out, most int) {
	for s := c.Turn(); s != nil; s = c.Turn() {
		if waits[s] == nil || s.Call != c {
			t.Fatal("it is the turn of a stream that does not wait")
		}
		if c.Send(s, waits[s]) {
			delete(waits, s)
		}
		if most--; most < 0 {
			t.Fatal("turns without an end")
		}
	}
}

// seeds are conversations that go well.
func seeds() (all [][]byte) {
	for _, client := range []bool{true, false} {
		e := &end{}
		e.Framer = http2.NewFramer(&e.out, nil)
		if client {
			e.out.WriteString(http2.ClientPreface)
		}
		_ = e.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
		if client {
			e.request(false, "grpc-timeout", "1S", "x-bin", "AAE")
		} else {
			e.headers(1, false, ":status", "200", "content-type", "application/grpc")
		}
		_ = e.WriteData(1, false, []byte("\x00\x00\x00\x00\x03ab"))
		_ = e.WriteDataPadded(1, client, []byte("c"), make([]byte, 3))
		if !client {
			e.headers(1, true, "grpc-status", "0")
		}
		_ = e.WriteWindowUpdate(0, 9)
		_ = e.WriteGoAway(0, http2.ErrCodeNo, []byte("x"))
		_ = e.WriteRSTStream(1, http2.ErrCodeCancel)
		all = append(all, append([]byte(nil), e.out.Bytes()...))
	}
	return all
}
