package meshtest_test

import (
	"context"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// TestTimingsAddUpToWhatTheCallerWaited: directly, and through two proxies.
func TestTimingsAddUpToWhatTheCallerWaited(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const work = 30 * time.Millisecond
		ch := w.pair(thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			<-time.After(work)
			return m, nil
		}})
		for _, size := range []int{10, 100 << 10} { // the second one waits for credit
			var got octomesh.Timings
			before := time.Now()
			_, err := unary(within(t, long), ch, do, text(string(make([]byte, size))), octomesh.CaptureTimings(&got))
			waited := time.Since(before)
			if err != nil {
				t.Fatal(err)
			}
			checkTimings(t, w, &got, waited)
			if h := got.Of(octomesh.StageHandler); h < work || h > waited {
				t.Errorf("%d bytes: the handler took %v of %v", size, h, waited)
			}
		}
	})
}

// checkTimings holds timings to what they promise, whatever the time was.
func checkTimings(t *testing.T, w *world, got *octomesh.Timings, waited time.Duration) {
	t.Helper()
	var sum time.Duration
	by := map[octomesh.StageKind]map[string]bool{}
	for _, s := range got.Stages {
		sum += s.Duration
		if s.Duration <= 0 || s.Instance == "" {
			t.Errorf("stage %+v", s)
		}
		if by[s.Kind] == nil {
			by[s.Kind] = map[string]bool{}
		}
		by[s.Kind][s.Instance] = true
	}
	if rest := got.Total - sum; rest < 0 || rest >= time.Microsecond {
		t.Errorf("stages of %v and a total of %v leave %v", sum, got.Total, rest)
	}
	if got.Total > waited {
		t.Errorf("a total of %v, but the caller waited %v", got.Total, waited)
	}
	hops, proxies := 1, 0
	if w.mesh {
		hops, proxies = 3, 2
	}
	// A stage may take less than a microsecond, but no way between two processes does.
	if len(by[octomesh.StageLink]) != hops || len(by[octomesh.StageProxyRequest]) > proxies || len(by[octomesh.StageHandler]) > 1 {
		t.Errorf("stages are %v", got.Stages)
	}
}

func TestTimingsOfStreamsCountToTheirEnd(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const work = 20 * time.Millisecond
		ch := w.pair(thing{watch: func(ctx context.Context, m *msg, out *octomesh.ServerSender[msg]) error {
			if err := out.Send(m); err != nil {
				return err
			}
			<-time.After(work)
			return out.Send(m)
		}})
		var got octomesh.Timings
		before := time.Now()
		s, err := octomesh.CallServerStream[msg, msg](within(t, long), ch, watch, text("x"), []octomesh.CallOption{octomesh.CaptureTimings(&got)})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range s.All() {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		checkTimings(t, w, &got, time.Since(before))
		if n != 2 || got.Of(octomesh.StageHandler) < work {
			t.Errorf("%d messages, the handler took %v", n, got.Of(octomesh.StageHandler))
		}
		got = octomesh.Timings{}
		if s, err = octomesh.CallServerStream[msg, msg](within(t, long), ch, watch, text("x"), []octomesh.CallOption{octomesh.CaptureTimings(&got)}); err != nil {
			t.Fatal(err)
		}
		s.Close() // nobody knows more than the client
		if got.Total <= 0 || got.Of(octomesh.StageHandler) != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestTimingsOfParkedCallsCountAsTheProxys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	const work = 20 * time.Millisecond
	release := make(chan struct{})
	w.serve("thing", thing{do: func(_ context.Context, m *msg) (*msg, error) { <-release; return m, nil }},
		octomesh.WithLimits(octomesh.Limits{MaxStreams: 1}))
	ch := w.dial("caller", "thing")
	first := make(chan error, 1)
	go func() {
		_, err := unary(context.Background(), ch, do, text("first"))
		first <- err
	}()
	eventually(t, "the first call", func() bool { return len(w.proxy("thing").OpenCalls()) == 1 })
	var got octomesh.Timings
	second := make(chan error, 1)
	go func() {
		_, err := unary(context.Background(), ch, do, text("second"), octomesh.CaptureTimings(&got))
		second <- err
	}()
	eventually(t, "the second call", func() bool { return len(w.proxy("thing").OpenCalls()) == 2 })
	<-time.After(work)
	close(release)
	if err := await(t, "the first answer", first); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "the second answer", second); err != nil {
		t.Fatal(err)
	}
	if got.Of(octomesh.StageProxyRequest) < work {
		t.Errorf("parked for %v, but stages are %v", work, got.Stages)
	}
}

func TestTimingsOfRefusedCallsAreTheClients(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{})
		var got octomesh.Timings
		none := &octomesh.Method{Service: service, Name: "None", Kind: octomesh.Unary}
		if _, err := unary(within(t, long), ch, none, text("x"), octomesh.CaptureTimings(&got)); err == nil {
			t.Fatal("a method that does not exist answers")
		}
		var sum time.Duration
		for _, s := range got.Stages {
			sum += s.Duration
		}
		if got.Total <= 0 || got.Total-sum < 0 || got.Total-sum >= time.Microsecond {
			t.Errorf("%+v", got)
		}
	})
}
