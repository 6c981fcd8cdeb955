package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/conformance/faults/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lay makes a link, and gives both ends of each connection that is made through it.
func lay(t *testing.T, network string) (l *link.Link, dial func() (near, far net.Conn)) {
	t.Helper()
	at := func(name string) string {
		if network == "tcp" {
			return "127.0.0.1:0"
		}
		return filepath.Join(t.TempDir(), name)
	}
	called, err := net.Listen(network, at("to"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = called.Close() })
	l, err = link.To(network, at("link"), called.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, func() (net.Conn, net.Conn) {
		near, err := net.Dial(network, l.Address())
		if err != nil {
			t.Fatal(err)
		}
		far, err := called.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = near.Close(), far.Close() })
		return near, far
	}
}

func both(t *testing.T, test func(t *testing.T, network string)) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) { test(t, network) })
	}
}

func send(t *testing.T, to net.Conn, text string) {
	t.Helper()
	if _, err := to.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, from net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(from, b); err != nil || string(b) != want {
		t.Fatalf("%q, %v; want %q", b, err, want)
	}
}

// silent fails if a byte or the end of the connection comes within a moment.
func silent(t *testing.T, from net.Conn) {
	t.Helper()
	_ = from.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, err := from.Read(make([]byte, 1)); n > 0 || !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	_ = from.SetReadDeadline(time.Time{})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestBytesAndEndsAreCarried(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		l, dial := lay(t, network)
		near, far := dial()
		send(t, near, "hello")
		receive(t, far, "hello")
		send(t, far, "welcome")
		receive(t, near, "welcome")
		if s := l.Stats(); s.Made != 1 || s.Open != 1 || s.Up != 5 || s.Down != 7 {
			t.Fatal(s)
		}
		_ = near.(interface{ CloseWrite() error }).CloseWrite()
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		send(t, far, "late") // the other direction goes on
		receive(t, near, "late")
		_ = far.Close()
		if _, err := near.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
	})
}

func TestManyBytesInSmallPieces(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		l, dial := lay(t, network)
		l.Set(link.Faults{Chunk: 7, Delay: time.Millisecond})
		near, far := dial()
		text := bytes.Repeat([]byte("0123456789"), 10_000)
		go func() { _, _ = near.Write(text) }()
		receive(t, far, string(text))
	})
}

func TestOneByteAtATime(t *testing.T) {
	l, dial := lay(t, "unix")
	l.Set(link.Faults{Chunk: 1, Rate: 100})
	near, far := dial()
	send(t, near, "abc")
	for _, want := range "abc" {
		b := make([]byte, 3)
		if n, err := far.Read(b); n != 1 || err != nil || b[0] != byte(want) {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
}

func TestHeldBytesAndEndsComeLater(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		l, dial := lay(t, network)
		near, far := dial()
		l.Set(link.Faults{HoldUp: true})
		send(t, near, "held")
		_ = near.(interface{ CloseWrite() error }).CloseWrite()
		silent(t, far)
		send(t, far, "back") // one direction only
		receive(t, near, "back")
		l.Set(link.Faults{})
		receive(t, far, "held")
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
	})
}

func TestBytesAreCorruptedWhereTold(t *testing.T) {
	l, dial := lay(t, "tcp")
	l.Set(link.Faults{Corrupt: []link.Corruption{{Up: true, Offset: 1, Xor: 1}, {Offset: 0, Xor: 0x20}}})
	near, far := dial()
	send(t, near, "a")
	send(t, near, "bc")
	receive(t, far, "acc")
	send(t, far, "abc")
	receive(t, near, "Abc")
}

func TestConnectionsAreCut(t *testing.T) {
	both(t, func(t *testing.T, network string) {
		l, dial := lay(t, network)
		near, far := dial()
		l.Cut()
		for _, nc := range []net.Conn{near, far} {
			if _, err := nc.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Fatal(err)
			} else if network == "tcp" && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("not a reset: %v", err)
			}
		}
		near, far = dial() // new ones are carried
		send(t, near, "x")
		receive(t, far, "x")
	})
}

func TestConnectionsEndBehindSomeBytes(t *testing.T) {
	l, dial := lay(t, "tcp")
	l.Set(link.Faults{CutAfter: 3})
	near, far := dial()
	send(t, near, "abcdef")
	got, err := io.ReadAll(far)
	if len(got) > 3 || err == nil && len(got) != 3 {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestConnectionsAreRefused(t *testing.T) {
	l, _ := lay(t, "tcp")
	l.Set(link.Faults{Refuse: true})
	nc, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Fatal("it stays")
	}
	if s := l.Stats(); s.Made != 0 {
		t.Fatal(s)
	}
}

func TestRateIsHeld(t *testing.T) {
	l, dial := lay(t, "tcp")
	l.Set(link.Faults{Rate: 10_000})
	near, far := dial()
	begin := time.Now()
	go func() { _, _ = near.Write(make([]byte, 2000)) }()
	receive(t, far, string(make([]byte, 2000)))
	if took := time.Since(begin); took < 150*time.Millisecond { // 200 ms but for the last piece's wait
		t.Fatalf("2000 bytes at 10000 a second within %v", took)
	}
}

func TestDelayIsHeldAndKeepsTheOrder(t *testing.T) {
	l, dial := lay(t, "unix")
	l.Set(link.Faults{Delay: 50 * time.Millisecond})
	near, far := dial()
	begin := time.Now()
	send(t, near, "a")
	send(t, near, "b")
	receive(t, far, "ab")
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Fatal(took)
	}
}
