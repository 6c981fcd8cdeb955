// Package listener accepts connections and makes sessions of them.
package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// Config is a listener's.
type Config struct {
	Group   *lifecycle.Group
	Session session.Options
	// TLS is spoken by every dialer, and says who it is. nil: plain.
	TLS *tls.Config
	// MaxConnections bounds what is accepted at once; more are closed at once. 0: 4096.
	MaxConnections int
	// Admit looks at a socket before a byte is read: by its peer's credentials, say. nil: all.
	Admit func(net.Conn) error
	Log   *slog.Logger
}

// Listener accepts connections until it is closed.
type Listener struct {
	net.Listener
	cfg  Config
	open atomic.Int64
}

// New accepts on l in the group's goroutines.
func New(l net.Listener, cfg Config) *Listener {
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 4096
	}
	out := &Listener{Listener: l, cfg: cfg}
	cfg.Group.Go(out.accept)
	return out
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
	if err == nil && l.open.Add(1) > int64(l.cfg.MaxConnections) {
		l.open.Add(-1)
		err = errors.New("octo: too many connections")
	}
	if err != nil {
		l.cfg.Log.Warn("connection refused", "address", l.Addr().String(), "error", err)
		_ = nc.Close()
		return
	}
	l.cfg.Group.Go(func(context.Context) {
		defer l.open.Add(-1)
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

// session makes the session of an accepted socket, behind TLS where that is on.
func (l *Listener) session(ctx context.Context, nc net.Conn) (*session.Session, error) {
	if l.cfg.TLS == nil {
		return session.New(nc, wire.Acceptor, l.cfg.Session), nil
	}
	secure, id, err := session.Secure(ctx, nc, l.cfg.TLS, true)
	if err != nil {
		return nil, err
	}
	s := session.New(secure, wire.Acceptor, l.cfg.Session)
	s.SetIdentity(id)
	return s, nil
}
