// Package otlp makes OpenTelemetry spans of records and sends them to a collector. All of it happens in one
// goroutine that nobody waits for: while the collector is slow or away, records wait in a bounded queue and
// are dropped beyond it.
package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/telemetry/meter"
	"github.com/octomesh/octomesh/core/telemetry/record"
)

// Config says where spans go and in whose name.
type Config struct {
	// Endpoint is "http://host:port" or, for TLS, "https://host:port".
	Endpoint string
	// HTTP: OTLP over HTTP instead of gRPC.
	HTTP bool
	// AuthoritiesFile holds certificates (PEM) of those that sign the collector's. "": the system's.
	AuthoritiesFile string
	// Headers are sent with each export.
	Headers map[string]string
	// Timeout of one export, retries included. 0: 10 s.
	Timeout time.Duration
	// MaxQueued bounds the spans that wait. 0: 8192.
	MaxQueued int
	// Resource is the attributes of the process.
	Resource map[string]string
	// Version of the program, as the version of the instrumentation.
	Version string
	// Now is the monotonic clock of the records.
	Now func() int64
	Log *slog.Logger
}

// Defaults of Config.
const (
	DefaultTimeout   = 10 * time.Second
	DefaultMaxQueued = 8192
)

// Exporter takes records of sampled calls.
type Exporter struct {
	cfg    Config
	queue  *record.Queue
	client sdktrace.SpanExporter
	spans  *builder
	group  *lifecycle.Group
	life   context.Context // exports end with it
	kill   context.CancelFunc

	exported, failed atomic.Uint64
	last             atomic.Pointer[string] // the last export's error; nil: it went well
	quiet            time.Time              // no more complaints until then; of the goroutine
}

// Start starts an exporter. It does not wait for the collector.
func Start(cfg Config) (*Exporter, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = DefaultMaxQueued
	}
	client, err := newClient(&cfg)
	if err != nil {
		return nil, err
	}
	e := &Exporter{cfg: cfg, queue: record.NewQueue(cfg.MaxQueued), client: client, spans: newBuilder(&cfg), group: lifecycle.New(context.Background())}
	e.life, e.kill = context.WithCancel(context.Background())
	e.group.Go(func(ctx context.Context) { e.queue.Run(ctx, e.export) })
	return e, nil
}

// newClient makes the client of the OpenTelemetry SDK. It dials when there is something to export.
func newClient(cfg *Config) (sdktrace.SpanExporter, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("the collector's endpoint: %w", err)
	}
	secure := u.Scheme == "https"
	var roots *tls.Config
	if secure {
		if roots, err = trusted(cfg.AuthoritiesFile); err != nil {
			return nil, err
		}
	}
	ctx := context.Background() // the clients do not use it
	if cfg.HTTP {
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/traces"
		}
		opts := []otlptracehttp.Option{
			otlptracehttp.WithEndpoint(u.Host), otlptracehttp.WithURLPath(u.Path), otlptracehttp.WithHeaders(cfg.Headers),
			otlptracehttp.WithTimeout(cfg.Timeout), otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		}
		if secure {
			opts = append(opts, otlptracehttp.WithTLSClientConfig(roots))
		} else {
			opts = append(opts, otlptracehttp.WithInsecure())
		}
		return otlptracehttp.New(ctx, opts...)
	}
	opts := []otlptracegrpc.Option{
		otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithHeaders(cfg.Headers), otlptracegrpc.WithTimeout(cfg.Timeout),
	}
	if secure {
		opts = append(opts, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(roots)))
	} else {
		opts = append(opts, otlptracegrpc.WithInsecure())
	}
	return otlptracegrpc.New(ctx, opts...)
}

func trusted(file string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return c, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the collector's authorities: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the collector's authorities: %s holds no certificate in PEM", file)
	}
	return c, nil
}

// Put takes the record of a sampled call that has ended. It never waits.
func (e *Exporter) Put(r *record.Record) { e.queue.Put(r) }

// maxBatch is how many spans one export carries.
const maxBatch = 512

// export makes spans of records and sends them.
func (e *Exporter) export(records []*record.Record) {
	now, wall := e.cfg.Now(), time.Now()
	for len(records) > 0 {
		n := min(len(records), maxBatch)
		for _, r := range records[:n] {
			arrived := wall.Add(time.Duration(r.Arrived - now))
			e.spans.add(r, arrived)
			if r.Calls != nil {
				took := time.Duration(r.Took)
				r.Calls.Latency.Exemplify(meter.Exemplar{Took: took, At: arrived.Add(took), Trace: r.Context.Trace, Span: r.Context.Span})
			}
			r.Drop()
		}
		records = records[n:]
		e.send(e.spans.take())
	}
}

func (e *Exporter) send(spans []sdktrace.ReadOnlySpan) {
	ctx, cancel := context.WithTimeout(e.life, e.cfg.Timeout)
	defer cancel()
	if err := e.client.ExportSpans(ctx, spans); err != nil {
		e.failed.Add(uint64(len(spans)))
		text := err.Error()
		e.last.Store(&text)
		if now := time.Now(); now.After(e.quiet) {
			e.quiet = now.Add(time.Minute)
			e.cfg.Log.Warn("spans were not exported", "endpoint", e.cfg.Endpoint, "spans", len(spans), "error", err)
		}
		return
	}
	e.exported.Add(uint64(len(spans)))
	e.last.Store(nil)
}

// Status is what an exporter has done.
type Status struct {
	Endpoint string `json:"endpoint"`
	Exported uint64 `json:"exported"`
	// Failed spans were taken and not accepted by the collector, Dropped ones found no room in the queue.
	Failed    uint64 `json:"failed"`
	Dropped   uint64 `json:"dropped"`
	Queued    int    `json:"queued"`
	LastError string `json:"last_error,omitempty"` // of the last export; "": it went well
}

// Status returns what the exporter has done so far.
func (e *Exporter) Status() Status {
	s := Status{Endpoint: e.cfg.Endpoint, Exported: e.exported.Load(), Failed: e.failed.Load(), Dropped: e.queue.Dropped(), Queued: e.queue.Len()}
	if text := e.last.Load(); text != nil {
		s.LastError = *text
	}
	return s
}

// Close exports what waits, until ctx ends at the latest, and ends the exporter. Nothing may be put any more.
func (e *Exporter) Close(ctx context.Context) {
	stop := context.AfterFunc(ctx, e.kill)
	defer stop()
	e.group.Stop()
	e.kill()
	_ = e.client.Shutdown(ctx) // it has nothing left: an error says that ctx has ended
}
