// Command grpc is a testee without an SDK: gRPC's own client and server for Go, as their makers ship them. The runner has them call
// and serve through the proxies' bridge, in the place of an SDK. What of the control protocol gRPC has no word for it leaves out.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// maxFrame bounds a command.
const maxFrame = 64 << 20

func main() {
	// Whatever prints from here on must not break the framing.
	out := os.Stdout
	os.Stdout = os.Stderr
	t := &testee{
		out: out, servers: make(map[string]*server), channels: make(map[string]*grpc.ClientConn), calls: make(map[string]*call),
		gates: make(map[string]chan struct{}), ledgers: make(map[string]*frames),
	}
	if err := t.run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testee:", err)
		os.Exit(1)
	}
}

// testee is both roles. The maps are guarded by mu.
type testee struct {
	out io.Writer
	mu  sync.Mutex

	servers  map[string]*server
	channels map[string]*grpc.ClientConn
	calls    map[string]*call // that run, by id
	gates    map[string]chan struct{}
	ledgers  map[string]*frames
	handlers int
}

// frames writes messages, each whole.
type frames struct {
	mu  sync.Mutex
	out io.Writer
}

func (f *frames) write(m proto.Message) error {
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4), m)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err = f.out.Write(b)
	return err
}

// run carries out commands until the runner closes their pipe.
func (t *testee) run(in io.Reader) error {
	reports := &frames{out: t.out}
	hello := &conformancev1.Hello{ControlVersion: 1, Language: "go", SdkVersion: "grpc-go " + grpc.Version}
	if err := reports.write(&conformancev1.Report{Report: &conformancev1.Report_Hello{Hello: hello}}); err != nil {
		return err
	}
	in = bufio.NewReader(in)
	for {
		c, err := next(in)
		if errors.Is(err, io.EOF) {
			t.leave()
			return nil
		} else if err != nil {
			return err
		}
		go func() {
			r := t.do(c)
			r.Id = c.Id
			if err := reports.write(r); err != nil {
				fmt.Fprintln(os.Stderr, "a report is lost:", err)
			}
		}()
	}
}

// next reads a command; io.EOF: there are no more.
func next(in io.Reader) (*conformancev1.Command, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a command of %d bytes, at most %d", n, maxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, err
	}
	c := &conformancev1.Command{}
	return c, proto.Unmarshal(b, c)
}

func (t *testee) do(c *conformancev1.Command) *conformancev1.Report {
	var err error
	switch v := c.Command.(type) {
	case *conformancev1.Command_StartServer:
		var address string
		if address, err = t.start(v.StartServer); err == nil {
			return &conformancev1.Report{Report: &conformancev1.Report_Started{Started: &conformancev1.Started{Address: address}}}
		}
	case *conformancev1.Command_StopServer:
		var cut bool
		if cut, err = t.stop(v.StopServer.Name, time.Duration(v.StopServer.DrainMs)*time.Millisecond); err == nil {
			return done(cut)
		}
	case *conformancev1.Command_Connect:
		if err = t.connect(v.Connect); err == nil {
			return done(false)
		}
	case *conformancev1.Command_RunCall:
		var res *conformancev1.CallResult
		if res, err = t.call(v.RunCall); err == nil {
			return &conformancev1.Report{Report: &conformancev1.Report_CallResult{CallResult: res}}
		}
	case *conformancev1.Command_Signal:
		if err = t.signal(v.Signal); err == nil {
			return done(false)
		}
	case *conformancev1.Command_GetStats:
		t.mu.Lock()
		defer t.mu.Unlock()
		s := &conformancev1.Stats{Handlers: uint32(t.handlers), Calls: uint32(len(t.calls))}
		return &conformancev1.Report{Report: &conformancev1.Report_Stats{Stats: s}}
	default:
		err = errors.New("not a command for a program without an SDK")
	}
	return &conformancev1.Report{Report: &conformancev1.Report_Failure{Failure: err.Error()}}
}

func done(cut bool) *conformancev1.Report {
	return &conformancev1.Report{Report: &conformancev1.Report_Done{Done: &conformancev1.Done{Cut: cut}}}
}

// signal changes a call that runs here, as its caller or as its handler.
func (t *testee) signal(s *conformancev1.Signal) error {
	if s.Kind == conformancev1.Signal_KIND_RELEASE {
		gate := t.gate(s.CallId)
		t.mu.Lock()
		defer t.mu.Unlock()
		select {
		case <-gate:
		default:
			close(gate)
		}
		return nil
	}
	t.mu.Lock()
	c := t.calls[s.CallId]
	t.mu.Unlock()
	switch {
	case c == nil:
		return fmt.Errorf("no call %s runs here", s.CallId)
	case s.Kind == conformancev1.Signal_KIND_CANCEL:
		c.cancel()
	default:
		c.resume()
	}
	return nil
}

// gate is where the handler of a call waits to be released.
func (t *testee) gate(id string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gates[id] == nil {
		t.gates[id] = make(chan struct{})
	}
	return t.gates[id]
}

// leave ends what runs when the runner has gone.
func (t *testee) leave() {
	t.mu.Lock()
	channels, servers := t.channels, t.servers
	t.channels, t.servers = nil, nil
	t.mu.Unlock()
	for _, ch := range channels {
		_ = ch.Close()
	}
	for _, s := range servers {
		s.end(context.Background(), 2*time.Second)
	}
}
