package meshtest_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/tap"
	"github.com/octomesh/octomesh/core/telemetry/otlp/otlptest"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	octootel "github.com/octomesh/octomesh/sdks/go/otel"
)

// told is the taps of a world's proxies.
type told struct {
	t    testing.TB
	mu   sync.Mutex
	taps map[string]*tap.Tap // by application
}

// tell makes every proxy of the world tell of calls as config says.
func tell(w *world, config func(application string) *resourcev1.Telemetry) *told {
	all := &told{t: w.t, taps: make(map[string]*tap.Tap)}
	w.configure = func(application string, cfg *proxy.Config) {
		t := tap.New(tap.Config{Service: "octo-proxy", Environment: "test", Instance: "proxy-of-" + application, Version: proxy.Version, Log: logTo(w.t)})
		if err := t.Apply(w.t.Context(), config(application)); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { t.Close(context.Background()) })
		cfg.Tap = t
		all.mu.Lock()
		all.taps[application] = t
		all.mu.Unlock()
	}
	return all
}

// flush ends telling, so that all that was to be told is.
func (all *told) flush() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, t := range all.taps {
		t.Close(within(all.t, long))
	}
}

func spansTo(c *otlptest.Collector, permille uint32) *resourcev1.Telemetry {
	return &resourcev1.Telemetry{
		Otlp:     &resourcev1.OtlpExporter{Endpoint: c.Endpoint, Timeout: durationpb.New(10 * time.Second)},
		Sampling: &resourcev1.TraceSampling{RootPermille: proto.Uint32(permille)},
	}
}

// TestSpansOfAChainOfCallsAreOneTrace: web calls cart, whose handler calls stock, each through two proxies.
func TestSpansOfAChainOfCallsAreOneTrace(t *testing.T) {
	t.Parallel()
	for name, caller := range map[string]string{"begun by the proxy": "", "begun by the caller": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, true)
			collector := otlptest.GRPC(t)
			taps := tell(w, func(string) *resourcev1.Telemetry { return spansTo(collector, 1000) })
			w.serve("stock", thing{})
			toStock := w.dial("cart", "stock")
			seen := make(chan octomesh.TraceContext, 1)
			w.serve("cart", thing{do: func(ctx context.Context, m *msg) (*msg, error) {
				trace, _ := octomesh.Trace(ctx)
				seen <- trace
				return unary(ctx, toStock, again, m)
			}})
			ctx := within(t, long)
			if caller != "" {
				ctx = octomesh.ContextWithTrace(ctx, octomesh.TraceContext{Traceparent: caller, Tracestate: "vendor=1"})
			}
			if _, err := unary(ctx, w.dial("web", "cart"), do, text("x")); err != nil {
				t.Fatal(err)
			}
			taps.flush()
			spans := map[string]otlptest.Span{}
			for _, s := range collector.Wait(t, 4) {
				spans[s.Resource["service.instance.id"]+" "+s.Kind.String()[len("SPAN_KIND_"):]+" "+s.Name[strings.IndexByte(s.Name, '/'):]] = s
			}
			parent, first := "", ""
			if caller != "" {
				first, parent = caller[3:35], caller[36:52]
			}
			for _, at := range []string{"proxy-of-web CLIENT /Do", "proxy-of-cart SERVER /Do", "proxy-of-cart CLIENT /Again", "proxy-of-stock SERVER /Again"} {
				s, ok := spans[at]
				if !ok {
					t.Fatalf("no span %q among %v", at, spans)
				}
				if first == "" {
					first = s.Trace()
				}
				if s.Trace() != first || s.Parent() != parent {
					t.Errorf("%s: trace %s, parent %s; want %s, %s", at, s.Trace(), s.Parent(), first, parent)
				}
				if s.Attr("octo.caller") == "" || s.Attr("octo.target") == "" || s.Attr("server.address") != "127.0.0.1" && strings.Contains(at, "CLIENT") {
					t.Errorf("%s: attributes %v", at, s.Attributes)
				}
				parent = s.ID()
			}
			got := <-seen
			want := "00-" + first + "-" + spansID(spans, "proxy-of-cart SERVER /Do") + "-"
			if !strings.HasPrefix(got.Traceparent, want) || (got.Tracestate == "vendor=1") != (caller != "") {
				t.Errorf("the handler got %+v, want a traceparent that begins with %s", got, want)
			}
		})
	}
}

// TestTelemetryIsChangedWhileCallsRun: no call is lost, whatever is switched on and off beneath it.
func TestTelemetryIsChangedWhileCallsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	collector := otlptest.GRPC(t)
	file := filepath.Join(t.TempDir(), "log")
	log := &resourcev1.AccessLog{File: file, SuccessPermille: proto.Uint32(1000), MaxFailuresPerSecond: proto.Uint32(10)}
	taps := tell(w, func(string) *resourcev1.Telemetry { return spansTo(collector, 500) })
	ch := w.pair(thing{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if _, err := unary(context.Background(), ch, do, text("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both := spansTo(collector, 1000)
	both.AccessLog = log
	for range 5 {
		for _, c := range []*resourcev1.Telemetry{nil, {AccessLog: log}, both, both, spansTo(collector, 0)} {
			for _, tap := range taps.taps {
				if err := tap.Apply(within(t, long), c); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for _, tap := range taps.taps {
		if err := tap.Apply(within(t, long), both); err != nil {
			t.Error(err)
		}
	}
	for _, tap := range taps.taps { // the server's proxy has spans only of calls that the caller's samples
		eventually(t, "spans and lines", func() bool {
			s := tap.Status()
			return s.Spans.Exported > 0 && s.AccessLog.Written > 0
		})
	}
	stop()
	callers.Wait()
	taps.flush()
	if err := taps.taps["caller"].Apply(context.Background(), both); err == nil {
		t.Error("telemetry that has ended was configured")
	}
}

// TestCallsThatGoAgainAreOneSpan: it counts the attempts, and the first one's time is the proxy's.
func TestCallsThatGoAgainAreOneSpan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	collector := otlptest.GRPC(t)
	taps := tell(w, func(string) *resourcev1.Telemetry { return spansTo(collector, 1000) })
	w.add("thing", w.proxy("empty").Address) // no instance has attached there: calls go again, elsewhere
	ch := w.pair(thing{})
	const n = 20
	for range n {
		var got octomesh.Timings
		before := time.Now()
		if _, err := unary(within(t, long), ch, do, text("x"), octomesh.CaptureTimings(&got)); err != nil {
			t.Fatal(err)
		}
		checkTimings(t, w, &got, time.Since(before))
	}
	taps.flush()
	attempts := map[string]int{}
	var refused int
	for _, s := range collector.Spans() {
		if s.Kind == tracev1.Span_SPAN_KIND_CLIENT {
			attempts[s.Attr("octo.attempts")]++
		} else if s.Resource["service.instance.id"] == "proxy-of-empty" {
			refused++
		}
	}
	if attempts["int_value:1"]+attempts["int_value:2"] != n || attempts["int_value:2"] != refused || refused == 0 {
		t.Errorf("spans by attempts %v, %d calls were refused", attempts, refused)
	}
}

// TestServicesSpansJoinTheProxies: caller's and handler's OpenTelemetry spans and those of the two proxies
// between them are one chain.
func TestServicesSpansJoinTheProxies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	collector := otlptest.GRPC(t)
	taps := tell(w, func(string) *resourcev1.Telemetry { return spansTo(collector, 0) })
	own := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(own))
	traced := octomesh.WithInterceptors(octootel.Interceptor(octootel.WithTracerProvider(provider)))
	ch := w.pair(thing{}, traced)
	if _, err := unary(within(t, long), ch, do, text("x")); err != nil {
		t.Fatal(err)
	}
	taps.flush()
	proxies := map[tracev1.Span_SpanKind]otlptest.Span{}
	for _, s := range collector.Wait(t, 2) {
		proxies[s.Kind] = s
	}
	eventually(t, "the services' spans", func() bool { return len(own.GetSpans()) == 2 })
	services := map[trace.SpanKind]tracetest.SpanStub{}
	for _, s := range own.GetSpans() {
		services[s.SpanKind] = s
	}
	out, in := proxies[tracev1.Span_SPAN_KIND_CLIENT], proxies[tracev1.Span_SPAN_KIND_SERVER]
	client, server := services[trace.SpanKindClient], services[trace.SpanKindServer]
	if out.Parent() != client.SpanContext.SpanID().String() || in.Parent() != out.ID() || server.Parent.SpanID().String() != in.ID() ||
		in.Trace() != server.SpanContext.TraceID().String() || in.Trace() != client.SpanContext.TraceID().String() {
		t.Errorf("client %v, proxies %v and %v, server %v", client.SpanContext, out, in, server)
	}
}

func spansID(spans map[string]otlptest.Span, name string) string {
	s := spans[name]
	return s.ID()
}

func TestCallsThatAreNotSampledGoOnAsTheyCame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	collector := otlptest.GRPC(t)
	taps := tell(w, func(application string) *resourcev1.Telemetry {
		if application == "thing" { // decides nothing: calls come from another proxy
			return spansTo(collector, 1000)
		}
		return spansTo(collector, 0)
	})
	seen := make(chan octomesh.TraceContext, 1)
	ch := w.pair(thing{do: func(ctx context.Context, m *msg) (*msg, error) {
		trace, _ := octomesh.Trace(ctx)
		seen <- trace
		return m, nil
	}})
	for _, trace := range []octomesh.TraceContext{{}, {Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Tracestate: "vendor=1"}} {
		ctx := octomesh.ContextWithTrace(within(t, long), trace)
		if _, err := unary(ctx, ch, do, text("x")); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != trace {
			t.Errorf("%+v became %+v", trace, got)
		}
	}
	taps.flush()
	if s := collector.Spans(); len(s) != 0 {
		t.Errorf("spans %v", s)
	}
}

func TestFailedCallsSaySoInTheirSpans(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	collector := otlptest.GRPC(t)
	taps := tell(w, func(string) *resourcev1.Telemetry { return spansTo(collector, 1000) })
	ch := w.pair(thing{do: func(context.Context, *msg) (*msg, error) {
		return nil, &octomesh.Error{Code: octomesh.NotFound, Message: "secret"}
	}})
	_, _ = unary(within(t, long), ch, do, text("x"))
	_, _ = unary(within(t, long), w.dial("caller", "nobody"), do, text("x"))
	taps.flush()
	var refused, failed int
	for _, s := range collector.Wait(t, 3) {
		if strings.Contains(s.String(), "secret") {
			t.Errorf("the span holds the application's message: %v", s)
		}
		switch {
		case s.Attr("octo.target") == "nobody":
			refused++
			if s.Attr("octo.status.reason") != "UNKNOWN_TARGET" || s.Attr("octo.status.origin") != "CLIENT_PROXY" || s.Status.GetCode() != 2 {
				t.Errorf("%v", s)
			}
		case s.Attr("rpc.response.status_code") == "NOT_FOUND" && s.Attr("octo.status.origin") == "APPLICATION" && s.Attr("octo.status.disposition") == "PROCESSED":
			failed++
		}
	}
	if refused != 1 || failed != 2 {
		t.Errorf("%d refused, %d failed", refused, failed)
	}
}

// TestHangingCollectorHarmsNoCall and neither does a log that cannot be written.
func TestHangingCollectorHarmsNoCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	collector := otlptest.GRPC(t)
	collector.Answer(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	taps := tell(w, func(string) *resourcev1.Telemetry {
		c := spansTo(collector, 1000)
		c.Otlp.MaxQueuedSpans = 10
		if _, err := os.Stat("/dev/full"); err == nil {
			c.AccessLog = &resourcev1.AccessLog{File: "/dev/full", SuccessPermille: proto.Uint32(1000)}
		}
		return c
	})
	ch := w.pair(thing{})
	for range 500 {
		if _, err := unary(within(t, long), ch, do, text("x")); err != nil {
			t.Fatal(err)
		}
	}
	for name, tap := range taps.taps {
		s := tap.Status()
		if s.Spans.Exported != 0 || s.Spans.Dropped == 0 {
			t.Errorf("%s: %+v", name, s.Spans)
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		tap.Close(ended)
	}
}

func TestAccessLogHoldsFailuresAndNoPayload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	dir := t.TempDir()
	taps := tell(w, func(application string) *resourcev1.Telemetry {
		return &resourcev1.Telemetry{AccessLog: &resourcev1.AccessLog{
			File: filepath.Join(dir, application), SuccessPermille: proto.Uint32(0), MaxFailuresPerSecond: proto.Uint32(100), Metadata: []string{"tenant"},
		}}
	})
	ch := w.pair(thing{do: func(_ context.Context, m *msg) (*msg, error) {
		if string(m.Value) == "payload-good" {
			return m, nil
		}
		return nil, &octomesh.Error{Code: octomesh.NotFound, Message: "payload-message"}
	}})
	ctx := octomesh.ContextWithTrace(within(t, long), octomesh.TraceContext{Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"})
	for _, payload := range []string{"payload-good", "payload-bad"} {
		_, _ = unary(ctx, ch, do, text(payload), octomesh.Header("tenant", "t1"), octomesh.Header("token", "payload-token"))
	}
	_, _ = unary(ctx, w.dial("caller", "nobody"), do, text("payload-x"))
	taps.flush()
	for application, want := range map[string]int{"caller": 2, "thing": 1} {
		b, err := os.ReadFile(filepath.Join(dir, application))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "payload") {
			t.Errorf("%s's proxy logged what is not its own: %s", application, b)
		}
		got := strings.Split(strings.TrimSpace(string(b)), "\n")
		if len(got) != want {
			t.Fatalf("%s's proxy logged %d calls, want %d: %s", application, len(got), want, b)
		}
		var line struct {
			Direction, Caller, Target, Service, Method, Code, Origin string
			Trace                                                    string `json:"trace_id"`
			Metadata                                                 map[string][]string
		}
		if err := json.Unmarshal([]byte(got[0]), &line); err != nil {
			t.Fatal(err)
		}
		if line.Caller != "caller" || line.Target != "thing" || line.Service != service || line.Method != "Do" || line.Code != "NOT_FOUND" ||
			line.Origin != "APPLICATION" || line.Trace != "0af7651916cd43dd8448eb211c80319c" || len(line.Metadata["tenant"]) != 1 {
			t.Errorf("%s: %s", application, got[0])
		}
	}
}
