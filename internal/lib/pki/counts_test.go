package pki

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCounts: a chain stops counting when it is revoked or has expired, and not when the list can not be read.
func TestCounts(t *testing.T) {
	ca := newCA(t, "c")
	good, bad := issue(t, ca, "good"), issue(t, ca, "bad")
	caFile, certFile, keyFile := files(t, ca, good)
	server, own, err := Load(caFile, certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(p []byte) *x509.Certificate {
		t.Helper()
		file := filepath.Join(t.TempDir(), "cert")
		if err := os.WriteFile(file, p, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ReadCert(file)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	chain := []*x509.Certificate{leaf(bad.CertPEM), leaf(ca.CertPEM())}
	counts := Counts(server)
	if err := counts(chain); err != nil {
		t.Errorf("without a list: %v", err)
	}
	crl := filepath.Join(t.TempDir(), "crl")
	writeList(t, crl, ca)
	if err := Deny(server, own, caFile, crl); err != nil {
		t.Fatal(err)
	}
	if err := counts(chain); err != nil {
		t.Errorf("not in the list: %v", err)
	}
	writeList(t, crl, ca, bad.CertPEM)
	if err := counts(chain); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if err := os.Remove(crl); err != nil {
		t.Fatal(err)
	}
	if err := counts(chain); err != nil {
		t.Errorf("the list can not be read: %v", err)
	}
	old := *chain[0]
	old.NotAfter = time.Now().Add(-time.Minute)
	if err := counts([]*x509.Certificate{&old, chain[1]}); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
}
