package octomesh

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/sdks/go/internal/meshswitch"
)

// Version is the version of this SDK.
const Version = "0.1.0"

// process is the only mutable state of the package: what all channels and servers of a process have in
// common, because the protocol counts it by process.
var process = newProcessState()

// processState is what belongs to the process and not to one channel.
type processState struct {
	// incarnation is the start time in nanoseconds: with the instance's name it tells this run from the
	// one before.
	incarnation uint64
	assembly    budget

	connects connects

	mu sync.Mutex
	// peers are the connections to proxies: channels to one socket with the same identity share one.
	peers map[peerKey]*sharedPeer
	// targets are what all channels to a target have in common.
	targets map[targetKey]*target
	// sources are those of which channels learn; files the kill switches.
	sources map[sourceKey]*source
	files   map[string]*switchFile
}

// targetKey is whom a process calls, as whom.
type targetKey struct{ environment, application, target string }

// target is what the protocol counts by process and target.
type target struct {
	key    targetKey
	users  int
	retry  retryBudget
	blocks *meshswitch.Blocks
}

// join returns what all channels to a target have in common.
func (p *processState) join(key targetKey) *target {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[key]
	if t == nil {
		t = &target{key: key, blocks: meshswitch.NewBlocks(rand.Uint64)}
		t.retry.init()
		p.targets[key] = t
	}
	t.users++
	return t
}

func (p *processState) leave(t *target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(p.targets, t.key)
	}
}

// peerKey is what channels must have in common to share a connection.
type peerKey struct {
	socket, environment, application, instance string
	limits                                     Limits
}

type sharedPeer struct {
	*peer
	users int
}

func newProcessState() *processState {
	return &processState{
		incarnation: uint64(time.Now().UnixNano()),
		assembly:    budget{max: assemblyBudget},
		peers:       make(map[peerKey]*sharedPeer),
		targets:     make(map[targetKey]*target),
		sources:     make(map[sourceKey]*source),
		files:       make(map[string]*switchFile),
	}
}

// instance is the default name of this process among those of an application.
func (p *processState) instance(application string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	return fmt.Sprintf("%s@%s/%d", application, host, os.Getpid())
}

// share returns the process's peer for key, made by dial if there is none yet.
func (p *processState) share(key peerKey, dial func() *peer) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.peers[key]
	if s == nil {
		s = &sharedPeer{peer: dial()}
		p.peers[key] = s
	}
	s.users++
	return s.peer
}

// unshare gives a peer back; the last user closes it.
func (p *processState) unshare(key peerKey) {
	p.mu.Lock()
	s := p.peers[key]
	if s.users--; s.users > 0 {
		p.mu.Unlock()
		return
	}
	delete(p.peers, key)
	p.mu.Unlock()
	s.close()
}

// assemblyBudget bounds the bytes of messages that arrive in fragments, over all connections of the
// process. A message that does not fit is refused as RESOURCE_EXHAUSTED, OVERLOADED.
const assemblyBudget = 512 << 20

// budget is a bounded count of bytes.
type budget struct {
	max  int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) {
	if n != 0 {
		b.used.Add(-n)
	}
}
