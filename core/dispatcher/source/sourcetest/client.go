package sourcetest

import (
	"context"
	"errors"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// memoryLease is a registration.
type memoryLease struct {
	client   *MemoryClient
	key      source.Key
	instance string
	lost     func()
	left     bool
}

// take makes an instance a lease's; another one that had it is lost. The lock is held.
func (m *Memory) take(k *memoryKey, instance string, by *memoryLease) {
	if before := k.owners[instance]; before != nil && before != by && !before.left {
		before.left = true
		before.lost()
	}
	if by == nil {
		delete(k.owners, instance)
	} else {
		k.owners[instance] = by
	}
}

// MemoryClient is one that registers in a [Memory].
type MemoryClient struct {
	*Memory
	// OnRegister is asked before each change of a registration; an error is what the client says then. Nil: all may be.
	OnRegister func(ctx context.Context, key source.Key, e *resourcev1.Endpoint) error

	leases  []*memoryLease
	attends bool
}

// Client makes one.
func (m *Memory) Client() *MemoryClient { return &MemoryClient{Memory: m} }

// Attend implements [source.Keeper]. Nothing comes of it; Attends tells.
func (c *MemoryClient) Attend(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attends = on
}

// Attends tells what Attend was told last.
func (c *MemoryClient) Attends() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attends
}

// Register implements [source.Registrar]. Leases end by [MemoryClient.Crash] alone.
func (c *MemoryClient) Register(ctx context.Context, key source.Key, e *resourcev1.Endpoint, _ time.Duration, lost func()) (source.Registration, error) {
	return c.register(ctx, key, e, lost, false)
}

// Reclaim implements [source.Registrar].
func (c *MemoryClient) Reclaim(ctx context.Context, key source.Key, e *resourcev1.Endpoint, _ time.Duration, lost func()) (source.Registration, error) {
	return c.register(ctx, key, e, lost, true)
}

func (c *MemoryClient) ask(ctx context.Context, key source.Key, e *resourcev1.Endpoint) error {
	if c.OnRegister == nil {
		return nil
	}
	return c.OnRegister(ctx, key, e)
}

func (c *MemoryClient) register(ctx context.Context, key source.Key, e *resourcev1.Endpoint, lost func(), again bool) (source.Registration, error) {
	if _, err := source.Encode(key, e); err != nil {
		return nil, err
	}
	if err := c.ask(ctx, key, e); err != nil {
		return nil, err
	}
	l := &memoryLease{client: c, key: key, instance: e.GetInstance(), lost: lost}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.at(key)
	owner := k.owners[l.instance]
	if there := k.endpoints[l.instance]; there != nil && !source.Yields(there, e, again, owner != nil && owner.client == c) {
		return nil, &source.Error{Kind: source.Superseded, Source: c.Name(), Op: "register", Key: key, Err: errors.New("somebody else has it")}
	}
	c.leases = append(c.leases, l)
	c.take(k, l.instance, l)
	k.endpoints[l.instance] = e
	c.tell(k, source.Event{Kind: source.Change, Endpoints: []*resourcev1.Endpoint{e}})
	return l, nil
}

// Remove implements [source.Registrar].
func (c *MemoryClient) Remove(ctx context.Context, key source.Key, e *resourcev1.Endpoint) error {
	if err := c.ask(ctx, key, e); err != nil {
		return err
	}
	c.mu.Lock()
	there := c.at(key).endpoints[e.GetInstance()]
	c.mu.Unlock()
	if there != nil && source.Same(there, e) {
		c.Memory.Remove(key, source.Deregistered, e.GetInstance())
	}
	return nil
}

// Crash ends all leases of the client, as if it had died.
func (c *MemoryClient) Crash() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.leases {
		if k := c.at(l.key); !l.left {
			c.take(k, l.instance, nil)
			delete(k.endpoints, l.instance)
			c.tell(k, source.Event{Kind: source.Change, Removed: []source.Removal{{Instance: l.instance, Reason: source.Expired}}})
		}
	}
}

// Update implements [source.Registration].
func (l *memoryLease) Update(ctx context.Context, e *resourcev1.Endpoint) error {
	if _, err := source.Encode(l.key, e); err != nil {
		return err
	}
	if e.GetInstance() != l.instance {
		return &source.Error{Kind: source.Invalid, Source: l.client.Name(), Op: "update", Key: l.key, Err: errors.New("its instance cannot change")}
	}
	if err := l.client.ask(ctx, l.key, e); err != nil {
		return err
	}
	m := l.client.Memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.left {
		return &source.Error{Kind: source.Lost, Source: m.Name(), Op: "update", Key: l.key, Err: errors.New("it is not registered any more")}
	}
	k := m.at(l.key)
	k.endpoints[l.instance] = e
	m.tell(k, source.Event{Kind: source.Change, Endpoints: []*resourcev1.Endpoint{e}})
	return nil
}

// Deregister implements [source.Registration].
func (l *memoryLease) Deregister(ctx context.Context) error {
	return l.end(ctx, source.Deregistered)
}

// Abandon implements [source.Registration].
func (l *memoryLease) Abandon(ctx context.Context) error { return l.end(ctx, source.Expired) }

func (l *memoryLease) end(ctx context.Context, why source.Reason) error {
	if err := l.client.ask(ctx, l.key, nil); err != nil {
		return err
	}
	m := l.client.Memory
	m.mu.Lock()
	gone := l.left
	l.left = true
	m.mu.Unlock()
	if !gone {
		m.Remove(l.key, why, l.instance)
	}
	return nil
}
