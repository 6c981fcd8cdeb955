package listener_test

import (
	"net"
	"testing"
	"time"

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
