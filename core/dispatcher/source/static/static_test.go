package static_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	"github.com/octomesh/octomesh/core/dispatcher/source/static"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFilesKeepTheContract(t *testing.T) {
	t.Parallel()
	sourcetest.Contract(t, func(t *testing.T) *sourcetest.Subject {
		w := &writer{dir: t.TempDir(), all: make(map[string]map[string]*resourcev1.Endpoint)}
		files := make(map[string]string)
		for _, environment := range []string{"test", "test-2", "prod", "prod-2", "0-9", "zookeeper", strings.Repeat("n", source.MaxName)} {
			files[environment] = w.path(environment)
			w.write(t, environment)
		}
		s, err := static.New(static.Config{Files: files, Every: 5 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return &sourcetest.Subject{
			Source:  s,
			Put:     w.put,
			Remove:  func(t *testing.T, key source.Key, instance string) { w.remove(t, key, instance) },
			Removed: source.Deregistered,
		}
	})
}

// writer keeps the files of some environments.
type writer struct {
	dir string
	mu  sync.Mutex
	all map[string]map[string]*resourcev1.Endpoint // by environment, and target and instance
}

func (w *writer) path(environment string) string {
	return filepath.Join(w.dir, environment[:min(len(environment), 20)]+".yaml")
}

func (w *writer) put(t *testing.T, key source.Key, e *resourcev1.Endpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all[key.Environment] == nil {
		w.all[key.Environment] = make(map[string]*resourcev1.Endpoint)
	}
	w.all[key.Environment][key.Target+" "+e.GetInstance()] = e
	w.write(t, key.Environment)
}

func (w *writer) remove(t *testing.T, key source.Key, instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all[key.Environment], key.Target+" "+instance)
	w.write(t, key.Environment)
}

// quoted is how protobuf's JSON has a number of 64 bits.
var quoted = regexp.MustCompile(`("incarnation":\s*)"(\d+)"`)

// write replaces the file in one step. JSON is YAML.
func (w *writer) write(t *testing.T, environment string) {
	t.Helper()
	s := &resourcev1.Snapshot{Environment: environment}
	for _, e := range w.all[environment] {
		s.Endpoints = append(s.Endpoints, e)
	}
	text, err := protojson.Marshal(s)
	text = quoted.ReplaceAll(text, []byte("$1$2"))
	if err == nil {
		err = os.WriteFile(w.path(environment)+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(w.path(environment)+".new", w.path(environment))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestBadFileKeepsTheLastGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "test.yaml")
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}
		var log bytes.Buffer
		s, err := static.New(static.Config{Files: map[string]string{"test": path}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		key := source.Key{Environment: "test", Target: "cart"}
		if err := s.Watch(t.Context(), key, func(source.Event) {}); source.KindOf(err) != source.Unavailable {
			t.Errorf("without a file a watch returned %v", err)
		}
		write("endpoints: [{target: cart, instance: a, mesh_address: 'h:1'}]")
		var events []source.Event
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Watch(ctx, key, func(e source.Event) { events = append(events, e) }) }()
		synctest.Wait()
		for _, bad := range []string{"", "endpoints: [", "environment: prod\nendpoints: []", "endpoints: [{target: cart, instance: a}]"} {
			write(bad)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(events) != 1 || len(events[0].Endpoints) != 1 {
			t.Errorf("a bad file led to %+v", events)
		}
		if n := strings.Count(log.String(), "refused"); n != 6 {
			t.Errorf("%d refusals are logged of 6:\n%s", n, log.String())
		}
		write("endpoints: [{target: cart, instance: b, mesh_address: 'h:1'}]")
		if len(events) != 2 || len(events[1].Endpoints) != 1 || len(events[1].Removed) != 1 || events[1].Removed[0].Reason != source.Deregistered {
			t.Errorf("a good file led to %+v", events[1:])
		}
		cancel()
		<-ended
	})
}

func TestEnvironmentsThatCannotBeAreRefused(t *testing.T) {
	if _, err := static.New(static.Config{Files: map[string]string{"Te/st": "x"}}); source.KindOf(err) != source.Invalid {
		t.Errorf("New returned %v", err)
	}
}
