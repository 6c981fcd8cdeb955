package plane

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/pilot/node"
	"github.com/octomesh/octomesh/core/report"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// maxSums bounds the sums that are metrics: each is a histogram of some thirty series. Windows have room for more.
const maxSums = 5000

// heard is what the Pilot and the Directory of this process hear of the fleet, together: who asks for the whole asks processes.
// The first role that hears serves it.
func (p *Plane) heard(by *role) *fleet.Service {
	if p.fleet == nil {
		p.fleet = &fleet.Service{Who: fleet.NewRoster(), Book: report.NewBook(report.Config{Windows: true, MaxSums: maxSums})}
		by.register = p.fleet.Register
		by.metrics = append(by.metrics, p.fleet.Book, fleetMetrics(p.fleet.Who))
	}
	return p.fleet
}

// hears has a Pilot's proxies heard.
func hears(f *fleet.Service) node.Config {
	pace := report.NewPace(report.DefaultInterval, report.DefaultPerSecond)
	return node.Config{
		Roster: f.Who,
		Report: func(n node.Info, r *directoryv1.ReportRequest) *directoryv1.ReportResponse {
			f.Book.Add(n.Environment, r)
			return pace.Answer()
		},
	}
}

func fleetMetrics(r *fleet.Roster) prometheus.Collector {
	gauge, _ := named[fleet.Stats, int]("octo_fleet_")
	_, counter := named[fleet.Stats, uint64]("octo_fleet_")
	return family[fleet.Stats]{r.Stats, []value[fleet.Stats]{
		gauge("processes", "Processes of applications that are known here: beside proxies, and at the Directory.", func(s fleet.Stats) int { return s.Processes }),
		gauge("proxies", "Proxies that tell of them.", func(s fleet.Stats) int { return s.Proxies }),
		counter("processes_passed_over", "Times that somebody came for whom there was no room.", func(s fleet.Stats) uint64 { return s.Passed }),
	}}
}

// parts finds all who hear of the fleet, for the Config Server; nil: with these roles there is nobody.
func (p *Plane) parts() (func(context.Context) ([]configserver.Part, error), error) {
	if p.own == nil {
		f := &elsewhere{plane: p, conns: make(map[string]*grpc.ClientConn)}
		p.closers = append(p.closers, f.close)
		return f.find, nil
	}
	var roles []string
	for _, r := range []string{RolePilot, RoleDirectory} {
		if slices.Contains(p.cfg.Roles, r) {
			roles = append(roles, r)
		}
	}
	if len(roles) == 0 {
		return nil, nil
	}
	c, err := p.conn(roles[0])
	if err != nil {
		return nil, err
	}
	all := []configserver.Part{{Role: strings.Join(roles, ","), Name: p.cfg.Name, Address: p.address, Conn: c}}
	return func(context.Context) ([]configserver.Part, error) { return all, nil }, nil
}

// elsewhere are Pilots and Directories in other processes, by what etcd has of them.
type elsewhere struct {
	plane *Plane

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by address
}

func (e *elsewhere) find(ctx context.Context) ([]configserver.Part, error) {
	by := make(map[string]*configserver.Part)
	var out []*configserver.Part
	for _, role := range []string{RolePilot, RoleDirectory} {
		members, err := e.plane.rendezvous.Members(ctx, role)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			if old := by[m.Address]; old != nil { // one process with both roles
				old.Role += "," + role
				continue
			}
			c, err := e.conn(m.Address, role)
			if err != nil {
				return nil, err
			}
			by[m.Address] = &configserver.Part{Role: role, Name: m.ID, Address: m.Address, Conn: c}
			out = append(out, by[m.Address])
		}
	}
	e.forget(by)
	all := make([]configserver.Part, 0, len(out))
	for _, part := range out {
		all = append(all, *part)
	}
	return all, nil
}

func (e *elsewhere) conn(address, role string) (*grpc.ClientConn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.conns[address]; c != nil {
		return c, nil
	}
	secrets := insecure.NewCredentials()
	if id := e.plane.id; id != nil {
		secrets = credentials.NewTLS(id.Client(id.HasRole(role)))
	}
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(secrets),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: silence, Timeout: silence / 2}))
	if err == nil {
		e.conns[address] = c
	}
	return c, err
}

// forget closes connections to processes that are not there any more.
func (e *elsewhere) forget(there map[string]*configserver.Part) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for address, c := range e.conns {
		if there[address] == nil {
			_ = c.Close()
			delete(e.conns, address)
		}
	}
}

func (e *elsewhere) close() { e.forget(nil) }

// presence is who asks the Directory of an environment.
func presence(f *fleet.Service, environment string) *fleet.Presence {
	at := f.Who.Open(environment, nil)
	return fleet.NewPresence(func(p *controlv1.Process, here bool) { at.Tell(p, here) })
}
