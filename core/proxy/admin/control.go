package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/proxy/control"
)

// Control is what follows the control plane.
type Control interface {
	Status() control.Status
	Drop(target, why string, instances ...string) int
	Pardon(name string) int
}

func (a *handler) control(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, a.cfg.Control.Status())
}

func (a *handler) drop(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	target := q.Get("target")
	if target == "" {
		http.Error(w, "target is missing: say of which target, and maybe which instance; GET /control lists what is held", http.StatusBadRequest)
		return
	}
	reply(w, http.StatusOK, struct {
		Dropped int `json:"dropped"`
	}{a.cfg.Control.Drop(target, "an operator said so", q["instance"]...)})
}

func (a *handler) pardon(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if name == "" {
		http.Error(w, "name is missing: say which resource; GET /control lists those in quarantine", http.StatusBadRequest)
		return
	}
	reply(w, http.StatusOK, struct {
		Pardoned int `json:"pardoned"`
	}{a.cfg.Control.Pardon(name)})
}

var (
	controlConnected = desc("octo_control_connected", "1: a stream to a Pilot stands; 0: none does.")
	controlDegraded  = desc("octo_control_degraded", "1: no Pilot has said anything for a minute, and calls go by what was said last.")
	controlOld       = desc("octo_control_loaded_old", "1: what the proxy began with was more than 7 days old, or from the future.")
	controlDisk      = desc("octo_control_disk_failing", "1: what is pushed cannot be kept on the disk.")
	controlUnsaved   = desc("octo_control_unsaved", "1: what is on the disk is not the newest yet.")
	controlFollowed  = desc("octo_control_targets", "Targets that are followed.")
	controlHeld      = desc("octo_endpoints_held", "Endpoints that the control plane has no more and that stay in rotation, since it may be a mistake.")
	quarantined      = desc("octo_control_quarantined", "Versions of resources that are refused since the proxy crashed with them.")
)

// ControlCollector tells how the control plane is followed.
type ControlCollector struct{ Control }

// Describe implements [prometheus.Collector].
func (c ControlCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{controlConnected, controlDegraded, controlOld, controlDisk, controlUnsaved, controlFollowed, controlHeld, quarantined} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c ControlCollector) Collect(out chan<- prometheus.Metric) {
	is := map[bool]float64{true: 1}
	s := c.Status()
	refused := 0
	for _, q := range s.Quarantined {
		if q.Refused {
			refused++
		}
	}
	gauge(out, controlConnected, is[s.Connected])
	gauge(out, controlDegraded, is[s.Degraded])
	gauge(out, controlOld, is[s.Old])
	gauge(out, controlDisk, is[s.Disk != ""])
	gauge(out, controlUnsaved, is[s.Unsaved])
	gauge(out, controlFollowed, float64(len(s.Targets)))
	gauge(out, controlHeld, float64(len(s.Held)))
	gauge(out, quarantined, float64(refused))
}
