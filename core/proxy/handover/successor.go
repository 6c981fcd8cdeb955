package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	handoverv1 "github.com/octomesh/octomesh/gen/control/octo/handover/v1"
)

// Successor is the new process' side of a hand-over.
type Successor struct {
	// Admission is what the running one says of itself.
	Admission *handoverv1.Admission
	c         *conn
}

// Dial introduces a successor to the proxy that runs, at the path of its control socket. The versions are filled in. It fails
// with [ErrNobody] where no process is at the path: then nothing is to be taken over. A [*RefusedError], and all others, say
// that there is one, and that it serves on.
func Dial(ctx context.Context, path string, intro *handoverv1.Introduction) (*Successor, error) {
	var d net.Dialer
	dialing, cancel := context.WithTimeout(ctx, wordTimeout)
	defer cancel()
	nc, err := d.DialContext(dialing, "unix", path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNobody
	case err != nil:
		return nil, fmt.Errorf("the running proxy is not heard: %w", err)
	}
	if _, err := own(nc); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("whoever listens on %s is not this proxy: %w", path, err)
	}
	intro.LowestVersion, intro.HighestVersion = Version, Version
	s := &Successor{c: newConn(nc.(*net.UnixConn))}
	if err := s.introduce(ctx, intro); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Successor) introduce(ctx context.Context, intro *handoverv1.Introduction) error {
	if err := s.c.send(&handoverv1.Word{Word: &handoverv1.Word_Introduction{Introduction: intro}}, nil); err != nil && !ends(err) {
		return err
	}
	w, err := s.c.next(ctx, settleTimeout+wordTimeout) // it may wait for instances itself
	switch {
	case errors.Is(err, ErrGone):
		return ErrNobody
	case errors.Is(err, errLate):
		return fmt.Errorf("the running proxy does not answer; it may be stopped, or busy: %w", err)
	case err != nil:
		return err
	}
	if s.Admission = w.GetAdmission(); s.Admission == nil || s.Admission.GetVersion() != Version {
		return fmt.Errorf("handover: the running proxy answers %T of version %d", w.GetWord(), s.Admission.GetVersion())
	}
	return nil
}

// Close ends the conversation. Before [Successor.Serving] the running one takes that for this process' death.
func (s *Successor) Close() { s.c.end() }

// Refuse tells the running one why this process does not take over after all.
func (s *Successor) Refuse(why error) { _ = s.c.send(refusal(why), nil) }

// Take asks for the listeners. They accept nobody yet: the running one does. [ErrGone] says that it has died, and that there is
// nothing to be taken.
func (s *Successor) Take(ctx context.Context) (listeners []Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			listeners = nil
		}
	}()
	if err := s.say(&handoverv1.Word{Word: &handoverv1.Word_Take{Take: &handoverv1.Take{}}}); err != nil {
		return nil, err
	}
	for last := false; !last; {
		late := time.NewTimer(wordTimeout)
		i, err := s.c.wait(ctx, late.C)
		late.Stop()
		if err != nil {
			return listeners, err
		}
		list := i.word.GetListeners()
		if list == nil || len(list.GetListeners()) != len(i.descriptors) {
			closeAll(i.descriptors)
			return listeners, fmt.Errorf("handover: the running proxy says %T with %d descriptors", i.word.GetWord(), len(i.descriptors))
		}
		for n, what := range list.GetListeners() {
			l, err := listenerOf(i.descriptors[n], what)
			if err != nil {
				closeAll(i.descriptors[n+1:])
				return listeners, err
			}
			listeners = append(listeners, l)
		}
		last = list.GetLast()
	}
	return listeners, nil
}

// Ready says that this process would serve now, and returns the instances that were attached to the running one, which accepts
// nobody any more. Not complete: it has died meanwhile, and nobody knows who was attached to it. After any error the running one
// serves on.
func (s *Successor) Ready(ctx context.Context) (instances []*handoverv1.Instance, complete bool, err error) {
	if err := s.say(&handoverv1.Word{Word: &handoverv1.Word_Ready{Ready: &handoverv1.Ready{}}}); errors.Is(err, ErrGone) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	for {
		w, err := s.c.next(ctx, warmTimeout)
		switch {
		case errors.Is(err, ErrGone):
			return instances, false, nil
		case err != nil:
			return nil, false, err
		}
		list := w.GetAttached()
		if list == nil {
			return nil, false, fmt.Errorf("handover: the running proxy says %T instead of who is attached", w.GetWord())
		}
		instances = append(instances, list.GetInstances()...)
		if list.GetLast() {
			return instances, true, nil
		}
	}
}

// Serving says that this process accepts connections. From here on it is the proxy, whatever becomes of its predecessor.
func (s *Successor) Serving() {
	// If it is not heard, its predecessor is gone.
	_ = s.say(&handoverv1.Word{Word: &handoverv1.Word_Serving{Serving: &handoverv1.Serving{}}})
}

// Heard is told what a predecessor says while it leaves.
type Heard struct {
	// Attached is told of instances that came to it after the list.
	Attached func([]*handoverv1.Instance)
	// Gone is told of an instance that leaves.
	Gone func(*handoverv1.Instance)
}

// Follow hears the predecessor until it has left, and returns how many calls its drain deadline has cut off. [ErrGone]: it has
// ended without saying so.
func (s *Successor) Follow(ctx context.Context, h Heard) (cut int, err error) {
	for {
		i, err := s.c.wait(ctx, nil)
		if err != nil {
			return 0, err
		}
		closeAll(i.descriptors)
		switch w := i.word.GetWord().(type) {
		case *handoverv1.Word_Attached:
			h.Attached(w.Attached.GetInstances())
		case *handoverv1.Word_Gone:
			h.Gone(w.Gone.GetInstance())
		case *handoverv1.Word_Left:
			return int(w.Left.GetCut()), nil
		}
	}
}

// say sends a word. A socket that has ended is read on: the reason may stand there.
func (s *Successor) say(w *handoverv1.Word) error {
	err := s.c.send(w, nil)
	if err == nil || !ends(err) {
		return err
	}
	if _, err := s.c.next(context.Background(), wordTimeout); err != nil {
		return err
	}
	return ErrGone
}

// ends tells of an error that says that the other side has gone.
func ends(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
