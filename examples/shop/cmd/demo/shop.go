package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	checkoutv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/checkout/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// served is one instance of a service.
type served struct {
	name, program, target, version string
	weight                         int
}

// instances are what the shop runs. Those behind others call them, so that in direct mode their addresses
// are known in time.
var instances = []served{
	{"catalogue-a", "catalogue", cataloguev1.CatalogueTarget, "v1", 200},
	{"catalogue-b", "catalogue", cataloguev1.CatalogueTarget, "v2", 100},
	{"cart", "cart", cartv1.CartTarget, "v1", 100},
	{"checkout", "checkout", checkoutv1.CheckoutTarget, "v1", 100},
}

// customerName is the application that this program is.
const customerName = "customer"

// shop is what runs: through the mesh, or direct.
type shop struct {
	dir, bin  string
	root      string // of the checkout
	suffix    string // of the logs' names
	verbose   bool
	plane     *plane // nil: direct
	spans     *ledger
	children  []*child
	kept      []*child // goes on behind the script
	keptPlane *plane
	proxies   []*proxy // none: direct
	customer  *customer
	counters  map[counted]int // as they were last
}

// startMesh starts the control plane, a proxy for the customer and beside each instance, and the instances, which
// register themselves by their proxies.
func (s *shop) startMesh(ctx context.Context, out *printer) error {
	if err := s.startPlane(ctx); err != nil {
		return err
	}
	out.note("%-12s process %-7d at %s: the control plane, octo up", "octo", s.plane.cmd.Process.Pid, s.plane.address)
	for _, beside := range append([]string{customerName}, names()...) {
		p, err := s.startProxy(beside)
		if err != nil {
			return err
		}
		s.proxies = append(s.proxies, p)
	}
	for _, p := range s.proxies {
		var err error
		if p.inbound, err = p.await(ctx); err != nil {
			return err
		}
	}
	var started []*child
	for i := range instances {
		c, err := s.startInstance(i)
		if err != nil {
			return err
		}
		started = append(started, c)
	}
	for i, c := range started {
		if _, err := c.await(ctx); err != nil {
			return err
		}
		p := s.proxies[i+1]
		out.note("%-12s process %-7d its proxy %-7d at %s", c.name, c.cmd.Process.Pid, p.cmd.Process.Pid, p.inbound)
	}
	p := s.proxies[0]
	out.note("%-12s this one        its proxy %-7d", customerName, p.cmd.Process.Pid)
	var err error
	s.customer, err = newCustomer(func(string) []octomesh.DialOption {
		return []octomesh.DialOption{octomesh.WithMode("on"), octomesh.WithSocket(p.socket)}
	})
	if err != nil {
		return err
	}
	if err := s.registered(ctx, out); err != nil {
		return err
	}
	s.counters, err = s.count(ctx)
	return err
}

// startInstance starts the instance beside its proxy.
func (s *shop) startInstance(i int) (*child, error) {
	in := instances[i]
	env := []string{"OCTO_MODE=on", "OCTO_ENVIRONMENT=" + environment, "OCTO_SOCKET=" + s.proxies[i+1].socket}
	return s.start(in.name, in.program, env, s.args(in)...)
}

// registered waits until the control plane knows all instances, and shows what it knows.
func (s *shop) registered(ctx context.Context, out *printer) error {
	var said string
	err := until(ctx, func() (bool, error) {
		said = ""
		for _, target := range []string{cataloguev1.CatalogueTarget, cartv1.CartTarget, checkoutv1.CheckoutTarget} {
			text, err := s.plane.octo(ctx, "instance", "list", target)
			if err != nil {
				return false, err
			}
			said += text
		}
		for _, in := range instances {
			if !listed(said, in.name) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("not all instances are registered: %w\n%s", err, said)
	}
	out.line("\n  what octo instance list says: they have registered themselves\n")
	for line := range strings.Lines(said) {
		out.note("%s", strings.TrimRight(line, "\n"))
	}
	return nil
}

// listed tells whether a table has a line of an instance, with its address. That its name stands somewhere says nothing: a target
// without instances is named, too, and some have the instance's name.
func listed(table, name string) bool {
	for line := range strings.Lines(table) {
		if cells := strings.Fields(line); len(cells) > 1 && cells[0] == name && strings.Contains(cells[1], ":") {
			return true
		}
	}
	return false
}

// child is the newest process of a name.
func (s *shop) child(name string) *child {
	for _, c := range slices.Backward(s.children) {
		if c.name == name {
			return c
		}
	}
	return nil
}

// startDirect starts the instances, each knowing the addresses of what it calls.
func (s *shop) startDirect(ctx context.Context, out *printer) error {
	s.suffix, s.proxies, s.plane = "-direct", nil, nil
	env := []string{"OCTO_MODE=off", "OCTO_SOCKET=", "OCTO_ENVIRONMENT=" + environment}
	at := make(map[string][]octomesh.Endpoint)
	for _, in := range instances {
		args := append(s.args(in), "--direct-listen", "127.0.0.1:0")
		for target, all := range at {
			var list []string
			for _, e := range all {
				list = append(list, fmt.Sprintf("%s@%d", e.Address, e.Weight))
			}
			args = append(args, "--direct", target+"="+strings.Join(list, ","))
		}
		c, err := s.start(in.name, in.program, env, args...)
		if err != nil {
			return err
		}
		address, err := c.await(ctx)
		if err != nil {
			return err
		}
		at[in.target] = append(at[in.target], octomesh.Endpoint{Address: address, Weight: in.weight})
		out.note("%-12s process %-7d at %s", in.name, c.cmd.Process.Pid, address)
	}
	var err error
	s.customer, err = newCustomer(func(target string) []octomesh.DialOption {
		return []octomesh.DialOption{octomesh.WithMode("off"), octomesh.WithDirectEndpoints(at[target]...)}
	})
	return err
}

func names() []string {
	var all []string
	for _, in := range instances {
		all = append(all, in.name)
	}
	return all
}

// args are an instance's. Those of the catalogue share one directory.
func (s *shop) args(in served) []string {
	args := []string{"--instance", in.name, "--weight", strconv.Itoa(in.weight), "--tag", "version=" + in.version}
	if in.program == "catalogue" {
		args = append(args, "--data", filepath.Join(s.dir, "data"+s.suffix))
	}
	return args
}

// count reads the counters of all proxies.
func (s *shop) count(ctx context.Context) (map[counted]int, error) {
	all := make(map[counted]int)
	for _, p := range s.proxies {
		if err := p.count(ctx, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// close ends all, also what was kept.
func (s *shop) close() error {
	err := s.stop()
	s.children, s.kept = s.kept, nil
	return errors.Join(err, s.stop())
}

// stop ends what runs but is not kept: the customer's calls, then the services, then their proxies, then the control
// plane.
func (s *shop) stop() error {
	var err error
	if s.customer != nil {
		err = s.customer.close()
		s.customer = nil
	}
	all := s.children
	s.children = nil
	for rank := range 3 {
		var wg sync.WaitGroup
		errs := make([]error, len(all))
		for i, c := range all {
			if c.rank() == rank {
				wg.Go(func() { errs[i] = c.end() })
			}
		}
		wg.Wait()
		err = errors.Join(err, errors.Join(errs...))
	}
	return err
}

// died tells of the first kept process that ends.
func (s *shop) died() <-chan string {
	name := make(chan string, len(s.kept))
	for _, c := range s.kept {
		go func() {
			<-c.gone
			name <- c.name
		}()
	}
	return name
}
