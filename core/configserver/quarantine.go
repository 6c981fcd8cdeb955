package configserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
)

// What a proxy has refused, or crashed with, is remembered by its content, so that nobody brings it back by mistake.
const (
	quarantinePrefix = "config/quarantine/"
	maxQuarantine    = 16 // of a resource; the oldest go
)

// contentOf tells contents apart.
func contentOf(c *resourcev1.Configuration, deleted bool) string {
	if deleted {
		return "deleted"
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(content(c, nil))
	if err != nil {
		return "unserializable: " + err.Error()
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

func (s *Service) quarantined(ctx context.Context, environment, name string) (*configv1.Quarantine, int64, error) {
	q := &configv1.Quarantine{}
	e, err := s.store.Get(ctx, quarantinePrefix+keyOf(environment, name))
	if errors.Is(err, store.ErrNotFound) {
		return q, 0, nil
	}
	if err != nil {
		return nil, 0, storeError(err)
	}
	return q, e.Revision, proto.Unmarshal(e.Value, q)
}

// quarantine is what remembers a candidate that came to a bad end.
func (s *Service) quarantine(ctx context.Context, environment, name string, r *configv1.Rollout, c *configv1.Candidate, why string, now time.Time,
) (store.Op, error) {
	q, at, err := s.quarantined(ctx, environment, name)
	if err != nil {
		return store.Op{}, err
	}
	hash := contentOf(c.GetResource(), c.GetDeleted())
	q.Contents = slices.DeleteFunc(q.Contents, func(b *configv1.Quarantine_Content) bool { return b.GetHash() == hash })
	q.Contents = append(q.Contents, &configv1.Quarantine_Content{
		Hash: hash, Revision: c.GetRevision(), Rollout: r.GetId(), Why: why, Time: timestamppb.New(now),
	})
	q.Contents = q.Contents[max(0, len(q.Contents)-maxQuarantine):]
	value, err := proto.Marshal(q)
	return store.Op{Key: quarantinePrefix + keyOf(environment, name), Expect: at, Value: value}, err
}

// acquit forgets what went well after all; no op: there is nothing to forget.
func (s *Service) acquit(ctx context.Context, environment, name string, c *configv1.Candidate) ([]store.Op, error) {
	q, at, err := s.quarantined(ctx, environment, name)
	if err != nil {
		return nil, err
	}
	before, hash := len(q.Contents), contentOf(c.GetResource(), c.GetDeleted())
	q.Contents = slices.DeleteFunc(q.Contents, func(b *configv1.Quarantine_Content) bool { return b.GetHash() == hash })
	if len(q.Contents) == before {
		return nil, nil
	}
	value, err := proto.Marshal(q)
	return []store.Op{{Key: quarantinePrefix + keyOf(environment, name), Expect: at, Value: value}}, err
}

// refused tells whether a wish is what proxies have refused before.
func (s *Service) refused(ctx context.Context, c *change, w wish) error {
	if c.force {
		return nil
	}
	q, _, err := s.quarantined(ctx, c.environment, w.name)
	if err != nil {
		return err
	}
	hash := contentOf(w.resource, w.remove)
	for _, b := range q.GetContents() {
		if b.GetHash() == hash {
			return status.Errorf(codes.FailedPrecondition,
				"%s: this is what revision %d was, and roll-out %d was reverted: %s. Change it, or say --force. Nothing was written",
				label(c.environment, w.name), b.GetRevision(), b.GetRollout(), b.GetWhy())
		}
	}
	return nil
}
