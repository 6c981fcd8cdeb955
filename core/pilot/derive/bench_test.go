package derive

import (
	"fmt"
	"testing"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// BenchmarkAssignment is what one change of an instance costs the Pilot, whoever follows: all endpoints of the target are
// written anew.
func BenchmarkAssignment(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := make(map[string]*endpoint, n)
			for i := range n {
				all[fmt.Sprint("i", i)] = endpointOf(grpcAt(fmt.Sprintf("10.%d.%d.1:80", i/250, i%250), &resourcev1.Endpoint{Zone: fmt.Sprint("z", i%3)}))
			}
			t := resource.DerivedTopic(resource.KindLoadAssignment, "prod", "cart", "")
			b.ReportAllocs()
			for b.Loop() {
				r, err := snapshot.New(t, "", assignment("cart", nil, "", nil, all))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(r.Element)), "bytes")
			}
		})
	}
}
