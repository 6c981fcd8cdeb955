package rendezvous

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"
)

type builder struct{ r *Rendezvous }

// Scheme implements resolver.Builder.
func (builder) Scheme() string { return Scheme }

// Build implements resolver.Builder.
func (b builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	role := target.Endpoint()
	if role == "" || strings.Contains(role, "/") {
		return nil, fmt.Errorf("%q names no role: want %s:///<role>", target.URL.String(), Scheme)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &following{cancel: cancel}
	f.wg.Go(func() {
		b.r.Follow(ctx, role, func(members []Member) { tell(cc, role, members) })
	})
	return f, nil
}

// tell gives the members' addresses to a connection. If none is left the last ones stay: either they come back, or
// they are as good as none.
func tell(cc resolver.ClientConn, role string, members []Member) {
	if len(members) == 0 {
		cc.ReportError(fmt.Errorf("no process with the role %q is registered in etcd: start one", role))
		return
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	var s resolver.State
	for _, m := range members {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: m.Address}}})
	}
	_ = cc.UpdateState(s) // it says so itself if no address works
}

// following is one connection's.
type following struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// ResolveNow implements resolver.Resolver. What is known is always the newest.
func (*following) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver.
func (f *following) Close() {
	f.cancel()
	f.wg.Wait()
}
