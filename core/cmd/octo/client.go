package main

import (
	"errors"
	"flag"
	"fmt"
	"os/user"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport/identity"
)

const (
	defaultServer = "127.0.0.1:7600"
	// patience is how long a command waits for the server.
	patience = 30 * time.Second
	// maxAnswer bounds what a command reads at once, in bytes: a list of a large environment is more than gRPC's 4 MiB.
	maxAnswer = 256 << 20
)

// options are what commands that ask the server have in common.
type options struct {
	flags       *flag.FlagSet
	terminal    *terminal
	server      string
	environment string
	output      string
	reason      string
	tls         identity.Files
}

// newOptions makes a command's flags. form is its command line, text what it does.
func newOptions(t *terminal, name, form, text string) *options {
	o := &options{flags: newFlags(t, name, form, text), terminal: t}
	f := o.flags
	server, environment := t.getenv("OCTO_CONTROL"), t.getenv("OCTO_ENVIRONMENT")
	if server == "" {
		server = defaultServer
	}
	if environment == "" {
		environment = resource.DefaultEnvironment
	}
	f.StringVar(&o.server, "server", server, "address of the control plane: host:port or unix:/path")
	f.StringVar(&o.environment, "e", environment, "environment")
	f.StringVar(&o.tls.Certificate, "certificate", "", "own certificate (PEM file); with --key and --authorities: speak TLS")
	f.StringVar(&o.tls.Key, "key", "", "its key (PEM file)")
	f.StringVar(&o.tls.Authorities, "authorities", "", "authorities that the server's certificate must be of (PEM file)")
	return o
}

// newFlags makes a command's flags. form is its command line, text what it does.
func newFlags(t *terminal, name, form, text string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(t.err)
	f.Usage = func() {
		fmt.Fprintf(t.err, "octo %s %s\n\n%s\n\nFlags:\n", name, form, text)
		f.PrintDefaults()
	}
	return f
}

// parseFlags reads a command line in which flags may also stand behind what is no flag.
func parseFlags(f *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		switch err := f.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return nil, &exit{exitDone, ""}
		case err != nil:
			return nil, &exit{exitUsage, ""} // the flag set has told
		}
		if args = f.Args(); len(args) == 0 {
			return rest, nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

// shows adds -o.
func (o *options) shows(forms string) *options {
	o.flags.StringVar(&o.output, "o", "table", "output: "+forms)
	return o
}

// changes adds -m.
func (o *options) changes() *options {
	o.flags.StringVar(&o.reason, "m", "", "why: kept in the history (required)")
	return o
}

// parse reads a command line, and checks -o.
func (o *options) parse(args []string) (rest []string, err error) {
	if rest, err = parseFlags(o.flags, args); err != nil {
		return nil, err
	}
	switch o.output {
	case "", "table", "yaml", "json":
	default:
		return nil, usage("-o %s: want table, yaml or json", o.output)
	}
	return rest, nil
}

// why is who makes a change, and for what reason.
func (o *options) why() (*configv1.Why, error) {
	if strings.TrimSpace(o.reason) == "" {
		return nil, usage("a reason is missing: say why with -m")
	}
	return &configv1.Why{Author: o.author(), Reason: o.reason}, nil
}

// author is who the user is, as the environment says, or the system. Containers have no USER.
func (o *options) author() string {
	if name := o.terminal.getenv("USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// client connects to the server; nothing is sent before the first call.
func (o *options) client() (configv1.ConfigClient, func(), error) {
	conn, err := o.connect()
	if err != nil {
		return nil, nil, err
	}
	return configv1.NewConfigClient(conn), func() { _ = conn.Close() }, nil
}

// connect is client for any service.
func (o *options) connect() (*grpc.ClientConn, error) {
	secrets := insecure.NewCredentials()
	if o.tls != (identity.Files{}) {
		id, err := identity.Load(o.tls)
		if err != nil {
			return nil, usage("%v", err)
		}
		secrets = credentials.NewTLS(id.Client(id.SameEnvironment))
	}
	conn, err := grpc.NewClient(o.server, grpc.WithTransportCredentials(secrets),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, usage("--server %s: %v", o.server, err)
	}
	return conn, nil
}

// name reads "kind name" or "kind/name".
func name(args []string) (string, error) {
	switch {
	case len(args) == 2 && !strings.Contains(args[0], "/"):
		return args[0] + "/" + args[1], nil
	case len(args) == 1 && strings.Contains(args[0], "/"):
		return args[0], nil
	}
	return "", usage("name one resource, such as: policy shop.cart")
}

// reportStatus tells of what the server says, and returns the process' code.
func reportStatus(t *terminal, name string, err error) int {
	s := status.Convert(err)
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *configv1.Problems:
			showProblems(t.err, d.GetProblems())
			fmt.Fprintf(t.err, "octo %s: refused, nothing was written\n", name)
			return exitInvalid
		case *configv1.Check:
			showCheck(t.err, d, false)
			fmt.Fprintf(t.err, "octo %s: %s\n", name, s.Message())
			return exitConflict
		case *configv1.Conflict:
			fmt.Fprintf(t.err, "octo %s: %s\n", name, s.Message())
			showFields(t.err, d.GetFields())
			return exitConflict
		}
	}
	fmt.Fprintf(t.err, "octo %s: %s\n", name, s.Message())
	switch s.Code() {
	case codes.InvalidArgument:
		return exitInvalid
	case codes.Aborted, codes.FailedPrecondition:
		return exitConflict
	case codes.NotFound:
		return exitNotFound
	}
	return exitFailed
}
