package servertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Authority is a CA that lives as long as its test.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	Pool *x509.CertPool // with its own certificate
}

// NewAuthority makes a CA.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{Pool: x509.NewCertPool()}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	cert := a.issue(t, template, "test ca")
	a.Pool.AddCert(cert.Leaf)
	a.cert, a.key = cert.Leaf, cert.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// issue signs a certificate; the first one of an Authority signs itself.
func (a *Authority) issue(t testing.TB, template *x509.Certificate, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// PeerCert issues a certificate for both ends of TLS on the loopback address.
func (a *Authority) PeerCert(t testing.TB, name string) tls.Certificate {
	t.Helper()
	return a.issue(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, name)
}

// ListenLog returns a logger that calls at, once, with the TCP address on the
// loopback interface that the server says it serves.
func ListenLog(at func(addr string)) *slog.Logger {
	return slog.New(&listenHandler{Handler: slog.DiscardHandler, at: at})
}

type listenHandler struct {
	slog.Handler
	once sync.Once
	at   func(string)
}

// Enabled is true, so that Handle sees every line.
func (*listenHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle looks for the address.
func (h *listenHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if s := a.Value.String(); a.Key == "at" && strings.HasPrefix(s, "127.") {
			h.once.Do(func() { h.at(s) })
		}
		return true
	})
	return nil
}

// Certificate returns the CA's own certificate, DER.
func (a *Authority) Certificate() []byte { return a.cert.Raw }
