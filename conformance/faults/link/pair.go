package link

import (
	"io"
	"net"
	"sync"
	"time"
)

const (
	chunkSize = 16 << 10
	// underway bounds how many chunks a direction delays.
	underway = 64
)

// pair is one connection, as two sockets.
type pair struct {
	link      *Link
	near, far net.Conn
	corrupt   []Corruption
	gone      chan struct{} // closed by cut
	once      sync.Once

	mu    sync.Mutex
	left  int64 // bytes until it ends itself; 0: it does not
	ended int   // directions
}

// cut ends both sockets at once.
func (p *pair) cut() {
	p.once.Do(func() {
		close(p.gone)
		for _, nc := range []net.Conn{p.near, p.far} {
			if tc, ok := nc.(*net.TCPConn); ok {
				_ = tc.SetLinger(0)
			}
			_ = nc.Close()
		}
	})
}

// piece is bytes on their way.
type piece struct {
	due   time.Time
	bytes []byte
}

// carry carries one direction until its sender ends it, which it passes on, or the connection is cut.
func (p *pair) carry(to, from net.Conn, up bool) {
	pieces := make(chan piece, underway)
	var writer sync.WaitGroup
	writer.Go(func() {
		for q := range pieces {
			if !p.wait(time.Until(q.due)) || !p.write(to, q.bytes, up) {
				p.cut()
				for range pieces { // until the reader has seen it
				}
				return
			}
		}
		if p.held(up) {
			endOf(to)
		}
	})
	offset := int64(0)
	for {
		b := make([]byte, chunkSize)
		n, err := from.Read(b)
		p.spoil(b[:n], offset, up)
		offset += int64(n)
		if n > 0 {
			f, _ := p.link.now()
			pieces <- piece{time.Now().Add(f.Delay), b[:n]}
		}
		if err == io.EOF {
			break
		} else if err != nil {
			p.cut() // a reset goes on as one
			break
		}
	}
	close(pieces)
	writer.Wait()
	p.end()
}

// end closes both sockets once both directions have ended.
func (p *pair) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended++; p.ended == 2 {
		_ = p.near.Close()
		_ = p.far.Close()
	}
}

// endOf passes on the end of a direction.
func endOf(nc net.Conn) {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = nc.Close()
}

func (p *pair) spoil(b []byte, offset int64, up bool) {
	for _, c := range p.corrupt {
		if i := c.Offset - offset; c.Up == up && i >= 0 && i < int64(len(b)) {
			b[i] ^= c.Xor
		}
	}
}

// wait waits, and tells whether the connection still is.
func (p *pair) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.gone:
		return false
	}
}

// held waits while the direction is held, and tells whether the connection still is.
func (p *pair) held(up bool) bool {
	for {
		f, changed := p.link.now()
		if up && !f.HoldUp || !up && !f.HoldDown {
			return true
		}
		select {
		case <-changed:
		case <-p.gone:
			return false
		}
	}
}

// write writes as the faults say at each moment.
func (p *pair) write(to net.Conn, b []byte, up bool) bool {
	for len(b) > 0 {
		if !p.held(up) {
			return false
		}
		f, _ := p.link.now()
		n := len(b)
		if f.Chunk > 0 {
			n = min(n, f.Chunk)
		}
		if f.Rate > 0 {
			n = min(n, max(1, f.Rate/100)) // a hundredth of a second at a time
		}
		n, end := p.take(n)
		p.link.carried(n, up) // before the other end can know
		if _, err := to.Write(b[:n]); err != nil {
			return false
		}
		if end {
			return false
		}
		b = b[n:]
		if f.Rate > 0 && !p.wait(time.Duration(n)*time.Second/time.Duration(f.Rate)) {
			return false
		}
	}
	return true
}

// take takes n bytes of those that may pass before the connection ends itself.
func (p *pair) take(n int) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left <= 0 {
		return n, false
	}
	n = int(min(int64(n), p.left))
	p.left -= int64(n)
	return n, p.left == 0
}

func (l *Link) carried(n int, up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if up {
		l.stats.Up += int64(n)
	} else {
		l.stats.Down += int64(n)
	}
}
