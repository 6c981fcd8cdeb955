package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// authority signs the certificates of one world.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

// spiffe is the id of an end or of a proxy.
func spiffe(name string) string { return "spiffe://conformance.test/" + environment + "/" + name }

// certify makes certificates for all that may stand in a topology with TLS.
func (w *world) certify() (err error) {
	if withoutTLS[w.topology] == 0 {
		return nil
	}
	w.ca = &authority{dir: w.dir}
	w.ca.cert, w.ca.key, err = w.ca.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "conformance"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	if err == nil {
		err = w.ca.write("ca.pem", "CERTIFICATE", w.ca.cert.Raw)
	}
	for _, name := range []string{clientEnd, serverEnd, clientEnd + "-proxy", serverEnd + "-proxy"} {
		if err == nil {
			err = w.ca.issue(name)
		}
	}
	return err
}

// tls is how an end or a proxy shows itself, and whom it expects; nil where there is no TLS.
func (w *world) tls(name, peer string) *conformancev1.Tls {
	if w.ca == nil {
		return nil
	}
	t := &conformancev1.Tls{Certificate: filepath.Join(w.dir, name+".crt"), Key: filepath.Join(w.dir, name+".key"), Authorities: filepath.Join(w.dir, "ca.pem")}
	if peer != "" {
		t.Peer = spiffe(peer)
	}
	return t
}

// proxyTLS are the lines of TLS in the bootstrap file of an end's proxy.
func (w *world) proxyTLS(end string) string {
	t := w.tls(end+"-proxy", "")
	if t == nil {
		return ""
	}
	return fmt.Sprintf("tls: {certificate_file: %s, key_file: %s, authorities_file: %s}\n", t.Certificate, t.Key, t.Authorities)
}

// verified is the id of a caller that its callee's handlers are to see: by TLS of the caller itself, or of
// its proxy where the callee's proxy has seen that. What a client's proxy is says nothing of its client.
func (w *world) verified(caller string) string {
	switch w.topology {
	case conformancev1.Topology_TOPOLOGY_MESH_TLS:
		return spiffe(caller + "-proxy")
	case conformancev1.Topology_TOPOLOGY_MIXED_C_TLS:
		if caller == clientEnd {
			return ""
		}
		return spiffe(caller)
	case conformancev1.Topology_TOPOLOGY_MIXED_S_TLS:
		if caller == clientEnd {
			return spiffe(caller)
		}
		return ""
	case conformancev1.Topology_TOPOLOGY_DIRECT_TLS:
		return spiffe(caller)
	}
	return ""
}

// plainIsRefused sees that nothing of a topology with TLS talks to somebody without: whoever listens on TCP ends
// a connection whose first bytes are those of a plain HELLO, and says nothing but a TLS alert.
func (w *world) plainIsRefused() error {
	if w.ca == nil {
		return nil
	}
	for name, e := range w.ends {
		addresses := []string{e.address}
		if e.proxy != nil {
			addresses = append(addresses, e.proxy.inbound)
		}
		for _, address := range addresses {
			if err := refusesPlain(address); err != nil {
				return fmt.Errorf("%s at %q: %w", name, address, err)
			}
		}
	}
	return nil
}

func refusesPlain(address string) error {
	if address == "" {
		return nil // it does not listen
	}
	nc, err := net.DialTimeout("tcp", address, startTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(startTimeout))
	hello := []byte{0x0C, 0x70, 1, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 1, 0x10, 1}
	if _, err := nc.Write(hello); err != nil {
		return err
	}
	const alert = 21
	answer, err := io.ReadAll(nc)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) || len(answer) > 0 && answer[0] != alert {
		return fmt.Errorf("a plain connection is to be refused, it answers %x (%w)", answer, err)
	}
	return nil
}

func (a *authority) issue(name string) error {
	uri, err := url.Parse(spiffe(name))
	if err != nil {
		return err
	}
	cert, key, err := a.sign(&x509.Certificate{URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature})
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err == nil {
		err = a.write(name+".key", "EC PRIVATE KEY", der)
	}
	if err == nil {
		err = a.write(name+".crt", "CERTIFICATE", cert.Raw)
	}
	return err
}

func (a *authority) write(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// sign makes a key and a certificate of it; the first signs itself.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	a.next++
	template.SerialNumber = big.NewInt(a.next)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}
