// Command octo is the operator's: it shows and changes the configuration of a mesh, runs the control plane, and keeps a host's proxies.
//
//	octo up
//	octo apply -f shop.yaml -m "raise the limit for the sale"
//	octo get policy shop.cart -o yaml
//
// `octo help` lists the commands, `octo COMMAND -h` says what each takes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/octomesh/octomesh/core/agent"
)

// Exit codes.
const (
	exitDone     = 0
	exitFailed   = 1 // the server could not be reached, or failed
	exitUsage    = 2 // the command line is wrong
	exitInvalid  = 3 // the configuration is refused
	exitConflict = 4 // somebody else has changed it meanwhile, or something is in the way
	exitNotFound = 5
	exitDiffers  = 6 // `octo diff` has found differences
)

// command is one of octo's.
type command struct {
	name, short string
	run         func(ctx context.Context, t *terminal, args []string) error
}

func commands() []command {
	return []command{
		{"apply", "check files and write what differs", runApply},
		{"get", "show one resource, or those of a kind", runGet},
		{"diff", "compare files with what is kept, or two revisions", runDiff},
		{"history", "show who changed what, when and why", runHistory},
		{"rollback", "write an older revision again", runRollback},
		{"delete", "remove resources", runDelete},
		{"mesh", "put callers into the mesh and take them out, by share and node", runMesh},
		{"rollout", "show changes that go in waves, and steer them", runRollout},
		{"schema", "say what a target serves", runSchema},
		{"explain", "show what binds calls to a target, and where it comes from", runExplain},
		{"up", "run the whole control plane in one process", runUp},
		{"instance", "show instances of a target, take them out and in, weigh them", runInstance},
		{"registry", "show what is wrong with registries, and confirm what they say", runRegistry},
		{"control", "run roles of the control plane", runControl},
		{"agent", "keep the proxies of this host running", runAgent},
		{"proxy", "show, restart and upgrade the proxies of this host", runProxy},
	}
}

// terminal is where a command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, &terminal{os.Stdin, os.Stdout, os.Stderr, os.Getenv}, os.Args[1:])
	stop()
	os.Exit(code)
}

// run is main without the process.
func run(ctx context.Context, t *terminal, args []string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		help(t.out)
		return exitDone
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return report(t, c.name, c.run(ctx, t, args[1:]))
		}
	}
	fmt.Fprintf(t.err, "octo: %q is no command; `octo help` lists them\n", args[0])
	return exitUsage
}

func help(w io.Writer) {
	fmt.Fprint(w, "octo shows and changes the configuration of a mesh, runs its control plane, and keeps a host's proxies.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, `
octo COMMAND -h says what a command takes. Resources are named "kind name" or "kind/name":
  application NAME     policy TARGET     auth TARGET     switch APPLICATION,TARGET
  schema TARGET        instance TARGET,INSTANCE

Environment variables:
  OCTO_CONTROL         address of the control plane (default `+defaultServer+`; unix:/path for a socket)
  OCTO_ENVIRONMENT     the environment (default test)
  OCTO_AGENT           socket of this host's agent (default `+agent.DefaultSocket+`)

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 configuration refused, 4 changed by somebody else meanwhile,
5 not found, 6 diff has found differences.
`)
}

// exit is an error with a code of its own.
type exit struct {
	code int
	text string // empty: it has been said
}

func (e *exit) Error() string { return e.text }

func usage(format string, args ...any) error { return &exit{exitUsage, fmt.Sprintf(format, args...)} }

// report tells of an error, and returns the process' code.
func report(t *terminal, name string, err error) int {
	var e *exit
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &e):
		if e.text != "" {
			fmt.Fprintf(t.err, "octo %s: %s\n", name, e.text)
		}
		return e.code
	}
	return reportStatus(t, name, err)
}
