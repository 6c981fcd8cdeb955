// Package handover moves the listening sockets of a proxy from the process that runs to its successor, so that a
// new binary or a new bootstrap file costs no call. The two talk over a Unix socket that only their own user and root may
// open; the sockets go by SCM_RIGHTS. proto/octo/handover/v1 has the words, proto/spec/leaving.md the rules.
//
// Until the successor says Serving it may fail in any way, and the running one goes on. After that the running one has closed
// its duplicates and leaves. What else happens to sessions and calls is the proxy's ([Host]).
package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/core/transport"
	handoverv1 "github.com/octomesh/octomesh/gen/control/octo/handover/v1"
)

// Version of the conversation. A successor says which ones it speaks.
const Version = 1

// Names of sockets.
const (
	Outbound = "outbound" // where local applications come in
	Inbound  = "inbound"  // where other proxies do
	GRPC     = "grpc"     // where gRPC's clients do
	Kitex    = "kitex"    // where Kitex's clients do
	Admin    = "admin"    // the operator's
	Takeover = "takeover" // this one
)

// called are the places that a successor must have where they were.
var called = []string{Outbound, Inbound, GRPC, Kitex}

// Times.
const (
	// wordTimeout is how long either side may take for an answer that needs no work, and for the taking of its words.
	wordTimeout = 5 * time.Second
	// settleTimeout is how long a proxy that has just taken over itself may wait for its instances before it answers.
	settleTimeout = 6 * time.Second
	// warmTimeout is how long a successor may take from its admission until it is ready.
	warmTimeout = 2 * time.Minute
	// servingTimeout is how long the running one accepts nothing while its successor says nothing. Then it accepts again,
	// and leaves when the successor says Serving after all.
	servingTimeout = 2 * time.Second
)

// Listener is a socket that is handed over.
type Listener struct {
	// Name is one of the constants above.
	Name string
	net.Listener
	// Configured is the address as the bootstrap file says it: an absolute path, or "host:port" where a port may be 0.
	Configured string
}

// address is where the socket is: what the kernel says of a Unix socket is where it was made, before it was moved.
func (l *Listener) address() string {
	if l.Addr().Network() == "unix" {
		return l.Configured
	}
	return l.Addr().String()
}

// RefusedError is the other side's refusal: what it says goes on as it was.
type RefusedError struct{ Reason string }

// Error repeats the other side's words.
func (e *RefusedError) Error() string { return "the running proxy refuses to hand over: " + e.Reason }

var (
	// ErrNobody says that no proxy runs to take over from.
	ErrNobody = errors.New("handover: no proxy runs to take over from")
	// ErrGone says that the running proxy has ended without a word.
	ErrGone = errors.New("handover: the running proxy has ended")
)

// At tells whether an address is where the socket listens.
func (l *Listener) At(address string) bool {
	if address == l.Configured || address == l.address() {
		return true
	}
	if l.Addr().Network() != "unix" {
		return false
	}
	there, err := os.Stat(address)
	here, herr := os.Stat(l.Configured)
	return err == nil && herr == nil && os.SameFile(there, here)
}

// admit checks whether a successor means to be the same proxy at the same places.
func admit(intro *handoverv1.Introduction, environment, instance string, listeners []Listener) error {
	switch {
	case intro.GetLowestVersion() > Version || intro.GetHighestVersion() < Version:
		return fmt.Errorf("it speaks versions %d to %d of the hand-over, this proxy %d: stop this one and start the other",
			intro.GetLowestVersion(), intro.GetHighestVersion(), Version)
	case intro.GetEnvironment() != environment:
		return fmt.Errorf("it is of environment %q, this proxy of %q", intro.GetEnvironment(), environment)
	case intro.GetInstance() != "" && intro.GetInstance() != instance:
		return fmt.Errorf("it is called %q, this proxy %q", intro.GetInstance(), instance)
	}
	wants := make(map[string]string)
	for _, p := range intro.GetPlaces() {
		wants[p.GetName()] = p.GetAddress()
	}
	for _, l := range listeners {
		if !slices.Contains(called, l.Name) {
			continue // an operator's place may change
		}
		if want, ok := wants[l.Name]; !ok || !l.At(want) {
			return fmt.Errorf("%s is %s here, and %q in its bootstrap file: a hot restart keeps the addresses that are called", l.Name, l.address(), want)
		}
		delete(wants, l.Name)
	}
	for _, name := range called {
		if want, ok := wants[name]; ok {
			return fmt.Errorf("its bootstrap file has %s at %q, which this proxy does not have: a hot restart keeps the addresses that are called", name, want)
		}
	}
	return nil
}

// own refuses who is neither of this process' user nor root.
func own(nc net.Conn) (pid int32, err error) {
	cred, err := transport.PeerCredentials(nc)
	if err != nil {
		return 0, err
	}
	if cred.Uid != 0 && cred.Uid != uint32(os.Geteuid()) {
		return cred.Pid, fmt.Errorf("process %d is of user %d, this one of user %d", cred.Pid, cred.Uid, os.Geteuid())
	}
	return cred.Pid, nil
}

// listenerOf makes a listener of a descriptor, which it takes over.
func listenerOf(fd int, what *handoverv1.Listener) (Listener, error) {
	f := os.NewFile(uintptr(fd), what.GetName())
	defer func() { _ = f.Close() }()
	if yes, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err != nil || yes != 1 {
		return Listener{}, fmt.Errorf("handover: descriptor %q is no listening socket", what.GetName())
	}
	l, err := net.FileListener(f)
	if err != nil {
		return Listener{}, fmt.Errorf("handover: descriptor %q: %w", what.GetName(), err)
	}
	got := Listener{Name: what.GetName(), Listener: l, Configured: what.GetAddress()}
	if l.Addr().Network() != what.GetNetwork() || got.address() != what.GetAddress() {
		_ = l.Close()
		return Listener{}, fmt.Errorf("handover: descriptor %q listens on %s, said was %s %s", what.GetName(), l.Addr(), what.GetNetwork(), what.GetAddress())
	}
	return got, nil
}
