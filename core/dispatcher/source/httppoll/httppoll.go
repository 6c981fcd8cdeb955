// Package httppoll is a registry behind plain HTTP, which is asked again and again. It is the example of
// docs/guides/registry-adapter.md: the least that an adapter is.
//
// GET <URL>/<environment>/<target>, with segments as [source.Layout] writes them, answers 200 with a Snapshot as
// protobuf's JSON, {"endpoints": [...]}, or 404 for a target that nobody knows.
package httppoll

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 16 << 20

// Source is such a registry.
type Source struct {
	// URL is where it is, without a slash at the end.
	URL string
	// Every is how often each key is asked for. 0: 5 s.
	Every time.Duration
	// Client bounds how long an answer may take. Nil: 5 s.
	Client *http.Client
}

// Name implements [source.Source].
func (s *Source) Name() string { return "httppoll" }

// Watch implements [source.Source]. Why an instance is gone the registry does not say.
func (s *Source) Watch(ctx context.Context, key source.Key, emit func(source.Event)) error {
	if err := key.Check(); err != nil {
		return err
	}
	known, refused, err := s.get(ctx, key, nil)
	if err != nil {
		return err // the hub decides when to try again
	}
	full, _ := source.Diff(nil, known)
	full.Kind, full.Refused = source.Full, refused
	emit(full)
	every := s.Every
	if every <= 0 {
		every = 5 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	suspended := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now, refused, err := s.get(ctx, key, known)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if failed := err != nil; failed != suspended { // what is known stays, and is said to be old
			suspended = failed
			kind := source.Resumed
			if failed {
				kind = source.Suspended
			}
			emit(source.Event{Kind: kind})
		}
		if err != nil {
			continue
		}
		if change, ok := source.Diff(known, now); ok || len(refused) > 0 {
			change.Refused = refused
			emit(change)
		}
		known = now
	}
}

// get asks once. An endpoint that cannot be used is refused, and what was known of its instance holds.
func (s *Source) get(ctx context.Context, key source.Key, known map[string]*resourcev1.Endpoint) (now map[string]*resourcev1.Endpoint, refused []source.Refusal, err error) {
	snapshot, err := s.ask(ctx, key)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return nil, nil, &source.Error{Kind: source.Unavailable, Source: s.Name(), Op: "get", Key: key, Err: err}
	}
	now = make(map[string]*resourcev1.Endpoint)
	for _, e := range snapshot.GetEndpoints() {
		err := source.CheckEndpoint(key, e)
		if now[e.GetInstance()] != nil {
			err = errors.New("the instance stands there twice")
		}
		if err == nil {
			now[e.GetInstance()] = e
			continue
		}
		refused = append(refused, source.Refusal{Instance: e.GetInstance(), Err: err})
		if old := known[e.GetInstance()]; old != nil && now[e.GetInstance()] == nil {
			now[e.GetInstance()] = old
		}
	}
	return now, refused, nil
}

func (s *Source) ask(ctx context.Context, key source.Key) (*resourcev1.Snapshot, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.URL, "/")+source.Layout{}.Target(key), nil)
	if err != nil {
		return nil, err
	}
	client := s.Client
	if client == nil {
		client = &http.Client{Timeout: 5 * time.Second}
	}
	r, err := client.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	snapshot := &resourcev1.Snapshot{}
	switch {
	case err != nil:
		return nil, err
	case r.StatusCode == http.StatusNotFound:
		return snapshot, nil
	case r.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %s", r.Status)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("it answers more than %d bytes", maxAnswer)
	}
	return snapshot, (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, snapshot)
}
