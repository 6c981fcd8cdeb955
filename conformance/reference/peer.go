package reference

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// Ends says between what a peer stands.
type Ends struct {
	// Network and Address are what it dials. Else it is dialed at Listener.
	Network, Address string
	Listener         net.Listener
	// Name is the instance's, which each conversation makes one of its own.
	Name        string
	Environment string
	Application string
	Kind        wirev1.PeerKind
	// Calls is the target of its calls; Serves the one for which it is attached to a proxy.
	Calls, Serves string
	// Origin is that of what the other end concludes itself.
	Origin wirev1.Origin
	// Patience bounds each wait for a frame.
	Patience time.Duration
	// Await waits for an event of a call in the ledger, Release lets its handler go on.
	Await   func(call string, event conformancev1.LedgerEntry_Event) error
	Release func(call string) error
}

// Call is one that a peer has made.
type Call struct {
	ID string
	// Refused: no handler may have run for it. Else one must.
	Refused bool
}

// Peer plays the conversations of one place.
type Peer struct {
	Ends  Ends
	ready chan struct{} // closed when somebody may call it
	once  sync.Once

	mu    sync.Mutex
	calls []*Call
	logs  []string
}

// New makes a peer; Play brings it to life.
func New(e Ends) *Peer {
	p := &Peer{Ends: e, ready: make(chan struct{})}
	if e.Listener != nil {
		p.isReady()
	}
	return p
}

func (p *Peer) isReady() { p.once.Do(func() { close(p.ready) }) }

// Ready is closed once the peer can be called: it listens, or is attached.
func (p *Peer) Ready() <-chan struct{} { return p.ready }

// Calls are those that it has made.
func (p *Peer) Calls() []*Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

func (p *Peer) called(c *Call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, c)
}

// Trace is what was said on all connections, frame by frame.
func (p *Peer) Trace() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.logs)
}

// Play goes through the conversations. One that calls closes each when its script has ended, one that is
// called when over is closed.
func (p *Peer) Play(scripts []*conformancev1.RawConversation, over <-chan struct{}) error {
	defer p.isReady() // or somebody would wait for ever
	if p.Ends.Listener != nil {
		return p.serve(scripts, over)
	}
	for i, s := range scripts {
		nc, err := net.DialTimeout(p.Ends.Network, p.Ends.Address, p.Ends.Patience)
		if err != nil {
			return err
		}
		if err := p.converse(nc, true, i, s, over); err != nil {
			return fmt.Errorf("conversation %d: %w", i+1, err)
		}
	}
	return nil
}

// serve takes as many connections as there are scripts, and refuses more.
func (p *Peer) serve(scripts []*conformancev1.RawConversation, over <-chan struct{}) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	failed := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	n := 0
	wg.Go(func() {
		<-over
		_ = p.Ends.Listener.Close()
	})
	for {
		nc, err := p.Ends.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			break
		} else if err != nil {
			failed(err)
			break
		}
		i := n
		if n++; n > len(scripts) {
			_ = nc.Close()
			failed(fmt.Errorf("it is dialed %d times, the script has %d conversations", n, len(scripts)))
			continue
		}
		wg.Go(func() {
			if err := p.converse(nc, false, i, scripts[i], over); err != nil {
				failed(fmt.Errorf("conversation %d: %w", i+1, err))
			}
		})
	}
	wg.Wait()
	if n < len(scripts) {
		failed(fmt.Errorf("it was dialed %d times, the script has %d conversations", n, len(scripts)))
	}
	return errors.Join(errs...)
}

func (p *Peer) converse(nc net.Conn, dialed bool, i int, s *conformancev1.RawConversation, over <-chan struct{}) error {
	c := newConversation(p, nc, dialed, fmt.Sprintf("%s-%d", p.Ends.Name, i+1))
	err := c.play(s, p.isReady)
	if err == nil && (!dialed || p.Ends.Serves != "") && !c.over {
		<-over
	}
	_ = nc.Close()
	for range c.frames { // until the reader has ended
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logs = append(p.logs, fmt.Sprintf("connection %d of the reference peer %s:", i+1, p.Ends.Name))
	p.logs = append(p.logs, c.log...)
	return err
}
