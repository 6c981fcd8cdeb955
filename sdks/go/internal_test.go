package octomesh

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
)

func TestTraceparentForms(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for text, want := range map[string]bool{
		good:                   true,
		"cc" + good[2:]:        true,
		"cc" + good[2:] + "-x": true,
		"cc" + good[2:] + "x":  false,
		"ff" + good[2:]:        false,
		good + "-":             false,
		good[:54]:              false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false,
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01": false,
		"": false,
	} {
		if got := validTraceparent(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestRetryBudget(t *testing.T) {
	var b retryBudget
	b.init()
	for n := range 10 {
		if !b.take(fallback.Cost) {
			t.Fatalf("token %d of 10 refused", n)
		}
	}
	if b.take(fallback.Cost) {
		t.Fatal("an eleventh token")
	}
	for range 9 {
		b.succeeded()
	}
	if b.take(fallback.Cost) {
		t.Fatal("nine successes gave a token")
	}
	b.succeeded()
	if !b.take(fallback.Cost) {
		t.Fatal("ten successes gave none")
	}
	for range 1000 {
		b.succeeded()
	}
	if b.tenths.Load() != fallback.Budget {
		t.Fatal(b.tenths.Load())
	}
}

func TestEjectionDoublesAndASuccessEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(Endpoint{"x", 1}, Limits{}, nil, nil)
		defer p.close()
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			p.eject()
			if got := time.Duration(p.ejected.Load() - time.Now().UnixNano()); got != want*time.Second {
				t.Fatalf("ejected for %v, want %v s", got, want)
			}
		}
		p.succeeded()
		p.eject()
		if got := time.Duration(p.ejected.Load() - time.Now().UnixNano()); got != time.Second {
			t.Fatal(got)
		}
	})
}

// silence is a peer that says WELCOME and then nothing.
func silence(nc net.Conn) {
	wc := wire.NewConn(wire.Config{Side: wire.Acceptor})
	var ev wire.Event
	b := make([]byte, 1<<16)
	have := 0
	for {
		n, err := nc.Read(b[have:])
		if err != nil {
			return
		}
		have += n
		used, _ := wc.Feed(b[:have], &ev)
		have = copy(b, b[used:have])
		if ev.Kind == wire.EventHello {
			wc.Welcome(wire.Welcome{})
			_, _ = nc.Write(wc.Take(nil))
		}
	}
}

func silentLink(t *testing.T, welcome bool) (*peer, func()) {
	p := newPeer(Endpoint{"silent", 1}, Limits{}.withDefaults(), func() wire.Hello { return wire.Hello{Role: wire.RoleCall} },
		func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			if welcome {
				go silence(far)
			} else {
				go func() { _, _ = far.Read(make([]byte, 1<<16)) }()
			}
			return near, nil
		})
	return p, p.close
}

func TestSilentPeerIsGiveUpSoonerWhileACallWaits(t *testing.T) {
	for _, test := range []struct {
		waiting     bool
		least, most time.Duration
	}{{true, 1500 * time.Millisecond, 3 * time.Second}, {false, 15 * time.Second, 16 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			p, done := silentLink(t, true)
			defer done()
			l, err := p.get(&contextWaiter{t.Context()}, false)
			if err != nil {
				t.Fatal(err)
			}
			if test.waiting {
				l.tc.Lock()
				l.unary = 1
				l.tc.Unlock()
			}
			begin := time.Now()
			<-l.stop
			if d := time.Since(begin); d < test.least || d > test.most {
				t.Fatalf("given up after %v", d)
			}
		})
	}
}

func TestHandshakeThatIsNotAnsweredFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, done := silentLink(t, false)
		defer done()
		begin := time.Now()
		_, err := p.get(&contextWaiter{t.Context()}, false)
		if err == nil || err.Reason != ReasonProxyUnreachable || time.Since(begin) != handshakeTimeout {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestAssemblyBudgetBoundsFragmentedMessages(t *testing.T) {
	small := &budget{max: 100}
	b := inbox{limit: 1000, budget: small}
	wc := wire.NewConn(wire.Config{Side: wire.Acceptor})
	wc.Resume(wire.RoleCall, wire.Limits{})
	var ev wire.Event
	fragment := func(id uint32, total uint64) *wire.Event {
		head := wire.AppendTotalLength(nil, total)
		f := wire.Header{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagMore, HeadLen: uint16(len(head)), Stream: id, BodyLen: 1}.Append(nil)
		if _, err := wc.Feed(append(append(f, head...), 'x'), &ev); err != nil || ev.Kind != wire.EventRequest {
			t.Fatal(err, ev.Kind)
		}
		return &ev
	}
	if _, reason := b.add(wc, fragment(1, 80).Stream, &ev.Frame); reason != 0 || small.used.Load() != 80 {
		t.Fatal(reason, small.used.Load())
	}
	other := inbox{limit: 1000, budget: small}
	if _, reason := other.add(wc, fragment(3, 80).Stream, &ev.Frame); reason != wire.ReasonOverloaded {
		t.Fatal(reason)
	}
	b.drop()
	if small.used.Load() != 0 {
		t.Fatal(small.used.Load())
	}
	if _, reason := other.add(wc, fragment(5, 1001).Stream, &ev.Frame); reason != wire.ReasonMessageTooLarge {
		t.Fatal(reason)
	}
}

func TestDetailsThatDoNotParseAreNone(t *testing.T) {
	for _, b := range []string{"\xff", "\x1a\x05x", "\x1a\x01\xff", "\x08"} {
		if d := parseDetails([]byte(b)); d != nil {
			t.Errorf("%q: %v", b, d)
		}
	}
	if d := parseDetails(appendDetails(nil, NotFound, "m", nil)); d != nil {
		t.Error(d)
	}
}

func TestHeadsOfPassingMethodsAreNotKept(t *testing.T) {
	ch, err := Dial("shop.cart", WithMode("off"), WithDirect("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ch.Close() }()
	kept := &Method{Service: "shop.v1.Cart", Name: "Add"}
	first := ch.head(kept)
	for range 3 * maxHeads {
		if h := ch.head(&Method{Service: "shop.v1.Cart", Name: "Add"}); !bytes.Equal(h.plain, first.plain) {
			t.Fatalf("%q, %q", h.plain, first.plain)
		}
	}
	if n := len(*ch.heads.Load()); n > maxHeads {
		t.Fatalf("%d heads are kept", n)
	}
	if ch.head(kept) != first {
		t.Fatal("a method that stays has been forgotten")
	}
}
