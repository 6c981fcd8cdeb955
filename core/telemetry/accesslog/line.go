package accesslog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/octomesh/octomesh/core/telemetry/record"
	"github.com/octomesh/octomesh/core/telemetry/trace"
)

// line is one line of the log. docs/guides/telemetry.md describes the fields.
type line struct {
	Time        time.Time           `json:"time"`
	Direction   string              `json:"direction"`
	Caller      string              `json:"caller,omitempty"`
	Target      string              `json:"target"`
	Service     string              `json:"service"`
	Method      string              `json:"method"`
	Route       string              `json:"route,omitempty"`
	Lane        string              `json:"lane,omitempty"`
	Endpoint    string              `json:"endpoint,omitempty"`
	Address     string              `json:"address,omitempty"`
	Attempts    int                 `json:"attempts"`
	Generation  uint64              `json:"generation"`
	Code        string              `json:"code"`
	Reason      string              `json:"reason,omitempty"`
	Origin      string              `json:"origin,omitempty"`
	Disposition string              `json:"disposition,omitempty"`
	DurationUS  int64               `json:"duration_us"`
	WaitedUS    *int64              `json:"waited_us,omitempty"`
	TraceID     string              `json:"trace_id,omitempty"`
	SpanID      string              `json:"span_id,omitempty"`
	Sampled     bool                `json:"sampled,omitempty"`
	Shadow      bool                `json:"shadow,omitempty"`
	Metadata    map[string][]string `json:"metadata,omitempty"`
}

// appendLine appends the line of a call that arrived at the given time.
func appendLine(b *bytes.Buffer, r *record.Record, arrived time.Time) {
	us := int64(time.Microsecond)
	l := line{
		Time: arrived.UTC().Truncate(time.Microsecond), Direction: "outbound", Caller: string(r.Text(record.Caller)), Target: string(r.Text(record.Target)),
		Route: r.Route, Lane: string(r.Text(record.Lane)), Endpoint: r.Endpoint, Address: r.Address, Attempts: r.Attempts, Generation: r.Generation,
		Code: r.CodeName, Reason: r.Reason, Origin: r.Origin, Disposition: r.Disposition, DurationUS: r.Took / us, Shadow: r.Shadow,
	}
	if r.Inbound {
		l.Direction = "inbound"
	}
	l.Service, l.Method, _ = strings.Cut(string(r.Text(record.Method)), "/")
	if r.Sent != 0 {
		waited := (r.Sent - r.Arrived) / us
		l.WaitedUS = &waited
	}
	if r.Span {
		l.TraceID, l.SpanID, l.Sampled = r.Context.Trace.String(), r.Context.Span.String(), true
	} else if c, ok := trace.Parse(r.Text(record.Traceparent)); ok {
		l.TraceID, l.SpanID, l.Sampled = c.Trace.String(), c.Span.String(), c.Sampled()
	}
	for k, v := range r.Metadata() {
		if l.Metadata == nil {
			l.Metadata = make(map[string][]string)
		}
		value := string(v)
		if strings.HasSuffix(k, "-bin") {
			value = base64.StdEncoding.EncodeToString(v)
		}
		l.Metadata[k] = append(l.Metadata[k], value)
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(&l) // strings and numbers: it cannot fail
}

// Fields returns the names of a line's fields.
func Fields() (names []string) {
	t := reflect.TypeFor[line]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
