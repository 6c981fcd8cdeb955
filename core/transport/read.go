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
// bytes it used; the rest is given again, followed by more. It returns feed's error, when what feed flushed is written, or why the
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
	if r.refused {
		c.lastWords()
	}
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

	refused bool // by feed
}

// readRaw takes a buffer only when the socket is readable, so that an idle connection holds none. One
// RawConn.Read lasts as long as the connection: its callback asks to wait by returning false. Since
// nothing else waits on the descriptor, whatever arrives between a read and the wait ends the wait: a
// read that did not fill its buffer has drained the socket, and a second one, only to be told EAGAIN, is
// saved, unless a part of a frame waits for more. What it can miss is an end of stream that arrived together
// with the last bytes of a frame: see Probe. Of
// our own Close it knows before it waits, since nobody probes after that.
func (r *reader) readRaw() error {
	err := r.conn.raw.Read(func(fd uintptr) bool {
		r.conn.waiting.Store(false)
		for {
			space := r.space()
			n, errno := rawRead(fd, space)
			switch {
			case errno == syscall.EINTR:
				continue
			case errno == syscall.EAGAIN:
				return r.rest()
			case errno != 0:
				r.err = errno
				return true
			case n == 0:
				r.err = io.EOF
				return true
			}
			if !r.take(n) {
				return true
			}
			if n < len(space) && r.have == 0 && r.conn.probed.Load() && !r.conn.closed.Load() {
				return r.rest()
			}
		}
	})
	if r.err != nil {
		return r.err
	}
	return err
}

// rest gives the buffer back and asks to wait.
func (r *reader) rest() bool {
	if r.have == 0 {
		r.release()
	}
	r.conn.waiting.Store(true)
	return false
}

// Probe looks whether a connection from which nothing has come for a while has ended, and ends Read if so.
// Owners that have a clock call it for silent connections, every half second or so; from the first call
// on, Read saves the system call that would tell it so at once.
func (c *Conn) Probe() {
	if c.raw == nil {
		return
	}
	c.probed.Store(true)
	if !c.waiting.Load() {
		return
	}
	n, err := c.peek()
	if err == nil && n == 0 || err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
		c.Close()
	}
}

// peek looks at what has arrived and leaves it: EAGAIN is nothing, no byte and no error the end.
func (c *Conn) peek() (n int, err error) {
	if c.raw == nil {
		return 0, syscall.EAGAIN
	}
	err = syscall.EAGAIN
	_ = c.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return max(n, 0), err
}

// ExpectEnd makes Read look for the end after each read again, although the owner probes: for a connection
// whose peer is about to close it.
func (c *Conn) ExpectEnd() { c.probed.Store(false) }

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
		r.err, r.refused = err, true
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
