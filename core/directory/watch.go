package directory

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// Targets is what is known of targets in the service's environment.
type Targets interface {
	// Follow begins to follow a target. changed is called, from any goroutine and maybe with locks held, whenever a look
	// may show something else than the one before, its staleness too; it does not block. It fails if nobody can follow it.
	Follow(target string, changed func()) (Followed, error)
}

// Followed is a target that is followed.
type Followed interface {
	// Look returns what is known by now.
	Look() *View
	// Close ends it. changed is not called any more once it has returned.
	Close()
}

// Watch answers a Watch: it sends a snapshot at once, and one after each change, until ctx ends or send fails. What changes
// while send waits for a slow caller is in the next snapshot, however much it is.
func (s *Service) Watch(ctx context.Context, c Caller, r *directoryv1.WatchRequest, send func(*directoryv1.WatchResponse) error) error {
	if err := s.checkEnvironment(r.GetEnvironment()); err != nil {
		return err
	}
	if !resource.IsName(r.GetTarget()) {
		return s.refuse(wire.InvalidArgument, "target %q: no target is called so", r.GetTarget())
	}
	leave, refused := s.admit(c, false)
	if refused != nil {
		return refused
	}
	defer leave()
	news := make(chan struct{}, 1)
	t, err := s.cfg.Targets.Follow(r.GetTarget(), func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return &Error{Code: wire.ResourceExhausted, Message: err.Error(), RetryAfter: full}
	}
	defer t.Close()
	defer s.cfg.Presence.Watch(c.Process(), r)()
	application := r.GetApplication()
	if application == "" {
		application = c.Application
	}
	var before *directoryv1.WatchResponse
	for {
		v := t.Look()
		now := v.response(s.cfg.Source, application, r.GetNode())
		now.Environment, now.Target = s.cfg.Environment, r.GetTarget()
		if before == nil || differ(before, now) {
			if err := send(now); err != nil {
				return err
			}
			s.stats.snapshots.Add(1)
			before = now
		}
		select {
		case <-news:
		case <-ctx.Done():
			return &Error{Code: wire.Cancelled, Message: "the watch is over"}
		}
	}
}

// differ tells whether two snapshots of one stream differ in more than their age.
func differ(a, b *directoryv1.WatchResponse) bool {
	return a.State != b.State || a.Stale != b.Stale || a.EndpointsRevision != b.EndpointsRevision ||
		a.DirectForbidden != b.DirectForbidden || a.DeletedReason != b.DeletedReason || !proto.Equal(a.MeshSwitch, b.MeshSwitch)
}

// StaleAfter is how old knowledge may be until callers are told that it is stale, and ask somebody else too.
const StaleAfter = 10 * time.Second
