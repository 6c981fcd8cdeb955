// Package certfile is ordinary TLS by certificates in files, which are read again when they change: towards clients and servers that
// know names of hosts, and not the ids of the mesh (package identity).
package certfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// Files are in PEM, and each may be left out.
type Files struct {
	Certificate string // the process' own, followed by intermediates
	Key         string // goes with Certificate
	Authorities string // of peers
}

// material is what was read from the files at one time.
type material struct {
	certificate *tls.Certificate // nil: none is shown
	authorities *x509.CertPool   // nil: the system's
	stamps      stamps
}

// Source gives configurations for handshakes. Each handshake looks at the files, and reads them again if one has another time, size
// or inode. Connections that stand are not touched.
type Source struct {
	files   Files
	failed  func(error)
	current atomic.Pointer[material]
	mu      sync.Mutex // held while files are read
}

// Follow reads the files. If they do not fit together later, because the second of two is yet to be written, what was read last goes
// on to hold, failed learns why, and the next handshake tries again.
func Follow(files Files, failed func(error)) (*Source, error) {
	s := &Source{files: files, failed: failed}
	if (files.Certificate == "") != (files.Key == "") {
		return nil, errors.New("octo: a certificate and its key go together")
	}
	if err := s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

// latest is what a handshake goes by.
func (s *Source) latest() *material {
	if now := s.current.Load(); s.files.stamps().same(now.stamps) {
		return now
	}
	if err := s.read(); err != nil && s.failed != nil {
		s.failed(err)
	}
	return s.current.Load()
}

func (s *Source) read() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &material{stamps: s.files.stamps()} // before the files are read: a later change differs from them
	if s.files.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.files.Certificate, s.files.Key)
		if err != nil {
			return fmt.Errorf("octo: certificate %s: %w", s.files.Certificate, err)
		}
		m.certificate = &pair
	}
	if s.files.Authorities != "" {
		pem, err := os.ReadFile(s.files.Authorities)
		if err != nil {
			return fmt.Errorf("octo: authorities: %w", err)
		}
		m.authorities = x509.NewCertPool()
		if !m.authorities.AppendCertsFromPEM(pem) {
			return fmt.Errorf("octo: authorities %s: no certificate in it", s.files.Authorities)
		}
	}
	s.current.Store(m)
	return nil
}

// Client returns how to dial a server whose certificate has a name, of a host or an IP address, and that speaks one of the protocols
// (ALPN). It is for one handshake.
func (s *Source) Client(name string, protocols ...string) *tls.Config {
	m := s.latest()
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: m.authorities, NextProtos: protocols,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if m.certificate == nil {
				return new(tls.Certificate), nil
			}
			return m.certificate, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(protocols) > 0 && cs.NegotiatedProtocol == "" {
				return fmt.Errorf("octo: the server agrees to none of the protocols %v by ALPN", protocols)
			}
			return nil
		},
	}
}

// Server returns how to accept clients that speak one of the protocols. With authorities of peers a client must show a certificate
// of theirs; without, none is asked for.
func (s *Source) Server(protocols ...string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols}
	if s.files.Authorities != "" {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := s.latest()
		now := &tls.Config{
			MinVersion: c.MinVersion, NextProtos: protocols, ClientAuth: c.ClientAuth, ClientCAs: m.authorities,
			SessionTicketsDisabled: m.authorities != nil, // each connection proves its identity anew
		}
		if m.certificate != nil {
			now.Certificates = []tls.Certificate{*m.certificate}
		}
		return now, nil
	}
	return c
}

// stamps tell whether files have changed.
type stamps [3]os.FileInfo

func (f Files) stamps() (all stamps) {
	for i, name := range []string{f.Certificate, f.Key, f.Authorities} {
		if name != "" {
			all[i], _ = os.Stat(name) // one that is gone differs from any
		}
	}
	return all
}

func (a stamps) same(b stamps) bool {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
		case a[i] == nil || b[i] == nil || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() || !os.SameFile(a[i], b[i]):
			return false
		}
	}
	return true
}
