package meshtest

import (
	"io"
	"net"
	"sync"
)

// Cable carries bytes between whoever dials it and an address, until it is cut: so a test ends a connection
// as the death of a process at one end would.
type Cable struct {
	net.Listener
	network, to string

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

// LayCable listens on l and carries to an address.
func LayCable(l net.Listener, network, to string) *Cable {
	c := &Cable{Listener: l, network: network, to: to}
	c.wg.Go(c.accept)
	return c
}

func (c *Cable) accept() {
	for {
		near, err := c.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial(c.network, c.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, near, far)
		c.mu.Unlock()
		c.wg.Go(func() { carry(near, far) })
		c.wg.Go(func() { carry(far, near) })
	}
}

func carry(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// Cut ends all connections; new ones are carried.
func (c *Cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.conns {
		_ = nc.Close()
	}
	c.conns = nil
}

// Close cuts, accepts no more and waits for what carries.
func (c *Cable) Close() error {
	err := c.Listener.Close()
	c.Cut()
	c.wg.Wait()
	return err
}
