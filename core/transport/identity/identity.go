// Package identity says who is at the other end of a connection, by TLS 1.3 and SPIFFE: certificates from
// files, read again without a dropped connection, and the id in them.
//
// An id is a URI such as spiffe://example.org/prod/proxy/host-7: trust domain, environment, and what
// it names within the environment.
package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Protocol is what both sides name by ALPN.
const Protocol = "octo/1"

// ID is a SPIFFE id.
type ID struct {
	TrustDomain string
	Environment string // the first element of the path
	Name        string // the rest of it
}

// String returns the URI.
func (id ID) String() string {
	return "spiffe://" + id.TrustDomain + "/" + id.Environment + "/" + id.Name
}

// Parse reads a SPIFFE id.
func Parse(uri string) (ID, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return ID{}, fmt.Errorf("octo: identity %q: %w", uri, err)
	}
	environment, name, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if u.Scheme != "spiffe" || u.Host == "" || u.User != nil || u.Port() != "" || u.RawQuery != "" || u.Fragment != "" ||
		!ok || environment == "" || name == "" || strings.HasSuffix(name, "/") {
		return ID{}, fmt.Errorf("octo: identity %q is not of the form spiffe://domain/environment/name", uri)
	}
	return ID{u.Host, environment, name}, nil
}

// Of returns the id in a certificate, which must hold exactly one.
func Of(c *x509.Certificate) (ID, error) {
	if len(c.URIs) != 1 {
		return ID{}, fmt.Errorf("octo: the certificate holds %d URIs, want 1 SPIFFE id", len(c.URIs))
	}
	return Parse(c.URIs[0].String())
}

// Files are where a process' certificate is, in PEM.
type Files struct {
	Certificate string // the process' own, followed by intermediates
	Key         string
	Authorities string // of peers
}

// material is what was read from the files at one time.
type material struct {
	certificate tls.Certificate
	authorities *x509.CertPool
	id          ID
	stamps      stamps
}

// Source is a process' identity. It may be read again at any time; connections that stand are not touched.
type Source struct {
	files   Files
	current atomic.Pointer[material]
	failed  func(error) // of a Source that follows its files

	mu sync.Mutex // held while files are read
}

// Load reads the files.
func Load(files Files) (*Source, error) {
	s := &Source{files: files}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Follow is Load for a process that nobody tells when the files have changed: each handshake looks at them, and
// reads them again if one has another time, size or inode. If they do not fit together, because the second of two
// is yet to be written, what was read last goes on to hold, failed learns why, and the next handshake tries again.
func Follow(files Files, failed func(error)) (*Source, error) {
	s, err := Load(files)
	if err == nil {
		s.failed = failed
	}
	return s, err
}

// latest is what a handshake goes by.
func (s *Source) latest() *material {
	if s.failed != nil && !s.files.stamps().same(s.current.Load().stamps) {
		if err := s.Reload(); err != nil {
			s.failed(err)
		}
	}
	return s.current.Load()
}

// stamps tell whether files have changed.
type stamps [3]os.FileInfo

func (f Files) stamps() (all stamps) {
	for i, name := range []string{f.Certificate, f.Key, f.Authorities} {
		all[i], _ = os.Stat(name) // one that is gone differs from any
	}
	return all
}

func (a stamps) same(b stamps) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() || !os.SameFile(a[i], b[i]) {
			return false
		}
	}
	return true
}

// Reload reads the files again. What does not fit together changes nothing.
func (s *Source) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	stamps := s.files.stamps() // before the files are read: a later change differs from them
	certificate, err := tls.LoadX509KeyPair(s.files.Certificate, s.files.Key)
	if err != nil {
		return fmt.Errorf("octo: certificate %s: %w", s.files.Certificate, err)
	}
	id, err := Of(certificate.Leaf)
	if err != nil {
		return fmt.Errorf("octo: certificate %s: %w", s.files.Certificate, err)
	}
	pem, err := os.ReadFile(s.files.Authorities)
	if err != nil {
		return fmt.Errorf("octo: authorities: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return fmt.Errorf("octo: authorities %s: no certificate in it", s.files.Authorities)
	}
	if err := verify(certificate.Leaf, nil, authorities); err != nil {
		return fmt.Errorf("octo: certificate %s is not of the authorities in %s: %w", s.files.Certificate, s.files.Authorities, err)
	}
	s.current.Store(&material{certificate, authorities, id, stamps})
	return nil
}

// ID is the process' own id.
func (s *Source) ID() ID { return s.current.Load().id }

// Expect decides about a peer's id; nil lets it in.
type Expect func(peer ID) error

// Server returns the side that accepts: it asks for a certificate and lets in whom expect does. Who does not name our
// protocol by ALPN may name one of others.
func (s *Source) Server(expect Expect, others ...string) *tls.Config {
	c := s.config(expect, others...)
	c.ClientAuth = tls.RequireAnyClientCert // verified in VerifyConnection, by the authorities of the time
	return c
}

// Client returns the side that dials: it goes on with whom expect lets in. Names of hosts do not count.
func (s *Source) Client(expect Expect) *tls.Config {
	c := s.config(expect)
	c.InsecureSkipVerify = true // host names are not checked; VerifyConnection checks chain and id
	return c
}

func (s *Source) config(expect Expect, others ...string) *tls.Config {
	protocols := append([]string{Protocol}, others...)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &s.latest().certificate, nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &s.latest().certificate, nil
		},
		VerifyConnection:       func(cs tls.ConnectionState) error { return s.check(cs, expect, protocols) },
		SessionTicketsDisabled: true, // each connection proves its identity anew
	}
}

// check verifies a peer's chain and id. It runs for each handshake, with what the files held last.
func (s *Source) check(cs tls.ConnectionState, expect Expect, protocols []string) error {
	if !slices.Contains(protocols, cs.NegotiatedProtocol) {
		return errors.New("octo: the peer does not speak " + Protocol)
	}
	if len(cs.PeerCertificates) == 0 {
		return errors.New("octo: the peer showed no certificate")
	}
	leaf := cs.PeerCertificates[0]
	if err := verify(leaf, cs.PeerCertificates[1:], s.latest().authorities); err != nil {
		return err
	}
	id, err := Of(leaf)
	if err != nil {
		return err
	}
	return expect(id)
}

func verify(leaf *x509.Certificate, rest []*x509.Certificate, authorities *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, c := range rest {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

// Exactly lets in the peer of one id.
func Exactly(want ID) Expect {
	return func(peer ID) error {
		if peer != want {
			return fmt.Errorf("octo: the peer is %s, expected %s", peer, want)
		}
		return nil
	}
}

// SameEnvironment lets in peers of the own trust domain and environment.
func (s *Source) SameEnvironment(peer ID) error {
	own := s.ID()
	if peer.TrustDomain != own.TrustDomain || peer.Environment != own.Environment {
		return fmt.Errorf("octo: %s is not of spiffe://%s/%s", peer, own.TrustDomain, own.Environment)
	}
	return nil
}

// PeerOf returns the verified id of a connection's peer after its handshake.
func PeerOf(cs tls.ConnectionState) (ID, error) {
	if !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return ID{}, errors.New("octo: no verified peer")
	}
	return Of(cs.PeerCertificates[0])
}
