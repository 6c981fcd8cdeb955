package store_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/octomesh/octomesh/core/proxy/store"
)

// onFile runs a store on a file within a bubble of virtual time.
type onFile struct {
	t      *testing.T
	path   string
	store  *store.Store
	reload chan os.Signal
	log    bytes.Buffer
	stop   func()
}

func newOnFile(t *testing.T, text string) *onFile {
	o := &onFile{t: t, path: filepath.Join(t.TempDir(), "resources.yaml"), store: store.New(store.Config{}), reload: make(chan os.Signal)}
	o.write(text)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	src := &store.File{Path: o.path, Reload: o.reload, Refused: o.store.Refused, Log: slog.New(slog.NewTextHandler(&o.log, nil))}
	go func() { ended <- o.store.Run(ctx, src) }()
	o.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
	return o
}

func (o *onFile) write(text string) {
	o.t.Helper()
	if err := os.WriteFile(o.path, []byte(text), 0o644); err != nil {
		o.t.Fatal(err)
	}
}

func (o *onFile) wants(number uint64, when string) {
	o.t.Helper()
	synctest.Wait()
	if n := o.store.Current().Number; n != number {
		o.t.Errorf("%s: generation %d, want %d", when, n, number)
	}
}

func TestFileIsReadAgainWhenItHasSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOnFile(t, "policies: [{target: a}]")
		defer o.stop()
		o.wants(1, "at the start")
		time.Sleep(time.Minute)
		o.wants(1, "unchanged")
		o.write("policies: [{target: a}, {target: b}]")
		time.Sleep(time.Second)
		o.wants(1, "seen once")
		o.write("policies: [{target: a}, {target: b}, {target: c}]")
		time.Sleep(time.Second)
		o.wants(1, "changed again")
		time.Sleep(time.Second)
		o.wants(2, "settled")
		if o.store.Current().Table.Target(0, "c") == nil {
			t.Error("the middle content was loaded")
		}
	})
}

func TestFileIsReadAtOnceWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOnFile(t, "policies: [{target: a}]")
		defer o.stop()
		o.write("policies: [{target: b}]")
		o.reload <- os.Interrupt
		o.wants(2, "told to reload")
		o.reload <- os.Interrupt
		o.wants(2, "told again")
	})
}

func TestBadFileKeepsTheLastGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOnFile(t, "policies: [{target: a}]")
		defer o.stop()
		for _, c := range []struct{ text, says string }{
			{"policies:\n- target: a\n  rotes: []\n", o.path + ":3: policies[0].rotes: is not a field of ServicePolicy; did you mean routes?"},
			{"policies:\n- target: a\n- {target: a}\n", o.path + ":3: policies[1].target (policy a): is the target of policies[0] too"},
			{"", o.path + ":1: is empty"},
		} {
			o.write(c.text)
			o.reload <- os.Interrupt
			o.wants(1, c.text)
			if h := o.store.History()[0]; !strings.Contains(h.Error, c.says) {
				t.Errorf("history says %q, want %q", h.Error, c.says)
			}
		}
		lines := strings.Count(o.log.String(), "\n")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := strings.Count(o.log.String(), "\n"); got != lines {
			t.Errorf("what is bad is logged once, not at every look:\n%s", o.log.String())
		}
	})
}

func TestFileMayComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOnFile(t, "policies: [{target: a}]")
		defer o.stop()
		if err := os.Remove(o.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		o.wants(1, "while it is gone")
		if n := strings.Count(o.log.String(), "cannot be read"); n != 1 {
			t.Errorf("logged %d times that it is gone", n)
		}
		o.write("policies: [{target: b}]")
		time.Sleep(2 * time.Second)
		o.wants(2, "when it is back")
	})
}
