package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"
)

// answerTimeout is how long a call waits for its answer. A server answers in order, so that one which lets a call wait
// for so long has lost it, or answers nothing at all.
const answerTimeout = 10 * time.Second

var errNoAnswer = fmt.Errorf("the server does not answer, and its connection was given up: %w", zk.ErrConnectionClosed)

// ask makes one call of the library, which knows neither contexts nor timeouts. It returns when the answer is there,
// when ctx ends, or when the answer is late; then the connection is given up, which ends the call too, and the library
// connects again with the same session.
func ask[T any](ctx context.Context, s *Source, call func(*zk.Conn) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers, late := make(chan answer, 1), make(chan struct{})
	var none T
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	started := s.start(func(context.Context) {
		timer := time.AfterFunc(s.answerTimeout, func() {
			s.dialer.sever()
			close(late)
		})
		defer timer.Stop()
		value, err := call(s.conn)
		answers <- answer{value, err}
	})
	if !started {
		return none, zk.ErrClosing
	}
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-late:
		return none, errNoAnswer
	}
}

func (s *Source) children(ctx context.Context, path string) ([]string, error) {
	return ask(ctx, s, func(c *zk.Conn) ([]string, error) {
		names, _, err := c.Children(path)
		return names, err
	})
}

// content is what a node has.
type content struct {
	data []byte
	stat *zk.Stat
}

func (s *Source) read(ctx context.Context, path string) (content, error) {
	return ask(ctx, s, func(c *zk.Conn) (content, error) {
		data, stat, err := c.Get(path)
		return content{data, stat}, err
	})
}

// watched is what there is, and what tells when that changes.
type watched struct {
	there bool
	names []string
	next  <-chan zk.Event
}

// watchChildren is of a node that there is.
func (s *Source) watchChildren(ctx context.Context, path string) (watched, error) {
	return ask(ctx, s, func(c *zk.Conn) (watched, error) {
		names, _, next, err := c.ChildrenW(path)
		return watched{err == nil, names, next}, err
	})
}

// watchExistence is of a node that there may be.
func (s *Source) watchExistence(ctx context.Context, path string) (watched, error) {
	return ask(ctx, s, func(c *zk.Conn) (watched, error) {
		there, _, next, err := c.ExistsW(path)
		return watched{there, nil, next}, err
	})
}

// What changes the registry is waited for though its caller may have gone: its outcome matters. It ends in bounded time.

// create makes a node that stays; that there is one already is no error.
func (s *Source) create(path string) error {
	_, err := ask(context.Background(), s, func(c *zk.Conn) (string, error) {
		return c.Create(path, nil, 0, zk.WorldACL(zk.PermAll))
	})
	if errors.Is(err, zk.ErrNodeExists) {
		return nil
	}
	return err
}

// remove deletes a node; that there is none is no error.
func (s *Source) remove(path string) error {
	_, err := ask(context.Background(), s, func(c *zk.Conn) (struct{}, error) {
		return struct{}{}, c.Delete(path, -1)
	})
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	return err
}

// commit makes all changes or none.
func (s *Source) commit(ops []any) error {
	results, err := ask(context.Background(), s, func(c *zk.Conn) ([]zk.MultiResponse, error) {
		return c.Multi(ops...)
	})
	for _, r := range results {
		if r.Error != nil && !errors.Is(r.Error, zk.ErrUnknown) { // of those beside the one that failed
			return r.Error
		}
	}
	return err
}
