package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// mode is how a connection is secured.
type mode string

// Ways to secure a connection. With preferred and unverified, who answers is not proved.
const (
	unset      mode = ""
	off        mode = "false"
	preferred  mode = "preferred"   // where the server can
	unverified mode = "skip-verify" // always
	chain      mode = "chain"       // the certificate is of a known authority, whatever its name; in option files
	verified   mode = "true"        // and it is that of the host
)

// security is what DSN and option file say of TLS.
type security struct {
	mode          mode
	ca, cert, key string // paths
}

func (s *security) set(v string) error {
	switch m := mode(v); m {
	case off, preferred, unverified, verified:
		s.mode = m
		return nil
	}
	return fmt.Errorf("value %.80q: want true, skip-verify, preferred or false", v)
}

// config is nil without TLS. host is whose certificate it must be.
func (s *security) config(host string) (*tls.Config, error) {
	switch {
	case s.mode == off && s.ca+s.cert+s.key != "":
		return nil, errors.New("tls is false, and there are certificates for it: want one or the other")
	case s.ca != "" && (s.mode == unverified || s.mode == preferred):
		return nil, fmt.Errorf("tls is %s, which verifies nothing, and there is a tls-ca to verify by: want tls=true, or no tls-ca", s.mode)
	case (s.cert == "") != (s.key == ""):
		return nil, errors.New("want tls-cert and tls-key together")
	case s.mode == unset && s.ca+s.cert != "":
		s.mode = verified
	case s.mode == unset || s.mode == off:
		return nil, nil
	}
	cfg := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.mode != verified}
	if s.ca != "" {
		roots, err := authorities(s.ca)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = roots
	}
	if s.cert != "" {
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return nil, fmt.Errorf("tls-cert %s and tls-key %s: %w", s.cert, s.key, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if s.mode == chain {
		roots := cfg.RootCAs
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	}
	return cfg, nil
}

func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("tls-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("tls-ca %s: want certificates in PEM, there are none", file)
	}
	return pool, nil
}

// verifyChain is what crypto/tls does, without the name; nil roots are the system's.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	opt := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		opt.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(opt)
	return err
}
