package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
)

// operate does what happens to the mesh before a step, and waits until all proxies know.
func (s *shop) operate(ctx context.Context, st step, out *printer) error {
	if !st.meshOnly() {
		return nil
	}
	var err error
	switch {
	case st.policy == "-":
		err = s.forget(ctx, out)
	case st.policy != "":
		err = s.push(ctx, st.policy, out)
	case st.kill != "":
		err = s.killInstance(ctx, st.kill, out)
	case st.revive != "":
		err = s.revive(ctx, st.revive, out)
	}
	if err != nil {
		return err
	}
	s.counters, err = s.count(ctx)
	return err
}

// push applies a policy's file, whose first route has the file's name.
func (s *shop) push(ctx context.Context, file string, out *printer) error {
	path := filepath.Join(s.root, "examples", "shop", "policies", file)
	if _, err := s.plane.octo(ctx, "apply", "-f", path, "-m", "the demo's "+file); err != nil {
		return err
	}
	route := file[:len(file)-len(filepath.Ext(file))]
	took, err := s.everywhere(ctx, cataloguev1.CatalogueTarget, "has the route "+route, func(k known) bool {
		return k.route(cataloguev1.CatalogueTarget) == route
	})
	out.operator("octo apply -f policies/%s: in all proxies %s later", file, ms(took))
	return err
}

// forget deletes the policy.
func (s *shop) forget(ctx context.Context, out *printer) error {
	if _, err := s.plane.octo(ctx, "delete", "policy", cataloguev1.CatalogueTarget, "-m", "the demo is through with it"); err != nil {
		return err
	}
	took, err := s.everywhere(ctx, cataloguev1.CatalogueTarget, "has forgotten the policy", func(k known) bool {
		return k.route(cataloguev1.CatalogueTarget) == ""
	})
	out.operator("octo delete policy %s: in all proxies %s later", cataloguev1.CatalogueTarget, ms(took))
	return err
}

// killInstance kills a process without a word; its proxy tells.
func (s *shop) killInstance(ctx context.Context, name string, out *printer) error {
	c := s.child(name)
	c.kill()
	s.children = slices.DeleteFunc(s.children, func(o *child) bool { return o == c })
	took, err := s.everywhere(ctx, cataloguev1.CatalogueTarget, "knows that "+name+" is gone", func(k known) bool {
		return !slices.Contains(k.instances(cataloguev1.CatalogueTarget), name)
	})
	out.operator("kill -9 %s: no proxy lists it %s later", name, ms(took))
	return err
}

// revive starts an instance again.
func (s *shop) revive(ctx context.Context, name string, out *printer) error {
	i := slices.IndexFunc(instances, func(in served) bool { return in.name == name })
	c, err := s.startInstance(i)
	if err != nil {
		return err
	}
	if _, err := c.await(ctx); err != nil {
		return err
	}
	took, err := s.everywhere(ctx, cataloguev1.CatalogueTarget, "knows that "+name+" is back", func(k known) bool {
		return slices.Contains(k.instances(cataloguev1.CatalogueTarget), name)
	})
	out.operator("%s is started again: in all proxies %s after it said that it is ready", name, ms(took))
	return err
}

func ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
