package octomesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/octomesh/octomesh/core/transport/identity"
)

// TLS names the files, in PEM, by which this process shows who it is and knows others.
type TLS struct {
	// Certificate is the process' own, followed by intermediates. It holds one SPIFFE id.
	Certificate string
	Key         string
	// Authorities are those that sign the certificates of peers.
	Authorities string
}

// ErrTLSNeedsTCP says that TLS was asked for on a Unix socket, whose peers the kernel vouches for.
var ErrTLSNeedsTCP = errors.New("octomesh: TLS goes over TCP only")

// tlsTimeout is how long a TLS handshake may take (W-HAND-2).
const tlsTimeout = 5 * time.Second

// WithTLS makes direct connections mutual TLS 1.3: a channel speaks it to its endpoints, a server where it listens,
// and refuses plain connections there. Peers must show a certificate of the authorities with a SPIFFE id of this
// process' trust domain and environment; handlers see a caller's id as [Peer].Verified. All addresses must be TCP,
// else [Dial] and [Server.Serve] return [ErrTLSNeedsTCP]; the local proxy's socket stays as it is. Each handshake looks
// whether the files have changed, and then reads them again; connections that stand go on. Default: plain.
func WithTLS(files TLS) Option { return bothOption(func(c *config) { c.tls = &files }) }

// WithServerIdentity sets the SPIFFE id that the servers of a channel must show, such as
// "spiffe://example.org/prod/app/cart"; it needs [WithTLS]. A server that shows another is not called: calls end
// UNAVAILABLE. Default: any id of this process' trust domain and environment.
func WithServerIdentity(id string) DialOption { return dialOption(func(c *config) { c.server = id }) }

// security is what a process does for TLS. nil: nothing.
type security struct {
	source         *identity.Source
	exact          bool // servers must have the id that an option names
	client, server *tls.Config
}

// finishTLS checks the options of TLS and reads the files.
func (c *config) finishTLS() error {
	if c.tls == nil {
		if c.server != "" {
			return errors.New("octomesh: WithServerIdentity needs WithTLS")
		}
		return nil
	}
	for _, e := range c.direct {
		if err := overTCP(e.Address); err != nil {
			return err
		}
	}
	for _, a := range c.listen {
		if err := overTCP(a); err != nil {
			return err
		}
	}
	for _, l := range c.listeners {
		if a := l.Addr(); a.Network() == "unix" {
			return fmt.Errorf("%w, not at unix:%s", ErrTLSNeedsTCP, a)
		}
	}
	source, err := identity.Follow(identity.Files(*c.tls), func(err error) {
		c.log.Warn("octomesh: the certificate's files have changed and cannot be used; the last good ones hold", "error", err)
	})
	if err != nil {
		return fmt.Errorf("octomesh: TLS: %w", err)
	}
	if own := source.ID(); own.Environment != c.environment {
		return fmt.Errorf("octomesh: TLS: certificate %s is of environment %q, this process of %q", c.tls.Certificate, own.Environment, c.environment)
	}
	expect := identity.Expect(source.SameEnvironment)
	if c.server != "" {
		id, err := identity.Parse(c.server)
		if err != nil {
			return fmt.Errorf("octomesh: WithServerIdentity: %w", err)
		}
		expect = identity.Exactly(id)
	}
	c.secure = &security{source: source, exact: c.server != "", client: source.Client(expect), server: source.Server(source.SameEnvironment)}
	return nil
}

func overTCP(address string) error {
	network, _, err := splitAddress(address)
	if err == nil && network != "tcp" {
		err = fmt.Errorf("%w, not at %s", ErrTLSNeedsTCP, address)
	}
	return err
}

// ofAny is the same for peers of any id of the environment.
func (s *security) ofAny() *security {
	if s == nil {
		return nil
	}
	return &security{source: s.source, client: s.source.Client(s.source.SameEnvironment), server: s.server}
}

// errNoTLS says that an instance takes TLS only.
var errNoTLS = errors.New("octomesh: the instance takes TLS only, and this process has no certificate: see WithTLS")

// dialer shakes hands on what connect gives, with a peer that shows an identity; "": that of the options.
func (s *security) dialer(connect func(context.Context) (net.Conn, error), expect string) (func(context.Context) (net.Conn, error), error) {
	if s == nil {
		if expect != "" {
			return nil, errNoTLS
		}
		return connect, nil
	}
	client := s.client
	if expect != "" && !s.exact {
		id, err := identity.Parse(expect)
		if err != nil {
			return nil, fmt.Errorf("octomesh: the instance's identity: %w", err)
		}
		client = s.source.Client(identity.Exactly(id))
	}
	return func(ctx context.Context) (net.Conn, error) {
		nc, err := connect(ctx)
		if err != nil {
			return nil, err
		}
		return shakeTLS(ctx, tls.Client(nc, client))
	}, nil
}

func shakeTLS(ctx context.Context, tc *tls.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = tc.NetConn().Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return tc, nil
}

// takeSecure shakes hands with a caller and runs its session.
func (s *Server) takeSecure(nc net.Conn) {
	tc := tls.Server(nc, s.cfg.secure.server)
	var id identity.ID
	_, err := shakeTLS(s.ctx, tc)
	if err == nil {
		id, err = identity.PeerOf(tc.ConnectionState())
	}
	if err != nil {
		_ = nc.Close()
		s.cfg.log.Warn("octomesh: a caller was refused", "address", nc.RemoteAddr().String(), "error", err)
		return
	}
	ses := newSession(s, tc, false)
	ses.peer.Verified = id.String()
	s.take(ses)
}
