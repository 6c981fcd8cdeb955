// Package loopback gives tests addresses that they have to know before anybody listens there, as a program's configuration names one.
// Who can listen on port 0 and ask does that instead.
package loopback

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The ports that Free chooses from. They lie below those that systems give to outgoing connections and to listeners on port 0 (from 32768 on Linux, from
// 49152 elsewhere), so that of the many that tests open in the meantime none takes the address.
const lowest, highest = 12_000, 32_000

// Free returns an address, "127.0.0.1:port", where nobody listens. Two tests get the same one as rarely as two draws of 20,000 meet.
func Free(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(highest-lowest)))); err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	t.Fatalf("no port is free: %v", err)
	return ""
}
