package registries

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/octomesh/octomesh/core/transport/identity"
)

// ClientTLS is the ordinary TLS of a client of etcd: the server's name is checked, and a certificate of our own is shown if
// there is one. These are etcd's certificates, and not those of the mesh.
func ClientTLS(f identity.Files) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.Authorities != "" {
		pem, err := os.ReadFile(f.Authorities)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities %s: no certificate in it", f.Authorities)
		}
	}
	if (f.Certificate == "") != (f.Key == "") {
		return nil, errors.New("a certificate and its key go together")
	}
	if f.Certificate != "" {
		if _, err := tls.LoadX509KeyPair(f.Certificate, f.Key); err != nil { // now, not at the first handshake
			return nil, fmt.Errorf("certificate %s: %w", f.Certificate, err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own, err := tls.LoadX509KeyPair(f.Certificate, f.Key) // it may have been renewed
			return &own, err
		}
	}
	return c, nil
}
