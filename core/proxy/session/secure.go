package session

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/octomesh/octomesh/core/transport/identity"
)

// TLSTimeout is how long the TLS handshake may take.
const TLSTimeout = 5 * time.Second

// Secure shakes hands by TLS on a socket that was accepted (server) or dialed, and returns the connection
// with the verified id of its peer, if one is asked for. The socket is closed if that fails.
func Secure(ctx context.Context, nc net.Conn, config *tls.Config, server bool) (net.Conn, identity.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, TLSTimeout)
	defer cancel()
	tc := tls.Client(nc, config)
	if server {
		tc = tls.Server(nc, config)
	}
	err := tc.HandshakeContext(ctx)
	var id identity.ID
	if err == nil && (!server || config.ClientAuth != tls.NoClientCert) { // else nobody asks who dials
		id, err = identity.PeerOf(tc.ConnectionState())
	}
	if err != nil {
		_ = nc.Close()
		return nil, identity.ID{}, err
	}
	return tc, id, nil
}

// SecureByName shakes hands by TLS on a socket that was dialed, with a server that the configuration knows by the name of a host. The
// socket is closed if that fails.
func SecureByName(ctx context.Context, nc net.Conn, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, TLSTimeout)
	defer cancel()
	tc := tls.Client(nc, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return tc, nil
}

// SetApplication notes which application the peer is, before Run: what it says itself does not count.
func (s *Session) SetApplication(name string) { s.named = name }

// SetIdentity notes who the peer is by TLS, before Run.
func (s *Session) SetIdentity(id identity.ID) { s.peer.Identity = id.String() }
