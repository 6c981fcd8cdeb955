// Package admin is the operator's view of one proxy: HTTP on a Unix socket that only the proxy's own user
// may open.
//
//	GET  /ready         200, or 503 with the reasons
//	GET  /status        which process this is, its version, how long it runs, its connections
//	GET  /config        the current generation
//	GET  /generations   what was loaded and what was refused, the newest first
//	GET  /calls         open calls (?limit=1000)
//	GET  /endpoints     each endpoint with its load
//	GET  /control       how the control plane is followed: connected, degraded, disk, what is held and quarantined
//	POST /control/drop  drop held endpoints (?target=, &instance= as often as wanted; none: all of the target)
//	POST /control/pardon  take a resource out of quarantine (?name=, as /control shows it)
//	GET  /registrations what became of the instances that are attached
//	GET  /telemetry     what became of spans and of the access log's lines
//	GET  /metrics       Prometheus, or OpenMetrics with exemplars, as the Accept header says
//	GET  /debug/pprof/  profiles
//	POST /drain         leave, as on SIGTERM
//
// Everything but metrics and profiles answers in JSON.
package admin

import (
	"bytes"
	"encoding/json"
	"iter"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/proxy/tap"
)

// Config is what the admin interface shows. Functions are called for each request, from many goroutines.
type Config struct {
	Store *store.Store
	// NotReady returns why the proxy should get no calls; none: it is ready. The lack of a configuration
	// need not be among them.
	NotReady func() []string
	// Process says which process this is. Nil: nobody knows.
	Process func() Process
	// Now is the proxy's monotonic clock, by which ejections and slow starts go. Nil: /endpoints knows of none.
	Now func() int64
	// Calls yields the open calls. Nil: none are known.
	Calls iter.Seq[Call]
	// Registrations returns what became of the instances that are attached. Nil: they are not registered.
	Registrations func() register.Report
	// Drain begins leaving and returns at once.
	Drain func()
	// Telemetry returns what became of spans and lines. Nil: there are none.
	Telemetry func() tap.Status
	// Control follows the control plane. Nil: nothing does.
	Control Control
	// Metrics serves /metrics.
	Metrics http.Handler
}

// Process is who serves here.
type Process struct {
	// PID and Start, in ticks since the host started, name it.
	PID         int    `json:"pid"`
	Start       uint64 `json:"start_ticks"`
	Version     string `json:"version"`
	Environment string `json:"environment"`
	Instance    string `json:"instance"`
	// Sessions are connections by what they are: caller, instance, remote, upstream.
	Sessions map[string]int `json:"sessions"`
}

// Status is a proxy as /status shows it.
type Status struct {
	Process
	Seconds    float64  `json:"uptime_seconds"`
	Generation uint64   `json:"generation"`
	Ready      bool     `json:"ready"`
	Reasons    []string `json:"reasons"`
}

// Call is an open call as /calls shows it.
type Call struct {
	Direction string  `json:"direction"`
	Target    string  `json:"target"`
	Service   string  `json:"service"`
	Method    string  `json:"method"`
	Caller    string  `json:"caller,omitempty"`
	Endpoint  string  `json:"endpoint,omitempty"` // the instance that has it; empty: none yet
	State     string  `json:"state"`              // such as "open" or "parked"
	Seconds   float64 `json:"seconds"`            // since it arrived
	LeftSec   float64 `json:"left_seconds,omitempty"`
}

// Handler returns the interface.
func Handler(cfg Config) http.Handler {
	a := &handler{cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.index)
	mux.HandleFunc("GET /ready", a.ready)
	if cfg.Process != nil {
		mux.HandleFunc("GET /status", a.status)
	}
	mux.HandleFunc("GET /config", a.config)
	mux.HandleFunc("GET /generations", a.generations)
	mux.HandleFunc("GET /calls", a.calls)
	mux.HandleFunc("GET /endpoints", a.endpoints)
	if cfg.Control != nil {
		mux.HandleFunc("GET /control", a.control)
		mux.HandleFunc("POST /control/drop", a.drop)
		mux.HandleFunc("POST /control/pardon", a.pardon)
	}
	mux.HandleFunc("GET /telemetry", a.telemetry)
	mux.HandleFunc("GET /registrations", a.registrations)
	mux.HandleFunc("POST /drain", a.drain)
	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", cfg.Metrics)
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

type handler struct{ cfg Config }

// reply writes indented JSON: people read it with curl.
func reply(w http.ResponseWriter, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n'))
}

func (a *handler) index(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, []string{
		"GET /ready", "GET /status", "GET /config", "GET /generations", "GET /calls", "GET /endpoints", "GET /control", "POST /control/drop", "POST /control/pardon",
		"GET /registrations", "GET /telemetry", "GET /metrics", "GET /debug/pprof/", "POST /drain",
	})
}

// readiness is the current generation, and why the proxy should get no calls.
func (a *handler) readiness() (generation uint64, reasons []string) {
	reasons = []string{}
	g := a.cfg.Store.Current()
	if g.Number == 0 {
		reasons = append(reasons, "no configuration was loaded yet")
	}
	if a.cfg.NotReady != nil {
		reasons = append(reasons, a.cfg.NotReady()...)
	}
	return g.Number, reasons
}

func (a *handler) status(w http.ResponseWriter, _ *http.Request) {
	s := Status{Process: a.cfg.Process()}
	s.Seconds = pidfd.Age(s.Start).Seconds()
	s.Generation, s.Reasons = a.readiness()
	s.Ready = len(s.Reasons) == 0
	reply(w, http.StatusOK, s)
}

func (a *handler) ready(w http.ResponseWriter, _ *http.Request) {
	generation, reasons := a.readiness()
	code := http.StatusOK
	if len(reasons) > 0 {
		code = http.StatusServiceUnavailable
	}
	reply(w, code, struct {
		Ready      bool     `json:"ready"`
		Reasons    []string `json:"reasons"`
		Generation uint64   `json:"generation"`
	}{len(reasons) == 0, reasons, generation})
}

func (a *handler) config(w http.ResponseWriter, _ *http.Request) {
	g := a.cfg.Store.Current()
	snapshot, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(g.Snapshot())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var compact bytes.Buffer // protojson puts random spaces into its output
	_ = json.Compact(&compact, snapshot)
	warnings := []string{}
	for _, p := range g.Warnings() {
		warnings = append(warnings, p.String())
	}
	reply(w, http.StatusOK, struct {
		Generation uint64          `json:"generation"`
		Hash       string          `json:"hash"`
		Source     string          `json:"source"`
		Loaded     time.Time       `json:"loaded"`
		Warnings   []string        `json:"warnings"`
		Snapshot   json.RawMessage `json:"snapshot"`
	}{g.Number, g.Hash, g.Source, g.Loaded, warnings, compact.Bytes()})
}

func (a *handler) generations(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, a.cfg.Store.History())
}

// defaultLimit bounds what /calls returns unless the request says otherwise.
const defaultLimit = 1000

func (a *handler) calls(w http.ResponseWriter, r *http.Request) {
	limit := defaultLimit
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			http.Error(w, "limit is not a number from 0 on", http.StatusBadRequest)
			return
		}
		limit = n
	}
	calls, total := []Call{}, 0
	if a.cfg.Calls != nil {
		for c := range a.cfg.Calls {
			if total++; len(calls) < limit {
				calls = append(calls, c)
			}
		}
	}
	reply(w, http.StatusOK, struct {
		Total int    `json:"total"`
		Calls []Call `json:"calls"`
	}{total, calls})
}

func (a *handler) drain(w http.ResponseWriter, _ *http.Request) {
	if a.cfg.Drain == nil {
		http.Error(w, "this proxy cannot be drained from here", http.StatusNotImplemented)
		return
	}
	a.cfg.Drain()
	reply(w, http.StatusAccepted, struct {
		Draining bool `json:"draining"`
	}{true})
}
