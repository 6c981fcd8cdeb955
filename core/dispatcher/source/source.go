// Package source is the one shape of a registry: who serves a target, as a first full set and the changes after it. Each
// kind of registry has an adapter in a package below this one, and each adapter passes the same contract test
// (sourcetest). This package is pure: it has no sockets and no clock.
package source

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Key is what is watched: one target in one environment.
type Key struct {
	Environment string
	Target      string
}

// String is "environment/target".
func (k Key) String() string { return k.Environment + "/" + k.Target }

// MaxName bounds each name, in bytes.
const MaxName = 255

var (
	environmentForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	nameForm        = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]*$`)
)

// Check refuses a key that no registry can have, with an [*Error] of kind [Invalid]. Adapters call it before they do
// anything else.
func (k Key) Check() error {
	if err := checkName(environmentForm, k.Environment, "lower-case letters, digits and -"); err != nil {
		return &Error{Kind: Invalid, Op: "check", Key: k, Err: fmt.Errorf("environment %w", err)}
	}
	if err := checkName(nameForm, k.Target, nameSays); err != nil {
		return &Error{Kind: Invalid, Op: "check", Key: k, Err: fmt.Errorf("target %w", err)}
	}
	return nil
}

const nameSays = "letters, digits and . _ : / @ -, of which a letter or digit comes first"

func checkName(form *regexp.Regexp, name, says string) error {
	switch {
	case name == "":
		return fmt.Errorf("is empty")
	case len(name) > MaxName:
		return fmt.Errorf("is longer than %d bytes", MaxName)
	case !form.MatchString(name):
		return fmt.Errorf("%q does not fit: %s", name, says)
	}
	return nil
}

// CheckEndpoint refuses an endpoint that is not of the key or that a proxy would not take, with an [*Error] of kind
// [Invalid].
func CheckEndpoint(k Key, e *resourcev1.Endpoint) error {
	err := checkName(nameForm, e.GetInstance(), nameSays)
	switch {
	case err != nil:
		err = fmt.Errorf("instance %w", err)
	case e.GetTarget() != k.Target:
		err = fmt.Errorf("endpoint %s is of target %q", e.GetInstance(), e.GetTarget())
	default:
		s := resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{e}}
		err = resource.Errors(resource.Validate(&s, ""))
	}
	if err != nil {
		return &Error{Kind: Invalid, Op: "check", Key: k, Err: err}
	}
	return nil
}

// Source is one registry. Its methods are safe for concurrent use.
type Source interface {
	// Name says which registry it is, for logs and metrics, such as "etcd".
	Name() string

	// Watch tells of one key until ctx ends or the watch is lost, and returns why: ctx's error, or an [*Error].
	//
	// The first event is a [Full] one, also for a target that the registry does not know: then it is empty. After it
	// come events of any kind. What was told last is what the registry has; states in between may be left out.
	//
	// emit is called from one goroutine at a time and not after Watch has returned; it does not block. What it is given
	// belongs to the receiver from then on, and nobody changes it.
	//
	// Watch does not try again. When it cannot go on without a gap it either emits a Full event or returns; who called
	// it decides when to call it again. It does not hold more than one watch of the registry.
	Watch(ctx context.Context, key Key, emit func(Event)) error
}

// Registrar is a source in which one can also register. A registry that has no leases, or that others fill, is none.
//
// Of two registrations of one instance the newer incarnation counts, and of one incarnation the later one.
type Registrar interface {
	Source

	// Register publishes an endpoint until it is deregistered or its lease ends: ttl after its registrar was last heard
	// of. Registries round ttl to what they can do. What stands there of the same instance is replaced, whoever
	// registered it, and that one's registration is lost, unless it is of a newer incarnation: then the error is of kind
	// [Superseded].
	//
	// lost is called once if the registration does not hold any more though nobody ended it: because somebody else has
	// registered the instance, because its lease has ended, or because its entry was taken away. It must not block.
	Register(ctx context.Context, key Key, e *resourcev1.Endpoint, ttl time.Duration, lost func()) (Registration, error)

	// Reclaim is Register after a loss: what somebody else has registered since, of the same incarnation, stays too.
	Reclaim(ctx context.Context, key Key, e *resourcev1.Endpoint, ttl time.Duration, lost func()) (Registration, error)

	// Remove deregisters an instance on purpose, whoever registered it, if what stands there is of the incarnation and
	// has the mesh address of e. That nothing does is no error.
	Remove(ctx context.Context, key Key, e *resourcev1.Endpoint) error
}

// Registration is a registered endpoint and its lease, which the adapter keeps alive.
type Registration interface {
	// Update replaces the endpoint, in one step for those that watch. Its instance cannot change.
	Update(ctx context.Context, e *resourcev1.Endpoint) error
	// Deregister removes the endpoint on purpose. To do it again, or after a loss, is no error.
	Deregister(ctx context.Context) error
	// Abandon removes the endpoint as if its lease had ended, where the registry can tell the one from the other.
	Abandon(ctx context.Context) error
}

// Keeper is a registrar whose registry keeps what a process has registered after the process has ended, so that others
// have time to register it again.
type Keeper interface {
	Registrar
	// Attend says whether those who register are heard through this process at present. What was registered by
	// processes that do not attend is removed in the end, but only by one that attends: while nobody is heard,
	// nobody can tell what is gone. At first a process does not attend.
	Attend(bool)
}

// Lister is a source that can say which targets it has, for inspection; it may take long.
type Lister interface {
	// List returns the targets of an environment that have an endpoint, sorted. Names that do not fit are left out.
	List(ctx context.Context, environment string) ([]Key, error)
}
