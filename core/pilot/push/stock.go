package push

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/octomesh/octomesh/core/pilot/derive"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
)

// stock is what a session has beside if its client is none of ours. The session's lock guards interests.
type stock struct {
	zone    string // where the client stands
	targets string // that it lists, as a variant of topics
	// state says that responses are the whole state of what is asked for, and not what is new.
	state bool
	asked [resource.AllKinds - resource.Kinds]asked
	open  [resource.AllKinds - resource.Kinds]sent // by kind
	// news says that something may have changed since it was last looked at what can be sent.
	news atomic.Bool
}

// sent is a response that is not acknowledged; of a kind without one it is nil.
type sent struct {
	*response
	at time.Time
}

// asked is what a client asks for of one kind.
type asked struct {
	begun bool // a request has come
	named bool // one of them named something: that nothing is named does not stand for everything any more
	names map[string]bool
	fresh []string // names of what has changed since the last response

	// The rest is for responses of the whole state, of kinds for which a resource that is not in one is gone.

	// awaited are names that the client may know from another stream, and of which it is not known yet whether there is
	// anything: until then nothing is sent.
	awaited map[string]bool
	told    map[string]*snapshot.Resource
}

// whole tells whether a response of the whole state has to have all resources of the kind.
func whole(k resource.Kind) bool { return k == resource.KindCluster || k == resource.KindListener }

// newStock looks at who asks first, and for what; nil: it is a proxy.
func newStock(n *corev3.Node, typeURL string, state bool) (*stock, error) {
	if _, derived := resource.DerivedKindOf(typeURL); !derived && !state {
		return nil, nil // a proxy, or who is refused as one
	}
	s := &stock{zone: n.GetLocality().GetZone(), state: state}
	if s.zone != "" && !resource.IsName(s.zone) {
		return nil, status.Errorf(codes.InvalidArgument, "the node's zone is not a name: %q", s.zone)
	}
	list := n.GetMetadata().GetFields()[derive.MetadataTargets].GetListValue().GetValues()
	if len(list) > derive.MaxTargets {
		return nil, status.Errorf(codes.InvalidArgument, "the node's metadata list %d targets under %q, and may list %d", len(list), derive.MetadataTargets, derive.MaxTargets)
	}
	names := make([]string, 0, len(list))
	for _, v := range list {
		if !resource.IsName(v.GetStringValue()) {
			return nil, status.Errorf(codes.InvalidArgument, "the node's metadata list under %q what is no target: %v", derive.MetadataTargets, v)
		}
		names = append(names, v.GetStringValue())
	}
	s.targets = derive.Targets(names)
	return s, nil
}

// limit bounds a response; 0: none goes now. Where it has to have all resources nothing can wait for the next one.
//
// Each kind waits for its own acknowledgement, not as with proxies for any: Envoy acknowledges clusters when it has heard of
// their endpoints. What leads to clusters waits for that, and clusters are removed when what led to them is acknowledged.
func (k *stock) limit(kind resource.Kind, removed bool) int {
	leads := kind == resource.KindListener || kind == resource.KindRouteConfiguration
	switch {
	case k.waits(kind), leads && k.waits(resource.KindCluster),
		removed && !leads && (k.waits(resource.KindListener) || k.waits(resource.KindRouteConfiguration)):
		return 0
	case k.state && whole(kind):
		return math.MaxInt
	}
	return MaxResponse - ownBytes
}

// waits tells whether a response of a kind is not acknowledged.
func (k *stock) waits(kind resource.Kind) bool { return k.open[kind-resource.Kinds].response != nil }

// answered is the open response with a nonce, which is open no more.
func (k *stock) answered(nonce string) *response {
	for i, open := range k.open {
		if open.response != nil && open.nonce == nonce {
			k.open[i] = sent{}
			return open.response
		}
	}
	return nil
}

// openBytes is the size of what is not acknowledged.
func (k *stock) openBytes() (n int) {
	for _, open := range k.open {
		if open.response != nil {
			n += open.buffers.Len()
		}
	}
	return n
}

// overdue is how long the oldest response has waited, 0 without one.
func (k *stock) overdue(now time.Time) (longest time.Duration) {
	for _, open := range k.open {
		if open.response != nil {
			longest = max(longest, now.Sub(open.at))
		}
	}
	return longest
}

// of is what is asked of a kind.
func (k *stock) of(kind resource.Kind) *asked { return &k.asked[kind-resource.Kinds] }

// topicOf is the topic of a name. Clients do not name their environment.
func (s *session) topicOf(kind resource.Kind, name string) resource.Topic {
	variant := ""
	switch {
	case derive.IsOfList(kind, name):
		variant = s.stock.targets
	case kind == resource.KindLoadAssignment:
		variant = s.stock.zone
	}
	return resource.DerivedTopic(kind, s.node.Environment, name, variant)
}

// subscribe begins to follow a name, or tells all of it again. have is which versions the client has, by name.
func (s *session) subscribe(kind resource.Kind, name string, have map[string]string) error {
	in := s.stock.of(kind)
	switch {
	case !resource.IsDerivedName(name):
		return status.Errorf(codes.InvalidArgument, "%v: a name is empty, too long or has a zero byte", kind)
	case !in.names[name] && s.follower.Follows() >= s.topics:
		return tooMany(s.topics)
	}
	t, of := s.topicOf(kind, name), map[string]string(nil)
	switch {
	case name == resource.Wildcard:
		of = have
	case have[name] != "":
		of = map[string]string{"": have[name]}
	}
	if in.names == nil {
		in.names = make(map[string]bool)
	}
	in.names[name] = true
	s.follower.Subscribe(t, of)
	return nil
}

// unsubscribe ends to follow a name. Who asks for everything too may have the resource by that, and is told it again.
func (s *session) unsubscribe(kind resource.Kind, name string) {
	in := s.stock.of(kind)
	if !in.names[name] {
		return
	}
	delete(in.names, name)
	delete(in.told, name)
	delete(in.awaited, name)
	s.follower.Unsubscribe(s.topicOf(kind, name))
	switch {
	case name == resource.Wildcard:
		maps.DeleteFunc(in.told, func(name string, _ *snapshot.Resource) bool { return !in.names[name] })
	case in.names[resource.Wildcard]:
		s.follower.Again(s.topicOf(kind, resource.Wildcard))
	}
}

// receiveDelta takes a request for what is new.
func (s *session) receiveDelta(kind resource.Kind, r *discoveryv3.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.stock.of(kind)
	subscribe, have := r.ResourceNamesSubscribe, map[string]string(nil)
	if !in.begun {
		in.begun, have = true, r.InitialResourceVersions
		if len(subscribe) == 0 && whole(kind) {
			subscribe = []string{resource.Wildcard}
		}
	}
	for _, name := range r.ResourceNamesUnsubscribe {
		s.unsubscribe(kind, name)
	}
	for _, name := range subscribe {
		if err := s.subscribe(kind, name, have); err != nil {
			return err
		}
	}
	return nil
}

// receiveState takes a request for the whole state: it names all that is to be followed from now on, whatever response
// it answers.
func (s *session) receiveState(r *discoveryv3.DiscoveryRequest) error {
	kind, err := s.kind(r.TypeUrl)
	if err != nil {
		return err
	}
	s.acknowledge(r.ResponseNonce, r.ErrorDetail)
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.stock.of(kind)
	names := r.ResourceNames
	if len(names) > 0 {
		in.named = true
	} else if !in.named && whole(kind) {
		names = []string{resource.Wildcard}
	}
	first := !in.begun
	in.begun = true
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(in.names)) {
		if !wanted[name] {
			s.unsubscribe(kind, name)
		}
	}
	if first && whole(kind) {
		in.told, in.awaited = make(map[string]*snapshot.Resource), maps.Clone(wanted)
	}
	for _, name := range names {
		if !in.names[name] {
			if err := s.subscribe(kind, name, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextStock is the response to send now, if there is one. The lock is held.
func (s *session) nextStock(now time.Time) *response {
	s.stock.news.Store(false)
	for {
		u, ok := s.follower.TakeDerived(s.stock.limit)
		if !ok {
			return nil
		}
		in := s.stock.of(u.Kind)
		for _, told := range u.Told {
			in.fresh = append(in.fresh, told.Topic.FullName(told.Resource.Name))
		}
		if s.stock.state && !s.gather(&u) {
			continue
		}
		if u.Kind == resource.KindCluster {
			s.assignAgain(in.fresh)
		}
		in.fresh = nil
		u.Removed = slices.DeleteFunc(u.Removed, func(name string) bool { return name == resource.Wildcard })
		s.nonce++
		nonce, r := strconv.FormatUint(s.nonce, 36), (*response)(nil)
		if s.stock.state {
			r = encodeState(u, nonce)
		} else {
			r = encode(u, nonce)
		}
		s.stock.open[u.Kind-resource.Kinds] = sent{r, now}
		return r
	}
}

// assignAgain tells the endpoints of clusters that have changed once more: Envoy does not use a changed cluster before it
// has heard of its endpoints anew, and does not ask for them.
func (s *session) assignAgain(clusters []string) {
	in := s.stock.of(resource.KindLoadAssignment)
	for _, name := range clusters {
		if in.names[name] {
			s.follower.Again(s.topicOf(resource.KindLoadAssignment, name))
		}
	}
}

// gather turns what is new into what the response of a whole state has. False: none goes now.
func (s *session) gather(u *snapshot.Update) bool {
	if !whole(u.Kind) {
		return len(u.Told) > 0 // that something is gone cannot be said
	}
	in := s.stock.of(u.Kind)
	for _, told := range u.Told {
		name, _ := told.Topic.Parts()
		delete(in.awaited, name)
		in.told[told.Topic.FullName(told.Resource.Name)] = told.Resource
	}
	for _, name := range u.Removed {
		delete(in.awaited, name)
		delete(in.told, name)
	}
	if len(in.awaited) > 0 {
		return false
	}
	u.Told = u.Told[:0]
	for _, name := range slices.Sorted(maps.Keys(in.told)) {
		u.Told = append(u.Told, snapshot.Told{Topic: s.topicOf(u.Kind, name), Resource: in.told[name]})
	}
	return true
}

// Numbers of fields of DiscoveryResponse.
const (
	stateVersion = 1
	stateTypeURL = 4
	stateNonce   = 5
)

// encodeState puts a response of the whole state together. Its version goes by what is in it.
func encodeState(u snapshot.Update, nonce string) *response {
	sum := sha256.New()
	for _, told := range u.Told {
		sum.Write([]byte(told.Topic.FullName(told.Resource.Name) + "\x00" + told.Resource.Version + "\x00"))
	}
	own := make([]byte, 0, 2*ownBytes)
	own = protowire.AppendTag(own, stateVersion, protowire.BytesType)
	own = protowire.AppendString(own, base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:9]))
	own = protowire.AppendTag(own, stateTypeURL, protowire.BytesType)
	own = protowire.AppendString(own, u.Kind.TypeURL())
	own = protowire.AppendTag(own, stateNonce, protowire.BytesType)
	own = protowire.AppendString(own, nonce)
	r := &response{Update: u, nonce: nonce, buffers: make(mem.BufferSlice, 0, 1+len(u.Told))}
	r.buffers = append(r.buffers, mem.SliceBuffer(own))
	for _, told := range u.Told {
		r.buffers = append(r.buffers, mem.SliceBuffer(told.Resource.State()))
	}
	return r
}
