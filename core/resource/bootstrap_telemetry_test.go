package resource_test

import (
	"path/filepath"
	"testing"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestTelemetryHasDefaults(t *testing.T) {
	b, dir := bootstrap(t, `
outbound_socket: octo.sock
resources_file: r.yaml
telemetry:
  otlp: {endpoint: "http://127.0.0.1:4317"}
  access_log: {file: access.log}
`, nil)
	o, l := b.Telemetry.Otlp, b.Telemetry.AccessLog
	if b.Telemetry.Sampling.GetRootPermille() != 10 || o.Protocol != resourcev1.OtlpExporter_PROTOCOL_GRPC || o.Timeout.AsDuration() != 10*time.Second ||
		o.MaxQueuedSpans != 8192 || l.GetSuccessPermille() != 10 || l.GetMaxFailuresPerSecond() != 100 || l.MaxQueuedLines != 8192 ||
		l.File != filepath.Join(dir, "access.log") || o.AuthoritiesFile != "" {
		t.Errorf("telemetry %v", b.Telemetry)
	}
}

func TestTelemetryKeepsZerosAndStandardOutput(t *testing.T) {
	b, dir := bootstrap(t, `
outbound_socket: octo.sock
resources_file: r.yaml
telemetry:
  sampling: {root_permille: 0}
  otlp: {endpoint: "https://collector:4318/in", protocol: PROTOCOL_HTTP, authorities_file: ca.pem}
  access_log: {file: "-", success_permille: 0, max_failures_per_second: 0}
`, nil)
	o, l := b.Telemetry.Otlp, b.Telemetry.AccessLog
	if b.Telemetry.Sampling.GetRootPermille() != 0 || o.AuthoritiesFile != filepath.Join(dir, "ca.pem") || o.Protocol != resourcev1.OtlpExporter_PROTOCOL_HTTP ||
		l.File != "-" || l.GetSuccessPermille() != 0 || l.GetMaxFailuresPerSecond() != 0 {
		t.Errorf("telemetry %v", b.Telemetry)
	}
	if b, _ = bootstrap(t, "outbound_socket: octo.sock\nresources_file: r.yaml\n", nil); b.Telemetry != nil {
		t.Errorf("telemetry %v", b.Telemetry)
	}
}
