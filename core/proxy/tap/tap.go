// Package tap is where telemetry touches the path of calls: [Tap.Begin] when a call has found its route and
// [Tap.End] when it has ended. Both only look and copy; spans and lines are made elsewhere, see packages otlp
// and accesslog.
package tap

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/telemetry/accesslog"
	"github.com/octomesh/octomesh/core/telemetry/otlp"
	"github.com/octomesh/octomesh/core/telemetry/trace"
)

// Config is what a tap knows of its proxy.
type Config struct {
	Service                        string // spans' service.name
	Environment, Instance, Version string
	Log                            *slog.Logger
}

// DefaultRootPermille is the share of calls that begin a trace, where nothing is configured.
const DefaultRootPermille = 10

// Tap tells of calls. A nil Tap tells nothing.
type Tap struct {
	cfg     Config
	now     atomic.Pointer[func() int64]
	current atomic.Pointer[settings] // nil: nothing is told

	mu     sync.Mutex
	config *resourcev1.Telemetry
	closed bool
}

// settings is what one configuration makes of calls.
type settings struct {
	root  trace.Share
	spans *otlp.Exporter
	log   *accesslog.Log
}

// New returns a tap that tells nothing until Apply.
func New(cfg Config) *Tap {
	t := &Tap{cfg: cfg}
	t.SetClock(func() int64 { return 0 })
	return t
}

// SetClock sets the proxy's monotonic clock, by which calls' times go. The proxy does it when it starts.
func (t *Tap) SetClock(now func() int64) {
	if t != nil {
		t.now.Store(&now)
	}
}

func (t *Tap) clock() int64 { return (*t.now.Load())() }

// Apply puts a configuration, complete and checked, in the place of the one before; nil: nothing is told. What
// did not change goes on, but that the access log's file is opened anew. If it fails the one before stays.
func (t *Tap) Apply(ctx context.Context, c *resourcev1.Telemetry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errors.New("telemetry has ended")
	}
	old := t.current.Load()
	if old == nil {
		old = &settings{}
	}
	next := &settings{root: trace.Permille(c.GetSampling().GetRootPermille())}
	var err error
	if next.spans = old.spans; !proto.Equal(c.GetOtlp(), t.config.GetOtlp()) {
		if next.spans, err = t.startSpans(c.GetOtlp()); err != nil {
			return err
		}
	}
	if proto.Equal(c.GetAccessLog(), t.config.GetAccessLog()) {
		if next.log = old.log; next.log != nil {
			err = next.log.Reopen()
		}
	} else {
		next.log, err = t.openLog(c.GetAccessLog())
	}
	if err != nil {
		if next.spans != nil && next.spans != old.spans {
			next.spans.Close(ctx)
		}
		return err
	}
	t.config = c
	t.publish(next)
	t.retire(ctx, old, next)
	return nil
}

func (t *Tap) publish(s *settings) {
	if s.spans == nil && s.log == nil {
		s = nil
	}
	t.current.Store(s)
}

// retire ends what a configuration had and the next one has not. A call that ends meanwhile may still put a
// record into it, which is then lost.
func (t *Tap) retire(ctx context.Context, old, next *settings) {
	if old.spans != nil && old.spans != next.spans {
		old.spans.Close(ctx)
	}
	if old.log != nil && old.log != next.log {
		old.log.Close(ctx)
	}
}

func (t *Tap) startSpans(c *resourcev1.OtlpExporter) (*otlp.Exporter, error) {
	if c == nil {
		return nil, nil
	}
	attributes := map[string]string{
		"service.name": t.cfg.Service, "service.version": t.cfg.Version, "service.instance.id": t.cfg.Instance,
		"deployment.environment.name": t.cfg.Environment,
	}
	for k, v := range c.GetResource() {
		attributes[k] = v
	}
	return otlp.Start(otlp.Config{
		Endpoint: c.GetEndpoint(), HTTP: c.GetProtocol() == resourcev1.OtlpExporter_PROTOCOL_HTTP, AuthoritiesFile: c.GetAuthoritiesFile(),
		Headers: c.GetHeaders(), Timeout: c.GetTimeout().AsDuration(), MaxQueued: int(c.GetMaxQueuedSpans()),
		Resource: attributes, Version: t.cfg.Version, Now: t.clock, Log: t.cfg.Log,
	})
}

func (t *Tap) openLog(c *resourcev1.AccessLog) (*accesslog.Log, error) {
	if c == nil {
		return nil, nil
	}
	return accesslog.Open(accesslog.Config{
		File: c.GetFile(), SuccessPermille: c.GetSuccessPermille(), MaxFailuresPerSecond: c.GetMaxFailuresPerSecond(),
		Metadata: c.GetMetadata(), MaxQueued: int(c.GetMaxQueuedLines()), Now: t.clock, Log: t.cfg.Log,
	})
}

// Status is what telemetry has done, for people. What is off is absent.
type Status struct {
	RootPermille uint32            `json:"root_permille,omitempty"`
	Spans        *otlp.Status      `json:"spans,omitempty"`
	AccessLog    *accesslog.Status `json:"access_log,omitempty"`
}

// Status returns what telemetry has done since it was configured.
func (t *Tap) Status() (out Status) {
	if t == nil {
		return out
	}
	s := t.current.Load()
	if s == nil {
		return out
	}
	if s.spans != nil {
		status := s.spans.Status()
		t.mu.Lock()
		out.RootPermille = t.config.GetSampling().GetRootPermille()
		t.mu.Unlock()
		out.Spans = &status
	}
	if s.log != nil {
		status := s.log.Status()
		out.AccessLog = &status
	}
	return out
}

// Close tells what waits to be told, until ctx ends at the latest. Calls that end later are not told of.
func (t *Tap) Close(ctx context.Context) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if old := t.current.Swap(nil); old != nil {
		t.retire(ctx, old, &settings{})
	}
}
