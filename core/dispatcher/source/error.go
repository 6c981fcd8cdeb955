package source

import (
	"errors"
	"fmt"
)

// ErrorKind says what to do about an error.
type ErrorKind uint8

const (
	// Unavailable: the registry does not answer, or not as it should. Try again later; it says something of the whole
	// registry.
	Unavailable ErrorKind = iota + 1
	// Lost: a watch, session or lease that stood is gone. Begin again.
	Lost
	// Invalid: the key or the endpoint cannot be: it is of no use to try again with the same.
	Invalid
	// Denied: the registry does not let us. Correct the credentials or the registry's rules.
	Denied
	// Superseded: the instance is registered by somebody else whose claim is better.
	Superseded
)

// String is the kind's name.
func (k ErrorKind) String() string {
	switch k {
	case Unavailable:
		return "unavailable"
	case Lost:
		return "lost"
	case Invalid:
		return "invalid"
	case Denied:
		return "denied"
	case Superseded:
		return "superseded"
	}
	return fmt.Sprintf("kind %d", k)
}

// Error is what went wrong with a registry.
type Error struct {
	Kind   ErrorKind
	Source string // its name; empty: the error came before any source
	Op     string // such as "watch" or "register"
	Key    Key
	Err    error
}

// Error says all of it.
func (e *Error) Error() string {
	at := e.Op
	if e.Source != "" {
		at = e.Source + " " + at
	}
	if e.Key != (Key{}) {
		at += " " + e.Key.String()
	}
	return fmt.Sprintf("%s: %s: %v", at, e.Kind, e.Err)
}

// Unwrap returns what is behind it.
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of an error of this package, wrapped or not, and [Unavailable] of any other.
func KindOf(err error) ErrorKind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unavailable
}
