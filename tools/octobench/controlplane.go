package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/control"
)

// runControl measures the control plane.
func runControl(args []string, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	begin := time.Now()
	report, file, err := control.Run(self, args, out, os.Stderr)
	if err != nil || file == "" {
		return err
	}
	record := &Record{
		Date:    time.Now().UTC().Format(time.DateOnly),
		Command: strings.Join(append([]string{"go run ./tools/octobench control"}, args...), " "),
		Machine: thisMachine(),
		Settings: []string{
			fmt.Sprintf("all on this machine, GOMAXPROCS %d, over loopback without TLS; %v in all", runtime.GOMAXPROCS(0), time.Since(begin).Round(time.Second)),
			"servers and clients are processes of their own and share the cores: latency and the time until all are synced hold the clients' work, too",
		},
	}
	if err := saveJSON(file, report); err != nil {
		return err
	}
	return saveJSON(recordFile(file), record)
}

// controlText is the generated part of a page of the control plane's figures.
func controlText(record *Record, report *control.Report) string {
	var b strings.Builder
	head(&b, record)
	b.WriteString(report.GatesMarkdown())
	for i := range report.Tables {
		b.WriteString(report.Tables[i].Markdown())
	}
	return b.String()
}
