package plane

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/telemetry"
)

// healthServer is the HTTP address for metrics and health.
type healthServer struct {
	listener net.Listener
	server   *http.Server
}

// openHealth opens the address, if there is to be one. It tells nothing that is secret and changes nothing, so that it
// may also be beyond loopback.
func (p *Plane) openHealth() (*healthServer, error) {
	if p.cfg.Metrics == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", p.cfg.Metrics)
	if err != nil {
		return nil, busy("--metrics", p.cfg.Metrics, err)
	}
	p.closers = append(p.closers, func() { _ = l.Close() })
	return &healthServer{listener: l}, nil
}

// MetricsAddress is where metrics and health are; empty: nowhere.
func (p *Plane) MetricsAddress() string {
	if p.health == nil {
		return ""
	}
	return p.health.listener.Addr().String()
}

// serveHealth answers there, once the roles are known.
func (p *Plane) serveHealth() {
	if p.health == nil {
		return
	}
	metrics := telemetry.NewMetrics("octo", Version)
	ready := prometheus.NewDesc("octo_role_ready", "Whether a role that runs here has all that it needs.", []string{"role"}, nil)
	metrics.Add(collector{ready, func(out chan<- prometheus.Metric) {
		lacking := p.Ready(context.Background())
		for _, r := range p.roles {
			value := 1.0
			if lacking[r.name] != nil {
				value = 0
			}
			out <- prometheus.MustNewConstMetric(ready, prometheus.GaugeValue, value, r.name)
		}
	}})
	for _, r := range p.roles {
		metrics.Add(r.metrics...)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "it lives") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { p.answerReady(w, r, "") })
	mux.HandleFunc("GET /readyz/{role}", func(w http.ResponseWriter, r *http.Request) { p.answerReady(w, r, r.PathValue("role")) })
	p.health.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	p.group.Go(func(context.Context) { _ = p.health.server.Serve(p.health.listener) })
}

// answerReady says of one role, or of all, what it lacks.
func (p *Plane) answerReady(w http.ResponseWriter, r *http.Request, only string) {
	if only != "" && !slices.Contains(p.cfg.Roles, only) {
		http.Error(w, fmt.Sprintf("the role %q does not run here", only), http.StatusNotFound)
		return
	}
	lacking := p.Ready(r.Context())
	text, code := "", http.StatusOK
	for _, role := range p.roles {
		if only != "" && role.name != only {
			continue
		}
		if err := lacking[role.name]; err != nil {
			code = http.StatusServiceUnavailable
			text += role.name + ": " + err.Error() + "\n"
		} else {
			text += role.name + ": ready\n"
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprint(w, text)
}

// collector is a Prometheus collector of one description.
type collector struct {
	desc *prometheus.Desc
	each func(chan<- prometheus.Metric)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) { c.each(out) }
