// Program interop holds the bridge to what others have written for gRPC: suites, clients and servers, unmodified, with a client's
// proxy and a server's between. It is a module of its own, since they bring more than the bridge needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// The two programs that connectrpc's conformance runner starts are this one, by these names.
const (
	serverCommand = "_server"
	clientCommand = "_client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 1 {
		switch args[0] {
		case serverCommand:
			return serverUnderTest(ctx, args[1:])
		case clientCommand:
			return clientUnderTest(ctx, args[1:])
		}
	}
	flags := flag.NewFlagSet("interop", flag.ContinueOnError)
	root := flags.String("root", "../../..", "the repository's root")
	peers := flags.String("peers", "", "where make bootstrap-interop has put the programs of other languages; tools/interop below the root, if empty")
	write := flags.String("write", "", "write the page with the table to this file")
	check := flags.String("check", "", "fail if a row is not as this page has it")
	quick := flags.Bool("quick", false, "only the suites that take seconds")
	only := flags.String("only", "", "only the suites whose names contain this")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *write != "" && (*quick || *only != "") {
		return errors.New("a page has all suites: --write goes without --quick and --only")
	}
	if *peers == "" {
		*peers = *root + "/tools/interop"
	}
	b, err := newBench(*root, *peers)
	if err != nil {
		return err
	}
	defer b.Close()
	rows, err := b.runAll(ctx, func(s suite) bool {
		return (s.quick || !*quick) && strings.Contains(s.name, *only)
	})
	fmt.Print(table(rows))
	if err != nil {
		return err
	}
	if err := failures(rows); err != nil {
		return err
	}
	if *write != "" {
		return os.WriteFile(*write, []byte(page(rows)), 0o644)
	}
	if *check != "" {
		return inPage(rows, *check)
	}
	return nil
}

// suite is what gives rows of the table.
type suite struct {
	name  string
	quick bool
	run   func(ctx context.Context, b *bench) ([]row, error)
}

// suites are those of others, in the order of the table.
func suites() []suite {
	return []suite{
		{"grpc-go", true, grpcGo},
		{"grpcio", true, languages(stockPeers[0])},
		{"other languages", false, languages(stockPeers[1:]...)},
		{"connectrpc", false, connectrpc},
		{"h2spec", false, h2spec},
	}
}

// runAll runs the suites that are wanted, all of them even if one cannot run.
func (b *bench) runAll(ctx context.Context, wanted func(suite) bool) (rows []row, bad error) {
	for _, s := range suites() {
		if !wanted(s) {
			continue
		}
		begin := time.Now()
		got, err := s.run(ctx, b)
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("%s: %w", s.name, err))
		}
		rows = append(rows, got...)
		fmt.Fprintf(os.Stderr, "%s: %d rows in %s\n", s.name, len(got), time.Since(begin).Round(time.Second))
	}
	if len(rows) == 0 && bad == nil {
		bad = errors.New("no suite has such a name")
	}
	return rows, bad
}
