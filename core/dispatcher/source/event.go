package source

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Kind of an event.
type Kind uint8

const (
	// Full replaces all that was told: Endpoints is everything, and Removed is empty.
	Full Kind = iota + 1
	// Change tells what is other than before.
	Change
	// Suspended says that the registry cannot be heard at the moment: what was told may be old. The watch goes on.
	Suspended
	// Resumed says that it is heard again, and that the watch goes on without a gap: what it missed comes as changes.
	Resumed
)

// String is the kind's name.
func (k Kind) String() string {
	switch k {
	case Full:
		return "full"
	case Change:
		return "change"
	case Suspended:
		return "suspended"
	case Resumed:
		return "resumed"
	}
	return fmt.Sprintf("kind %d", k)
}

// Event is what a watch tells at once.
type Event struct {
	Kind Kind
	// Endpoints are those that are there (Full), or that are new or changed (Change). Each passes [CheckEndpoint], and
	// an instance stands there once.
	Endpoints []*resourcev1.Endpoint
	// Removed are instances that are gone, none of which is in Endpoints. Only in a Change.
	Removed []Removal
	// Refused are entries that are there but cannot be used. What was known of their instances before still holds.
	Refused []Refusal
}

// Reason is why an instance is gone.
type Reason uint8

const (
	// Unknown is what a registry says that gives no reasons, and what a full set says by leaving an instance out.
	Unknown Reason = iota
	// Deregistered is what its owner or an operator did on purpose.
	Deregistered
	// Expired is what the registry did because it did not hear of the owner, or an operator by ending the lease.
	Expired
)

// String is the reason's name.
func (r Reason) String() string {
	switch r {
	case Deregistered:
		return "deregistered"
	case Expired:
		return "lease expired"
	}
	return "unknown"
}

// Removal is an instance that is gone.
type Removal struct {
	Instance string
	Reason   Reason
}

// Refusal is an entry that cannot be used.
type Refusal struct {
	Instance string // empty: not even the instance can be told
	Err      error
}

// Diff is the event that leads from one full set to another, both by instance, for registries that tell whole sets only.
// Reasons are unknown. ok is false if they are equal.
func Diff(before, now map[string]*resourcev1.Endpoint) (e Event, ok bool) {
	e.Kind = Change
	for name, p := range now {
		if old := before[name]; old != p && (old == nil || !proto.Equal(old, p)) {
			e.Endpoints = append(e.Endpoints, p)
		}
	}
	for name := range before {
		if now[name] == nil {
			e.Removed = append(e.Removed, Removal{Instance: name})
		}
	}
	return e, len(e.Endpoints)+len(e.Removed) > 0
}
