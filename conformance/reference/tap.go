package reference

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// Tap stands between two ends of connections, passes on every byte, and tells of the frames in them.
type Tap struct {
	listener net.Listener
	network  string
	target   string
	label    string
	note     func(line string)
	wg       sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
	n    int
}

// NewTap listens at an address, of which the kernel may choose the port, for connections to target. note gets a
// line for each frame; it must not wait.
func NewTap(network, at, target, label string, note func(string)) (*Tap, error) {
	l, err := net.Listen(network, at)
	if err != nil {
		return nil, err
	}
	t := &Tap{listener: l, network: network, target: target, label: label, note: note, open: make(map[net.Conn]struct{})}
	t.wg.Go(t.accept)
	return t, nil
}

// Address is where it listens.
func (t *Tap) Address() string { return t.listener.Addr().String() }

// Close ends it and all its connections.
func (t *Tap) Close() {
	_ = t.listener.Close()
	t.mu.Lock()
	for nc := range t.open {
		_ = nc.Close()
	}
	t.open = nil
	t.mu.Unlock()
	t.wg.Wait()
}

func (t *Tap) accept() {
	for {
		near, err := t.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial(t.network, t.target)
		if err != nil {
			t.note(fmt.Sprintf("[%s] no connection: %v", t.label, err))
			_ = near.Close()
			continue
		}
		if !t.hold(near, far) {
			return
		}
		t.n++
		label := fmt.Sprintf("%s #%d", t.label, t.n)
		t.wg.Go(func() { t.pass(near, far, "["+label+"] ->") })
		t.wg.Go(func() { t.pass(far, near, "["+label+"] <-") })
	}
}

// hold remembers connections for Close; false: it has been called.
func (t *Tap) hold(all ...net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, nc := range all {
		if t.open == nil {
			_ = nc.Close()
			continue
		}
		t.open[nc] = struct{}{}
	}
	return t.open != nil
}

// pass copies one direction, and its end. Frames are told of as they are passed on.
func (t *Tap) pass(from, to net.Conn, label string) {
	in, out := io.Pipe()
	t.wg.Go(func() { t.tell(in, label) })
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			_, _ = out.Write(buf[:n]) // first, so that a question is told of before its answer
			if _, werr := to.Write(buf[:n]); werr != nil {
				_ = from.Close()
				err = werr
			}
		}
		if err != nil {
			break
		}
	}
	_ = out.Close()
	if h, ok := to.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

// tell reads frames until there are none, then drops the rest.
func (t *Tap) tell(in *io.PipeReader, label string) {
	for {
		f, err := Read(in)
		if err != nil {
			if err != io.EOF {
				t.note(fmt.Sprintf("%s no frames from here on: %v", label, err))
			}
			break
		}
		t.note(label + " " + f.String())
	}
	_, _ = io.Copy(io.Discard, in)
}
