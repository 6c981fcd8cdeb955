package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// secured is TLS around a mesh: gRPC comes in by it, and the stock server is called by it. nil is none.
type secured struct {
	own     tls.Certificate // that clients see
	clients *x509.CertPool  // what they trust: own
	server  *x509.CertPool  // what the stock server's certificate is signed by
}

// host is the name that all certificates of the suites have.
const host = "127.0.0.1"

// secure makes TLS of the certificate and key that clients are to see, and of the certificate that the stock server has, all in PEM.
func secure(certificate, key, server []byte) (*secured, error) {
	own, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate for clients: %w", err)
	}
	s := &secured{own: own, clients: x509.NewCertPool(), server: x509.NewCertPool()}
	if !s.clients.AppendCertsFromPEM(certificate) || !s.server.AppendCertsFromPEM(server) {
		return nil, errors.New("no certificate is in what should be one")
	}
	return s, nil
}

// selfSigned makes a certificate for the loopback that vouches for itself.
func selfSigned() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.ParseIP(host)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

// entrance is how clients come in.
func (s *secured) entrance() *tls.Config {
	if s == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.own}, NextProtos: []string{"h2"}}
}

// dial has a proxy call its servers by TLS.
func (s *secured) dial(cfg *proxy.Config) {
	if s == nil {
		return
	}
	cfg.ServerTLS = func(name string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: s.server, NextProtos: []string{"h2"}}
	}
	const by = resourcev1.Protocol_PROTOCOL_GRPC_TLS
	cfg.Dials = map[resourcev1.Protocol]session.Protocol{by: &bridge.Protocol{Config: bridge.Config{Secure: true}}}
	for i := range cfg.Servers {
		cfg.Servers[i].Protocol, cfg.Servers[i].ServerName = by, host
		cfg.Servers[i].Watch = bridge.WatchHealthByTLS(func() *tls.Config { return cfg.ServerTLS(host) })
	}
}

// credentials are those of a client that comes in.
func (s *secured) credentials() credentials.TransportCredentials {
	if s == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.clients})
}
