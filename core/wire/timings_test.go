package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

func stages(t *testing.T, b []byte) (out []wire.Stage) {
	t.Helper()
	for {
		s, rest, ok, err := wire.NextStage(b)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		out, b = append(out, s), rest
	}
}

func TestStageNamesAreTheSpecification(t *testing.T) {
	for n, name := range wirev1.Timings_Stage_Kind_name {
		if got := wire.StageKind(n).String(); "KIND_"+got != name {
			t.Errorf("stage %d is %s, in the proto %s", n, got, name)
		}
	}
	if got := wire.StageKind(99).String(); got != "STAGE_99" {
		t.Error(got)
	}
}

func TestStagesAreProtobuf(t *testing.T) {
	b := wire.AppendStage(nil, wire.StageHandler, 1_234_567, "cart-1")
	b = wire.AppendStage(b, wire.StageServerQueue, 999, "cart-1") // rounds to 0: left out
	b = wire.AppendStage(b, wire.StageServerQueue, -5, "cart-1")
	b = wire.AppendStage(b, wire.StageLink, 2_000, strings.Repeat("x", 300))
	var m wirev1.Timings
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Stages) != 2 || m.Stages[0].DurationUs != 1234 || string(m.Stages[0].Instance) != "cart-1" ||
		m.Stages[0].Kind != wirev1.Timings_Stage_KIND_HANDLER || len(m.Stages[1].Instance) != 64 {
		t.Errorf("%v", &m)
	}
	if got := stages(t, b); len(got) != 2 || got[0].DurationUS != 1234 || got[1].Kind != wire.StageLink {
		t.Errorf("%v", got)
	}
}

// TestStagesAddUpToTheTotal follows a call through a server, two hops and a client, with times that do not
// end on microseconds.
func TestStagesAddUpToTheTotal(t *testing.T) {
	server := wire.AppendStage(nil, wire.StageServerQueue, 10_999, "s")
	server = wire.AppendStage(server, wire.StageHandler, 5_000_999, "s")
	head := wire.AppendHop([]byte("\x30\x01"), wire.HopTimings, server)
	for i, total := range []int64{5_100_001, 5_300_999} {
		received, ok := wire.ScanTimings(head)
		if !ok {
			t.Fatalf("hop %d got no timings", i)
		}
		head = wire.AppendHopTimings(head, wire.HopTimes{Received: received, Instance: "p", Total: total, Request: 20_900, Response: 30_900})
		got, _ := wire.ScanTimings(head)
		if sum, ok := wire.SumStages(got); !ok || sum != uint64(total/1000) {
			t.Errorf("hop %d: %d µs in all, of %d ns", i, sum, total)
		}
	}
	received, _ := wire.ScanTimings(head)
	client := wire.HopTimes{Received: received, Instance: "c", Total: 6_000_500, Request: 70_999, Response: 1_999, Client: true}
	all := client.AppendStages(nil)
	if sum, ok := wire.SumStages(all); !ok || sum != 6000 {
		t.Errorf("%d µs in all", sum)
	}
	var kinds []string
	for _, s := range stages(t, all) {
		kinds = append(kinds, s.Kind.String())
	}
	if got := strings.Join(kinds, " "); got != "SERVER_QUEUE HANDLER LINK PROXY_REQUEST PROXY_RESPONSE LINK PROXY_REQUEST PROXY_RESPONSE LINK SDK_QUEUE SDK_RESPONSE" {
		t.Error(got)
	}
}

func TestTimingsThatCannotBeAreReplaced(t *testing.T) {
	own := wire.HopTimes{Instance: "p", Total: 3_000, Request: 1_000, Response: 1_000}
	want := own.AppendStages(nil)
	for name, received := range map[string][]byte{
		"malformed": {0x0a, 0x05, 1}, "a stage that does not parse": {0x0a, 0x01, 0x08}, "a stage as a number": {0x08, 0x01},
		"too much": bytes.Repeat(wire.AppendStage(nil, wire.StageHandler, 1000, "x"), 200),
	} {
		times := own
		times.Received = received
		if got := times.AppendStages(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: %x", name, got)
		}
	}
	lies := own // more than there can have been: nothing is negative
	lies.Received = wire.AppendStage(nil, wire.StageHandler, 1<<62, "x")
	for _, s := range stages(t, lies.AppendStages(nil)) {
		if s.Kind == wire.StageLink {
			t.Errorf("%v", s)
		}
	}
}

func TestTimingsOnTheWayAllocateNothing(t *testing.T) {
	head := wire.AppendHop(nil, wire.HopTimings, wire.AppendStage(nil, wire.StageHandler, 5_000_000, "s"))
	out := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		received, _ := wire.ScanTimings(head)
		out = wire.AppendHopTimings(out[:0], wire.HopTimes{Received: received, Instance: "p", Total: 6_000_000, Request: 5_000, Response: 5_000})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTimingsVectors(t *testing.T) {
	eachVector(t, "timings.json", func(t *testing.T, v vector) {
		input := in[struct {
			Received, Instance hexBytes
			Role               string
			Total              decimal `json:"total_ns"`
			Request            decimal `json:"request_ns"`
			Response           decimal `json:"response_ns"`
		}](t, v.Input)
		want := in[struct {
			Timings hexBytes
			Sum     decimal `json:"sum_us"`
		}](t, v.Result)
		times := wire.HopTimes{
			Received: input.Received, Instance: string(input.Instance), Client: input.Role == "client",
			Total: int64(input.Total), Request: int64(input.Request), Response: int64(input.Response),
		}
		got := times.AppendStages(nil)
		if sum, ok := wire.SumStages(got); !bytes.Equal(got, want.Timings) || !ok || sum != uint64(want.Sum) {
			t.Errorf("got %x of %d µs, want %x of %d", got, sum, want.Timings, want.Sum)
		}
	})
}

func FuzzTimings(f *testing.F) {
	f.Add(wire.AppendStage(wire.AppendStage(nil, wire.StageHandler, 5_000_000, "s"), wire.StageLink, 1_000, "p"), int64(9_000_000))
	f.Add([]byte{0x0a, 0x05, 1}, int64(-1))
	f.Fuzz(func(t *testing.T, received []byte, total int64) {
		times := wire.HopTimes{Received: received, Instance: "p", Total: total, Request: total / 3, Response: total / 5}
		sum, ok := wire.SumStages(times.AppendStages(nil))
		if !ok {
			t.Fatalf("%x gives what does not parse", received)
		}
		before, ok := wire.SumStages(received)
		if ok && len(received) <= 768 && sum < before {
			t.Errorf("%d µs became %d", before, sum)
		}
	})
}
