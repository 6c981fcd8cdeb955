package mount_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// service is a server that registers, with the statuses that it had.
type service struct {
	*octomesh.Server
	statuses chan octomesh.RegistrationStatus
	done     chan error
}

func startService(t *testing.T, registration octomesh.Registration, opts ...octomesh.ServerOption) *service {
	t.Helper()
	v := &service{statuses: make(chan octomesh.RegistrationStatus, 1000), done: make(chan error, 1)}
	registration.Changed = func(st octomesh.RegistrationStatus) { v.statuses <- st }
	v.Server = octomesh.NewServer("stock", append(opts, octomesh.WithApplication("shop"), octomesh.WithInstance("shop-1"),
		octomesh.WithEnvironment(meshtest.Environment), octomesh.WithRegistration(registration))...)
	go func() { v.done <- v.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = v.Shutdown(ctx)
		<-v.done
	})
	return v
}

func (v *service) await(t *testing.T, want octomesh.RegistrationPhase) octomesh.RegistrationStatus {
	t.Helper()
	late := time.After(long)
	for {
		select {
		case st := <-v.statuses:
			if st.Phase == want {
				return st
			}
		case <-late:
			t.Fatalf("it is not %v but %+v", want, v.Registration())
		}
	}
}

func TestAServerRegistersAndLeavesBeforeItStops(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, s *side) {
		v := startService(t, octomesh.Registration{Zone: "z", Weight: 7}, append(s.register, octomesh.WithListen("127.0.0.1:0"))...)
		if st := v.await(t, octomesh.RegistrationPublished); st.Err != nil || v.Registration().Phase != octomesh.RegistrationPublished {
			t.Fatal(st)
		}
		address := v.Addresses()[0].String()
		reached := errors.New("it was not asked")
		s.registrar.mu.Lock()
		s.registrar.withdraw = func() {
			nc, err := net.Dial("tcp", address)
			if reached = err; err == nil {
				_ = nc.Close()
			}
		}
		s.registrar.mu.Unlock()
		if err := v.Shutdown(within(t)); err != nil {
			t.Fatal(err)
		}
		if reached != nil {
			t.Fatalf("it does not listen any more when it withdraws: %v", reached)
		}
		v.await(t, octomesh.RegistrationWithdrawn)
		got := s.registrar.notes()
		if len(got) != 2 || !strings.HasPrefix(got[0], "register shop shop-1 z [stock] "+address) || got[1] != "withdraw" {
			t.Fatal(got)
		}
	})
}

func TestAServerComesBackToItsDirectory(t *testing.T) {
	t.Parallel()
	role := startRole(t)
	forward := startForward(t, role)
	v := startService(t, octomesh.Registration{}, octomesh.WithMode("off"), octomesh.WithDirectory(forward.address), octomesh.WithListen("127.0.0.1:0"))
	v.await(t, octomesh.RegistrationPublished)
	for range 3 {
		forward.cut()
		if st := v.await(t, octomesh.RegistrationConnecting); octomesh.CodeOf(st.Err) != octomesh.Unavailable {
			t.Fatal(st)
		}
		if st := v.await(t, octomesh.RegistrationPublished); st.Err != nil {
			t.Fatal(st)
		}
	}
	late := time.Now().Add(long)
	for n := 0; n < 3; { // each lost stream was given back to its lease
		if n = strings.Count(strings.Join(role.registrar.notes(), " "), "release"); time.Now().After(late) {
			t.Fatal(role.registrar.notes())
		}
	}
}

func TestAServerWithoutADirectoryDoesNotRegister(t *testing.T) {
	t.Parallel()
	role := startRole(t)
	for name, opts := range map[string][]octomesh.ServerOption{
		"none":       {octomesh.WithMode("off")},
		"not wanted": append(role.register, octomesh.WithRegistration(octomesh.Registration{Off: true})),
	} {
		server := octomesh.NewServer("stock", append(opts, octomesh.WithListen("127.0.0.1:0"))...)
		done := make(chan error, 1)
		go func() { done <- server.Serve(context.Background()) }()
		if err := server.Ready(within(t)); err != nil {
			t.Fatal(err)
		}
		if st := server.Registration(); st.Phase != octomesh.RegistrationOff {
			t.Errorf("%s: %+v", name, st)
		}
		if err := server.Shutdown(within(t)); err != nil {
			t.Error(err)
		}
		<-done
	}
	for name, opt := range map[string]octomesh.ServerOption{
		"a Directory's address": octomesh.WithDirectory("nowhere"),
		"its own address":       octomesh.WithRegistration(octomesh.Registration{Address: "unix:/tmp/s"}),
	} {
		if err := octomesh.NewServer("stock", octomesh.WithMode("off"), octomesh.WithListen("127.0.0.1:0"), opt).Serve(within(t)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestARefusalIsTypedAndTriedAgain(t *testing.T) {
	t.Parallel()
	p, err := meshtest.StartProxy(t.TempDir(), proxy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	v := startService(t, octomesh.Registration{}, octomesh.WithSocket(p.Socket), octomesh.WithMode("on"))
	st := v.await(t, octomesh.RegistrationConnecting)
	var e *octomesh.Error
	if !errors.As(st.Err, &e) || e.Code != octomesh.FailedPrecondition || e.Origin != octomesh.OriginClientProxy {
		t.Fatalf("%+v", st)
	}
}
