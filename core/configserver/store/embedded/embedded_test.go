package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg Config) (*Server, *clientv3.Client) {
	t.Helper()
	cfg.Unsafe = true
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); s.Close() })
	return s, c
}

func TestABusyDirectoryIsToldAtOnce(t *testing.T) {
	dir := t.TempDir()
	start(t, Config{Dir: dir})
	begun := time.Now()
	_, err := Start(t.Context(), Config{Dir: dir, Unsafe: true})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d uses this directory", os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Fatal(took) // etcd would wait for the other's end
	}
}

func TestOnlyTheOwnerCanReachTheSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	start(t, Config{Dir: dir})
	if i, err := os.Stat(dir); err != nil || i.Mode().Perm() != 0o700 {
		t.Fatal(i, err)
	}
}

func TestALongPathGetsItsSocketElsewhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	s, c := start(t, Config{Dir: dir})
	if _, err := c.Put(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(filepath.Dir(s.socket)); err != nil || i.Mode().Perm() != 0o700 || len(s.socket) > maxSocket {
		t.Fatal(s.socket, i, err)
	}
}

// TestWhatIsFullTakesWritesAgain: history goes, the room is given back, and the alarm is lifted.
func TestWhatIsFullTakesWritesAgain(t *testing.T) {
	const quota = 4 << 20
	s, c := start(t, Config{Dir: t.TempDir(), Quota: quota})
	value := string(bytes.Repeat([]byte("x"), 256<<10))
	var err error
	for range 100 {
		if _, err = c.Put(t.Context(), "same", value); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "space exceeded") {
		t.Fatalf("it was never full: %v", err)
	}
	k := &keeper{client: c, endpoint: s.Endpoint(), quota: quota, log: slog.New(slog.DiscardHandler)}
	if err := k.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "same", "small"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.look(ctx); err == nil {
		t.Fatal("a look that could not be is said to be one")
	}
}

func TestAStartThatIsCutOffEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Start(ctx, Config{Dir: dir, Unsafe: true}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir}) // it has left nothing in the way
}

// TestAFirstStartThatNeverServedIsBegunAnew: what it left is taken away, and what was served once never is.
func TestAFirstStartThatNeverServedIsBegunAnew(t *testing.T) {
	dir := t.TempDir()
	mark, wal := filepath.Join(dir, beginning), filepath.Join(dir, data, "wal")
	if err := os.MkdirAll(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{mark, filepath.Join(wal, "0000000000000000-0000000000000000.wal")} {
		if err := os.WriteFile(f, []byte("half of it"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Start(t.Context(), Config{Dir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it serves, and its data are still said to be worth nothing: %v", err)
	}
	c, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Start(ctx, Config{Dir: dir, Unsafe: true}); err == nil {
		s.Close() // it was ready at once
	}
	_, c = start(t, Config{Dir: dir, Unsafe: true})
	if got, err := c.Get(t.Context(), "a"); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "b" {
		t.Errorf("%v %v", got, err)
	}
}

func TestWhatEtcdCannotDoIsSaid(t *testing.T) {
	var log bytes.Buffer
	w := newWords(slog.New(slog.NewTextHandler(&log, nil)))
	z := zap.New(w).With(zap.String("member", "octo"))
	z.Info("all is well")
	z.Error("the disk is gone", zap.Int("code", 7))
	if err := w.because(os.ErrClosed); !errors.Is(err, os.ErrClosed) || !strings.Contains(err.Error(), "the disk is gone") || !strings.Contains(err.Error(), "code: 7") {
		t.Error(err)
	}
	if text := log.String(); strings.Contains(text, "all is well") || !strings.Contains(text, "member=octo") {
		t.Error(text)
	}
}
