package admin

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// table is a table of descriptors that is full.
type table struct {
	left int
	ends []net.Conn
}

type descriptor struct{ of *table }

func (d descriptor) Close() error { d.of.left++; return nil }

func (t *table) open() (io.Closer, error) {
	if t.left == 0 {
		return nil, syscall.EMFILE
	}
	t.left--
	return descriptor{t}, nil
}

// Accept implements net.Listener.
func (t *table) Accept() (net.Conn, error) {
	d, err := t.open()
	if err != nil {
		return nil, &net.OpError{Op: "accept", Err: err}
	}
	near, far := net.Pipe()
	t.ends = append(t.ends, far)
	return &visitor{Conn: near, gone: func() { _ = d.Close() }}, nil
}

// Close implements net.Listener.
func (t *table) Close() error { return nil }

// Addr implements net.Listener.
func (t *table) Addr() net.Addr { return nil }

func TestOneStillGetsInWithoutDescriptors(t *testing.T) {
	full := &table{left: spares}
	r := newReserve(full, full.open)
	if full.left != 0 {
		t.Fatal("nothing is held back")
	}
	for range 3 { // again and again: the reserve is taken back
		var in []net.Conn
		for range spares {
			nc, err := r.Accept()
			if err != nil {
				t.Fatal(err)
			}
			in = append(in, nc)
		}
		if _, err := r.Accept(); !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("beyond the reserve: %v", err)
		}
		for _, nc := range in {
			_ = nc.Close()
			_ = nc.Close() // once is enough
		}
		if full.left != 0 || len(r.held) != spares {
			t.Fatalf("%d left, %d held", full.left, len(r.held))
		}
	}
	if err := r.Close(); err != nil || full.left != spares {
		t.Fatal(err, full.left)
	}
}
