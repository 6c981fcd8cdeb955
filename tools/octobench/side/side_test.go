package side

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestLoadsAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Load{
		"1:1":                   {Kind: Unary, Size: 1024, Connections: 1, InFlight: 1},
		"4:100":                 {Kind: Unary, Size: 1024, Connections: 4, InFlight: 100},
		"1:100@20000":           {Kind: Unary, Size: 1024, Connections: 1, InFlight: 100, Rate: 20000},
		"1:16/16k":              {Kind: Unary, Size: 16 << 10, Connections: 1, InFlight: 16},
		"2:4@0.5/1m":            {Kind: Unary, Size: 1 << 20, Connections: 2, InFlight: 4, Rate: 0.5},
		"1:16/bidi":             {Kind: Bidi, Size: 1024, Connections: 1, InFlight: 16},
		"1:16/0/server-stream":  {Kind: ServerStream, Size: 0, Connections: 1, InFlight: 16},
		"1:2/1500/bidi":         {Kind: Bidi, Size: 1500, Connections: 1, InFlight: 2},
		"1:2@10/server-stream":  {Kind: ServerStream, Size: 1024, Connections: 1, InFlight: 2, Rate: 10},
		"3:300/4m":              {}, // more than others take by default
		"1:16@":                 {},
		"1:16@-1":               {},
		"1:16@NaN":              {},
		"1:16@10/bidi":          {}, // a stream's next message waits for an answer
		"1:16/16g":              {},
		"1:16/99999999999k":     {},
		"1:16/client-stream":    {},
		"4:3":                   {},
		"0:1":                   {},
		"1":                     {},
		"1:1x":                  {},
		"":                      {},
		"1:9999999999999999999": {},
	} {
		got, err := ParseLoad(text)
		switch {
		case want.Connections == 0 && err == nil:
			t.Errorf("%q passed as %+v", text, got)
		case want.Connections == 0:
		case err != nil || got != want:
			t.Errorf("%q is %+v, %v", text, got, err)
		case got.Column() != text:
			t.Errorf("%q is written %q", text, got.Column())
		}
	}
}

func TestCallsAreSharedAmongConnections(t *testing.T) {
	l := Load{Connections: 3, InFlight: 8}
	if l.On(0) != 3 || l.On(1) != 3 || l.On(2) != 2 {
		t.Fatalf("%d %d %d", l.On(0), l.On(1), l.On(2))
	}
}

// slow answers after a time, one call after the other, as a server that stalls.
func slow(d time.Duration) Caller {
	turn := make(chan struct{}, 1)
	return Caller{Unary: func(_ context.Context, in *Message) (*Message, error) {
		turn <- struct{}{}
		time.Sleep(d)
		<-turn
		return in, nil
	}}
}

// A server that is ten times too slow for the rate must show latencies that grow with each call, not those
// of the calls that it got round to.
func TestOpenLoopChargesAStallToTheCallsThatWaited(t *testing.T) {
	s := &Spec{Load: Load{Kind: Unary, Size: 1, Connections: 1, InFlight: 2, Rate: 1000}}
	client, err := StartWorkers(s, []Caller{slow(10 * time.Millisecond)}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Stop()
	for client.Sample().Messages < 40 {
		time.Sleep(time.Millisecond)
	}
	// The last of 40 calls was to go after 40 ms and has ended after 400: it has waited for most of these.
	if worst := client.Sample().Latencies.Quantile(1); worst < 200*time.Millisecond {
		t.Fatalf("the worst latency is %v", worst)
	}
}

func TestFailuresAreCountedAndTheFirstIsKept(t *testing.T) {
	for _, c := range []struct {
		kind, want string
		caller     Caller
	}{
		{Unary, "no", Caller{Unary: func(context.Context, *Message) (*Message, error) { return nil, errors.New("no") }}},
		{Unary, "has 1 bytes", Caller{Unary: func(context.Context, *Message) (*Message, error) { return &Message{Value: []byte("x")}, nil }}},
		{ServerStream, "had 0 messages", Caller{ServerStream: func(context.Context, *Message) (Receiver, error) { return ended{}, nil }}},
		{Bidi, "EOF", Caller{Bidi: func(context.Context) (Exchange, error) { return ended{}, nil }}},
	} {
		client, err := StartWorkers(&Spec{Load: Load{Kind: c.kind, Size: 7, Connections: 1, InFlight: 1}}, []Caller{c.caller}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		for client.Sample().Failures == 0 {
			time.Sleep(time.Millisecond)
		}
		if got := client.Sample(); got.Failures != 1 || !strings.Contains(got.Failure, c.want) {
			t.Errorf("%s: got %d, %q, want %q", c.kind, got.Failures, got.Failure, c.want)
		}
		client.Stop()
	}
}

// ended is a stream that has ended.
type ended struct{}

func (ended) Receive() (*Message, error) { return nil, io.EOF }
func (ended) Send(*Message) error        { return nil }

func TestKindsThatACallerDoesNotOfferAreRefused(t *testing.T) {
	stopped := false
	s := &Spec{Load: Load{Kind: Bidi, Connections: 1, InFlight: 1}}
	_, err := StartWorkers(s, []Caller{slow(0)}, func() { stopped = true })
	if err == nil || !strings.Contains(err.Error(), Bidi) || !stopped {
		t.Fatalf("got %v, stopped %v", err, stopped)
	}
}
