// Package registries opens the registries that a Dispatcher watches, and says which of them has a target.
package registries

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/octomesh/octomesh/core/cmd/octo/plane/secret"
	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/etcd"
	"github.com/octomesh/octomesh/core/dispatcher/source/httppoll"
	"github.com/octomesh/octomesh/core/dispatcher/source/static"
	"github.com/octomesh/octomesh/core/dispatcher/source/zookeeper"
	"github.com/octomesh/octomesh/core/transport/identity"
)

// Form is how a registry is written.
const Form = "WHERE=URL; WHERE is an environment, or *, and may go on with /TARGET, which may end in *; URL is static:FILE, " +
	"etcd://HOST:PORT,.../PREFIX, zookeeper://HOST:PORT,.../PREFIX, http://... or https://..."

// Spec is one registry, and the targets that it has.
type Spec struct {
	Environment string // "*": any
	Target      string // empty: any; with a "*" at the end: those that begin so
	URL         *url.URL
}

// Parse reads a spec such as "prod/legacy.*=zookeeper://10.0.0.1:2181,10.0.0.2:2181/services".
func Parse(text string) (s Spec, err error) {
	where, address, ok := strings.Cut(text, "=")
	if !ok {
		return s, fmt.Errorf("registry %q: want %s", text, Form)
	}
	s.Environment, s.Target, _ = strings.Cut(where, "/")
	probe := source.Key{Environment: s.Environment, Target: strings.TrimSuffix(s.Target, "*")}
	if probe.Environment == "*" {
		probe.Environment = "any"
	}
	if probe.Target == "" {
		probe.Target = "any"
	}
	if err := probe.Check(); err != nil {
		return s, fmt.Errorf("registry %q: %w", text, err)
	}
	if s.URL, err = url.Parse(address); err != nil {
		return s, fmt.Errorf("registry %q: %w", text, err)
	}
	if s.URL.User != nil {
		return s, fmt.Errorf("registry %q: a password does not belong on a command line: use ?user=NAME&password-file=FILE", s.URL.Redacted())
	}
	switch s.URL.Scheme {
	case "static":
		if s.Environment == "*" || s.Target != "" {
			err = errors.New("a file is of one environment, and of all its targets")
		} else if s.path() == "" {
			err = errors.New("it names no file")
		}
	case "etcd", "zookeeper", "http", "https":
		if s.URL.Host == "" {
			err = errors.New("it names no host")
		}
	default:
		err = fmt.Errorf("%q is no kind of registry: want %s", s.URL.Scheme, Form)
	}
	if err != nil {
		return s, fmt.Errorf("registry %q: %w", text, err)
	}
	return s, nil
}

// path is a static registry's file.
func (s Spec) path() string { return s.URL.Host + s.URL.Path + s.URL.Opaque }

// Has tells whether a target is in the registry.
func (s Spec) Has(k source.Key) bool {
	if s.Environment != "*" && s.Environment != k.Environment {
		return false
	}
	if begin, any := strings.CutSuffix(s.Target, "*"); any {
		return strings.HasPrefix(k.Target, begin)
	}
	return s.Target == "" || s.Target == k.Target
}

// Set is open registries. The last one is the control plane's own, which has what no other has.
type Set struct {
	Registries []hub.Registry
	specs      []Spec
	closers    []func()
}

// Open opens registries. own is the control plane's, which Close closes too.
func Open(specs []Spec, own *etcd.Source, log *slog.Logger) (*Set, error) {
	s := &Set{specs: specs, closers: []func(){closer(own)}}
	for _, spec := range specs {
		opened, done, err := open(spec, log)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("registry %s: %w", spec.URL.Redacted(), err)
		}
		s.Registries = append(s.Registries, hub.Registry{Source: opened})
		s.closers = append(s.closers, done)
	}
	s.Registries = append(s.Registries, hub.Registry{Source: own})
	return s, nil
}

// Pick is the hub's: the first registry that fits, or the own one.
func (s *Set) Pick(k source.Key) int {
	for i, spec := range s.specs {
		if spec.Has(k) {
			return i
		}
	}
	return len(s.specs)
}

// Close closes all. Nobody watches them any more.
func (s *Set) Close() {
	for _, c := range s.closers {
		c()
	}
}

func closer(c io.Closer) func() { return func() { _ = c.Close() } }

func open(s Spec, log *slog.Logger) (source.Source, func(), error) {
	q, err := options(s.URL.Query())
	if err != nil {
		return nil, nil, err
	}
	switch s.URL.Scheme {
	case "static":
		f, err := static.New(static.Config{Files: map[string]string{s.Environment: s.path()}, Log: log})
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	case "zookeeper":
		if q.files != (identity.Files{}) {
			return nil, nil, errors.New("ZooKeeper is spoken to without TLS only: take the certificate away")
		}
		z, err := zookeeper.New(zookeeper.Config{Servers: s.hosts(), Prefix: s.prefix(), User: q.user, Password: q.password})
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case "etcd":
		c := etcd.Config{Endpoints: s.hosts(), Prefix: s.prefix(), Username: q.user, Password: q.password, Log: log}
		if q.files != (identity.Files{}) {
			if c.TLS, err = ClientTLS(q.files); err != nil {
				return nil, nil, err
			}
		}
		e, err := etcd.New(c)
		if err != nil {
			return nil, nil, err
		}
		return e, closer(e), nil
	default: // http, https
		if q.user != "" || q.files != (identity.Files{}) {
			return nil, nil, errors.New("an HTTP registry knows no user and no certificate here")
		}
		address := *s.URL
		address.RawQuery = ""
		return &httppoll.Source{URL: address.String(), Every: q.every}, func() {}, nil
	}
}

func (s Spec) hosts() []string { return strings.Split(s.URL.Host, ",") }

// prefix is the path in a registry that is a tree; empty: the registry's default.
func (s Spec) prefix() string { return strings.TrimSuffix(s.URL.Path, "/") }

// query is what a URL has behind "?".
type query struct {
	user, password string
	files          identity.Files
	every          time.Duration
}

func options(values url.Values) (q query, err error) {
	var passwordFile string
	for name := range values {
		value := values.Get(name)
		switch name {
		case "user":
			q.user = value
		case "password-file":
			passwordFile = value
		case "certificate":
			q.files.Certificate = value
		case "key":
			q.files.Key = value
		case "authorities":
			q.files.Authorities = value
		case "every":
			if q.every, err = time.ParseDuration(value); err != nil || q.every < 100*time.Millisecond {
				return q, fmt.Errorf("every=%s: want a time of at least 100ms, such as 5s", value)
			}
		default:
			return q, fmt.Errorf("%q is no option: user, password-file, certificate, key, authorities and every are", name)
		}
	}
	if (q.user == "") != (passwordFile == "") {
		return q, errors.New("user and password-file go together")
	}
	if q.user != "" {
		q.password, err = secret.File(q.user, passwordFile)
	}
	return q, err
}
