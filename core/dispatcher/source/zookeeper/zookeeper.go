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
	"crypto/rand"
	"errors"
	"fmt"
	"net"
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
	dialer dialer
	conn   *zk.Conn
	group  *lifecycle.Group

	answerTimeout time.Duration

	mu        sync.Mutex
	sessions  map[int64]bool // that ever were ours
	state     state
	connected bool
	kept      bool          // the session that there was goes on when there is a connection again
	guarded   bool          // the session has a watch
	change    chan struct{} // closed and replaced at each change of state
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
	return open(c, net.DialTimeout, timeouts{handshakeTimeout, answerTimeout})
}

func open(c Config, dial zk.Dialer, bounds timeouts) (*Source, error) {
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
	s := &Source{layout: layout, dialer: dialer{dial: dial, handshake: bounds.handshake}, answerTimeout: bounds.answer, group: lifecycle.New(context.Background()),
		change: make(chan struct{}), sessions: make(map[int64]bool)}
	// The callback is told everything; the channel only what finds room in it.
	s.mu.Lock() // the callback waits until conn is set
	conn, events, err := zk.Connect(c.Servers, session, zk.WithLogger(quiet{}), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxResponse),
		zk.WithDialer(s.dialer.open), zk.WithEventCallback(s.observe))
	s.conn = conn
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("zookeeper: %w", err)
	}
	s.group.Go(func(context.Context) {
		for range events { // closed when the library has ended
		}
	})
	if c.User != "" {
		_, err := ask(context.Background(), s, func(conn *zk.Conn) (struct{}, error) {
			return struct{}{}, conn.AddAuth("digest", []byte(c.User+":"+c.Password))
		})
		if err != nil {
			s.Close()
			return nil, s.fail("authenticate", source.Key{}, err)
		}
	}
	return s, nil
}

// Close ends the session, with all watches and registrations. It takes a few seconds at most: a server that does not
// answer ends the session by itself.
func (s *Source) Close() {
	s.set(func(now *state) { now.closed = true })
	s.conn.Close()
	s.dialer.close()
	s.group.Stop()
}

// start runs f in a goroutine that Close waits for, unless the source is closed.
func (s *Source) start(f func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.closed {
		s.group.Go(f)
	}
	return !s.state.closed
}

// Name implements [source.Source].
func (s *Source) Name() string { return "zookeeper" }

// observe keeps the state; the library's connection waits meanwhile.
func (s *Source) observe(e zk.Event) {
	if e.Type != zk.EventSession {
		return
	}
	guard := false
	s.set(func(now *state) {
		switch e.State {
		case zk.StateHasSession:
			if !s.kept {
				now.session++
			}
			s.connected, s.kept, guard = true, true, !s.guarded
		case zk.StateExpired:
			s.connected, s.kept, s.guarded = false, false, false
			s.dialer.resume(false)
		case zk.StateDisconnected:
			s.connected = false
		}
	})
	if guard {
		now, _ := s.get()
		s.start(func(ctx context.Context) { s.guard(ctx, now.session) })
	}
}

// guard begins a session: it sets a watch on what is never there. So the library has one to set again after each loss of
// the connection, which [connection] can wait for.
func (s *Source) guard(ctx context.Context, session int64) {
	if _, err := s.watchExistence(ctx, "/"+rand.Text()); err != nil {
		return // the connection is lost, and the next one begins with this again
	}
	s.set(func(now *state) {
		if now.session == session && s.kept {
			s.guarded = true
			s.dialer.resume(true)
		}
	})
}

func (s *Source) set(f func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.state
	f(&s.state)
	s.state.up = s.connected && s.guarded && !s.state.closed
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
