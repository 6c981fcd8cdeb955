// Package listener accepts connections and makes sessions of them.
package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/wire"
)

// Config is a listener's.
type Config struct {
	Group   *lifecycle.Group
	Session session.Options
	// TLS is spoken by every dialer, and says who it is. nil: plain.
	TLS *tls.Config
	// Application is whom a dialer counts as by who it is, or why it may not come in. nil: as it says itself.
	Application func(identity.ID) (string, error)
	// MaxConnections bounds what is accepted at once; more are closed at once. 0: 4096.
	MaxConnections int
	// MaxPerPeer bounds what one peer has of them: a process, by the pid that a Unix socket tells, or a host, by its
	// address. 0: a quarter of MaxConnections.
	MaxPerPeer int
	// Admit looks at a socket before a byte is read: by its peer's credentials, say. nil: all.
	Admit func(net.Conn) error
	Log   *slog.Logger
}

// Listener accepts connections until it is closed.
type Listener struct {
	net.Listener
	cfg Config

	mu    sync.Mutex
	open  int
	peers map[string]int // connections by peer, at least 1
	pause *pause         // nil: it accepts

	once   sync.Once
	closed chan struct{}
}

// pause is a time in which nothing is accepted.
type pause struct {
	rests chan struct{} // closed when the acceptor rests
	ends  chan struct{}
}

// New accepts on l in the group's goroutines.
func New(l net.Listener, cfg Config) *Listener {
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 4096
	}
	if cfg.MaxPerPeer == 0 {
		cfg.MaxPerPeer = max(1, cfg.MaxConnections/4)
	}
	out := &Listener{Listener: l, cfg: cfg, peers: make(map[string]int), closed: make(chan struct{})}
	cfg.Group.Go(out.accept)
	return out
}

// Close accepts nothing any more. What was accepted goes on, and the socket's file stays.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Pause accepts nothing until Resume, and returns when nobody is being accepted. Who connects waits in the socket's queue,
// which other processes may share.
func (l *Listener) Pause() {
	l.mu.Lock()
	p := l.pause
	if p == nil {
		p = &pause{make(chan struct{}), make(chan struct{})}
		l.pause = p
		l.wait(time.Unix(1, 0)) // a time that has passed ends the accept that waits
	}
	l.mu.Unlock()
	select {
	case <-p.rests:
	case <-l.closed:
	}
}

// Resume ends a Pause.
func (l *Listener) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.pause; p != nil {
		l.pause = nil
		l.wait(time.Time{})
		close(p.ends)
	}
}

// wait sets until when Accept waits.
func (l *Listener) wait(until time.Time) {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(until)
	}
}

// rest waits for the end of a pause.
func (l *Listener) rest() {
	l.mu.Lock()
	p := l.pause
	l.mu.Unlock()
	if p == nil {
		return // it has just ended
	}
	select {
	case <-p.rests: // again: the listener is being closed, and its deadline has passed still
	default:
		close(p.rests)
	}
	select {
	case <-p.ends:
	case <-l.closed:
	}
}

// Open is how many connections stand, those that nobody has welcomed yet, too.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// accept runs until the listener is closed. A lack of descriptors passes: it waits instead of spinning.
func (l *Listener) accept(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.rest()
			continue
		case err != nil:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.cfg.Log.Error("accept failed", "address", l.Addr().String(), "error", err, "pause", pause)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		l.admit(ctx, nc)
	}
}

func (l *Listener) admit(ctx context.Context, nc net.Conn) {
	var err error
	if l.cfg.Admit != nil {
		err = l.cfg.Admit(nc)
	}
	peer := peerOf(nc)
	if err == nil {
		err = l.enter(peer)
	}
	if err != nil {
		l.cfg.Log.Warn("connection refused", "address", l.Addr().String(), "peer", peer, "error", err)
		_ = nc.Close()
		return
	}
	l.cfg.Group.Go(func(context.Context) {
		defer l.leave(peer)
		s, err := l.session(ctx, nc)
		if err != nil {
			l.cfg.Log.Warn("connection refused", "address", l.Addr().String(), "peer", nc.RemoteAddr().String(), "error", err)
			return
		}
		stop := context.AfterFunc(ctx, s.Kill)
		defer stop()
		_ = s.Run() // the handler learns why it ended
	})
}

// peerOf names whose connection it is.
func peerOf(nc net.Conn) string {
	if cred, err := transport.PeerCredentials(nc); err == nil {
		return "pid " + strconv.Itoa(int(cred.Pid))
	}
	if host, _, err := net.SplitHostPort(nc.RemoteAddr().String()); err == nil {
		return host
	}
	return nc.RemoteAddr().String()
}

var (
	errTooMany     = errors.New("octo: too many connections")
	errTooManyOfIt = errors.New("octo: too many connections of this peer")
)

func (l *Listener) enter(peer string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.cfg.MaxConnections:
		return errTooMany
	case l.peers[peer] >= l.cfg.MaxPerPeer:
		return errTooManyOfIt
	}
	l.open++
	l.peers[peer]++
	return nil
}

func (l *Listener) leave(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.peers[peer]--; l.peers[peer] == 0 {
		delete(l.peers, peer)
	}
}

// session makes the session of an accepted socket, behind TLS where that is on.
func (l *Listener) session(ctx context.Context, nc net.Conn) (*session.Session, error) {
	if l.cfg.TLS == nil {
		return session.New(nc, wire.Acceptor, l.cfg.Session), nil
	}
	secure, id, err := session.Secure(ctx, nc, l.cfg.TLS, true)
	if err != nil {
		return nil, err
	}
	named := ""
	if l.cfg.Application != nil {
		if named, err = l.cfg.Application(id); err != nil {
			_ = secure.Close()
			return nil, err
		}
	}
	s := session.New(secure, wire.Acceptor, l.cfg.Session)
	s.SetIdentity(id)
	s.SetApplication(named)
	return s, nil
}
