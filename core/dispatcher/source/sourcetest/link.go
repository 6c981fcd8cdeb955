package sourcetest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/octomesh/octomesh/core/lifecycle"
)

// Link is a way over loopback to a server, that can be cut and healed.
type Link struct {
	// Address is where the way begins.
	Address string

	to       string
	listener net.Listener
	group    *lifecycle.Group
	mu       sync.Mutex
	cut      bool
	open     map[net.Conn]struct{}
}

// NewLink opens a way to an address; it ends with the test.
func NewLink(t testing.TB, to string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{Address: listener.Addr().String(), to: to, listener: listener, group: lifecycle.New(context.Background()), open: make(map[net.Conn]struct{})}
	l.group.Go(func(context.Context) { l.accept() })
	t.Cleanup(func() {
		_ = listener.Close()
		l.Cut()
		l.group.Stop()
	})
	return l
}

// Cut ends all connections, and whoever connects is cut off at once.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.open {
		_ = c.Close()
	}
}

// Heal lets connections through again.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

func (l *Link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.group.Go(func(context.Context) { l.relay(c) })
	}
}

// keep notes a connection, unless the way is cut.
func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		_ = c.Close()
		return false
	}
	l.open[c] = struct{}{}
	return true
}

func (l *Link) drop(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

func (l *Link) relay(near net.Conn) {
	if !l.keep(near) {
		return
	}
	defer l.drop(near)
	far, err := net.Dial("tcp", l.to)
	if err != nil || !l.keep(far) {
		return
	}
	defer l.drop(far)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})
	_, _ = io.Copy(near, far)
	_ = near.Close()
	wg.Wait()
}
