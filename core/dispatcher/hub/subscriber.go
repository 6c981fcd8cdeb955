package hub

import (
	"context"
	"sync"

	"github.com/octomesh/octomesh/core/dispatcher/source"
)

// Subscriber follows keys and takes what is new of them, key by key. What it holds is bounded by the number of keys: it
// is told the newest snapshot of each, however many there were.
type Subscriber struct {
	hub   *Hub
	ready chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	closed  bool
	follows map[source.Key]*following
	queue   []*following
}

// following is one subscriber's interest in one key.
type following struct {
	subscriber *Subscriber
	entry      *entry
	// The subscriber's lock guards these.
	taken  *Snapshot
	queued bool
	gone   bool
}

// Subscribe makes a subscriber that follows nothing yet. Close it.
func (h *Hub) Subscribe() *Subscriber {
	return &Subscriber{hub: h, ready: make(chan struct{}, 1), done: make(chan struct{}), follows: make(map[source.Key]*following)}
}

// Follow begins to follow a key; what is known of it is told at once. To do it again changes nothing. It fails for a
// name that cannot be, a key that has no registry, and when the hub or the subscriber is closed.
func (s *Subscriber) Follow(key source.Key) error {
	s.mu.Lock()
	_, has := s.follows[key]
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if has {
		return nil
	}
	f, err := s.hub.follow(s, key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	late := s.closed || s.follows[key] != nil // somebody did the same meanwhile, or closed
	if !late {
		s.follows[key] = f
	}
	closed = s.closed
	s.mu.Unlock()
	if late {
		f.drop()
	}
	if closed {
		return ErrClosed
	}
	return nil
}

// Unfollow ends it. Nothing more is told of the key.
func (s *Subscriber) Unfollow(key source.Key) {
	s.mu.Lock()
	f := s.follows[key]
	delete(s.follows, key)
	s.mu.Unlock()
	if f != nil {
		f.drop()
	}
}

// Close ends all followings. A Next that waits returns ErrClosed.
func (s *Subscriber) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.done)
	follows := s.follows
	s.follows = nil
	s.mu.Unlock()
	for _, f := range follows {
		f.drop()
	}
}

// Next waits until there is news of a key, and takes them. Call it from one goroutine at a time.
func (s *Subscriber) Next(ctx context.Context) (Update, error) {
	for {
		if u, ok := s.Take(); ok {
			return u, nil
		}
		select {
		case <-ctx.Done():
			return Update{}, ctx.Err()
		case <-s.done:
			return Update{}, ErrClosed
		case <-s.hub.group.Context().Done():
			return Update{}, ErrClosed
		case <-s.ready:
		}
	}
}

// Take is Next that does not wait; ok is false if there are no news.
func (s *Subscriber) Take() (u Update, ok bool) {
	for {
		f := s.first()
		if f == nil {
			return u, false
		}
		now := f.entry.snapshot()
		s.mu.Lock()
		before := f.taken
		if f.gone || before == now {
			s.mu.Unlock()
			continue
		}
		f.taken = now
		s.mu.Unlock()
		return Update{Key: f.entry.key, Before: before, Now: now}, true
	}
}

// first takes the first of the queue out of it.
func (s *Subscriber) first() *following {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.queue = nil
		return nil
	}
	f := s.queue[0]
	s.queue = s.queue[1:]
	f.queued = false
	return f
}

// mark notes that there is a new snapshot.
func (f *following) mark() {
	s := f.subscriber
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.queued || f.gone {
		return
	}
	f.queued = true
	s.queue = append(s.queue, f)
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (f *following) drop() {
	f.subscriber.mu.Lock()
	f.gone = true
	f.subscriber.mu.Unlock()
	f.entry.part(f)
}
