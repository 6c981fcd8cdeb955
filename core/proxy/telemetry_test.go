package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/tap"
	"github.com/octomesh/octomesh/core/telemetry/otlp/otlptest"
)

// TestTellingAllocatesNothingOnTheWay: neither for calls that are noted and not told of, nor for those that
// are, once the queues' consumers are out of the way.
func TestTellingAllocatesNothingOnTheWay(t *testing.T) {
	collector := otlptest.GRPC(t)
	collector.Answer(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	spans := &resourcev1.OtlpExporter{Endpoint: collector.Endpoint, MaxQueuedSpans: 1}
	log := &resourcev1.AccessLog{File: filepath.Join(t.TempDir(), "log"), MaxFailuresPerSecond: proto.Uint32(100), Metadata: []string{"tenant"}}
	for name, c := range map[string]*resourcev1.Telemetry{
		"not sampled": {Otlp: spans, AccessLog: log, Sampling: &resourcev1.TraceSampling{RootPermille: proto.Uint32(0)}},
		"sampled":     {Otlp: spans, AccessLog: log, Sampling: &resourcev1.TraceSampling{RootPermille: proto.Uint32(1000)}},
	} {
		t.Run(name, func(t *testing.T) {
			told := tap.New(tap.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
			if err := told.Apply(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ended, cancel := context.WithCancel(context.Background())
				cancel()
				told.Close(ended)
			})
			allocatesLittle(t, 1, told)
			if s := told.Status(); name == "sampled" && s.Spans.Dropped == 0 {
				t.Errorf("nothing was told: %+v", s.Spans)
			}
		})
	}
}
