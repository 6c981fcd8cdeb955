// Package otlptest is an OTLP collector for tests: a real server that keeps what it gets.
package otlptest

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // what exporters may send
	"google.golang.org/protobuf/proto"
)

// Collector keeps the spans that it gets.
type Collector struct {
	collectorv1.UnimplementedTraceServiceServer
	// Endpoint is what exporters are told, such as "http://127.0.0.1:4317".
	Endpoint string

	mu       sync.Mutex
	spans    []Span
	requests int
	answer   func(ctx context.Context) error // nil: success
	news     chan struct{}
}

// Span is a span with the attributes of its resource.
type Span struct {
	*tracev1.Span
	Resource map[string]string
}

// Attr returns an attribute of the span, "" if it has none of the name.
func (s *Span) Attr(key string) string { return attributes(s.Attributes)[key] }

// ID, Parent and Trace are the span's ids in hex; "" for none.
func (s *Span) ID() string     { return hex.EncodeToString(s.SpanId) }
func (s *Span) Parent() string { return hex.EncodeToString(s.ParentSpanId) }
func (s *Span) Trace() string  { return hex.EncodeToString(s.TraceId) }

func attributes(list []*commonv1.KeyValue) map[string]string {
	out := make(map[string]string, len(list))
	for _, kv := range list {
		switch v := kv.Value.Value.(type) {
		case *commonv1.AnyValue_StringValue:
			out[kv.Key] = v.StringValue
		default:
			out[kv.Key] = kv.Value.String()
		}
	}
	return out
}

// GRPC starts a collector that speaks OTLP over gRPC, until the test's end.
func GRPC(t testing.TB, opts ...grpc.ServerOption) *Collector {
	t.Helper()
	l := listen(t)
	c := &Collector{Endpoint: "http://" + l.Addr().String(), news: make(chan struct{}, 1)}
	s := grpc.NewServer(opts...)
	collectorv1.RegisterTraceServiceServer(s, c)
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		done.Wait()
	})
	return c
}

// HTTP starts a collector that speaks OTLP over HTTP at /v1/traces.
func HTTP(t testing.TB) *Collector {
	t.Helper()
	l := listen(t)
	c := &Collector{Endpoint: "http://" + l.Addr().String(), news: make(chan struct{}, 1)}
	s := &http.Server{Handler: http.HandlerFunc(c.serve), ReadHeaderTimeout: time.Minute}
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		_ = s.Close()
		done.Wait()
	})
	return c
}

// HTTPS is HTTP by TLS; the file holds the authority that signed the collector's certificate.
func HTTPS(t testing.TB) (c *Collector, authorities string) {
	t.Helper()
	c = &Collector{news: make(chan struct{}, 1)}
	s := httptest.NewTLSServer(http.HandlerFunc(c.serve))
	t.Cleanup(s.Close)
	c.Endpoint, authorities = s.URL, filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c, authorities
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (c *Collector) serve(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	var req collectorv1.ExportTraceServiceRequest
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err == nil {
		err = proto.Unmarshal(b, &req)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Method != http.MethodPost {
		http.Error(w, "no traces", http.StatusBadRequest)
		return
	}
	if _, err := c.Export(r.Context(), &req); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Answer makes the collector answer by f from now on.
func (c *Collector) Answer(f func(ctx context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = f
}

// Export implements the collector's service.
func (c *Collector) Export(ctx context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	c.requests++
	answer := c.answer
	c.mu.Unlock()
	if answer != nil {
		if err := answer(ctx); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans = append(c.spans, Span{s, attributes(rs.Resource.GetAttributes())})
			}
		}
	}
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// Requests returns how many exports have come.
func (c *Collector) Requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// Spans returns the spans that have come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Wait returns the spans once there are n of them, or fails the test.
func (c *Collector) Wait(t testing.TB, n int) []Span {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		if s := c.Spans(); len(s) >= n {
			return s
		}
		select {
		case <-c.news:
		case <-late:
			t.Fatalf("%d of %d spans have come", len(c.Spans()), n)
		}
	}
}
