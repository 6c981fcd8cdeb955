package registrar_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/dispatcher/registrar"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	published  = controlv1.RegistrationState_STATE_PUBLISHED
	pending    = controlv1.RegistrationState_STATE_PENDING
	superseded = controlv1.RegistrationState_STATE_SUPERSEDED
	withdrawn  = controlv1.RegistrationState_STATE_WITHDRAWN
	refused    = controlv1.RegistrationState_STATE_REFUSED
)

var cart = source.Key{Environment: "test", Target: "cart"}

// world is a registry, and Dispatchers' tables on it.
type world struct {
	t        *testing.T
	registry *sourcetest.Memory
	mu       sync.Mutex
	events   []source.Event
	tables   []*registrar.Table
}

func bubble(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, registry: sourcetest.NewMemory()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = w.registry.Watch(ctx, cart, func(e source.Event) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.events = append(w.events, e)
			})
		}()
		defer func() {
			cancel()
			for _, table := range w.tables {
				table.Close()
			}
		}()
		f(w)
		cancel()
		<-done
	})
}

// table makes a Dispatcher's.
func (w *world) table(c registrar.Config) (*registrar.Table, *sourcetest.MemoryClient) {
	client := w.registry.Client()
	c.Sources = []source.Source{client}
	t := registrar.New(c)
	w.tables = append(w.tables, t)
	return t, client
}

// has holds what is in the registry to a list.
func (w *world) has(want ...*resourcev1.Endpoint) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	there := make(map[string]*resourcev1.Endpoint)
	for _, e := range w.events {
		for _, p := range e.Endpoints {
			there[p.GetInstance()] = p
		}
		for _, r := range e.Removed {
			delete(there, r.Instance)
		}
	}
	same := len(there) == len(want)
	for _, e := range want {
		same = same && proto.Equal(there[e.GetInstance()], e)
	}
	if !same {
		w.t.Fatalf("the registry has %v, want %v", there, want)
	}
}

// went tells why an instance went last.
func (w *world) went(instance string) (why source.Reason, times int) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		for _, r := range e.Removed {
			if r.Instance == instance {
				why = r.Reason
				times++
			}
		}
	}
	return why, times
}

func at(instance string, incarnation uint64, address string) *resourcev1.Endpoint {
	return &resourcev1.Endpoint{Target: "cart", Instance: instance, Incarnation: incarnation, MeshAddress: address}
}

func register(s *registrar.Stream, e *resourcev1.Endpoint) {
	s.Register("test", &controlv1.Registration{Application: "cart", Endpoint: proto.CloneOf(e)})
}

func withdraw(s *registrar.Stream, e *resourcev1.Endpoint, why controlv1.Withdrawal_Reason) {
	s.Withdraw("test", &controlv1.Withdrawal{
		Target: "cart", Instance: e.GetInstance(), Incarnation: e.GetIncarnation(), MeshAddress: e.GetMeshAddress(), Reason: why,
	})
}

// told holds the next states of a stream to a list of "instance incarnation state".
func (w *world) told(s *registrar.Stream, want ...string) (reasons string) {
	w.t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Nanosecond)
	defer cancel()
	var got []string
	for {
		states, err := s.Next(ctx, 2)
		if err != nil {
			break
		}
		for _, st := range states {
			got = append(got, fmt.Sprint(st.Instance, " ", st.Incarnation, " ", st.State))
			reasons += st.Reason
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		w.t.Fatalf("the stream is told %v, want %v", got, want)
	}
	return reasons
}

func TestWhatIsRegisteredIsInTheRegistryUntilItLeaves(t *testing.T) {
	bubble(t, func(w *world) {
		table, _ := w.table(registrar.Config{})
		s := table.Open()
		a, b := at("a", 1, "h:1"), at("b", 1, "h:1")
		register(s, a)
		register(s, b)
		w.told(s, fmt.Sprint("a 1 ", published), fmt.Sprint("b 1 ", published))
		w.has(a, b)
		a.Weight = proto.Uint32(7)
		register(s, a)
		w.told(s, fmt.Sprint("a 1 ", published))
		w.has(a, b)
		withdraw(s, a, controlv1.Withdrawal_REASON_LEFT)
		withdraw(s, b, controlv1.Withdrawal_REASON_SILENT)
		w.told(s, fmt.Sprint("a 1 ", withdrawn), fmt.Sprint("b 1 ", withdrawn))
		w.has()
		if why, _ := w.went("a"); why != source.Deregistered {
			t.Errorf("who left went for %v", why)
		}
		if why, _ := w.went("b"); why != source.Expired {
			t.Errorf("whose proxy is not heard went for %v", why)
		}
		if st := table.Stats(); st.Instances != 0 || st.Registered != 3 || st.Ended != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestWhatCannotBeIsRefusedWithTheField(t *testing.T) {
	bubble(t, func(w *world) {
		table, _ := w.table(registrar.Config{})
		s := table.Open()
		for _, e := range []*resourcev1.Endpoint{at("a", 1, "nowhere"), at("a b", 1, "h:1"), {Target: "x y", Instance: "a", MeshAddress: "h:1"}} {
			register(s, e)
			if why := w.told(s, fmt.Sprint(e.Instance, " ", e.Incarnation, " ", refused)); why == "" {
				t.Errorf("%v is refused without a reason", e)
			} else {
				t.Log(why)
			}
		}
		s.Register("TEST", &controlv1.Registration{Endpoint: at("a", 1, "h:1")})
		w.told(s, fmt.Sprint("a 1 ", refused))
		s.Register("test", &controlv1.Registration{Endpoint: at("a", 1, "h:1"), Application: "a b"})
		w.told(s, fmt.Sprint("a 1 ", refused))
		s.Register("test", &controlv1.Registration{})
		w.told(s, fmt.Sprint(" 0 ", refused))
		w.has()
	})
}

func TestTooManyAreRefused(t *testing.T) {
	bubble(t, func(w *world) {
		table, _ := w.table(registrar.Config{MaxInstances: 2})
		s := table.Open()
		for _, name := range []string{"a", "b", "c"} {
			register(s, at(name, 1, "h:1"))
		}
		w.told(s, fmt.Sprint("a 1 ", published), fmt.Sprint("b 1 ", published), fmt.Sprint("c 1 ", refused))
		withdraw(s, at("a", 1, "h:1"), controlv1.Withdrawal_REASON_LEFT)
		w.told(s, fmt.Sprint("a 1 ", withdrawn))
		register(s, at("c", 1, "h:1"))
		w.told(s, fmt.Sprint("c 1 ", published))
	})
}

func TestARegistryWithoutRegistrationsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := registrar.New(registrar.Config{Sources: []source.Source{sourcetest.NewMemory()}})
		defer table.Close()
		s := table.Open()
		register(s, at("a", 1, "h:1"))
		(&world{t: t}).told(s, fmt.Sprint("a 1 ", refused))
	})
}

func TestTheNewestIncarnationWins(t *testing.T) {
	bubble(t, func(w *world) {
		table, _ := w.table(registrar.Config{})
		first, second := table.Open(), table.Open()
		register(first, at("a", 5, "h:1"))
		w.told(first, fmt.Sprint("a 5 ", published))
		register(second, at("a", 4, "h:2"))
		w.told(second, fmt.Sprint("a 4 ", superseded))
		register(second, at("a", 6, "h:2"))
		w.told(second, fmt.Sprint("a 6 ", published))
		w.told(first, fmt.Sprint("a 5 ", superseded))
		w.has(at("a", 6, "h:2"))
		withdraw(first, at("a", 5, "h:1"), controlv1.Withdrawal_REASON_LEFT)
		w.told(first, fmt.Sprint("a 5 ", withdrawn))
		w.has(at("a", 6, "h:2")) // what has left is not who is there
		register(second, at("a", 2, "h:2"))
		w.told(second, fmt.Sprint("a 2 ", published)) // whoever speaks for it knows that the newer one is gone
		w.has(at("a", 2, "h:2"))
		if _, times := w.went("a"); times > 0 {
			t.Errorf("it was gone %d times", times)
		}
	})
}

func TestANewerIncarnationElsewhereSupersedes(t *testing.T) {
	bubble(t, func(w *world) {
		one, _ := w.table(registrar.Config{})
		two, _ := w.table(registrar.Config{})
		first, second := one.Open(), two.Open()
		register(first, at("a", 5, "h:1"))
		w.told(first, fmt.Sprint("a 5 ", published))
		register(second, at("a", 4, "h:2"))
		w.told(second, fmt.Sprint("a 4 ", superseded))
		register(second, at("a", 6, "h:2"))
		w.told(second, fmt.Sprint("a 6 ", published))
		w.told(first, fmt.Sprint("a 5 ", superseded))
		time.Sleep(time.Hour)
		w.has(at("a", 6, "h:2"))
		if st := one.Stats(); st.Instances != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestALostStreamsRegistrationsAreKeptAndTakenOver(t *testing.T) {
	bubble(t, func(w *world) {
		table, _ := w.table(registrar.Config{})
		first, other := table.Open(), table.Open()
		a, b := at("a", 1, "h:1"), at("b", 1, "h:1")
		register(first, a)
		register(first, b)
		w.has(a, b)
		first.Close()
		time.Sleep(50 * time.Second)
		w.has(a, b)
		register(other, a)
		w.told(other, fmt.Sprint("a 1 ", published))
		time.Sleep(20 * time.Second)
		w.has(a)
		if why, _ := w.went("b"); why != source.Expired {
			t.Errorf("whom nobody took over went for %v", why)
		}
		if _, times := w.went("a"); times > 0 {
			t.Error("who was taken over was gone")
		}
	})
}

func TestNothingEndsWhileNobodyIsHeard(t *testing.T) {
	bubble(t, func(w *world) {
		table, client := w.table(registrar.Config{})
		first := table.Open()
		a, b := at("a", 1, "h:1"), at("b", 1, "h:1")
		register(first, a)
		register(first, b)
		w.has(a, b)
		if !client.Attends() {
			t.Error("it does not attend")
		}
		first.Close()
		time.Sleep(30 * time.Second)
		if !client.Attends() {
			t.Error("it gives up attending at once")
		}
		time.Sleep(10 * time.Hour)
		w.has(a, b)
		if client.Attends() {
			t.Error("it attends, and nobody is there")
		}
		second := table.Open()
		time.Sleep(40 * time.Second)
		register(second, a)
		w.has(a, b)
		time.Sleep(30 * time.Second)
		w.has(a)
		if !client.Attends() {
			t.Error("it does not attend again")
		}
	})
}

func TestARegistryThatIsAwayIsTriedUntilItIsBack(t *testing.T) {
	bubble(t, func(w *world) {
		table, client := w.table(registrar.Config{})
		var asked atomic.Int64
		var up atomic.Bool
		down := &source.Error{Kind: source.Unavailable, Source: "memory", Op: "register", Key: cart, Err: errors.New("nobody answers")}
		client.OnRegister = func(context.Context, source.Key, *resourcev1.Endpoint) error {
			asked.Add(1)
			if up.Load() {
				return nil
			}
			return down
		}
		s := table.Open()
		var all []*resourcev1.Endpoint
		for i := range 100 {
			e := at(fmt.Sprintf("i%02d", i), 1, "h:1")
			all = append(all, e)
			register(s, e)
		}
		time.Sleep(time.Hour)
		if n := asked.Load(); n > 2000 {
			t.Errorf("a registry that is away was asked %d times in an hour", n)
		}
		w.has()
		states, err := s.Next(w.t.Context(), 1000)
		if err != nil || len(states) == 0 || states[0].State != pending || states[0].Reason == "" {
			t.Errorf("it is told %v, %v", states, err)
		}
		withdraw(s, all[0], controlv1.Withdrawal_REASON_LEFT)
		up.Store(true)
		time.Sleep(10 * time.Second)
		w.has(all[1:]...)
		if st := table.Stats(); st.Waiting != 0 || st.Instances != 99 {
			t.Errorf("%+v", st)
		}
	})
}

func TestWhatARegistryLosesIsRegisteredAgain(t *testing.T) {
	bubble(t, func(w *world) {
		table, client := w.table(registrar.Config{})
		s := table.Open()
		a := at("a", 1, "h:1")
		register(s, a)
		w.told(s, fmt.Sprint("a 1 ", published))
		client.Crash()
		w.has(a)
		w.told(s, fmt.Sprint("a 1 ", published))
		w.registry.Remove(cart, source.Deregistered, "a") // by somebody's hand
		w.has(a)
	})
}

func TestWithdrawalsReachWhatADeadDispatcherRegistered(t *testing.T) {
	bubble(t, func(w *world) {
		dead, _ := w.table(registrar.Config{})
		register(dead.Open(), at("a", 1, "h:1"))
		register(dead.Open(), at("b", 1, "h:1"))
		w.has(at("a", 1, "h:1"), at("b", 1, "h:1"))
		dead.Close()
		table, _ := w.table(registrar.Config{})
		s := table.Open()
		withdraw(s, at("a", 1, "h:2"), controlv1.Withdrawal_REASON_LEFT) // of another proxy
		w.told(s, fmt.Sprint("a 1 ", withdrawn))
		withdraw(s, at("b", 1, "h:1"), controlv1.Withdrawal_REASON_SILENT) // nobody knows
		w.told(s, fmt.Sprint("b 1 ", withdrawn))
		w.has(at("a", 1, "h:1"), at("b", 1, "h:1"))
		withdraw(s, at("a", 1, "h:1"), controlv1.Withdrawal_REASON_LOST)
		w.told(s, fmt.Sprint("a 1 ", withdrawn))
		w.has(at("b", 1, "h:1"))
		if why, _ := w.went("a"); why != source.Deregistered {
			t.Errorf("it went for %v", why)
		}
	})
}
