package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/testbed/try"
)

func TestHypervisorCertificates(t *testing.T) {
	if !try.UnderUmask(t) {
		return
	}
	ca, err := NewCA("memory", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ca.IssueHypervisor("h1", []netip.Addr{netip.MustParseAddr("192.0.2.1")}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, c := range []struct {
		write         func(string, Pair) error
		ca, cert, key string
		mode, folder  os.FileMode
	}{
		{ca.WriteQEMU, "ca-cert.pem", "server-cert.pem", "client-key.pem", 0o640, 0o750},
		{ca.WriteLibvirt, "cacert.pem", "clientcert.pem", "serverkey.pem", 0o600, 0o700},
	} {
		dir := filepath.Join(dir, c.ca)
		if err := c.write(dir, p); err != nil {
			t.Fatal(err)
		}
		if err := c.write(dir, p); err != nil { // again
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != c.folder {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
		info, err = os.Stat(filepath.Join(dir, c.key))
		if err != nil || info.Mode().Perm() != c.mode {
			t.Errorf("%s: %v, %v", c.key, info.Mode(), err)
		}
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, c.cert), filepath.Join(dir, c.key))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, c.ca))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}, DNSName: "192.0.2.1"}); err != nil {
				t.Error(err)
			}
		}
		if pair.Leaf.KeyUsage != 0 {
			t.Errorf("key usage %b: want none", pair.Leaf.KeyUsage)
		}
	}
	if _, err := ca.IssueHypervisor("", nil, time.Hour); err == nil {
		t.Error("a certificate without a name")
	}
	if _, err := (CA{}).IssueHypervisor("h1", nil, time.Hour); err == nil {
		t.Error("an authority without a key has issued")
	}
}
