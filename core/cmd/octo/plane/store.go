package plane

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/octomesh/octomesh/core/cmd/octo/plane/registries"
	"github.com/octomesh/octomesh/core/cmd/octo/plane/rendezvous"
	"github.com/octomesh/octomesh/core/cmd/octo/plane/secret"
	"github.com/octomesh/octomesh/core/configserver/store/embedded"
	"github.com/octomesh/octomesh/core/dispatcher/source/etcd"
	"github.com/octomesh/octomesh/core/transport/identity"
)

// Store is where the control plane's data are: in an etcd in this process, or in a cluster elsewhere.
type Store struct {
	// Data is the directory of the embedded etcd.
	Data string
	// Endpoints of another etcd: "host:port", "http://host:port" or "https://host:port".
	Endpoints []string
	// TLS of those, of etcd's own authority. Empty: the system's authorities, and no certificate of ours.
	TLS identity.Files
	// User and Password for etcd; empty: none.
	User, Password string
}

// dialPatience is how long a connection to etcd may take. Then the client tries another member.
const dialPatience = 3 * time.Second

// connect connects to etcd, an own one or another one.
func (p *Plane) connect(ctx context.Context) (err error) {
	s := p.cfg.Store
	if s.Data != "" {
		if p.own, err = embedded.Start(ctx, embedded.Config{Dir: s.Data, Log: p.cfg.Log, Unsafe: p.cfg.Unsafe}); err != nil {
			return err
		}
		p.closers = append(p.closers, p.own.Close)
		p.group.Go(func(ctx context.Context) {
			select {
			case <-ctx.Done():
			case err := <-p.own.Failed():
				p.fail(fmt.Errorf("the embedded etcd has ended: %w", err))
			}
		})
		s.Endpoints = []string{p.own.Endpoint()}
	} else if err := s.check(); err != nil {
		return err
	}
	p.cfg.Store.Endpoints = s.Endpoints
	c := clientv3.Config{
		Endpoints: s.Endpoints, Username: s.User, Password: s.Password, DialTimeout: dialPatience,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, PermitWithoutStream: true, Logger: zap.NewNop(),
	}
	if s.encrypted() {
		if c.TLS, err = registries.ClientTLS(s.TLS); err != nil {
			return usage("--etcd: %v", err)
		}
	}
	if p.etcd, err = clientv3.New(c); err != nil {
		return fmt.Errorf("etcd at %s: %w", strings.Join(s.Endpoints, ","), err)
	}
	p.closers = append(p.closers, func() { _ = p.etcd.Close() })
	p.rendezvous = rendezvous.New(p.etcd, Prefix, p.cfg.Log)
	return nil
}

func (s Store) encrypted() bool {
	for _, e := range s.Endpoints {
		if strings.HasPrefix(e, "https:") {
			return true
		}
	}
	return false
}

// check finds what would not be safe, or not work.
func (s Store) check() error {
	for _, e := range s.Endpoints {
		if strings.HasPrefix(e, "unix:///") && !s.encrypted() {
			continue // only this machine's
		}
		address := e
		if scheme, rest, ok := strings.Cut(e, "://"); ok {
			if address = strings.TrimSuffix(rest, "/"); scheme != "http" && scheme != "https" {
				return usage("--etcd %s: want host:port, http://host:port or https://host:port", e)
			}
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return usage("--etcd %s: want host:port, http://host:port or https://host:port: %v", e, err)
		}
		if strings.HasPrefix(e, "https:") != s.encrypted() {
			return usage("--etcd: some endpoints are https and some are not")
		}
		if s.User != "" && !s.encrypted() && !loopback(host) {
			return usage("--etcd %s: a password would go over the network for everybody to read: use https", e)
		}
	}
	if s.TLS != (identity.Files{}) && !s.encrypted() {
		return usage("--etcd-authorities, --etcd-certificate and --etcd-key are for https endpoints: write https://host:port")
	}
	if s.User == "" {
		return nil
	}
	if err := secret.Check(s.User, s.Password); err != nil {
		return usage("--etcd-user: %v", err)
	}
	return nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// registry opens the registry that is the control plane's own.
func (p *Plane) registry() (*etcd.Source, error) {
	s := p.cfg.Store
	c := etcd.Config{Endpoints: s.Endpoints, Username: s.User, Password: s.Password}
	if s.encrypted() {
		var err error
		if c.TLS, err = registries.ClientTLS(s.TLS); err != nil {
			return nil, err
		}
	}
	return etcd.New(c)
}

// StoreName says where the data are, for people.
func (p *Plane) StoreName() string {
	if p.own != nil {
		return p.own.Endpoint()
	}
	var all []string
	for _, e := range p.cfg.Store.Endpoints {
		if u, err := url.Parse(e); err == nil && u.User != nil {
			e = u.Redacted()
		}
		all = append(all, e)
	}
	return strings.Join(all, ",")
}
