package directory_test

import (
	"testing"
	"time"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	"github.com/octomesh/octomesh/sdks/go/internal/directory"
)

func TestARegistrationGoesOnUntilItIsOver(t *testing.T) {
	t.Parallel()
	const half = 0.5 // the middle of what is spread
	var r directory.Registration
	ended := func(how directory.Ended, retryAfter, want time.Duration) {
		t.Helper()
		r.Begin()
		if got := r.Ended(how, retryAfter, "gone", half); got != want || r.Phase != directory.Connecting || r.Reason != "gone" {
			t.Fatalf("it comes again after %v, want %v; %+v", got, want, r)
		}
	}
	said := func(s directoryv1.RegisterResponse_State, want directory.Phase, over bool) {
		t.Helper()
		r.Begin()
		if got := r.Said(s, "why"); got != over || r.Phase != want {
			t.Fatalf("%v: %+v", s, r)
		}
	}
	if r.Begin(); r.Phase != directory.Connecting {
		t.Fatal(r)
	}
	ended(directory.Lost, 0, 100*time.Millisecond)
	ended(directory.Lost, 0, 200*time.Millisecond)
	for range 10 {
		r.Ended(directory.Lost, 0, "", half)
	}
	ended(directory.Lost, 0, 10*time.Second)
	ended(directory.Refused, 0, 30*time.Second)
	ended(directory.Lost, 3*time.Second, 3375*time.Millisecond)
	said(directoryv1.RegisterResponse_STATE_PENDING, directory.Pending, false)
	said(directoryv1.RegisterResponse_STATE_PUBLISHED, directory.Published, false)
	if r.Reason != "" {
		t.Fatal(r)
	}
	ended(directory.Moved, 0, 20*time.Millisecond)
	ended(directory.Lost, 0, 100*time.Millisecond) // what it heard has ended the doubling
	said(directoryv1.RegisterResponse_State(99), directory.Pending, false)
	said(directoryv1.RegisterResponse_STATE_SUPERSEDED, directory.Superseded, true)
	said(directoryv1.RegisterResponse_STATE_WITHDRAWN, directory.Withdrawn, true)
}

func TestPausesAreSpread(t *testing.T) {
	t.Parallel()
	for _, how := range []directory.Ended{directory.Lost, directory.Moved, directory.Refused} {
		var a, b directory.Registration
		if low, high := a.Ended(how, 0, "", 0), b.Ended(how, 0, "", 0.999); high < 2*low {
			t.Errorf("%v: from %v to %v", how, low, high)
		}
	}
	var r directory.Registration
	if got := r.Ended(directory.Lost, time.Second, "", 0); got < time.Second {
		t.Errorf("it comes after %v, sooner than it was told", got)
	}
}
