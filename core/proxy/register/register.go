// Package register makes the instances beside a proxy known to the control plane, for as long as they are there.
package register

import (
	"errors"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

// Details are what an instance says of itself. To its SERVE connection alone, by which the proxy knows its targets and
// that it can be reached, they add what only the instance knows.
type Details struct {
	Application string
	Instance    string
	// Incarnation is the process' start, in nanoseconds since 1970.
	Incarnation uint64
	// Targets that it serves. At least one.
	Targets []string
	// DirectAddress is "host:port" of the instance itself. Empty: no direct calls.
	DirectAddress string
	// Weight is its share of calls. Nil: the default.
	Weight *uint32
	// Zone is where it stands. Empty: the proxy's.
	Zone string
	Tags map[string]string
	// Identity is the SPIFFE id that direct callers are to expect. Empty: none.
	Identity string
}

// Status is what became of the registration of one target.
type Status struct {
	Target string
	State  controlv1.RegistrationState_State
	// Reason is for people; of STATE_PUBLISHED it is empty.
	Reason string
}

// Registrar registers instances by what they say of themselves. Its methods are safe for concurrent use and do not wait
// for the control plane.
type Registrar interface {
	// Register makes an instance known, or adds to what its SERVE connection has made known. told learns of each target
	// what becomes of it, first of all targets before Register returns, from one goroutine at a time; it must not block
	// or call back. The newest incarnation of an instance wins; an older one is told STATE_SUPERSEDED.
	//
	// It fails, with what is wrong, for details that cannot be.
	Register(d Details, told func(Status)) (Held, error)
}

// Held is what one has registered. Each is given back by exactly one of Withdraw and Release; further calls do nothing.
type Held interface {
	// Update replaces the details. Instance and incarnation cannot change: that is [ErrOther].
	Update(d Details) error
	// Withdraw ends it at once: the instance leaves. While its SERVE connection stands it can be called through the mesh.
	Withdraw()
	// Release says that the instance is not heard of any more: it ends after 10 s, unless the same incarnation is
	// registered again until then.
	Release()
}

// ErrOther says that an update is of another instance or incarnation than what was registered.
var ErrOther = errors.New("register: instance and incarnation cannot change: register again")
