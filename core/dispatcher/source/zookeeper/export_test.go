package zookeeper

import (
	"time"

	"github.com/go-zookeeper/zk"
)

// NewThrough is New with connections of the test's own, and other times that a handshake and an answer may take.
func NewThrough(c Config, dial zk.Dialer, handshake, answer time.Duration) (*Source, error) {
	return open(c, dial, timeouts{handshake, answer})
}
