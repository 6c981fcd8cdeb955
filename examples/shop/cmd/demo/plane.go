package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// plane is the shop's control plane: octo up.
type plane struct {
	*child
	address string // for proxies and operators
	bin     string
}

func (s *shop) startPlane(ctx context.Context) error {
	c, err := s.start("octo", "octo", nil, "up", "--data", filepath.Join(s.dir, "control"), "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.plane = &plane{child: c, bin: s.bin}
	s.plane.address, err = c.await(ctx)
	return err
}

// octo runs one of the operator's commands, and returns what it writes.
func (p *plane) octo(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "octo"), args...)
	cmd.Env = append(os.Environ(), "OCTO_CONTROL="+p.address, "OCTO_ENVIRONMENT="+environment)
	said, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("octo %s: %w\n%s", strings.Join(args, " "), err, said)
	}
	return string(said), nil
}

// known is what a proxy goes by, as far as the demo asks.
type known struct {
	Snapshot struct {
		Endpoints []struct{ Target, Instance string }
		Policies  []struct {
			Target string
			Routes []struct{ Name string }
		}
	}
}

// config asks a proxy what it goes by.
func (p *proxy) config(ctx context.Context) (known, error) {
	var k known
	body, err := p.get(ctx, "/config")
	if err == nil {
		err = json.Unmarshal(body, &k)
	}
	return k, err
}

func (k known) instances(target string) []string {
	var all []string
	for _, e := range k.Snapshot.Endpoints {
		if e.Target == target {
			all = append(all, e.Instance)
		}
	}
	slices.Sort(all)
	return all
}

func (k known) route(target string) string {
	for _, p := range k.Snapshot.Policies {
		if p.Target == target && len(p.Routes) > 0 {
			return p.Routes[0].Name
		}
	}
	return ""
}

// everywhere waits until all proxies that know of a target go by something, and says how long that took.
func (s *shop) everywhere(ctx context.Context, target string, what string, is func(known) bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	began := time.Now()
	err := until(ctx, func() (bool, error) {
		for _, p := range s.proxies {
			k, err := p.config(ctx)
			if err != nil {
				return false, err
			}
			if (len(k.instances(target)) > 0 || k.route(target) != "") && !is(k) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("not every proxy %s: %w", what, err)
	}
	return time.Since(began), nil
}
