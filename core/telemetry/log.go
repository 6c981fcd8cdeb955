// Package telemetry is what a process says of itself: a structured log on standard error, and metrics in
// Prometheus' format. Nothing of it stands on a call's path: counters live beside what they count (package
// meter) and are read when somebody asks.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// NewLogger returns a logger that writes one JSON object a line. The level is debug, info, warn or error;
// empty: info.
func NewLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		if err := l.UnmarshalText([]byte(level)); err != nil || strings.ContainsAny(level, "+-") {
			return nil, fmt.Errorf("log level %q is not debug, info, warn or error", level)
		}
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
}
