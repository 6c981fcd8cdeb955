// Command go is the testee of the Go SDK: a program that the conformance runner tells to serve
// octo.conformance.v1.Conformance and to call it. The runner speaks to it on standard input and output, as
// proto/octo/conformance/v1/control.proto says.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/conformance/testees/go/gen/octo/conformance/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

const (
	// maxFrame bounds a command: the largest carries a few messages of 4 MiB by size, not by data.
	maxFrame = 64 << 20
	// drain is how long open calls may go on once the runner has gone.
	drain = 2 * time.Second
)

func main() {
	// Whatever prints from here on must not break the framing.
	out := os.Stdout
	os.Stdout = os.Stderr
	t := &testee{
		out: out, log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		servers: make(map[string]*server), channels: make(map[string]*octomesh.Channel),
		calls: make(map[string]*call), batches: make(map[string]*batch), gates: make(map[string]chan struct{}), ledgers: make(map[string]*frames),
	}
	if err := t.run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testee:", err)
		os.Exit(1)
	}
}

// testee is both roles. The maps are guarded by mu.
type testee struct {
	log *slog.Logger
	out io.Writer
	mu  sync.Mutex

	servers  map[string]*server
	channels map[string]*octomesh.Channel
	calls    map[string]*call // that run, by id
	batches  map[string]*batch
	gates    map[string]chan struct{} // closed once the handler of the call may go on
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
	hello := &conformancev1.Hello{ControlVersion: 1, Language: "go", SdkVersion: octomesh.Version, ProtocolMin: 1, ProtocolMax: 1}
	if err := reports.write(&conformancev1.Report{Report: &conformancev1.Report_Hello{Hello: hello}}); err != nil {
		return err
	}
	in = bufio.NewReader(in)
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); errors.Is(err, io.EOF) {
			return t.leave()
		} else if err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > maxFrame {
			return fmt.Errorf("a command of %d bytes, at most %d", n, maxFrame)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		c := &conformancev1.Command{}
		if err := proto.Unmarshal(b, c); err != nil {
			return err
		}
		go func() {
			r := t.do(c)
			r.Id = c.Id
			if err := reports.write(r); err != nil {
				t.log.Error("a report is lost", "err", err)
			}
		}()
	}
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
	case *conformancev1.Command_RunBatch:
		var res *conformancev1.BatchResult
		if res, err = t.batch(v.RunBatch); err == nil {
			return &conformancev1.Report{Report: &conformancev1.Report_BatchResult{BatchResult: res}}
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
		err = errors.New("unknown command")
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
	c, b := t.calls[s.CallId], t.batches[s.CallId]
	t.mu.Unlock()
	if b != nil {
		b.finish()
		if s.Kind == conformancev1.Signal_KIND_CANCEL {
			t.cancelAll(s.CallId + "-")
		}
		return nil
	}
	if c == nil {
		return fmt.Errorf("no call %s runs here", s.CallId)
	}
	if s.Kind == conformancev1.Signal_KIND_CANCEL {
		c.cancel()
		return nil
	}
	c.resume()
	return nil
}

// cancelAll cancels the calls that run whose ids begin so.
func (t *testee) cancelAll(prefix string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, c := range t.calls {
		if strings.HasPrefix(id, prefix) {
			c.cancel()
		}
	}
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
func (t *testee) leave() error {
	t.mu.Lock()
	channels, servers := t.channels, t.servers
	t.channels, t.servers = nil, nil
	t.mu.Unlock()
	for _, ch := range channels {
		_ = ch.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	for _, s := range servers {
		_ = s.Shutdown(ctx)
	}
	return nil
}
