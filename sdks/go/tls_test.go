package octomesh_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

var inTest = octomesh.WithEnvironment("test")

// id is one in the tests' environment.
func id(name string) string { return "spiffe://example.org/test/app/" + name }

func withTLS(f identity.Files) octomesh.Option { return octomesh.WithTLS(octomesh.TLS(f)) }

// verified answers with the id that a handler sees of its caller.
var verified = echo{say: func(ctx context.Context, _ *message) (*message, error) {
	peer, _ := octomesh.PeerInfo(ctx)
	return &message{Text: peer.Verified}, nil
}}

func TestDirectCallsByTLSKnowBothEnds(t *testing.T) {
	ca := identitytest.New(t)
	_, at := serve(t, verified, "127.0.0.1:0", inTest, withTLS(ca.Files(t.TempDir(), id("echo"))))
	for _, expect := range []octomesh.DialOption{octomesh.WithServerIdentity(id("echo")), inTest} { // any of the environment
		ch := dial(t, octomesh.WithDirect(at), inTest, withTLS(ca.Files(t.TempDir(), id("shop"))), expect)
		res, err := testproto.NewEchoClient(ch).Say(within(t, 5*time.Second), &message{})
		if err != nil || res.Text != id("shop") {
			t.Fatalf("the handler saw %q, the client %v", res.GetText(), err)
		}
	}
}

func TestNobodyWhoDialsSaysWhoWasVerified(t *testing.T) {
	ca := identitytest.New(t)
	_, at := serve(t, verified, "127.0.0.1:0", inTest, withTLS(ca.Files(t.TempDir(), id("echo"))))
	own, err := identity.Follow(ca.Files(t.TempDir(), id("shop")), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[wire.PeerKind]string{wire.PeerSDK: id("shop"), wire.PeerProxy: "", wire.PeerGateway: ""} {
		nc, err := tls.Dial("tcp", at, own.Client(own.SameEnvironment))
		if err != nil {
			t.Fatal(err)
		}
		r := rawOn(t, nc)
		r.do(func(wc *wire.Conn) {
			wc.Hello(wire.Hello{Role: wire.RoleCall, Kind: kind, Environment: "test", Application: "shop"})
		})
		r.next(t, wire.EventWelcome)
		h := sayHead()
		if kind != wire.PeerSDK {
			h.Caller, h.VerifiedCaller, h.HasVerifiedCaller = []byte("bank"), []byte(id("bank")), true
		}
		r.request(h, &message{})
		if rh, m := responseOf(t, r.next(t, wire.EventResponse)); rh.Status.Code != wire.OK || m.Text != want {
			t.Errorf("whoever says to be %v: the handler saw %q, %+v", kind, m.GetText(), rh.Status)
		}
	}
}

func TestDirectCallsToStrangersEndBeforeTheyAreSent(t *testing.T) {
	ca, other := identitytest.New(t), identitytest.New(t)
	_, at := serve(t, verified, "127.0.0.1:0", inTest, withTLS(ca.Files(t.TempDir(), id("echo"))))
	_, plain := serve(t, verified, "127.0.0.1:0", inTest)
	mine := withTLS(ca.Files(t.TempDir(), id("shop")))
	for name, c := range map[string]struct {
		opts  []octomesh.DialOption
		shown string
	}{
		"another id":              {[]octomesh.DialOption{octomesh.WithDirect(at), inTest, mine, octomesh.WithServerIdentity(id("cart"))}, id("cart")},
		"server without TLS":      {[]octomesh.DialOption{octomesh.WithDirect(plain), inTest, mine}, "TLS"},
		"client without TLS":      {[]octomesh.DialOption{octomesh.WithDirect(at), inTest}, "dial"},
		"authority of the client": {[]octomesh.DialOption{octomesh.WithDirect(at), inTest, withTLS(other.Files(t.TempDir(), id("shop"), ca))}, "dial"},
		"authority of the server": {[]octomesh.DialOption{octomesh.WithDirect(at), inTest, withTLS(other.Files(t.TempDir(), id("shop")))}, "TLS"},
		"environment": {[]octomesh.DialOption{octomesh.WithDirect(at), octomesh.WithEnvironment("prod"),
			withTLS(ca.Files(t.TempDir(), "spiffe://example.org/prod/app/shop"))}, "TLS"},
	} {
		ch := dial(t, c.opts...)
		_, err := testproto.NewEchoClient(ch).Say(within(t, 5*time.Second), &message{})
		var e *octomesh.Error
		if !errors.As(err, &e) || e.Reason != octomesh.ReasonProxyUnreachable || e.Disposition != octomesh.DispositionNotProcessed || !strings.Contains(e.Message, c.shown) {
			t.Errorf("%s: %v, expected %q", name, err, c.shown)
		}
	}
}

func TestOptionsOfTLSThatMakeNoSense(t *testing.T) {
	ca := identitytest.New(t)
	files := ca.Files(t.TempDir(), id("shop"))
	missing := files
	missing.Key = "/nonexistent"
	tcp := octomesh.WithDirect("127.0.0.1:1")
	for name, opts := range map[string][]octomesh.DialOption{
		"identity without TLS": {tcp, inTest, octomesh.WithServerIdentity(id("echo"))},
		"identity of no form":  {tcp, inTest, withTLS(files), octomesh.WithServerIdentity("echo")},
		"file that is missing": {tcp, inTest, withTLS(missing)},
		"another environment":  {tcp, octomesh.WithEnvironment("prod"), withTLS(files)},
	} {
		if ch, err := octomesh.Dial("echo", opts...); err == nil {
			_ = ch.Close()
			t.Errorf("%s: no error", name)
		}
	}
	at := filepath.Join(t.TempDir(), "s")
	if _, err := octomesh.Dial("echo", octomesh.WithDirect("unix:"+at), inTest, withTLS(files)); !errors.Is(err, octomesh.ErrTLSNeedsTCP) {
		t.Errorf("a client's Unix socket: %v", err)
	}
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, where := range []octomesh.ServerOption{octomesh.WithListen("unix:" + at), octomesh.WithListener(l)} {
		if err := octomesh.NewServer("echo", where, inTest, withTLS(files)).Serve(context.Background()); !errors.Is(err, octomesh.ErrTLSNeedsTCP) {
			t.Errorf("a server's Unix socket: %v", err)
		}
	}
}

// Certificates of both ends, and the authority behind them, change under load. Channels that stay and such
// that live for one call lose none, and in the end the old authority counts nowhere.
func TestRotationUnderLoadFailsNoCall(t *testing.T) {
	old, young := identitytest.New(t), identitytest.New(t)
	serverDir, clientDir := t.TempDir(), t.TempDir()
	_, at := serve(t, verified, "127.0.0.1:0", inTest, withTLS(old.Files(serverDir, id("echo"))))
	mine := withTLS(old.Files(clientDir, id("shop")))
	var calls, handshakes atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	call := func(ch *octomesh.Channel) {
		if _, err := testproto.NewEchoClient(ch).Say(within(t, 20*time.Second), &message{}); err != nil {
			t.Error(err)
		}
		calls.Add(1)
	}
	begin := func(each func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					each()
				}
			}
		})
	}
	stays := dial(t, octomesh.WithDirect(at), inTest, mine)
	for range 2 {
		begin(func() { call(stays) })
		begin(func() {
			ch, err := octomesh.Dial("echo", octomesh.WithMode("off"), octomesh.WithDirect(at), inTest, mine, quiet)
			if err != nil {
				return // a file is half written: that is told at once, and costs no call
			}
			call(ch)
			_ = ch.Close()
			handshakes.Add(1)
		})
	}
	// Each step must have been seen by calls before the next one is taken.
	seen := func() {
		for from := handshakes.Load(); handshakes.Load() < from+10 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	seen()
	old.Files(serverDir, id("echo"), young) // both learn of the young authority
	old.Files(clientDir, id("shop"), young)
	seen()
	young.Files(serverDir, id("echo"), old) // and are certified by it
	seen()
	young.Files(clientDir, id("shop-renewed"), old)
	seen()
	young.Files(serverDir, id("echo")) // and forget the old one
	young.Files(clientDir, id("shop-renewed"))
	seen()
	close(stop)
	wg.Wait()
	t.Logf("%d calls, %d handshakes", calls.Load(), handshakes.Load())
	res, err := testproto.NewEchoClient(dial(t, octomesh.WithDirect(at), inTest, mine)).Say(within(t, 5*time.Second), &message{})
	if err != nil || res.Text != id("shop-renewed") {
		t.Fatalf("the handler saw %q: %v", res.GetText(), err)
	}
	stale := dial(t, octomesh.WithDirect(at), inTest, withTLS(old.Files(t.TempDir(), id("shop"), young)))
	if _, err := testproto.NewEchoClient(stale).Say(within(t, 5*time.Second), &message{}); err == nil {
		t.Fatal("the old authority still counts")
	}
}
