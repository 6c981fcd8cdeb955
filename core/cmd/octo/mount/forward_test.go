package mount_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// forward passes bytes on to a Directory, and can lose its connections.
type forward struct {
	address string

	mu   sync.Mutex
	open []net.Conn
}

func startForward(t *testing.T, to *side) *forward {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forward{address: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to.address)
			if err != nil {
				_ = near.Close()
				continue
			}
			f.mu.Lock()
			f.open = append(f.open, near, far)
			f.mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
			wg.Go(func() { _, _ = io.Copy(far, near); _ = far.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); f.cut(); wg.Wait() })
	return f
}

// cut loses the connections that stand.
func (f *forward) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.open {
		_ = c.Close()
	}
	f.open = nil
}
