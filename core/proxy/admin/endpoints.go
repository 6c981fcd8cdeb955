package admin

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/upstream"
)

// endpoint is what /endpoints says of one.
type endpoint struct {
	Target      string `json:"target"`
	Instance    string `json:"instance"`
	MeshAddress string `json:"mesh_address,omitempty"`
	// DirectAddress is where calls go while its proxy does not answer; left out where they may not.
	DirectAddress string `json:"direct_address,omitempty"`
	// Direct: they go there now.
	Direct     bool   `json:"direct,omitempty"`
	Zone       string `json:"zone,omitempty"`
	Weight     uint32 `json:"weight"`
	InRotation bool   `json:"in_rotation"`
	Ready      bool   `json:"ready"`
	Open       int64  `json:"open"`
	Calls      uint64 `json:"calls"`
	Failures   uint64 `json:"failures"`
	// Directs is those of the calls that went to its own address.
	Directs uint64 `json:"direct_calls,omitempty"`

	// What speaks against it, or is particular about it; left out where it is not so.

	Disabled bool `json:"disabled,omitempty"`
	Backup   bool `json:"backup,omitempty"`
	// Held: the control plane has it no more, and that may be a mistake: see /control.
	Held bool `json:"held,omitempty"`
	// Ejected: its calls failed, by outlier_ejection.
	Ejected bool `json:"ejected,omitempty"`
	// Absent: its proxy said less than a second ago that it has no instance, or leaves.
	Absent bool `json:"absent,omitempty"`
	// Draining: its proxy leaves, and no connection to a successor stands yet.
	Draining bool `json:"draining,omitempty"`
	// SlowStartPermille: the part of its weight that it has, while it is less than all.
	SlowStartPermille int64 `json:"slow_start_permille,omitempty"`
	// Stranger: who answers at its address is not whom its configuration expects.
	Stranger string `json:"stranger,omitempty"`
}

func (a *handler) endpoints(w http.ResponseWriter, _ *http.Request) {
	out := []endpoint{}
	table := a.cfg.Store.Current().Table
	for e := range table.Endpoints() {
		d := endpoint{
			Target: e.Target, Instance: e.Instance, MeshAddress: e.MeshAddress, DirectAddress: e.DirectAddress, Zone: e.Zone, Weight: e.Weight,
			InRotation: e.InRotation(), Ready: e.InRotation() && e.Ready(),
			Open: e.Open.Load(), Calls: e.Calls.Load(), Failures: e.Failures.Load(), Directs: e.Directs.Load(),
			Disabled: e.Disabled, Backup: e.Backup, Held: e.Held,
		}
		if a.cfg.Now != nil {
			d.addHealth(e, table.Target(route.Outbound, e.Target), a.cfg.Now())
		}
		if a.cfg.Now != nil && d.InRotation {
			_, d.Direct = e.Way(a.cfg.Now())
		}
		if peer, ok := e.Peer.(*upstream.Peer); ok {
			d.Draining = peer.Draining()
			if s := peer.Stranger(); s != nil {
				d.Stranger = s.Error()
			}
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b endpoint) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Instance, b.Instance))
	})
	reply(w, http.StatusOK, out)
}

func (d *endpoint) addHealth(e *cluster.Endpoint, t *route.Target, now int64) {
	d.Ejected, d.Absent = e.Ejected(now), e.Absent(now)
	if t == nil || !d.InRotation {
		return
	}
	if share := e.Warmth(now, int64(t.Rules.SlowStart), t.Rules.Initial); share < 1000 {
		d.SlowStartPermille = share
	}
}
