package httppoll_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/httppoll"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// registry is the server's side, by path and instance.
type registry struct {
	mu   sync.Mutex
	all  map[string]map[string]*resourcev1.Endpoint
	sick bool
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, ok := r.all[q.URL.EscapedPath()]
	switch {
	case r.sick:
		http.Error(w, "sick", http.StatusServiceUnavailable)
	case !ok:
		http.NotFound(w, q)
	default:
		s := &resourcev1.Snapshot{}
		for _, e := range all {
			s.Endpoints = append(s.Endpoints, e)
		}
		b, _ := protojson.Marshal(s)
		_, _ = w.Write(b)
	}
}

func (r *registry) set(key source.Key, instance string, e *resourcev1.Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path := source.Layout{}.Target(key)
	if r.all[path] == nil {
		r.all[path] = make(map[string]*resourcev1.Endpoint)
	}
	if delete(r.all[path], instance); e != nil {
		r.all[path][instance] = e
	}
}

func (r *registry) be(sick bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sick = sick
}

func TestPollingKeepsTheContract(t *testing.T) {
	t.Parallel()
	sourcetest.Contract(t, func(t *testing.T) *sourcetest.Subject {
		r := &registry{all: make(map[string]map[string]*resourcev1.Endpoint)}
		server := httptest.NewServer(r)
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxConnsPerHost: 8}}
		t.Cleanup(func() { client.CloseIdleConnections(); server.Close() })
		return &sourcetest.Subject{
			Source:  &httppoll.Source{URL: server.URL, Every: 50 * time.Millisecond, Client: client},
			Put:     func(_ *testing.T, key source.Key, e *resourcev1.Endpoint) { r.set(key, e.GetInstance(), e) },
			Remove:  func(_ *testing.T, key source.Key, instance string) { r.set(key, instance, nil) },
			Removed: source.Unknown,
			Spoil: func(_ *testing.T, key source.Key, instance string) {
				bad := proto.CloneOf(sourcetest.Endpoint(key, instance, 1))
				bad.MeshAddress = "nowhere"
				r.set(key, instance, bad)
			},
			Cut:  func(*testing.T) { r.be(true) },
			Heal: func(*testing.T) { r.be(false) },
		}
	})
}
