package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// separator stands between an instance and the version of its endpoint. No escaped name holds it.
const separator = "~"

// rereads is how often a list is read again before it is told although it is out of date already.
const rereads = 10

// node is a child that was read.
type node struct {
	instance string
	born     int64 // the transaction that made it
	endpoint *resourcev1.Endpoint
	err      error // it cannot be used
}

// watch is one watch of one key.
type watch struct {
	source  *Source
	key     source.Key
	path    string
	session int64
	emit    func(source.Event)
	nodes   map[string]*node // by name
	shown   map[string]*resourcev1.Endpoint
	refused map[string]bool
	told    bool
	again   int // lists in a row that were out of date before they were read
	up      bool
}

// Watch implements [source.Source]. It ends as lost with the session: then watches are gone in the server too.
func (s *Source) Watch(ctx context.Context, key source.Key, emit func(source.Event)) error {
	if err := key.Check(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	session, err := s.ready(ctx)
	if err == nil {
		w := &watch{source: s, key: key, path: s.layout.Target(key), session: session, emit: emit, nodes: make(map[string]*node), up: true,
			shown: make(map[string]*resourcev1.Endpoint), refused: make(map[string]bool)}
		for err == nil {
			var next <-chan zk.Event
			if next, err = w.read(ctx); err == nil {
				err = w.wait(ctx, next)
			}
			if errors.Is(err, zk.ErrConnectionClosed) && w.told { // it reconnects by itself, and keeps the session if it can
				err = w.wait(ctx, nil)
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.fail("watch", key, err)
}

// read reads what changed, tells it, and sets the next watch.
func (w *watch) read(ctx context.Context) (<-chan zk.Event, error) {
	now, err := w.source.watchChildren(ctx, w.path)
	if errors.Is(err, zk.ErrNoNode) {
		if now, err = w.source.watchExistence(ctx, w.path); now.there {
			return closed(), err // it came meanwhile: read again
		}
	}
	if err != nil {
		return nil, err
	}
	nodes := make(map[string]*node, len(now.names))
	for _, name := range now.names {
		n := w.nodes[name]
		if n == nil {
			if n, err = w.node(ctx, name); err != nil {
				return nil, err
			}
		}
		if n == nil {
			if w.again++; w.again < rereads { // replaced, maybe: the next list has what came in its place
				w.nodes = merged(w.nodes, nodes)
				return closed(), nil
			}
			continue
		}
		nodes[name] = n
	}
	w.nodes, w.again = nodes, 0
	w.tell()
	return now.next, nil
}

// merged keeps what was read for the next time.
func merged(a, b map[string]*node) map[string]*node {
	maps.Copy(a, b)
	return a
}

// closed is a watch that has fired.
func closed() <-chan zk.Event {
	c := make(chan zk.Event)
	close(c)
	return c
}

// node reads one child; nil: it is gone again.
func (w *watch) node(ctx context.Context, name string) (*node, error) {
	there, err := w.source.read(ctx, w.path+"/"+name)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	segment, version, ok := strings.Cut(name, separator)
	n := &node{instance: name, born: there.stat.Czxid}
	_, instance, err := w.source.layout.Parse(w.path + "/" + segment)
	switch {
	case err != nil:
		n.err = err
	case !ok || version == "":
		n.err = fmt.Errorf("node %q has no %q and version behind the instance", name, separator)
	default:
		n.instance = instance
		n.endpoint, n.err = source.Decode(w.key, instance, there.data)
	}
	return n, nil
}

// tell says what the nodes come to.
func (w *watch) tell() {
	now, youngest := make(map[string]*resourcev1.Endpoint, len(w.nodes)), make(map[string]*node, len(w.nodes))
	for _, n := range w.nodes {
		if y := youngest[n.instance]; y == nil || y.born < n.born {
			youngest[n.instance] = n
		}
	}
	var refused []source.Refusal
	bad := make(map[string]bool)
	for instance, n := range youngest {
		if n.err == nil {
			now[instance] = n.endpoint
			continue
		}
		bad[instance] = true
		if !w.refused[instance] || !w.told {
			refused = append(refused, source.Refusal{Instance: instance, Err: n.err})
		}
		if before := w.shown[instance]; before != nil {
			now[instance] = before // what was known still holds
		}
	}
	event, changed := source.Diff(w.shown, now)
	for instance := range w.refused { // what was refused and is gone was never shown, or Diff has it
		if youngest[instance] == nil && w.shown[instance] == nil {
			event.Removed, changed = append(event.Removed, source.Removal{Instance: instance}), true
		}
	}
	event.Refused = refused
	if !w.told {
		event.Kind = source.Full
	}
	if changed || len(refused) > 0 || !w.told {
		w.emit(event)
	}
	w.shown, w.refused, w.told = now, bad, true
}

// wait waits until the children changed, and tells of the connection meanwhile. Without a watch it waits until the
// connection is back.
func (w *watch) wait(ctx context.Context, next <-chan zk.Event) error {
	for {
		now, change := w.source.get()
		switch {
		case now.closed:
			return zk.ErrClosing
		case now.session != w.session:
			return zk.ErrSessionExpired
		case now.up != w.up:
			w.up = now.up
			kind := source.Suspended
			if now.up {
				kind = source.Resumed // the client has set the watches again by then, or does now
			}
			w.emit(source.Event{Kind: kind})
		}
		if next == nil && now.up {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-change:
		case e := <-next:
			return e.Err
		}
	}
}
