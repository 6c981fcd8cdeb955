// Package push tells proxies what the snapshot has for them: delta ADS of the xDS protocol, on grpc-go. A resource is
// encoded once and its bytes are shared by all who get it. Stock xDS clients are told what is derived from the same, also in the
// protocol's older variant, in which responses are the whole state.
package push

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
)

const (
	// MaxResponse is how large a response gets, in bytes: what is more comes with the next one. Only a resource that is
	// larger by itself makes a larger one.
	MaxResponse = 1 << 20
	// ownBytes is what is in a response beside resources and removed names, at most.
	ownBytes = 64
	// MaxTopics is how many topics one stream may follow, unless told otherwise.
	MaxTopics = 65536
	// ReasonTopics is in the google.rpc.ErrorInfo of a stream that ended because it followed more than it may.
	ReasonTopics = "TOPICS_PER_STREAM"
)

// Node is whose stream it is, as it says itself in its first request.
type Node struct {
	ID string // the proxy's instance
	// Environment is the only one of which it may know.
	Environment string
}

// Observer learns what became of resources. Methods are called from many goroutines and must not block. What was
// told is not to be changed.
type Observer interface {
	// Applied tells that the node goes by what it was told now, or that it does so already: what was kept.
	Applied(n Node, u snapshot.Update)
	// Refused tells that it does not, and keeps what it had: why is in its own words.
	Refused(n Node, u snapshot.Update, why string)
}

// session is the state of one stream, without the stream. Receive and next may run at the same time.
type session struct {
	follower *snapshot.Follower
	node     Node
	observer Observer
	topics   int    // that it may follow
	stock    *stock // nil: a proxy of ours

	mu     sync.Mutex
	nonce  uint64
	open   *response // sent, and not acknowledged
	sentAt time.Time
	begun  [resource.Kinds]bool // a request of the kind has come
}

// response is one DeltaDiscoveryResponse or DiscoveryResponse, encoded.
type response struct {
	snapshot.Update
	nonce   string
	buffers mem.BufferSlice
}

// receive takes a request: an acknowledgement, a change of subscriptions, or both. An error ends the stream.
func (s *session) receive(r *discoveryv3.DeltaDiscoveryRequest) error {
	kind, err := s.kind(r.TypeUrl)
	if err != nil {
		return err
	}
	s.acknowledge(r.ResponseNonce, r.ErrorDetail)
	if s.stock != nil {
		return s.receiveDelta(kind, r)
	}
	have, err := s.initial(kind, r.InitialResourceVersions)
	if err != nil {
		return err
	}
	for _, name := range r.ResourceNamesUnsubscribe {
		if t, err := resource.ParseTopic(kind, name); err == nil {
			s.follower.Unsubscribe(t)
		}
	}
	for _, name := range r.ResourceNamesSubscribe {
		t, err := s.topic(kind, name)
		if err != nil {
			return err
		}
		s.follower.Subscribe(t, have[t])
	}
	return nil
}

// kind is the kind of a request. Proxies and stock clients have streams of their own: what the stream asked first decides.
func (s *session) kind(typeURL string) (kind resource.Kind, err error) {
	ok := false
	if s.stock == nil {
		kind, ok = resource.KindOf(typeURL)
	} else {
		kind, ok = resource.DerivedKindOf(typeURL)
	}
	if !ok {
		return 0, status.Errorf(codes.InvalidArgument, "type %q is not served on this stream", typeURL)
	}
	return kind, nil
}

// topic is the topic of a name, if the node may know of it.
func (s *session) topic(kind resource.Kind, name string) (resource.Topic, error) {
	t, err := resource.ParseTopic(kind, name)
	switch {
	case err != nil:
		return t, status.Error(codes.InvalidArgument, err.Error())
	case t.Environment != s.node.Environment:
		return t, status.Errorf(codes.PermissionDenied, "%q is of another environment than the proxy's, %q", name, s.node.Environment)
	case s.follower.Follows() >= s.topics:
		return t, tooMany(s.topics)
	}
	return t, nil
}

// tooMany says that a stream follows as many topics as it may.
func tooMany(limit int) error {
	st := status.Newf(codes.ResourceExhausted, "a proxy may follow %d topics, which is some %d targets: unfollow others first, or spread the applications over more proxies",
		limit, limit/int(resource.Kinds))
	with, err := st.WithDetails(&errdetails.ErrorInfo{
		Reason: ReasonTopics, Domain: "octomesh", Metadata: map[string]string{"limit": strconv.Itoa(limit)},
	})
	if err != nil {
		return st.Err()
	}
	return with.Err()
}

// initial sorts by topic the versions that a node says to have. They count in the first request of a kind.
func (s *session) initial(kind resource.Kind, versions map[string]string) (map[resource.Topic]map[string]string, error) {
	s.mu.Lock()
	first := !s.begun[kind]
	s.begun[kind] = true
	s.mu.Unlock()
	if !first || len(versions) == 0 {
		return nil, nil
	}
	have := make(map[resource.Topic]map[string]string)
	for full, version := range versions {
		t, err := resource.TopicOf(kind, full)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		if have[t] == nil {
			have[t] = make(map[string]string)
		}
		name, _ := t.LocalName(full)
		have[t][name] = version
	}
	return have, nil
}

// acknowledge takes the answer to the open response. A nonce of an earlier one says nothing.
func (s *session) acknowledge(nonce string, refused *rpcstatus.Status) {
	open := s.answered(nonce)
	if open == nil || s.observer == nil {
		return
	}
	if refused == nil {
		s.observer.Applied(s.node, open.Update)
	} else {
		s.observer.Refused(s.node, open.Update, refused.Message)
	}
}

// answered is the open response with a nonce, which is open no more.
func (s *session) answered(nonce string) *response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stock != nil {
		return s.stock.answered(nonce)
	}
	open := s.open
	if open == nil || nonce != open.nonce {
		return nil
	}
	s.open = nil
	return open
}

// next is the response to send now: none while one is not acknowledged, or if there is nothing to tell.
func (s *session) next(now time.Time) *response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stock != nil {
		return s.nextStock(now)
	}
	if s.open != nil {
		return nil
	}
	u, ok := s.follower.Take(MaxResponse - ownBytes)
	if len(u.Kept) > 0 && s.observer != nil {
		s.observer.Applied(s.node, snapshot.Update{Kind: u.Kind, Kept: u.Kept})
		u.Kept = nil
	}
	if !ok {
		return nil
	}
	s.nonce++
	s.open, s.sentAt = encode(u, strconv.FormatUint(s.nonce, 36)), now
	return s.open
}

// ready tells whether next may have something.
func (s *session) ready() bool {
	if s.stock != nil {
		return s.stock.news.Load()
	}
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	return open == nil && s.follower.Waiting()
}

// lag is the size of the response that is not acknowledged, 0 without one, and whether the node may not have the newest
// of all.
func (s *session) lag() (bytes int, behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stock != nil {
		bytes = s.stock.openBytes()
		return bytes, bytes > 0 || s.follower.Waiting()
	}
	if s.open == nil {
		return 0, s.follower.Waiting()
	}
	return s.open.buffers.Len(), true
}

// overdue tells how long the open response has waited, 0 without one.
func (s *session) overdue(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stock != nil {
		return s.stock.overdue(now)
	}
	if s.open == nil {
		return 0
	}
	return now.Sub(s.sentAt)
}

// Numbers of fields of DeltaDiscoveryResponse.
const (
	fieldTypeURL = 4
	fieldNonce   = 5
	fieldRemoved = 6
)

// encode puts a response together: what is its own, then the shared elements.
func encode(u snapshot.Update, nonce string) *response {
	own := make([]byte, 0, ownBytes)
	own = protowire.AppendTag(own, fieldTypeURL, protowire.BytesType)
	own = protowire.AppendString(own, u.Kind.TypeURL())
	own = protowire.AppendTag(own, fieldNonce, protowire.BytesType)
	own = protowire.AppendString(own, nonce)
	for _, name := range u.Removed {
		own = protowire.AppendTag(own, fieldRemoved, protowire.BytesType)
		own = protowire.AppendString(own, name)
	}
	r := &response{Update: u, nonce: nonce, buffers: make(mem.BufferSlice, 0, 1+len(u.Told))}
	r.buffers = append(r.buffers, mem.SliceBuffer(own))
	for _, told := range u.Told {
		r.buffers = append(r.buffers, mem.SliceBuffer(told.Resource.Element))
	}
	return r
}

// String describes a response for logs.
func (r *response) String() string {
	return fmt.Sprintf("%v: %d told, %d removed, %d bytes, nonce %s", r.Kind, len(r.Told), len(r.Removed), r.buffers.Len(), r.nonce)
}
