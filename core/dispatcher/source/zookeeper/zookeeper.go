// Package zookeeper is a registry in ZooKeeper, of version 3.5 or later.
//
// An instance is a child of its target's node, <prefix>/<environment>/<target>/<instance>~<version>, with segments as
// [source.Layout] writes them, and its data is the endpoint as JSON. Data never change: another version is another
// node, put into the place of the old one in one transaction. So one watch on the children of a target tells of all, and
// only nodes with new names need to be read. Of several nodes of one instance the youngest counts.
//
// ZooKeeper says of a node that is gone no reason, and so does this source.
package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/lifecycle"
)

// DefaultPrefix is where the registry is unless told otherwise.
const DefaultPrefix = "/octo/registry"

// DefaultSession is how long a session outlives its connection.
const DefaultSession = 10 * time.Second

// Config says which ZooKeeper and where in it.
type Config struct {
	// Servers are "host:port". At least one.
	Servers []string
	// Prefix is what all paths begin with. Empty: [DefaultPrefix].
	Prefix string
	// Session is how long a session outlives its connection; the server may bound it. Registrations live in sessions,
	// so that this is also what their time to live is. 0: [DefaultSession].
	Session time.Duration
	// User and Password are for ZooKeeper's "digest" scheme. An empty User: none. What is made is open to everybody.
	User, Password string
}

// Source is a ZooKeeper. Its methods are safe for concurrent use.
type Source struct {
	layout source.Layout
	conn   *zk.Conn
	group  *lifecycle.Group

	mu       sync.Mutex
	sessions map[int64]bool // that ever were ours
	state    state
	change   chan struct{} // closed and replaced at each change of state
}

// state of the session.
type state struct {
	up      bool
	session int64 // counts sessions; the first is 1
	closed  bool
}

// maxResponse bounds what a server may answer at once, in bytes: some 100,000 instances of one target.
const maxResponse = 16 << 20

type quiet struct{}

func (quiet) Printf(string, ...any) {} // what it would say is in the errors

// New makes a source; it connects at once, and again whenever it must.
func New(c Config) (*Source, error) {
	layout := source.Layout{Prefix: c.Prefix}
	if c.Prefix == "" {
		layout.Prefix = DefaultPrefix
	}
	if err := layout.Check(); err != nil {
		return nil, fmt.Errorf("zookeeper: %w", err)
	}
	session := c.Session
	if session <= 0 {
		session = DefaultSession
	}
	conn, events, err := zk.Connect(c.Servers, session, zk.WithLogger(quiet{}), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxResponse))
	if err != nil {
		return nil, fmt.Errorf("zookeeper: %w", err)
	}
	s := &Source{layout: layout, conn: conn, group: lifecycle.New(context.Background()), change: make(chan struct{}), sessions: make(map[int64]bool)}
	s.group.Go(func(context.Context) { s.observe(events) })
	if c.User != "" {
		if err := conn.AddAuth("digest", []byte(c.User+":"+c.Password)); err != nil {
			s.Close()
			return nil, s.fail("authenticate", source.Key{}, err)
		}
	}
	return s, nil
}

// Close ends the session, with all watches and registrations.
func (s *Source) Close() {
	s.conn.Close()
	s.group.Stop()
}

// Name implements [source.Source].
func (s *Source) Name() string { return "zookeeper" }

// observe keeps the state; it ends when the connection is closed.
func (s *Source) observe(events <-chan zk.Event) {
	lost := true
	for e := range events {
		if e.Type != zk.EventSession {
			continue
		}
		s.set(func(now *state) {
			switch e.State {
			case zk.StateHasSession:
				now.up = true
				if lost {
					now.session++
					lost = false
				}
			case zk.StateExpired:
				now.up, lost = false, true
			case zk.StateDisconnected:
				now.up = false
			}
		})
	}
	s.set(func(now *state) { now.up, now.closed = false, true })
}

func (s *Source) set(f func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.state
	f(&s.state)
	if s.state != before {
		close(s.change)
		s.change = make(chan struct{})
	}
}

func (s *Source) get() (state, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.change
}

// ready waits until there is a session, and returns its number.
func (s *Source) ready(ctx context.Context) (int64, error) {
	for {
		now, change := s.get()
		switch {
		case now.closed:
			return 0, zk.ErrClosing
		case now.up:
			return now.session, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-change:
		}
	}
}

// fail makes an error of what ZooKeeper said.
func (s *Source) fail(op string, key source.Key, err error) error {
	var typed *source.Error
	if errors.As(err, &typed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	kind := source.Unavailable
	switch {
	case errors.Is(err, zk.ErrSessionExpired), errors.Is(err, zk.ErrSessionMoved):
		kind = source.Lost
	case errors.Is(err, zk.ErrNoAuth), errors.Is(err, zk.ErrAuthFailed), errors.Is(err, zk.ErrInvalidACL):
		kind = source.Denied
	}
	return &source.Error{Kind: kind, Source: s.Name(), Op: op, Key: key, Err: err}
}
