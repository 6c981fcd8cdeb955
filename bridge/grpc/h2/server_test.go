package h2_test

import (
	"net"
	"sync"
	"testing"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
)

// site answers every request as a web server would, on the machine alone.
type site struct {
	h2.Config
	net.Listener
	group sync.WaitGroup
}

func startSite(t *testing.T, cfg h2.Config) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Config: cfg, Listener: l}
	s.Side = h2.Server
	s.group.Go(s.accept)
	t.Cleanup(func() {
		_ = l.Close()
		s.group.Wait()
	})
	return s
}

func (s *site) accept() {
	for {
		nc, err := s.Accept()
		if err != nil {
			return
		}
		s.group.Go(func() { s.talk(nc) })
	}
}

// talk serves one connection until it ends.
func (s *site) talk(nc net.Conn) {
	defer nc.Close()
	c := h2.NewConn(s.Config)
	rest := make(map[*h2.Stream][]byte) // of answers that wait for room
	buf, n := make([]byte, 64<<10), 0
	for {
		k, err := nc.Read(buf[n:])
		if err != nil {
			return
		}
		n += k
		used := 0
		var broken error
		for broken == nil {
			var ev h2.Event
			k, err := c.Feed(buf[used:n], &ev)
			if broken = err; k == 0 && ev.Kind == h2.EventNone {
				break
			}
			used += k
			respond(c, &ev, rest)
		}
		for s := c.Turn(); s != nil; s = c.Turn() {
			send(c, s, rest)
		}
		n = copy(buf, buf[used:n])
		if _, err := nc.Write(c.Take(nil)); err != nil {
			return
		}
		if broken != nil {
			return
		}
	}
}

func respond(c *h2.Conn, ev *h2.Event, rest map[*h2.Stream][]byte) {
	s := ev.Stream
	switch ev.Kind {
	case h2.EventPreface:
		c.Start()
	case h2.EventHeaders, h2.EventData:
		if ev.Kind == h2.EventHeaders && !ev.Trailers {
			s.User = s
		}
		c.Consume(s, ev.Flow)
		if !ev.End {
			return
		}
		c.Headers(s, h2.AppendField(nil, ":status", "200"), false)
		rest[s] = []byte("all is well")
		send(c, s, rest)
	case h2.EventReset, h2.EventFailed:
		delete(rest, s)
		c.Release()
	}
}

func send(c *h2.Conn, s *h2.Stream, rest map[*h2.Stream][]byte) {
	n := c.Data(s, nil, rest[s], true)
	if rest[s] = rest[s][n:]; len(rest[s]) == 0 {
		delete(rest, s)
	}
}
