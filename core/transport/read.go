package transport

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// BufferSize is the size of a read buffer: it holds the largest frame of a connection with default
// limits whole, and as many small ones as have arrived.
const BufferSize = 132 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, BufferSize); return &b }}

// Read reads until the connection ends and gives all that has arrived to feed, which returns how many
// bytes it used; the rest is given again, followed by more. It returns feed's error, or why the
// connection ended: io.EOF where the peer closed. The socket is closed on return.
func (c *Conn) Read(feed func(b []byte) (used int, err error)) error {
	c.reading.Store(true)
	r := reader{conn: c, feed: feed}
	var err error
	if c.closed.Load() {
		err = net.ErrClosed
	} else if c.raw != nil {
		err = r.readRaw()
	} else {
		err = r.readNet()
	}
	r.release()
	c.reading.Store(false)
	c.closed.Store(true)
	c.Lock()
	if c.err == nil {
		c.err = net.ErrClosed
	}
	c.Unlock()
	_ = c.nc.Close()
	return err
}

// reader is the state of one Read.
type reader struct {
	conn *Conn
	feed func(b []byte) (int, error)
	buf  *[]byte
	have int
	err  error
}

// readRaw takes a buffer only when the socket is readable, so that an idle connection holds none. One
// RawConn.Read lasts as long as the connection: its callback asks to wait by returning false.
func (r *reader) readRaw() error {
	err := r.conn.raw.Read(func(fd uintptr) bool {
		r.conn.waiting.Store(false)
		for {
			n, err := syscall.Read(int(fd), r.space())
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
				if r.have == 0 {
					r.release()
				}
				r.conn.waiting.Store(true)
				return false
			case err != nil:
				r.err = err
				return true
			case n == 0:
				r.err = io.EOF
				return true
			}
			if !r.take(n) {
				return true
			}
		}
	})
	if r.err != nil {
		return r.err
	}
	return err
}

// readNet reads where there is no descriptor to try.
func (r *reader) readNet() error {
	for {
		r.conn.waiting.Store(true)
		n, err := r.conn.nc.Read(r.space())
		r.conn.waiting.Store(false)
		if n > 0 && !r.take(n) {
			return r.err
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) space() []byte {
	if r.buf == nil {
		r.buf = buffers.Get().(*[]byte)
	}
	return (*r.buf)[r.have:]
}

// maxBuffer bounds what one unfinished frame may make a buffer grow to. Feed refuses a frame that is
// longer than what was announced long before.
const maxBuffer = 32 << 20

var errFull = errors.New("octo: a frame does not fit the largest buffer")

// take feeds n more bytes and keeps what was not used.
func (r *reader) take(n int) bool {
	r.conn.received.Add(uint64(n))
	b := *r.buf
	r.have += n
	used, err := r.feed(b[:r.have])
	if err != nil {
		r.err = err
		return false
	}
	r.have = copy(b, b[used:r.have])
	if r.have == len(b) {
		return r.grow()
	}
	return true
}

// grow makes room for a frame that is larger than a buffer, where one was announced.
func (r *reader) grow() bool {
	if 2*r.have > maxBuffer {
		r.err = errFull
		return false
	}
	larger := make([]byte, 2*r.have)
	copy(larger, (*r.buf)[:r.have])
	r.buf = &larger
	return true
}

func (r *reader) release() {
	if r.buf == nil {
		return
	}
	if len(*r.buf) == BufferSize {
		buffers.Put(r.buf)
	}
	r.buf, r.have = nil, 0
}
