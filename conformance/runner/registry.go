package main

import (
	"net"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// registry is somebody's registry behind HTTP, as docs/guides/registry-adapter.md has it. It gives no reasons.
type registry struct {
	url    string
	server *http.Server

	mu      sync.Mutex
	answers map[string][]byte // by target
}

func newRegistry() (*registry, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{url: "http://" + l.Addr().String(), answers: make(map[string][]byte)}
	r.server = &http.Server{Handler: r}
	go func() { _ = r.server.Serve(l) }()
	return r, nil
}

func (r *registry) close() { _ = r.server.Close() }

// set replaces all endpoints.
func (r *registry) set(endpoints []*resourcev1.Endpoint) error {
	byTarget := make(map[string]*resourcev1.Snapshot)
	for _, e := range endpoints {
		if byTarget[e.Target] == nil {
			byTarget[e.Target] = &resourcev1.Snapshot{}
		}
		byTarget[e.Target].Endpoints = append(byTarget[e.Target].Endpoints, e)
	}
	answers := make(map[string][]byte)
	for target, s := range byTarget {
		b, err := protojson.Marshal(s)
		if err != nil {
			return err
		}
		answers[target] = b
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = answers
	return nil
}

// ServeHTTP implements http.Handler.
func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	b := r.answers[strings.TrimPrefix(q.URL.Path, "/"+environment+"/")]
	r.mu.Unlock()
	if b == nil {
		http.NotFound(w, q)
		return
	}
	_, _ = w.Write(b)
}
