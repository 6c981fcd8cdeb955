package accesslog_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/telemetry/accesslog"
	"github.com/octomesh/octomesh/core/telemetry/record"
	"github.com/octomesh/octomesh/core/telemetry/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg accesslog.Config) *accesslog.Log {
	t.Helper()
	cfg.Log, cfg.Now = slog.New(slog.NewTextHandler(io.Discard, nil)), func() int64 { return int64(time.Hour) }
	l, err := accesslog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(t.Context()) })
	return l
}

func end(l *accesslog.Log) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l.Close(ctx)
}

func call() *record.Record {
	n := record.Note{On: true, Generation: 7}
	n.Keep(record.Target, []byte("shop.cart"))
	n.Keep(record.Method, []byte("shop.v1.Cart/Add"))
	n.Keep(record.Caller, []byte("web"))
	n.Keep(record.Lane, []byte("blue<>&"))
	n.Keep(record.Traceparent, []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))
	n.Keys([]string{"tenant", "raw-bin"})
	n.KeepMetadata(0, []byte("t1"))
	n.KeepMetadata(1, []byte{0, 255})
	n.KeepMetadata(0, []byte("t2\xff\n"))
	r := record.New(&n)
	r.Arrived, r.Sent, r.Took = int64(time.Hour-time.Second), int64(time.Hour-time.Second+1500), int64(1500*time.Microsecond)
	r.Route, r.Endpoint, r.Address, r.Attempts = "everyone", "cart-1", "10.0.0.1:7001", 1
	r.Code, r.CodeName, r.Reason, r.Origin, r.Disposition = 14, "UNAVAILABLE", "CIRCUIT_OPEN", "CLIENT_PROXY", "NOT_PROCESSED"
	return r
}

func lines(t *testing.T, file string) (out []map[string]any) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		var m map[string]any
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		out = append(out, m)
	}
	return out
}

func TestLineSaysWhatHappened(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "access.log")
	l := open(t, accesslog.Config{File: file})
	l.Put(call())
	sampled := call()
	sampled.Span, sampled.Context, sampled.Sent = true, trace.NewRoot(), 0
	sampled.Inbound = true
	l.Put(sampled)
	id := sampled.Context.Span.String()
	end(l)
	got := lines(t, file)
	if len(got) != 2 {
		t.Fatalf("%d lines", len(got))
	}
	at, err := time.Parse(time.RFC3339Nano, got[0]["time"].(string))
	if since := time.Since(at); err != nil || since < time.Second || since > time.Minute {
		t.Errorf("time %v: %v", got[0]["time"], err)
	}
	delete(got[0], "time")
	want := map[string]any{
		"direction": "outbound", "caller": "web", "target": "shop.cart", "service": "shop.v1.Cart", "method": "Add", "route": "everyone", "lane": "blue<>&",
		"endpoint": "cart-1", "address": "10.0.0.1:7001", "attempts": 1.0, "generation": 7.0, "code": "UNAVAILABLE", "reason": "CIRCUIT_OPEN",
		"origin": "CLIENT_PROXY", "disposition": "NOT_PROCESSED", "duration_us": 1500.0, "waited_us": 1.0,
		"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
		"metadata": map[string]any{"tenant": []any{"t1", "t2\ufffd\n"}, "raw-bin": []any{"AP8="}},
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("line %v\nwant %v", got[0], want)
	}
	if got[1]["sampled"] != true || got[1]["span_id"] != id || got[1]["direction"] != "inbound" || got[1]["waited_us"] != nil {
		t.Errorf("line %v", got[1])
	}
}

// TestGuideNamesEveryField: whoever reads the log finds its fields explained.
func TestGuideNamesEveryField(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/guides/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range accesslog.Fields() {
		if !strings.Contains(string(guide), "| `"+name+"` |") {
			t.Errorf("docs/guides/telemetry.md does not explain %s", name)
		}
	}
}

func TestSharesAndLimitsHold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none := open(t, accesslog.Config{File: filepath.Join(dir, "none")})
	all := open(t, accesslog.Config{File: filepath.Join(dir, "all"), SuccessPermille: 1000, MaxFailuresPerSecond: 3})
	for i := range 100 {
		if none.Wants(false, 0) || !all.Wants(false, 0) || none.Wants(true, 0) || all.Wants(true, int64(time.Millisecond)) != (i < 3) {
			t.Fatalf("call %d was chosen otherwise", i)
		}
	}
	if !all.Wants(true, int64(time.Second)) {
		t.Error("the next second allows none")
	}
	if s := all.Status(); s.Suppressed != 97 {
		t.Errorf("status %+v", s)
	}
}

func TestRotatedFileIsLeftAndANewOneBegun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "access.log")
	l := open(t, accesslog.Config{File: file})
	l.Put(call())
	for l.Status().Written == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Put(call())
	end(l)
	if a, b := len(lines(t, file+".1")), len(lines(t, file)); a != 1 || b != 1 {
		t.Errorf("%d and %d lines", a, b)
	}
}

func TestFullDiskLosesLinesAndNothingElse(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	l := open(t, accesslog.Config{File: "/dev/full"})
	for range 10 {
		l.Put(call())
	}
	end(l)
	if s := l.Status(); s.Lost != 10 || s.Written != 0 || !strings.Contains(s.LastError, "no space") {
		t.Errorf("status %+v", s)
	}
}

// TestHangingReaderLosesLinesAndNothingElse: the file is a pipe that nobody empties.
func TestHangingReaderLosesLinesAndNothingElse(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := accesslog.Open(accesslog.Config{File: pipe}); err == nil {
		t.Error("a pipe without a reader was opened")
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	l := open(t, accesslog.Config{File: pipe, MaxQueued: 1000})
	const sent = 10_000
	for range sent { // far more than a pipe holds
		l.Put(call())
	}
	if s := l.Status(); s.Dropped == 0 {
		t.Errorf("status %+v", s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.Close(ctx)
	for { // the goroutine ends by itself once the pipe is closed
		if s := l.Status(); s.Written+s.Lost+s.Dropped == sent && s.Queued == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFieldsAreThoseOfALine(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "access.log")
	l := open(t, accesslog.Config{File: file})
	r := call()
	r.Span, r.Shadow, r.Context = true, true, trace.NewRoot()
	l.Put(r)
	end(l)
	var got []string
	for name := range lines(t, file)[0] {
		got = append(got, name)
	}
	sort.Strings(got)
	want := accesslog.Fields()
	sort.Strings(want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("a full line has %v, fields are %v", got, want)
	}
}
