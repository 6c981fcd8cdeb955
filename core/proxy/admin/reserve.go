package admin

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// spares is how many descriptors are kept for the time when there are no others: one for the connection of whoever
// comes to see what is wrong, one for the files that an answer reads.
const spares = 2

// reserve is a listener that still accepts when the process has no descriptors left, by giving up some that it
// holds for that time. It takes them back when such a connection closes.
type reserve struct {
	net.Listener
	open func() (io.Closer, error) // another descriptor

	mu   sync.Mutex
	held []io.Closer
}

func newReserve(l net.Listener, open func() (io.Closer, error)) *reserve {
	r := &reserve{Listener: l, open: open}
	r.refill()
	return r
}

// openSpare takes a descriptor that needs no other resource.
func openSpare() (io.Closer, error) { return os.Open(os.DevNull) }

func (r *reserve) refill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.held) < spares {
		c, err := r.open()
		if err != nil {
			return // the next connection that closes tries again
		}
		r.held = append(r.held, c)
	}
}

// release gives all spares up, and tells whether there were any.
func (r *reserve) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	had := len(r.held) > 0
	for _, c := range r.held {
		_ = c.Close()
	}
	r.held = nil
	return had
}

// Accept implements net.Listener.
func (r *reserve) Accept() (net.Conn, error) {
	for {
		nc, err := r.Listener.Accept()
		switch {
		case err == nil:
			return &visitor{Conn: nc, gone: r.refill}, nil
		case (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && r.release():
		default:
			return nil, err
		}
	}
}

// Close implements net.Listener.
func (r *reserve) Close() error {
	r.release()
	return r.Listener.Close()
}

// visitor is a connection that gives its descriptor to the reserve.
type visitor struct {
	net.Conn
	once sync.Once
	gone func()
}

// Close implements net.Conn.
func (v *visitor) Close() error {
	err := v.Conn.Close()
	v.once.Do(v.gone)
	return err
}
