// Package end is the sides of a measurement. Each runs in a process of its own, told by a Spec what it is;
// it says on standard output that it is ready, and then answers each line on its standard input by a
// Sample. It ends with its standard input, so that none outlives whoever started it.
package end

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/pprof"
	"sort"
	"strings"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/histogram"
)

// The names that all sides agree on.
const (
	Target      = "echo"
	Service     = "octobench.Echo"
	Method      = "Echo"
	Environment = "bench"
)

// ProfileEnv names the file for a CPU profile of a side's whole life. Empty: none.
const ProfileEnv = "OCTOBENCH_CPUPROFILE"

// Spec says what a side is. Addresses are "network:address".
type Spec struct {
	Kind   string
	Listen string `json:",omitempty"` // where others come in; a port 0 is chosen by the system
	Dial   string `json:",omitempty"` // where the side goes out
	Load   Load
}

// Load is what a client does.
type Load struct {
	Size        int // of request and response, in bytes
	Connections int
	InFlight    int           // on all connections together
	Timeout     time.Duration // of each call; 0: none
}

// on is how many calls connection i keeps in flight.
func (l Load) on(i int) int {
	n := l.InFlight / l.Connections
	if i < l.InFlight%l.Connections {
		n++
	}
	return n
}

// Ready is a side's first word.
type Ready struct {
	Address string // where others reach it, if they do
}

// Sample is what a client has counted since its start.
type Sample struct {
	Nanoseconds int64 // of its clock
	Latencies   histogram.Counts
	Failures    uint64
	Failure     string // the first one
}

// side is a running one.
type side struct {
	address string
	sample  func() Sample // nil: nothing to tell
	stop    func()
}

var kinds = map[string]func(*Spec) (*side, error){
	"raw-server":   rawServer,
	"raw-attached": rawAttached,
	"raw-client":   rawClient,
	"copy":         byteCopy,

	"sdk-server":        sdkServer,
	"sdk-client":        sdkMeshClient,
	"sdk-direct-client": sdkDirectClient,
	"grpc-server":       grpcServer,
	"grpc-client":       grpcClient,
}

// Run is a side's process.
func Run(spec string, in io.Reader, out io.Writer) error {
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
	start, ok := kinds[s.Kind]
	if !ok {
		return fmt.Errorf("no side is called %q; there are %s", s.Kind, strings.Join(names(), ", "))
	}
	side, err := start(&s)
	if err != nil {
		return err
	}
	defer side.stop()
	enc := json.NewEncoder(out)
	if err := enc.Encode(Ready{side.address}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if side.sample == nil {
			return errors.New("this side has no samples")
		}
		if err := enc.Encode(side.sample()); err != nil {
			return err
		}
	}
	return nil
}

func names() []string {
	var out []string
	for name := range kinds {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

func listen(at string) (net.Listener, error) {
	network, address := split(at)
	return net.Listen(network, address)
}

func dial(at string) (net.Conn, error) {
	network, address := split(at)
	return net.Dial(network, address)
}

// split takes "network:address" apart.
func split(s string) (network, address string) {
	network, address, _ = strings.Cut(s, ":")
	return network, address
}
