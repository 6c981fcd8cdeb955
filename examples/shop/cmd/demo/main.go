// Command demo runs the shop: first with a proxy beside each service, then the same without any. It plays
// a customer, says of each call which way the proxies' counters saw it go, and ends with code 0 if all went
// as it should.
//
//	go run ./examples/shop/cmd/demo            # make demo
//	go run ./examples/shop/cmd/demo --keep     # make up: the mesh keeps running until Ctrl-C
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience bounds the whole script; a call that hangs ends with it.
const patience = 90 * time.Second

type options struct {
	keep, verbose bool
}

func main() {
	var o options
	flag.BoolVar(&o.keep, "keep", false, "keep the mesh running behind the script, until Ctrl-C")
	flag.BoolVar(&o.verbose, "verbose", false, "show what the services and proxies log")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once; the kernel ends the children
	out := newPrinter(os.Stdout)
	if err := run(ctx, o, out); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		out.flush()
		fmt.Fprintln(os.Stderr, out.bad("demo failed: ")+err.Error())
		os.Exit(1)
	}
}

// run builds and plays. All children have ended when it returns; the directory stays if it failed.
func run(ctx context.Context, o options, out *printer) (err error) {
	dir, err := shortDir()
	if err != nil {
		return err
	}
	defer func() {
		if logs := logsIn(dir); err != nil && ctx.Err() == nil && logs != "" {
			err = errors.New(err.Error() + logs)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	root, bin, err := build(ctx, out)
	if err != nil {
		return err
	}
	s := &shop{dir: dir, root: root, bin: bin, verbose: o.verbose, spans: newLedger()}
	defer func() { err = errors.Join(err, s.close()) }()
	inMesh, err := playMesh(ctx, s, o.keep, out)
	if err != nil {
		return fmt.Errorf("through the mesh: %w", err)
	}
	direct, err := playDirect(ctx, s, out)
	if err != nil {
		return fmt.Errorf("direct: %w", err)
	}
	out.compare(inMesh, direct)
	if !o.keep {
		return nil
	}
	s.hints(out)
	out.flush()
	select {
	case <-ctx.Done():
		return nil
	case name := <-s.died():
		return fmt.Errorf("%s ended by itself", name)
	}
}

func playMesh(ctx context.Context, s *shop, keep bool, out *printer) ([]result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out.title("Through the mesh: a proxy beside each service")
	if err := s.startMesh(ctx, out); err != nil {
		return nil, err
	}
	results, err := s.play(ctx, out)
	if err != nil {
		return nil, err
	}
	if err := s.table(ctx, out); err != nil {
		return nil, err
	}
	if !keep {
		return results, s.stop()
	}
	s.kept, s.keptPlane, s.children = s.children, s.plane, nil
	err = s.customer.close()
	s.customer = nil
	return results, err
}

func playDirect(ctx context.Context, s *shop, out *printer) ([]result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out.title("Direct: the same services, no proxy (OCTO_MODE=off)")
	if err := s.startDirect(ctx, out); err != nil {
		return nil, err
	}
	results, err := s.play(ctx, out)
	if err != nil {
		return nil, err
	}
	return results, s.stop()
}

// maxDir leaves room for the names of directory and sockets within the 107 bytes that a Unix socket's path
// may have.
const maxDir = 60

func shortDir() (string, error) {
	parent := os.TempDir()
	if len(parent) > maxDir {
		parent = "/tmp"
	}
	return os.MkdirTemp(parent, "octo-shop-")
}

// logsIn says where to look after a failure, if anything had started.
func logsIn(dir string) string {
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	if len(logs) == 0 {
		return ""
	}
	return "\nthe logs:\n  " + strings.Join(logs, "\n  ")
}
