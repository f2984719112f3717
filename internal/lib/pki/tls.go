package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Errors that Load and LoadCA wrap.
var (
	ErrWrongCA     = errors.New("certificate is not from this authority")
	ErrExpired     = errors.New("certificate expired")
	ErrNotYetValid = errors.New("certificate is not valid yet (check this host's clock)")
	ErrKeyMismatch = errors.New("private key does not belong to the certificate")
)

// Load reads the authority's certificate and a host's certificate and key, all
// PEM, and makes the configurations for serving and for calling. Both present
// the host's certificate and demand one of the same authority from the other
// side, with TLS 1.3 at least. The client checks the server's name, which the
// caller's dialer sets.
//
// A certificate that replaces the one in the files is presented from the next
// connection on; what can not be used is not, and the one before stays. The
// client's Certificates has the one that was there when Load was called.
//
// It fails with ErrWrongCA, ErrExpired, ErrNotYetValid or ErrKeyMismatch, so
// that a host learns of bad files at its start and not from its peers' refusals.
func Load(caFile, certFile, keyFile string) (server, client *tls.Config, err error) {
	ca, err := readCert(caFile)
	if err != nil {
		return nil, nil, fmt.Errorf("load certificate of the authority: %w", err)
	}
	p := &presented{ca: ca, caFile: caFile, certFile: certFile, keyFile: keyFile}
	// First the stamp: a change after it is seen at the next connection.
	p.seen, _ = p.stamp() // the files are read next
	if p.own, err = p.read(); err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	server = &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.now(), nil },
		ClientCAs:      pool,
		ClientAuth:     tls.RequireAndVerifyClientCert,
	}
	client = &tls.Config{
		MinVersion:           tls.VersionTLS13,
		Certificates:         []tls.Certificate{*p.own},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.now(), nil },
		RootCAs:              pool,
	}
	return server, client, nil
}

// presented is the certificate that a host presents, as it is in its files.
type presented struct {
	ca                        *x509.Certificate
	caFile, certFile, keyFile string

	mu   sync.Mutex
	own  *tls.Certificate
	seen [2]fs.FileInfo // of the files that were read last, used or not
}

// now is the certificate in the files; the last that could be used when that can
// not, so that nothing that was half written cuts a host off.
func (p *presented) now() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen, err := p.stamp()
	if err != nil || same(seen, p.seen) {
		return p.own
	}
	p.seen = seen
	if own, err := p.read(); err == nil {
		p.own = own
	}
	return p.own
}

func (p *presented) stamp() (out [2]fs.FileInfo, err error) {
	for i, f := range []string{p.certFile, p.keyFile} {
		if out[i], err = os.Stat(f); err != nil {
			return out, err
		}
	}
	return out, nil
}

func same(a, b [2]fs.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil || !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

func (p *presented) read() (*tls.Certificate, error) {
	cert, err := readCert(p.certFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	key, err := readKey(p.keyFile)
	if err != nil {
		return nil, fmt.Errorf("load private key: %w", err)
	}
	if err := checkKey(cert, p.certFile, key, p.keyFile); err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	if err := checkChain(p.ca, p.caFile, cert, p.certFile); err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

func checkKey(cert *x509.Certificate, certFile string, key *ecdsa.PrivateKey, keyFile string) error {
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(key.Public()) {
		return fmt.Errorf("%s and %s: %w", certFile, keyFile, ErrKeyMismatch)
	}
	return nil
}

func checkPeriod(cert *x509.Certificate, file string) error {
	now := time.Now()
	if now.After(cert.NotAfter) {
		return fmt.Errorf("%s: %w on %s", file, ErrExpired, day(cert.NotAfter))
	}
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("%s: %w, valid from %s", file, ErrNotYetValid, day(cert.NotBefore))
	}
	return nil
}

// checkChain checks the parts before the whole, because the whole check tells
// only the first reason that it finds, and not of which file.
func checkChain(ca *x509.Certificate, caFile string, cert *x509.Certificate, certFile string) error {
	if !ca.IsCA {
		return fmt.Errorf("%s is not the certificate of an authority", caFile)
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("%s, authority %s (%q): %w: %w", certFile, caFile, ca.Subject.CommonName, ErrWrongCA, err)
	}
	if err := checkPeriod(ca, caFile); err != nil {
		return err
	}
	if err := checkPeriod(cert, certFile); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		opts := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}}
		if _, err := cert.Verify(opts); err != nil {
			return fmt.Errorf("verify %s against %s for server and client use: %w", certFile, caFile, err)
		}
	}
	return nil
}
