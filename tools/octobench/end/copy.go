package end

import (
	"net"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// copyBuffer is the size of a byte copy's buffers: that of the proxy's, for a fair comparison.
const copyBuffer = 132 << 10

// byteCopy carries bytes both ways and looks at none: what the cheapest proxy in Go could cost. It reads
// and writes, one goroutine a direction, and does not splice: measured on small messages, splice costs more
// system calls than it saves copies.
func byteCopy(s *side.Spec) (*side.Side, error) {
	l, err := side.Listen(s.Listen)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := side.Dial(s.Dial)
			if err != nil {
				_ = down.Close()
				continue
			}
			go copyBytes(up, down)
			go copyBytes(down, up)
		}
	}()
	return &side.Side{Address: s.Listen, Stop: func() { _ = l.Close() }}, nil
}

func copyBytes(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, copyBuffer)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
