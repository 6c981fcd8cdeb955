package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// run of connectrpc's runner: the program that is under test, what it can, and how it says that its port is the system's choice.
type connectCase struct {
	mode, program, text string
	features            string
	flags               []string
	tls                 bool
}

// grpc-go's programs know gzip alone; connect-go's all encodings of the suite, and JSON, too. The runs by TLS are of connect-go's alone, since
// grpc-go's have none here, and with few encodings, since these have been tried without.
const (
	connectFew = "  codecs: [CODEC_PROTO]\n  compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]\n"
	connectAll = "  codecs: [CODEC_PROTO, CODEC_JSON]\n" +
		"  compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP, COMPRESSION_BR, COMPRESSION_ZSTD, COMPRESSION_DEFLATE, COMPRESSION_SNAPPY]\n"
)

var connectCases = []connectCase{
	{"server", "grpcserver", "its clients, grpc-go's server; gzip", connectFew, []string{"--port=0"}, false},
	{"server", "referenceserver", "its clients, connect-go's server; all encodings, JSON", connectAll, []string{"--port=0"}, false},
	{"server", "referenceserver", "its clients, connect-go's server; gzip, TLS at both ends", connectFew, []string{"--port=0"}, true},
	{"client", "grpcclient", "grpc-go's client, its servers; gzip", connectFew, nil, false},
	{"client", "referenceclient", "connect-go's client, its servers; all encodings, JSON", connectAll, nil, false},
	{"client", "referenceclient", "connect-go's client, its servers; gzip, TLS at both ends", connectFew, nil, true},
}

// connectrpc runs the conformance suite of connectrpc.com, for gRPC over HTTP/2.
func connectrpc(ctx context.Context, b *bench) ([]row, error) {
	const commands = "connectrpc.com/conformance/cmd/"
	version, err := b.version(ctx, "connectrpc.com/conformance")
	if err != nil {
		return nil, err
	}
	runner, err := b.program(ctx, commands+"connectconformance")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range connectCases {
		stock, err := b.program(ctx, commands+c.program)
		if err != nil {
			return rows, err
		}
		config := filepath.Join(b.folder, c.program+".yaml")
		features := "features:\n  versions: [HTTP_VERSION_2]\n  protocols: [PROTOCOL_GRPC]\n" + c.features
		if c.tls {
			features += "  supportsTls: true\n  supportsTlsClientCerts: false\nexclude_cases:\n  - useTls: false\n"
		} else {
			features += "  supportsTls: false\n"
		}
		if err := os.WriteFile(config, []byte(features), 0o600); err != nil {
			return rows, err
		}
		command := append([]string{stock}, c.flags...)
		control, err := connectRun(ctx, runner, c.mode, config, command)
		if err != nil {
			return rows, err
		}
		shim := map[string]string{"server": serverCommand, "client": clientCommand}[c.mode]
		through, err := connectRun(ctx, runner, c.mode, config, append([]string{b.self, shim}, command...))
		if err != nil {
			return rows, err
		}
		r := row{suite: "connectrpc conformance, " + c.mode + " mode", version: version, mode: c.text}
		r.compare(through, control)
		rows = append(rows, r)
	}
	return rows, nil
}

// connectRun has the runner judge a program under test.
func connectRun(ctx context.Context, runner, mode, config string, command []string) (outcome, error) {
	args := []string{"--mode", mode, "--conf", config}
	if mode == "client" { // its servers take ports that the system chooses
		args = append(args, "--port", "0")
	}
	out, failed := exec.CommandContext(ctx, runner, append(append(args, "--"), command...)...).CombinedOutput()
	o, err := connectRead(out)
	if err != nil {
		return o, fmt.Errorf("%s mode of %s: %w: %s", mode, filepath.Base(command[len(command)-1]), errors.Join(err, failed), last(out))
	}
	return o, nil
}

var (
	connectFailed = regexp.MustCompile(`(?m)^FAILED: (\S.*):\n((?:[ \t]+.*\n)*)`)
	connectTotal  = regexp.MustCompile(`(?m)^Total cases: (\d+)\n(\d+) passed, (\d+) failed$`)
	connectUnrun  = regexp.MustCompile(`(?m)^Another (\d+) could not be run`)
)

// connectRead reads what the runner says at its end.
func connectRead(out []byte) (outcome, error) {
	o := outcome{failed: map[string]string{}}
	m := connectTotal.FindSubmatch(out)
	if m == nil {
		return o, errors.New("the runner says no count of cases")
	}
	o.cases, _ = strconv.Atoi(string(m[1]))
	for _, f := range connectFailed.FindAllSubmatch(out, -1) {
		o.failed[string(f[1])] = string(bytes.TrimSpace(f[2]))
	}
	if failed, _ := strconv.Atoi(string(m[3])); failed != len(o.failed) {
		return o, fmt.Errorf("the runner counts %d failures and names %d", failed, len(o.failed))
	}
	if m := connectUnrun.FindSubmatch(out); m != nil {
		return o, fmt.Errorf("%s cases could not be run", m[1])
	}
	return o, nil
}
