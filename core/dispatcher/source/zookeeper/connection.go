package zookeeper

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// handshakeTimeout bounds how long a server may take to answer who connects.
const handshakeTimeout = 5 * time.Second

// timeouts are how long things may take; tests have others.
type timeouts struct{ handshake, answer time.Duration }

// dialer makes the connections of the library, and can break the one that there is: the library then answers all calls
// that wait, and connects again with the same session.
type dialer struct {
	dial      zk.Dialer
	handshake time.Duration

	mu      sync.Mutex
	last    *connection
	resumes bool
	shut    bool
}

func (d *dialer) open(network, address string, timeout time.Duration) (net.Conn, error) {
	c, err := d.dial(network, address, timeout) // a second at most
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	if d.last != nil {
		_ = d.last.Close() // the library leaves it open if its session had ended
	}
	d.last = newConnection(c, d.resumes, d.handshake)
	return d.last, nil
}

// sever breaks the connection that there is.
func (d *dialer) sever() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		_ = d.last.Close()
	}
}

// close breaks the connection, and there is none after it.
func (d *dialer) close() {
	d.mu.Lock()
	d.shut = true
	d.mu.Unlock()
	d.sever()
}

// resume says whether the connections from now on go on with a session that has a watch.
func (d *dialer) resume(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resumes = on
}

// connection keeps faults of go-zookeeper/zk 1.0.4 from being met. The library writes one packet at a time, of which the
// handshake is the first.
type connection struct {
	net.Conn
	resumes   bool
	handshake time.Duration // its bound

	greeted  bool        // the handshake is written; of who writes
	deadline bool        // one was set; of who reads
	asked    atomic.Bool // a request is written
	free     chan struct{}
	freeOnce sync.Once
}

// Operations of the protocol, as the header of a request has them behind its length and number.
const (
	opSetAuth    = 100
	opSetWatches = 101
)

func newConnection(c net.Conn, resumes bool, handshake time.Duration) *connection {
	return &connection{Conn: c, resumes: resumes, handshake: handshake, free: make(chan struct{})}
}

// Write never fails: a connection that cannot be written to is closed, so that reading from it fails instead. The
// library answers a request whose write failed at once, and again with all that are open when the connection has ended.
// A request's channel has room for two answers, and Close gives one more; for one answer if credentials are sent again.
// With the answer too many the library waits for ever, holding a lock, and nothing is answered from then on
// (https://github.com/go-zookeeper/zk/pull/163 describes the latter). When reading fails, each gets one answer.
func (c *connection) Write(p []byte) (int, error) {
	if c.greeted && len(p) >= 12 {
		switch binary.BigEndian.Uint32(p[8:]) {
		case opSetAuth: // its answer comes before the library sends anything else, and tells of no transaction
		case opSetWatches:
			c.release()
		default:
			c.asked.Store(true)
		}
	}
	c.greeted = true
	if _, err := c.Conn.Write(p); err != nil {
		_ = c.Close()
	}
	return len(p), nil
}

// Read holds answers back until the library has set the watches of its session again. It notes the last transaction that
// it has heard of from each answer, and sets watches for what is newer than that: if an answer comes first, it reads
// what is just written, and does not learn of what changed while it was cut off
// (https://github.com/go-zookeeper/zk/pull/35).
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.resumes && c.asked.Load() {
		<-c.free
	}
	return n, err
}

func (c *connection) release() { c.freeOnce.Do(func() { close(c.free) }) }

// Close ends a Read too.
func (c *connection) Close() error {
	c.release()
	return c.Conn.Close()
}

// SetReadDeadline bounds the handshake, and never takes a deadline away: the library does so before it reads the second
// half of the handshake, so that a server that stops there would hold it for ever. It sets the next deadline before
// each further packet.
func (c *connection) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	if limit := time.Now().Add(c.handshake); !c.deadline && t.After(limit) {
		t = limit
	}
	c.deadline = true
	return c.Conn.SetReadDeadline(t)
}
