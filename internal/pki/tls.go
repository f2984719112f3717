package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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
// It fails with ErrWrongCA, ErrExpired, ErrNotYetValid or ErrKeyMismatch, so
// that a host learns of bad files at its start and not from its peers' refusals.
func Load(caFile, certFile, keyFile string) (server, client *tls.Config, err error) {
	ca, err := readCert(caFile)
	if err != nil {
		return nil, nil, fmt.Errorf("load certificate of the authority: %w", err)
	}
	cert, err := readCert(certFile)
	if err != nil {
		return nil, nil, fmt.Errorf("load certificate: %w", err)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("load private key: %w", err)
	}
	if err := checkKey(cert, certFile, key, keyFile); err != nil {
		return nil, nil, fmt.Errorf("load certificate: %w", err)
	}
	if err := checkChain(ca, caFile, cert, certFile); err != nil {
		return nil, nil, fmt.Errorf("load certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	own := []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}}
	server = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: own,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
	client = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: own,
		RootCAs:      pool,
	}
	return server, client, nil
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
