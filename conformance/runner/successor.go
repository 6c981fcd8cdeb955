package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// badSuccessor is one that must not take over.
type badSuccessor struct {
	change    [2]string // of the bootstrap file: this text for that one
	resources string    // its own; empty: the proxy's
	fault     string    // of the build with a trap; empty: it is the proxy's own build
	exit      int       // its exit code; 0: it does not end by itself
	says      string    // on its standard error
	heard     bool      // the proxy that runs has heard of it, and says so
}

var badSuccessors = map[conformancev1.ProcessFault_Successor]badSuccessor{
	conformancev1.ProcessFault_SUCCESSOR_CRASHES:        {fault: "crash", exit: panicked, says: "told to crash", heard: true},
	conformancev1.ProcessFault_SUCCESSOR_HANGS:          {fault: "hang"},
	conformancev1.ProcessFault_SUCCESSOR_BAD_FILE:       {change: [2]string{"drain_deadline", "drain_dedline"}, exit: 78, says: "is not a field"},
	conformancev1.ProcessFault_SUCCESSOR_OTHER_INSTANCE: {change: [2]string{"instance: ", "instance: not-"}, exit: 1, says: "it is called", heard: true},
	conformancev1.ProcessFault_SUCCESSOR_BAD_RESOURCES:  {resources: "endpoints: [{target: stock, instanze: s1}]\n", exit: 1, says: "instanze", heard: true},
}

// badTakeover starts a successor that is bad, and waits until it has ended or, if that is its fault, hangs. The proxy must
// go on.
func (p *proxy) badTakeover(kind conformancev1.ProcessFault_Successor, patience time.Duration) error {
	bad, ok := badSuccessors[kind]
	switch {
	case !ok:
		return errors.New("what is wrong with the successor?")
	case bad.fault != "" && p.options.trap == "":
		return errors.New("it needs --trap-proxy: a build with a trap")
	}
	file, err := p.badFile(bad)
	if err != nil {
		return err
	}
	warming, failed := p.handOvers()
	binary := p.binary
	if bad.fault != "" {
		binary = p.options.trap
	}
	next, err := start(p.dir, p.name+"-successor", []string{binary, "--config", file, "--takeover"}, func(cmd *exec.Cmd) error {
		cmd.Env = append(cmd.Env, "OCTO_FAULT_READY="+bad.fault)
		return nil
	})
	if err != nil {
		return err
	}
	go next.wait()
	p.successor, next.killed = next, true // how it ends is judged here
	if bad.exit == 0 {
		return p.awaitLog(patience, "the successor has not begun to warm up", func() bool { now, _ := p.handOvers(); return now > warming })
	}
	select {
	case <-next.gone:
	case <-time.After(patience):
		return fmt.Errorf("the bad successor does not end within %v, see %s", patience, next.log)
	}
	said, err := os.ReadFile(next.log)
	var exit *exec.ExitError
	switch {
	case err != nil:
		return err
	case !errors.As(next.err, &exit) || exit.ExitCode() != bad.exit || !strings.Contains(string(said), bad.says):
		return fmt.Errorf("the bad successor ended with %w, expected exit code %d and %q; see %s", orNone(next.err), bad.exit, bad.says, next.log)
	case !bad.heard:
		return nil
	}
	return p.awaitLog(patience, "it does not say that the hand-over failed", func() bool { _, now := p.handOvers(); return now > failed })
}

// endSuccessor kills one that hangs, and waits until the proxy has noticed: only then another one may take over.
func (p *proxy) endSuccessor(patience time.Duration) error {
	if p.successor == nil || over(p.successor) {
		return fmt.Errorf("no successor of %s hangs", p.name)
	}
	_, failed := p.handOvers()
	if err := p.successor.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.successor.gone
	return p.awaitLog(patience, "it does not say that the hand-over failed", func() bool { _, now := p.handOvers(); return now > failed })
}

// badFile writes a successor's bootstrap file, beside the proxy's own.
func (p *proxy) badFile(bad badSuccessor) (string, error) {
	good, err := os.ReadFile(p.file())
	if err != nil {
		return "", err
	}
	text := strings.Replace(string(good), bad.change[0], bad.change[1], 1)
	if bad.resources != "" {
		path := filepath.Join(p.dir, p.name+".bad.yaml")
		if err := os.WriteFile(path, []byte(bad.resources), 0o600); err != nil {
			return "", err
		}
		text = strings.Replace(text, p.resources, path, 1)
	}
	if bad.fault == "" && text == string(good) {
		return "", fmt.Errorf("%s cannot be spoilt", p.file())
	}
	file := filepath.Join(p.dir, p.name+".bad.boot.yaml")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// awaitLog waits for what the proxy's log has; the proxy must run meanwhile.
func (p *proxy) awaitLog(patience time.Duration, missing string, came func() bool) error {
	for late := time.Now().Add(patience); ; time.Sleep(poll) {
		switch {
		case came():
			return nil
		case over(p.process):
			return fmt.Errorf("%s ended with %w, see %s", p.name, orNone(p.err), p.log)
		case time.Now().After(late):
			return fmt.Errorf("%s: %s within %v; see %s", p.name, missing, patience, p.log)
		}
	}
}

// handOvers is how many successors have begun to warm up at the proxy, and how many hand-overs it says have failed.
func (p *proxy) handOvers() (warming, failed int) {
	_ = logged(p.log, func(line []byte) {
		var l struct{ Msg string }
		if json.Unmarshal(line, &l) != nil {
			return
		}
		switch {
		case l.Msg == "a successor warms up":
			warming++
		case strings.HasPrefix(l.Msg, "the hand-over failed"):
			failed++
		}
	})
	return warming, failed
}

// takeoverSocket is where successors ask: the default beside the operator's socket.
func (p *proxy) takeoverSocket() string {
	return strings.TrimSuffix(p.admin, filepath.Ext(p.admin)) + ".takeover"
}
