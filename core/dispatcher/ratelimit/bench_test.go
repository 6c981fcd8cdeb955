package ratelimit

import (
	"context"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"

	"github.com/octomesh/octomesh/core/dispatcher/ratelimit/redistest"
)

// BenchmarkQuestion is what a call waits that is the first of its counter: a round trip over loopback to the service, and
// from it to its store.
func BenchmarkQuestion(b *testing.B) {
	for _, store := range []string{"memory", "redis"} {
		b.Run(store, func(b *testing.B) {
			s := Store(NewMemory(nil))
			if store == "redis" {
				s = NewRedis(RedisConfig{Address: redistest.Start(b).Address()})
			}
			server, g := New(Config{Store: s}), grpc.NewServer()
			defer server.Close()
			server.Register(g)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan struct{})
			go func() { defer close(done); _ = g.Serve(l) }()
			defer func() { g.Stop(); <-done }()
			conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			client := rlsv3.NewRateLimitServiceClient(conn)
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				d := with(descriptor("environment", "prod", "target", "shop.orders", "limit", "each-caller", "caller", strconv.Itoa(i)), 100, typev3.RateLimitUnit_SECOND)
				begun := time.Now()
				if _, err := client.ShouldRateLimit(context.Background(), &rlsv3.RateLimitRequest{
					Domain: "octo", HitsAddend: 1, Descriptors: []*commonv3.RateLimitDescriptor{d},
				}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
