package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
)

// peer is a client and a server of one language, in a program that bootstrap-interop has put below the folder of peers.
type peer struct {
	name, program string
	sdk           bool // it speaks with an SDK of the mesh's, not gRPC
}

var (
	goSDK     = peer{name: "Go SDK", sdk: true}
	pythonSDK = peer{name: "Python SDK", program: "octomesh-peer", sdk: true}
)

// stockPeers are those of gRPC's own libraries.
var stockPeers = []peer{
	{name: "grpcio", program: "grpcio-peer"},
	{name: "grpc-js", program: "grpc-js-peer"},
	{name: "tonic", program: "tonic-peer"},
	{name: "grpc-java", program: "grpc-java-peer"},
}

// languages runs clients and servers of gRPC's own libraries against services and clients of the SDKs.
func languages(stock ...peer) func(context.Context, *bench) ([]row, error) {
	return func(ctx context.Context, b *bench) (rows []row, bad error) {
		for _, p := range stock {
			version, err := b.peerVersion(ctx, p)
			if err != nil {
				bad = errors.Join(bad, err)
				continue
			}
			control, err := b.pair(ctx, p, p, true)
			if err != nil {
				return rows, fmt.Errorf("%s without proxies: %w", p.name, err)
			}
			for _, sdk := range []peer{goSDK, pythonSDK} {
				for _, ends := range [][2]peer{{p, sdk}, {sdk, p}} {
					through, err := b.pair(ctx, ends[0], ends[1], false)
					if err != nil {
						return rows, fmt.Errorf("%s calls %s: %w", ends[0].name, ends[1].name, err)
					}
					r := row{suite: p.name, version: version, mode: ends[0].name + " calls " + ends[1].name}
					r.compare(through, control)
					rows = append(rows, r)
				}
			}
		}
		return rows, bad
	}
}

func (b *bench) peer(p peer) string { return filepath.Join(b.peers, p.program) }

// peerVersion asks a program for its library's version.
func (b *bench) peerVersion(ctx context.Context, p peer) (string, error) {
	out, err := exec.CommandContext(ctx, b.peer(p), "version").Output()
	if err != nil {
		return "", fmt.Errorf("%s is not installed (%w): make bootstrap-interop says why", p.name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// pair has one peer call another, through a mesh or, if both are stock, without.
func (b *bench) pair(ctx context.Context, client, server peer, without bool) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	address := ""
	if !server.sdk {
		p, said, err := b.peerServer(ctx, server)
		if err != nil {
			return o, err
		}
		defer p.Close()
		address = said
	}
	if without {
		return b.peerClient(ctx, client, address)
	}
	m, err := startMesh(ctx, address)
	if err != nil {
		return o, err
	}
	defer m.Close()
	switch {
	case server == goSDK:
		s, err := sdkServer(ctx, m)
		if err != nil {
			return o, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
	case server.sdk:
		p, _, err := b.peerServer(ctx, server, m.callee.Socket, target, meshtest.Environment)
		if err != nil {
			return o, err
		}
		defer p.Close()
	}
	if err := m.Ready(ctx); err != nil {
		return o, err
	}
	switch {
	case client == goSDK:
		return sdkClient(ctx, m)
	case client.sdk:
		return b.peerClient(ctx, client, m.caller.Socket, target, meshtest.Environment)
	}
	return b.peerClient(ctx, client, m.Address)
}

// peerServer starts a server, which says where it listens, or that it is attached.
func (b *bench) peerServer(ctx context.Context, p peer, args ...string) (*process, string, error) {
	cmd := exec.Command(b.peer(p), append([]string{"server"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if _, err := cmd.StdinPipe(); err != nil { // its end tells the server to stop
		return nil, "", err
	}
	server, err := start(cmd)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", p.name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if stop(); err != nil || !ok {
		server.Close()
		return nil, "", fmt.Errorf("the server of %s said %q: %w", p.name, line, errors.Join(err, ctx.Err()))
	}
	return server, address, nil
}

// peerClient runs a client.
func (b *bench) peerClient(ctx context.Context, p peer, args ...string) (outcome, error) {
	cmd := exec.CommandContext(ctx, b.peer(p), append([]string{"client"}, args...)...)
	errs := &strings.Builder{}
	cmd.Stderr, cmd.WaitDelay = errs, 5*time.Second
	out, err := cmd.Output()
	o, read := peerRead(out)
	if read != nil {
		return o, fmt.Errorf("the client of %s: %w: %s", p.name, errors.Join(read, err), last([]byte(errs.String())))
	}
	return o, nil
}

// peerRead reads how a client's cases went. Each must be there once.
func peerRead(out []byte) (outcome, error) {
	o := outcome{failed: map[string]string{}}
	var seen []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "ok "); ok {
			seen = append(seen, name)
		} else if text, ok := strings.CutPrefix(line, "FAILED "); ok {
			name, why, _ := strings.Cut(text, ": ")
			seen = append(seen, name)
			o.failed[name] = why
		}
	}
	if o.cases = len(seen); !slices.Equal(seen, peerCases) {
		return o, fmt.Errorf("it ran %v instead of %v", seen, peerCases)
	}
	return o, nil
}
