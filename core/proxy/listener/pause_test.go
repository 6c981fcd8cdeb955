package listener_test

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/proxy/listener"
)

func TestPausedListenerLetsDialersWait(t *testing.T) {
	l, _ := accepting(t, listener.Config{})
	dial := func() net.Conn {
		nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return nc
	}
	dial()
	until(t, "the first", func() bool { return l.Open() == 1 })
	for range 3 {
		l.Pause()
		l.Pause() // once more changes nothing
		n := l.Open()
		dial()
		time.Sleep(5 * time.Millisecond) // may only be too short to notice
		if l.Open() != n {
			t.Fatal("a paused listener has accepted")
		}
		l.Resume()
		l.Resume()
		until(t, "who waited", func() bool { return l.Open() == n+1 })
	}
	l.Pause()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Pause() // of a closed one returns
	l.Resume()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// slow is a listener that still says for a moment that its deadline has passed when it is being closed.
type slow struct{ net.Listener }

func (s slow) Close() error {
	time.Sleep(5 * time.Millisecond)
	return s.Listener.Close()
}

func (s slow) SetDeadline(t time.Time) error {
	return s.Listener.(interface{ SetDeadline(time.Time) error }).SetDeadline(t)
}

func TestPausedListenersMayBeClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	group := lifecycle.New(t.Context())
	paused := listener.New(slow{l}, listener.Config{Group: group, Log: slog.New(slog.DiscardHandler)})
	paused.Pause()
	if err := paused.Close(); err != nil {
		t.Error(err)
	}
	group.Stop()
}
