package otlp_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/telemetry/otlp"
	"github.com/octomesh/octomesh/core/telemetry/otlp/otlptest"
	"github.com/octomesh/octomesh/core/telemetry/record"
	"github.com/octomesh/octomesh/core/telemetry/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func start(t *testing.T, cfg otlp.Config) *otlp.Exporter {
	t.Helper()
	cfg.Log, cfg.Now = quiet, func() int64 { return int64(time.Hour) }
	e, err := otlp.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		e.Close(ctx)
	})
	return e
}

func call(root bool) *record.Record {
	n := record.Note{On: true, Span: true, Shadow: root, Context: trace.NewRoot(), Generation: 7}
	if !root {
		n.Parent = trace.NewSpanID()
	}
	n.Keep(record.Target, []byte("shop.cart"))
	n.Keep(record.Method, []byte("shop.v1.Cart/Add"))
	n.Keep(record.Caller, []byte("web"))
	if !root {
		n.Keep(record.Tracestate, []byte("vendor=1"))
	}
	r := record.New(&n)
	r.Arrived, r.Sent, r.Took = int64(time.Hour-time.Second), int64(time.Hour-time.Second/2), int64(900*time.Millisecond)
	r.Route, r.Endpoint, r.Address, r.Attempts, r.CodeName = "everyone", "cart-1", "10.0.0.1:7001", 2, "OK"
	return r
}

func TestSpansArriveWithTheIdsOfTheCall(t *testing.T) {
	t.Parallel()
	for name, collector := range map[string]*otlptest.Collector{"grpc": otlptest.GRPC(t), "http": otlptest.HTTP(t)} {
		t.Run(name, func(t *testing.T) {
			e := start(t, otlp.Config{Endpoint: collector.Endpoint, HTTP: name == "http", Resource: map[string]string{"service.name": "octo-proxy"}})
			r := call(false)
			context, parent := r.Context, r.Parent
			before := time.Now()
			e.Put(r)
			s := collector.Wait(t, 1)[0]
			if s.Trace() != context.Trace.String() || s.ID() != context.Span.String() || s.Parent() != parent.String() || s.TraceState != "vendor=1" {
				t.Errorf("ids of %v", s)
			}
			if s.Name != "shop.v1.Cart/Add" || s.Kind != tracev1.Span_SPAN_KIND_CLIENT || s.Status.GetCode() != tracev1.Status_STATUS_CODE_UNSET {
				t.Errorf("span %v", s)
			}
			for key, want := range map[string]string{
				"rpc.system.name": "octo", "rpc.method": "shop.v1.Cart/Add", "rpc.response.status_code": "OK", "server.address": "10.0.0.1",
				"octo.target": "shop.cart", "octo.caller": "web", "octo.route": "everyone", "octo.endpoint": "cart-1", "octo.lane": "",
			} {
				if got := s.Attr(key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			for key, want := range map[string]string{"server.port": "int_value:7001", "octo.attempts": "int_value:2", "octo.generation": "int_value:7", "octo.waited_us": "int_value:500000"} {
				if got := s.Attr(key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if s.EndTimeUnixNano-s.StartTimeUnixNano != uint64(900*time.Millisecond) {
				t.Errorf("it took %d ns", s.EndTimeUnixNano-s.StartTimeUnixNano)
			}
			if at := time.Unix(0, int64(s.StartTimeUnixNano)); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(-time.Second)) {
				t.Errorf("it began at %v, a second before %v", at, before)
			}
			if s.Resource["service.name"] != "octo-proxy" {
				t.Errorf("resource %v", s.Resource)
			}
		})
	}
}

func TestRootHasNoParent(t *testing.T) {
	t.Parallel()
	collector := otlptest.GRPC(t)
	e := start(t, otlp.Config{Endpoint: collector.Endpoint})
	r := call(true)
	context := r.Context
	e.Put(r)
	if s := collector.Wait(t, 1)[0]; s.Trace() != context.Trace.String() || s.ID() != context.Span.String() || s.Parent() != "" || s.Attr("octo.shadow") != "bool_value:true" {
		t.Errorf("ids of %v", s)
	}
}

func TestErrorsAreTheServersOnlyWhereTheFaultIs(t *testing.T) {
	t.Parallel()
	collector := otlptest.GRPC(t)
	e := start(t, otlp.Config{Endpoint: collector.Endpoint})
	for _, c := range []struct {
		code    int32
		name    string
		inbound bool
		want    tracev1.Status_StatusCode
	}{
		{5, "NOT_FOUND", true, tracev1.Status_STATUS_CODE_UNSET}, {5, "NOT_FOUND", false, tracev1.Status_STATUS_CODE_ERROR},
		{14, "UNAVAILABLE", true, tracev1.Status_STATUS_CODE_ERROR}, {99, "CODE_99", true, tracev1.Status_STATUS_CODE_ERROR},
	} {
		r := call(false)
		r.Inbound, r.Code, r.CodeName, r.Reason, r.Origin, r.Disposition = c.inbound, c.code, c.name, "", "APPLICATION", "PROCESSED"
		id := r.Context.Span.String()
		n := len(collector.Spans())
		e.Put(r)
		s := collector.Wait(t, n+1)[n]
		if s.ID() != id || s.Status.GetCode() != c.want || s.Attr("rpc.response.status_code") != c.name || s.Attr("octo.status.origin") != "APPLICATION" {
			t.Errorf("%s inbound %v: %v", c.name, c.inbound, s)
		}
		if s.Status.GetCode() == tracev1.Status_STATUS_CODE_ERROR && s.Attr("error.type") != c.name {
			t.Errorf("error.type %q", s.Attr("error.type"))
		}
	}
}

// TestHangingCollectorCostsSpansOnly: what finds no room is dropped and counted, and the end is not waited for
// longer than allowed.
func TestHangingCollectorCostsSpansOnly(t *testing.T) {
	t.Parallel()
	collector := otlptest.GRPC(t)
	came := make(chan struct{}, 100)
	collector.Answer(func(ctx context.Context) error {
		came <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	e := start(t, otlp.Config{Endpoint: collector.Endpoint, MaxQueued: 50, Timeout: time.Hour})
	e.Put(call(true))
	<-came // the exporter hangs now
	for range 200 {
		e.Put(call(true))
	}
	if s := e.Status(); s.Dropped != 150 || s.Queued != 50 || s.Exported != 0 {
		t.Errorf("status %+v", s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.Close(ctx)
	if s := e.Status(); s.Failed != 51 || s.LastError == "" {
		t.Errorf("status after the end %+v", s)
	}
}

func TestRefusedSpansAreCountedAndTheNextGoOn(t *testing.T) {
	t.Parallel()
	collector := otlptest.GRPC(t)
	collector.Answer(func(context.Context) error { return errors.New("no room") })
	e := start(t, otlp.Config{Endpoint: collector.Endpoint})
	e.Put(call(true))
	for e.Status().Failed == 0 {
		time.Sleep(time.Millisecond)
	}
	if s := e.Status(); s.LastError == "" {
		t.Errorf("status %+v", s)
	}
	collector.Answer(nil)
	e.Put(call(true))
	collector.Wait(t, 1)
	for e.Status().Exported == 0 {
		time.Sleep(time.Millisecond)
	}
	if s := e.Status(); s.Failed != 1 || s.LastError != "" {
		t.Errorf("status %+v", s)
	}
}

func TestCollectorThatIsAwayHarmsNothing(t *testing.T) {
	t.Parallel()
	e := start(t, otlp.Config{Endpoint: "http://127.0.0.1:1", MaxQueued: 10})
	for range 20 {
		e.Put(call(true))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.Close(ctx)
	if s := e.Status(); s.Exported != 0 || s.Failed+s.Dropped != 20 {
		t.Errorf("status %+v", s)
	}
}

func TestEndExportsWhatWaits(t *testing.T) {
	t.Parallel()
	collector := otlptest.GRPC(t)
	e := start(t, otlp.Config{Endpoint: collector.Endpoint})
	for range 1000 {
		e.Put(call(true))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	e.Close(ctx)
	if n := len(collector.Spans()); n != 1000 || collector.Requests() < 2 || e.Status().Exported != 1000 {
		t.Errorf("%d spans in %d requests, %+v", n, collector.Requests(), e.Status())
	}
}

func TestCollectorsCertificateIsChecked(t *testing.T) {
	t.Parallel()
	collector, authorities := otlptest.HTTPS(t)
	good := start(t, otlp.Config{Endpoint: collector.Endpoint, HTTP: true, AuthoritiesFile: authorities})
	good.Put(call(true))
	collector.Wait(t, 1)
	stranger := start(t, otlp.Config{Endpoint: collector.Endpoint, HTTP: true}) // the system's authorities
	stranger.Put(call(true))
	for stranger.Status().Failed == 0 {
		time.Sleep(time.Millisecond)
	}
	if s := stranger.Status(); s.Exported != 0 || !strings.Contains(s.LastError, "certificate") {
		t.Errorf("status %+v", s)
	}
}

func TestBadAuthoritiesAreNamed(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"/nowhere.pem", "otlp_test.go"} {
		if _, err := otlp.Start(otlp.Config{Endpoint: "https://127.0.0.1:1", AuthoritiesFile: file, Log: quiet}); err == nil {
			t.Errorf("%s was taken", file)
		}
	}
}
