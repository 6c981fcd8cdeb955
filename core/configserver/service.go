// Package configserver keeps environments' configurations: it checks what operators write, keeps who changed what and why,
// and tells Pilots.
package configserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport/identity"
)

const (
	// DefaultHistory is how many versions History returns to one who does not say.
	DefaultHistory = 20
	// MaxHistory is how many it returns at most.
	MaxHistory = 1000
	// MaxPage is how many resources a page of a list has at most.
	MaxPage = 1000
	// MaxRolledOut is how many resources may go in waves together.
	MaxRolledOut = 30
	// DefaultKept is how many versions of a resource are kept.
	DefaultKept = 100
	// MaxResources is how many resources an environment may have.
	MaxResources = 200_000
	// MaxEnvironment is how large an environment's resources may be together, in bytes as they are kept.
	MaxEnvironment = 256 << 20
	// MaxFiles is how large the files of one request may be together, in bytes: with the revisions of a preview they
	// stay below what a gRPC server takes.
	MaxFiles = 3 << 19

	// registryPatience is how long registries may take to say whether they know what a change refers to.
	registryPatience = 3 * time.Second

	maxReason = 1000 // bytes
	maxAuthor = 255
	attempts  = 5 // at a commit that others overtake
)

// Service implements octo.config.v1.Config. Make it with [New].
type Service struct {
	configv1.UnimplementedConfigServer
	store store.Store
	now   func() time.Time
	log   *slog.Logger
	may   func(identity.ID) error
	cfg   Config
}

// Config is a service's.
type Config struct {
	Store store.Store
	// Election chooses who moves roll-outs on, among all Config Servers of the store. nil: this one does.
	Election Election
	// Pace is how roll-outs are watched.
	Pace Pace
	// Kept is how many versions of a resource are kept. 0: [DefaultKept].
	Kept int
	// Now is the clock. nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
	// Registries tells whether a registry knows instances of a target. nil: nobody can say, and a route to a target that no
	// resource knows is only warned of.
	Registries func(ctx context.Context, environment, target string) (bool, error)
	// Fleet finds all Pilots and Directories, to ask who runs where and what was measured. nil: there are none.
	Fleet func(context.Context) ([]Part, error)
	// MayObserve tells whether whom TLS has proved may say what becomes of roll-outs: Pilots. nil: everybody may.
	MayObserve func(identity.ID) error
	// MayWrite tells whether whom TLS has proved may change something; who connects without TLS may. nil: everybody may.
	MayWrite func(identity.ID) error
}

// New makes a service.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MayWrite == nil {
		c.MayWrite = func(identity.ID) error { return nil }
	}
	if c.MayObserve == nil {
		c.MayObserve = func(identity.ID) error { return nil }
	}
	if c.Kept == 0 {
		c.Kept = DefaultKept
	}
	c.Pace = c.Pace.withDefaults()
	return &Service{store: c.Store, now: c.Now, log: c.Log, may: c.MayWrite, cfg: c}
}

// Register adds the services to a gRPC server.
func (s *Service) Register(g grpc.ServiceRegistrar) {
	configv1.RegisterConfigServer(g, s)
	configv1.RegisterMeshServer(g, Mesh{Service: s})
}

// kept is a version as it stands in the store.
type kept struct {
	*configv1.Version
	at   int64 // the store's revision of the key; 0: it never was there
	size int   // bytes
}

// live tells whether there is a resource.
func (k kept) live() bool { return k.Version != nil && !k.GetDeleted() }

// revision of a live resource; 0: there is none.
func (k kept) revision() uint64 {
	if !k.live() {
		return 0
	}
	return k.GetRevision()
}

func decode(e store.Entry) (kept, error) {
	v := &configv1.Version{}
	if err := proto.Unmarshal(e.Value, v); err != nil {
		return kept{}, status.Errorf(codes.DataLoss, "key %q of the store is no version of a resource: %v", e.Key, err)
	}
	if v.StoreRevision == 0 { // else it was written again for the sake of its candidate
		v.StoreRevision = uint64(e.Revision)
	}
	if c := v.GetCandidate(); c != nil && c.StoreRevision == 0 {
		c.StoreRevision = uint64(e.Revision)
	}
	return kept{v, e.Revision, len(e.Value)}, nil
}

// current reads a resource, also a deleted one.
func (s *Service) current(ctx context.Context, environment, name string) (kept, error) {
	e, err := s.store.Get(ctx, currentKey(environment, name))
	if errors.Is(err, store.ErrNotFound) {
		return kept{}, nil
	}
	if err != nil {
		return kept{}, storeError(err)
	}
	return decode(e)
}

// all reads the resources of an environment, deleted ones too, by name.
func (s *Service) all(ctx context.Context, environment, kind string) (map[string]kept, int64, error) {
	return s.list(ctx, currentPrefix+below(environment, kind))
}

// list reads the resources whose keys begin with a prefix, by name.
func (s *Service) list(ctx context.Context, prefix string) (map[string]kept, int64, error) {
	entries, at, err := s.store.List(ctx, prefix)
	if err != nil {
		return nil, 0, storeError(err)
	}
	out := make(map[string]kept, len(entries))
	for _, e := range entries {
		k, err := decode(e)
		if err != nil {
			return nil, 0, err
		}
		out[k.GetName()] = k
	}
	return out, at, nil
}

// Get implements the service.
func (s *Service) Get(ctx context.Context, r *configv1.GetRequest) (*configv1.GetResponse, error) {
	if err := check(r.GetEnvironment(), r.GetName()); err != nil {
		return nil, err
	}
	v, err := s.version(ctx, r.GetEnvironment(), r.GetName(), r.GetRevision())
	if err != nil {
		return nil, err
	}
	return &configv1.GetResponse{Version: v}, nil
}

// version reads one version of a resource; 0: the newest, unless it is deleted.
func (s *Service) version(ctx context.Context, environment, name string, revision uint64) (*configv1.Version, error) {
	k, err := s.current(ctx, environment, name)
	switch {
	case err != nil:
		return nil, err
	case k.Version == nil:
		return nil, status.Errorf(codes.NotFound, "%s is not in environment %s", name, environment)
	case revision == 0 && k.GetDeleted() && k.GetCandidate() != nil:
		return nil, status.Errorf(codes.NotFound, "%s is not there yet: roll-out %d brings it", name, k.GetCandidate().GetRollout())
	case revision == 0 && k.GetDeleted():
		return nil, status.Errorf(codes.NotFound, "%s %s; its history is kept", name, changedBy(k.Version))
	case revision == 0 || revision == k.GetRevision():
		return k.Version, nil
	}
	e, err := s.store.Get(ctx, historyKey(environment, name, revision))
	if errors.Is(err, store.ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "%s has no revision %d: the newest is %d, and the last %d are kept", name, revision, k.GetRevision(), s.cfg.Kept)
	}
	if err != nil {
		return nil, storeError(err)
	}
	old, err := decode(e)
	return old.Version, err
}

// List implements the service.
func (s *Service) List(ctx context.Context, r *configv1.ListRequest) (*configv1.ListResponse, error) {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return nil, err
	}
	if r.GetKind() != "" && !slices.Contains(kinds, r.GetKind()) {
		return nil, invalid("%q is no kind: one of %s", r.GetKind(), strings.Join(kinds, ", "))
	}
	versions, _, err := s.all(ctx, r.GetEnvironment(), r.GetKind())
	if err != nil {
		return nil, err
	}
	out := &configv1.ListResponse{}
	for _, k := range versions {
		if k.live() && k.GetName() > r.GetAfter() {
			out.Versions = append(out.Versions, k.Version)
		}
	}
	slices.SortFunc(out.Versions, func(a, b *configv1.Version) int { return strings.Compare(a.Name, b.Name) })
	if limit := int(r.GetLimit()); limit > 0 && len(out.Versions) > min(limit, MaxPage) {
		out.Versions, out.More = out.Versions[:min(limit, MaxPage)], true
	}
	return out, nil
}

// History implements the service.
func (s *Service) History(ctx context.Context, r *configv1.HistoryRequest) (*configv1.HistoryResponse, error) {
	prefix := historyPrefix + below(r.GetEnvironment(), "")
	name := ""
	switch {
	case r.GetName() == "":
	case slices.Contains(kinds, r.GetName()):
		prefix = historyPrefix + below(r.GetEnvironment(), r.GetName())
	default:
		name = r.GetName()
		prefix = historyPrefix + keyOf(r.GetEnvironment(), name) + "/"
	}
	if err := check(r.GetEnvironment(), name); err != nil {
		return nil, err
	}
	limit := int(r.GetLimit())
	if limit == 0 {
		limit = DefaultHistory
	}
	entries, err := s.store.Newest(ctx, prefix, min(limit, MaxHistory))
	if err != nil {
		return nil, storeError(err)
	}
	if name != "" && len(entries) == 0 {
		return nil, status.Errorf(codes.NotFound, "%s never was in environment %s", name, r.GetEnvironment())
	}
	out := &configv1.HistoryResponse{}
	for _, e := range entries {
		k, err := decode(e)
		if err != nil {
			return nil, err
		}
		out.Versions = append(out.Versions, k.Version)
	}
	return out, nil
}

// Diff implements the service.
func (s *Service) Diff(ctx context.Context, r *configv1.DiffRequest) (*configv1.DiffResponse, error) {
	if err := check(r.GetEnvironment(), r.GetName()); err != nil {
		return nil, err
	}
	k, err := s.current(ctx, r.GetEnvironment(), r.GetName())
	if err != nil {
		return nil, err
	}
	from, to := r.GetFrom(), r.GetTo()
	if to == 0 {
		to = k.GetRevision()
	}
	if from == 0 && to > 0 {
		from = to - 1
	}
	out := &configv1.DiffResponse{From: &configv1.Version{}}
	if out.To, err = s.version(ctx, r.GetEnvironment(), r.GetName(), to); err != nil {
		return nil, err
	}
	if from > 0 {
		if out.From, err = s.version(ctx, r.GetEnvironment(), r.GetName(), from); err != nil {
			return nil, err
		}
	}
	out.Fields = compare(out.From.GetResource(), out.To.GetResource())
	return out, nil
}

// compare returns what differs between two versions of a resource; nil: it was not there.
func compare(before, after *resourcev1.Configuration) []*configv1.FieldChange {
	var out []*configv1.FieldChange
	for _, c := range resource.Compare(content(before, after), content(after, before)) {
		out = append(out, &configv1.FieldChange{Field: c.Path, Before: c.Before, After: c.After})
	}
	return out
}

// content is the resource alone, without the list that it stands in; of one that is not there, an empty one of the
// other's type.
func content(c, other *resourcev1.Configuration) proto.Message {
	switch {
	case len(c.GetApplications()) > 0:
		return c.GetApplications()[0]
	case len(c.GetPolicies()) > 0:
		return c.GetPolicies()[0]
	case len(c.GetAuthPolicies()) > 0:
		return c.GetAuthPolicies()[0]
	case len(c.GetMeshSwitches()) > 0:
		return c.GetMeshSwitches()[0]
	case len(c.GetInstances()) > 0:
		return c.GetInstances()[0]
	case len(c.GetSchemas()) > 0:
		return c.GetSchemas()[0]
	case other == nil:
		return &resourcev1.Configuration{}
	}
	return content(other, nil).ProtoReflect().Type().Zero().Interface()
}

// check tells whether an environment and, unless it is empty, a name are well formed.
func check(environment, name string) error {
	if problems := resource.ValidateConfiguration(&resourcev1.Configuration{Environment: environment}, nil, ""); environment == "" || len(problems) > 0 {
		return invalid("environment %q: want lower-case letters, digits and -", environment)
	}
	if name == "" {
		return nil
	}
	if _, _, err := parseName(name); err != nil {
		return invalid("%v", err)
	}
	return nil
}

func rollbackAction(to uint64) string { return "rollback to " + strconv.FormatUint(to, 10) }

func label(environment, name string) string { return fmt.Sprintf("%s in %s", name, environment) }
