package resource

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Defaults of octo.resource.v1.Telemetry.
const (
	DefaultRootPermille         = 10
	DefaultSuccessPermille      = 10
	DefaultMaxFailuresPerSecond = 100
	DefaultMaxQueuedSpans       = 8192
	DefaultMaxQueuedLines       = 8192
	DefaultExportTimeout        = 10 * time.Second
)

// Bounds of octo.resource.v1.Telemetry.
const (
	maxQueuedRecords    = 1 << 20
	maxExportTimeout    = time.Minute
	maxFailuresLogged   = 1_000_000
	maxLoggedKeys       = 16
	maxHeaders          = 64
	maxResourceElements = 64
)

// StandardOutput is the access log's file that is none.
const StandardOutput = "-"

// headerForm is the name of a header, as gRPC takes it too.
var headerForm = form{regexp.MustCompile(`^[a-z0-9_.-]+$`), "a header's name in lower-case letters, digits and _ . -"}

// telemetryPaths are the paths in a telemetry section.
func telemetryPaths(t *resourcev1.Telemetry) (out []*string) {
	if o := t.GetOtlp(); o != nil {
		out = append(out, &o.AuthoritiesFile)
	}
	if l := t.GetAccessLog(); l != nil && l.File != StandardOutput {
		out = append(out, &l.File)
	}
	return out
}

// completeTelemetry fills in what a telemetry section leaves out.
func completeTelemetry(t *resourcev1.Telemetry) {
	if t == nil {
		return
	}
	if t.Sampling == nil {
		t.Sampling = &resourcev1.TraceSampling{}
	}
	if t.Sampling.RootPermille == nil {
		t.Sampling.RootPermille = proto.Uint32(DefaultRootPermille)
	}
	if o := t.Otlp; o != nil {
		fill(&o.Protocol, resourcev1.OtlpExporter_PROTOCOL_GRPC)
		fill(&o.MaxQueuedSpans, DefaultMaxQueuedSpans)
		if o.Timeout == nil {
			o.Timeout = durationpb.New(DefaultExportTimeout)
		}
	}
	if l := t.AccessLog; l != nil {
		if l.SuccessPermille == nil {
			l.SuccessPermille = proto.Uint32(DefaultSuccessPermille)
		}
		if l.MaxFailuresPerSecond == nil {
			l.MaxFailuresPerSecond = proto.Uint32(DefaultMaxFailuresPerSecond)
		}
		fill(&l.MaxQueuedLines, DefaultMaxQueuedLines)
	}
}

func (v *validator) telemetry(t *resourcev1.Telemetry) {
	if t == nil {
		return
	}
	v.within("telemetry.sampling.root_permille", t.GetSampling().GetRootPermille(), 0, 1000)
	if o := t.GetOtlp(); o != nil {
		v.otlp(o)
	}
	if l := t.GetAccessLog(); l != nil {
		v.accessLog(l)
	}
}

func (v *validator) otlp(o *resourcev1.OtlpExporter) {
	const at = "telemetry.otlp."
	v.collector(at+"endpoint", o)
	known(v, at+"protocol", o.GetProtocol())
	if o.GetAuthoritiesFile() != "" && !strings.HasPrefix(o.GetEndpoint(), "https:") {
		v.bad(at+"authorities_file", "is for endpoints with https")
	}
	v.duration(at+"timeout", o.GetTimeout(), maxExportTimeout)
	if d := o.GetTimeout(); d != nil && d.AsDuration() <= 0 {
		v.bad(at+"timeout", "leaves no time")
	}
	v.within(at+"max_queued_spans", o.GetMaxQueuedSpans(), 1, maxQueuedRecords)
	v.pairs(at+"headers", o.GetHeaders(), maxHeaders, headerForm)
	v.pairs(at+"resource", o.GetResource(), maxResourceElements, keyForm)
}

func (v *validator) collector(field string, o *resourcev1.OtlpExporter) {
	if o.GetEndpoint() == "" {
		v.bad(field, `is missing: write "http://host:4317", or https for TLS`)
		return
	}
	u, err := url.Parse(o.GetEndpoint())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		v.bad(field, `%q is not of the form "http://host:port" or "https://host:port"`, shorten(o.GetEndpoint()))
		return
	}
	if n, err := strconv.Atoi(u.Port()); err != nil || n < 1 || n > 65535 {
		v.bad(field, "%q has no port from 1 to 65535", shorten(o.GetEndpoint()))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		v.bad(field, "takes no user, query or fragment: credentials go into headers")
	}
	if o.GetProtocol() != resourcev1.OtlpExporter_PROTOCOL_HTTP && u.Path != "" && u.Path != "/" {
		v.bad(field, "%q has a path, which only protocol HTTP knows", shorten(o.GetEndpoint()))
	}
}

func (v *validator) pairs(field string, m map[string]string, most int, names form) {
	if len(m) > most {
		v.bad(field, "has %d entries, at most %d are taken", len(m), most)
	}
	for _, k := range sortedKeys(m) {
		if !names.pattern.MatchString(k) {
			v.bad(field, "%q is not %s", shorten(k), names.says)
		}
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (v *validator) accessLog(l *resourcev1.AccessLog) {
	const at = "telemetry.access_log."
	if l.GetFile() == "" {
		v.bad(at+"file", `is missing: write a file, or "-" for standard output`)
	}
	v.within(at+"success_permille", l.GetSuccessPermille(), 0, 1000)
	v.within(at+"max_failures_per_second", l.GetMaxFailuresPerSecond(), 0, maxFailuresLogged)
	v.within(at+"max_queued_lines", l.GetMaxQueuedLines(), 1, maxQueuedRecords)
	if n := len(l.GetMetadata()); n > maxLoggedKeys {
		v.bad(at+"metadata", "has %d keys, at most %d are taken", n, maxLoggedKeys)
	}
	for i, k := range l.GetMetadata() {
		v.name(at+"metadata["+strconv.Itoa(i)+"]", k, keyForm)
		if slices.Contains(l.GetMetadata()[:i], k) {
			v.bad(at+"metadata["+strconv.Itoa(i)+"]", "stands twice")
		}
	}
}
