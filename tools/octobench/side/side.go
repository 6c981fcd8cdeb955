// Package side is what the sides of a measurement have in common. Each side runs in a process of its own,
// told by a Spec what it is; it says on standard output that it is ready, and then answers each line on its
// standard input by a Sample. It ends with its standard input, so that none outlives whoever started it.
package side

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/histogram"
)

// The names that all sides agree on.
const (
	Target      = "echo"
	Service     = "octobench.Echo"
	Environment = "bench"
)

// Command is the hidden subcommand under which a program is one side of a measurement.
const Command = "_end"

// ProfileEnv names the file for a CPU profile of a side's whole life. Empty: none.
const ProfileEnv = "OCTOBENCH_CPUPROFILE"

// Spec says what a side is. Addresses are "network:address".
type Spec struct {
	Kind   string
	Listen string `json:",omitempty"` // where others come in; a port 0 is chosen by the system
	Dial   string `json:",omitempty"` // where the side goes out
	Load   Load   // of the client; its server is told the same
}

// Ready is a side's first word.
type Ready struct {
	Address string // where others reach it, if they do
}

// Sample is what a client has counted since its start.
type Sample struct {
	Nanoseconds int64            // of its clock
	Latencies   histogram.Counts // of whole calls; of a bidi stream of each message and its answer
	Messages    uint64           // answers that have come
	Failures    uint64
	Failure     string // the first one
}

// Side is a running one.
type Side struct {
	Address string
	Sample  func() Sample // nil: nothing to tell
	Stop    func()
}

// Kinds are the sides that a program can be, by name.
type Kinds map[string]func(*Spec) (*Side, error)

// Run is a side's process.
func (k Kinds) Run(spec string, in io.Reader, out io.Writer) error {
	if file := os.Getenv(ProfileEnv); file != "" {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var s Spec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	start, ok := k[s.Kind]
	if !ok {
		return fmt.Errorf("no side is called %q; there are %s", s.Kind, strings.Join(slices.Sorted(maps.Keys(k)), ", "))
	}
	side, err := start(&s)
	if err != nil {
		return err
	}
	defer side.Stop()
	enc := json.NewEncoder(out)
	if err := enc.Encode(Ready{side.Address}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if side.Sample == nil {
			return errors.New("this side has no samples")
		}
		if err := enc.Encode(side.Sample()); err != nil {
			return err
		}
	}
	return nil
}

// Failures keeps what went wrong in a client. The zero value is ready.
type Failures struct {
	mu    sync.Mutex
	n     uint64
	first string
}

// Add counts one and keeps its text if it is the first.
func (f *Failures) Add(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		f.first = text
	}
	f.n++
}

// Sample puts together what a client has counted since start.
func (f *Failures) Sample(start time.Time, all []*Counter) Sample {
	out := Sample{Nanoseconds: int64(time.Since(start)), Latencies: histogram.Counts{}}
	for _, c := range all {
		c.latencies.AddTo(out.Latencies)
		out.Messages += c.messages.Load()
	}
	f.mu.Lock()
	out.Failures, out.Failure = f.n, f.first
	f.mu.Unlock()
	return out
}

// Listen listens at "network:address".
func Listen(at string) (net.Listener, error) {
	network, address := Split(at)
	return net.Listen(network, address)
}

// Dial connects to "network:address".
func Dial(at string) (net.Conn, error) {
	network, address := Split(at)
	return net.Dial(network, address)
}

// AddressOf is where others reach a listener.
func AddressOf(l net.Listener) string { return l.Addr().Network() + ":" + l.Addr().String() }

// Split takes "network:address" apart.
func Split(s string) (network, address string) {
	network, address, _ = strings.Cut(s, ":")
	return network, address
}
