package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle"
	handoverv1 "github.com/octomesh/octomesh/gen/control/octo/handover/v1"
)

// Host is the running proxy, as its hand-over sees it.
type Host interface {
	// Settled waits until the proxy waits for no instance that its own predecessor had; an error is ctx's.
	Settled(ctx context.Context) error
	// Hold accepts and welcomes nobody any more, then returns the instances that are attached. From then on the proxy says of each
	// that leaves: gone. It must not wait.
	Hold(gone func(*handoverv1.Instance)) []*handoverv1.Instance
	// Release undoes Hold.
	Release()
}

// Config is what a running proxy needs to be taken over.
type Config struct {
	Environment, Instance string
	// SoftwareVersion is for people.
	SoftwareVersion string
	// Configured tells whether the proxy goes by a configuration.
	Configured func() bool
	// Listeners are handed over, outbound and inbound among them.
	Listeners []Listener
	Host      Host
	// Leave is called once, when a successor serves, before anything else is said: the proxy closes its duplicates of the
	// listeners without unlinking anything, and leaves. It must not wait.
	Leave func()
	Log   *slog.Logger
}

// Server waits for a successor.
type Server struct {
	cfg Config

	mu   sync.Mutex
	busy string // by whom; empty: nobody
	left bool   // a successor serves

	gone []*handoverv1.Instance // of whom the successor is to learn
	wake chan struct{}
	cut  chan int
}

// Serve waits for successors on l in the group's goroutines. It closes l when one serves, or when the group ends: whoever is about
// to take over then goes on as if the process had ended.
func Serve(group *lifecycle.Group, l net.Listener, cfg Config) *Server {
	s := &Server{cfg: cfg, wake: make(chan struct{}, 1), cut: make(chan int, 1)}
	leave := s.cfg.Leave
	s.cfg.Leave = func() {
		_ = l.Close()
		leave()
	}
	group.Go(func(ctx context.Context) {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		defer stop()
		for {
			nc, err := l.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil:
				s.cfg.Log.Error("no successor can be heard", "error", err)
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Second):
				}
				continue
			}
			group.Go(func(ctx context.Context) { s.hear(ctx, nc.(*net.UnixConn)) })
		}
	})
	return s
}

// Left tells the successor, if there is one, that the proxy has served its time. What the group runs may end then.
func (s *Server) Left(cut int) {
	select {
	case s.cut <- cut:
	default:
	}
}

// hear talks with one process until it has nothing to say any more.
func (s *Server) hear(ctx context.Context, nc *net.UnixConn) {
	pid, err := own(nc)
	if err != nil {
		s.cfg.Log.Warn("a hand-over is refused", "error", err)
		_ = nc.Close()
		return
	}
	c := newConn(nc)
	defer c.end()
	if err := s.converse(ctx, c, pid); err != nil {
		s.cfg.Log.Error("the hand-over failed; this process serves on", "successor", pid, "error", err)
	}
}

// converse leads a successor to where it serves, or to the error for which it is not to be.
func (s *Server) converse(ctx context.Context, c *conn, pid int32) (err error) {
	defer func() { // what a successor did itself it knows; and one whose predecessor ends goes on alone
		var refused *RefusedError
		if err != nil && ctx.Err() == nil && !errors.As(err, &refused) && !errors.Is(err, ErrGone) {
			_ = c.send(refusal(err), nil)
		}
	}()
	w, err := c.next(ctx, wordTimeout)
	if err != nil {
		return err
	}
	intro := w.GetIntroduction()
	if intro == nil {
		return fmt.Errorf("it begins with %T instead of an introduction", w.GetWord())
	}
	if err := admit(intro, s.cfg.Environment, s.cfg.Instance, s.cfg.Listeners); err != nil {
		return err
	}
	if err := s.enter(fmt.Sprintf("process %d", pid)); err != nil {
		return err
	}
	defer s.leaveOff()
	if err := s.warm(ctx, c, intro, pid); err != nil {
		return err
	}
	if err := s.yield(ctx, c, pid); err != nil {
		return err
	}
	s.accompany(ctx, c)
	return nil
}

func (s *Server) enter(who string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.left:
		return errors.New("this proxy has been taken over already, and leaves")
	case s.busy != "":
		return fmt.Errorf("%s is about to take over", s.busy)
	}
	s.busy = who
	return nil
}

func (s *Server) leaveOff() {
	s.mu.Lock()
	s.busy = ""
	s.mu.Unlock()
}

// warm admits a successor, gives it the listeners when it asks for them, and waits until it is ready.
func (s *Server) warm(ctx context.Context, c *conn, intro *handoverv1.Introduction, pid int32) error {
	settled, cancel := context.WithTimeout(ctx, settleTimeout)
	err := s.cfg.Host.Settled(settled)
	cancel()
	if err != nil {
		return fmt.Errorf("this proxy still waits for instances of its own predecessor: %w", err)
	}
	s.cfg.Log.Info("a successor warms up", "successor", pid, "version", intro.GetSoftwareVersion())
	err = c.send(&handoverv1.Word{Word: &handoverv1.Word_Admission{Admission: &handoverv1.Admission{
		Version: Version, Instance: s.cfg.Instance, SoftwareVersion: s.cfg.SoftwareVersion, Configured: s.cfg.Configured(),
	}}}, nil)
	if err != nil {
		return err
	}
	begun := time.Now()
	w, err := c.next(ctx, warmTimeout)
	if err != nil {
		return err
	}
	if w.GetTake() == nil {
		return fmt.Errorf("it says %T instead of asking for the listeners", w.GetWord())
	}
	if err := s.give(c); err != nil {
		return err
	}
	w, err = c.next(ctx, warmTimeout-time.Since(begun))
	if err != nil {
		return err
	}
	if w.GetReady() == nil {
		return fmt.Errorf("it says %T instead of being ready", w.GetWord())
	}
	return nil
}

// give sends the listeners, as many with a word as the kernel lets pass.
func (s *Server) give(c *conn) error {
	rest := s.cfg.Listeners
	for first := true; first || len(rest) > 0; first = false {
		some := rest[:min(len(rest), maxDescriptors)]
		rest = rest[len(some):]
		list := &handoverv1.Listeners{Last: len(rest) == 0}
		for _, l := range some {
			list.Listeners = append(list.Listeners, &handoverv1.Listener{Name: l.Name, Network: l.Addr().Network(), Address: l.address()})
		}
		err := borrow(some, nil, func(descriptors []int) error {
			return c.send(&handoverv1.Word{Word: &handoverv1.Word_Listeners{Listeners: list}}, descriptors)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// yield stops accepting and waits until the successor serves. A successor that dies before it said so leaves everything as it
// was. One that is only slow finds the proxy accepting again after a while, and leaving when it speaks after all.
func (s *Server) yield(ctx context.Context, c *conn, pid int32) error {
	err := s.list(c)
	if err == nil {
		err = s.serves(ctx, c, servingTimeout)
	}
	if err != nil {
		s.cfg.Host.Release()
	}
	if errors.Is(err, errLate) {
		s.cfg.Log.Warn("the successor is ready and does not serve; this process accepts again until it does", "successor", pid)
		if err = s.serves(ctx, c, 0); err == nil && s.list(c) != nil {
			s.cfg.Log.Warn("the successor did not learn who has attached meanwhile", "successor", pid)
		}
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.left = true
	s.mu.Unlock()
	s.cfg.Log.Info("handed over", "successor", pid)
	s.cfg.Leave()
	return nil
}

// list stops accepting and welcoming, then sends the final list of instances.
func (s *Server) list(c *conn) error {
	rest := s.cfg.Host.Hold(s.isGone)
	for first := true; first || len(rest) > 0; first = false {
		attached := &handoverv1.Attached{}
		for size := 0; len(rest) > 0 && size < maxWord/4; rest = rest[1:] { // one is 64 KiB at most, as its HELLO was
			attached.Instances = append(attached.Instances, rest[0])
			size += len(rest[0].GetInstance()) + 32
			for _, t := range rest[0].GetTargets() {
				size += len(t) + 4
			}
		}
		attached.Last = len(rest) == 0
		if err := c.send(&handoverv1.Word{Word: &handoverv1.Word_Attached{Attached: attached}}, nil); err != nil {
			return err
		}
	}
	return nil
}

// serves waits for the successor's Serving; within 0 for as long as it lives.
func (s *Server) serves(ctx context.Context, c *conn, within time.Duration) error {
	w, err := c.next(ctx, within)
	if err == nil && w.GetServing() == nil {
		err = fmt.Errorf("it says %T instead of serving", w.GetWord())
	}
	return err
}

// isGone notes an instance that leaves, for the successor.
func (s *Server) isGone(i *handoverv1.Instance) {
	s.mu.Lock()
	s.gone = append(s.gone, i)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// accompany tells the successor what it must know, until this proxy has left or the successor has gone.
func (s *Server) accompany(ctx context.Context, c *conn) {
	for {
		select {
		case <-s.wake:
		case cut := <-s.cut:
			sayLeft(c, cut)
			return
		case i := <-c.words:
			if i.err != nil || i.word == nil {
				return
			}
			closeAll(i.descriptors) // it has nothing more to say
		case <-ctx.Done():
			select {
			case cut := <-s.cut: // at the same time
				sayLeft(c, cut)
			default:
			}
			return
		}
		s.mu.Lock()
		gone := s.gone
		s.gone = nil
		s.mu.Unlock()
		for _, i := range gone {
			if c.send(&handoverv1.Word{Word: &handoverv1.Word_Gone{Gone: &handoverv1.Gone{Instance: i}}}, nil) != nil {
				return
			}
		}
	}
}

func sayLeft(c *conn, cut int) {
	_ = c.send(&handoverv1.Word{Word: &handoverv1.Word_Left{Left: &handoverv1.Left{Cut: uint32(cut)}}}, nil)
}
