package store

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// DefaultChanges is how many changes a [Memory] remembers for watches.
const DefaultChanges = 10_000

// Memory keeps all in the process, and forgets it with it. Make it with [NewMemory].
type Memory struct {
	limit int

	mu        sync.Mutex
	entries   map[string]Entry
	revision  int64
	compacted int64         // changes up to this revision are forgotten
	changes   []Event       // those after it, in order
	changed   chan struct{} // closed by the next commit that writes
}

// NewMemory makes an empty store that remembers some changes for watches, [DefaultChanges] if 0.
func NewMemory(changes int) *Memory {
	if changes <= 0 {
		changes = DefaultChanges
	}
	return &Memory{limit: changes, entries: make(map[string]Entry), changed: make(chan struct{})}
}

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[key]; ok {
		return e, ctx.Err()
	}
	return Entry{}, ErrNotFound
}

// List implements [Store].
func (m *Memory) List(ctx context.Context, prefix string) ([]Entry, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Entry
	for key, e := range m.entries {
		if strings.HasPrefix(key, prefix) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out, m.revision, ctx.Err()
}

// Newest implements [Store].
func (m *Memory) Newest(ctx context.Context, prefix string, limit int) ([]Entry, error) {
	out, _, err := m.List(ctx, prefix)
	slices.SortStableFunc(out, func(a, b Entry) int { return int(b.Revision - a.Revision) })
	return out[:min(len(out), limit)], err
}

// Commit implements [Store].
func (m *Memory) Commit(ctx context.Context, ops ...Op) (int64, error) {
	if err := Check(ops); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		if have := m.entries[op.Key].Revision; op.Expect != Any && op.Expect != have {
			return 0, &ConflictError{op.Key, op.Expect, have}
		}
	}
	next, before := m.revision+1, len(m.changes)
	for _, op := range ops {
		_, there := m.entries[op.Key]
		switch {
		case op.Keep || op.Delete && !there:
			continue
		case op.Delete:
			delete(m.entries, op.Key)
			m.changes = append(m.changes, Event{Entry{Key: op.Key, Revision: next}, true})
		default:
			e := Entry{op.Key, slices.Clone(op.Value), next}
			m.entries[op.Key] = e
			m.changes = append(m.changes, Event{e, false})
		}
	}
	if len(m.changes) == before {
		return m.revision, nil
	}
	m.revision = next
	m.forget()
	close(m.changed)
	m.changed = make(chan struct{})
	return m.revision, nil
}

// forget drops the oldest changes beyond the limit, whole commits at a time.
func (m *Memory) forget() {
	if len(m.changes) <= m.limit+m.limit/4 { // not one by one: each time moves the rest
		return
	}
	m.compact(m.changes[len(m.changes)-m.limit-1].Revision)
}

func (m *Memory) compact(revision int64) {
	m.compacted = max(m.compacted, revision)
	m.changes = slices.DeleteFunc(m.changes, func(e Event) bool { return e.Revision <= revision })
}

// Compact forgets the changes up to a revision, so that watches from before it end.
func (m *Memory) Compact(_ context.Context, revision int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compact(min(revision, m.revision))
	return nil
}

// Watch implements [Store].
func (m *Memory) Watch(ctx context.Context, prefix string, after int64, yield func(Batch) error) error {
	for {
		batch, changed, err := m.since(prefix, after)
		if err != nil {
			return err
		}
		after = max(after, batch.Revision)
		if len(batch.Events) > 0 {
			if err := yield(batch); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// since is what has changed after a revision, and what is closed when more has.
func (m *Memory) since(prefix string, after int64) (Batch, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if after < m.compacted {
		return Batch{}, nil, ErrCompacted
	}
	b := Batch{Revision: m.revision}
	first, _ := slices.BinarySearchFunc(m.changes, after+1, func(e Event, r int64) int { return int(e.Revision - r) })
	for _, e := range m.changes[first:] {
		if strings.HasPrefix(e.Key, prefix) {
			b.Events = append(b.Events, e)
		}
	}
	return b, m.changed, nil
}
