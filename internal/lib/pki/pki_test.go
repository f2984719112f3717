package pki

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}

func newCA(t *testing.T, name string) CA {
	t.Helper()
	ca, err := NewCA(name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// files writes the CA's certificate and a pair, and returns the three names.
func files(t *testing.T, ca CA, p Pair) (caFile, certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	caFile, certFile, keyFile = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := ca.WriteCert(caFile); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	return caFile, certFile, keyFile
}

func issue(t *testing.T, ca CA, host string) Pair {
	t.Helper()
	p, err := ca.Issue(host, loopback, []string{"alias", host}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func load(t *testing.T, ca CA, host string) (server, client *tls.Config) {
	t.Helper()
	server, client, err := Load(files(t, ca, issue(t, ca, host)))
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

// shake runs one handshake over loopback and an echo of one byte, without
// which a TLS 1.3 client does not learn that its certificate was refused.
func shake(t *testing.T, server, client *tls.Config) (peer string, serverErr, clientErr error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		conn := tls.Server(raw, server)
		defer conn.Close()
		err = conn.HandshakeContext(ctx)
		if err == nil {
			peer = conn.ConnectionState().PeerCertificates[0].Subject.CommonName
			_, err = conn.Write([]byte{1})
		}
		done <- err
	}()
	conn, err := (&tls.Dialer{Config: client}).DialContext(ctx, "tcp", l.Addr().String())
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
		clientErr = errors.Join(err, conn.Close())
	} else {
		clientErr = err
	}
	serverErr = <-done
	return peer, serverErr, clientErr
}

func TestMutualTLS(t *testing.T) {
	ca := newCA(t, "cluster-a")
	server, client := load(t, ca, "h1")
	peer, se, ce := shake(t, server, client)
	if se != nil || ce != nil || peer != "h1" {
		t.Fatalf("server %v, client %v, peer %q", se, ce, peer)
	}
	for _, name := range []string{"h1", "alias"} {
		c := client.Clone()
		c.ServerName = name
		if _, se, ce := shake(t, server, c); se != nil || ce != nil {
			t.Errorf("name %s: server %v, client %v", name, se, ce)
		}
	}
}

func TestRefused(t *testing.T) {
	ca := newCA(t, "cluster-a")
	// The same name on purpose: the key counts, not the name.
	other := newCA(t, "cluster-a")
	server, client := load(t, ca, "h1")
	_, stranger := load(t, other, "h1")
	trusting := stranger.Clone()
	trusting.RootCAs = client.RootCAs

	tests := map[string]func() *tls.Config{
		"no client certificate": func() *tls.Config { c := client.Clone(); c.Certificates, c.GetClientCertificate = nil, nil; return c },
		"client of another CA":  func() *tls.Config { return trusting },
		"server of another CA":  func() *tls.Config { return stranger },
		"wrong server name":     func() *tls.Config { c := client.Clone(); c.ServerName = "h2"; return c },
		"TLS 1.2": func() *tls.Config {
			c := client.Clone()
			c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return c
		},
	}
	for name, conf := range tests {
		t.Run(name, func(t *testing.T) {
			if _, _, ce := shake(t, server, conf()); ce == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	ca, other := newCA(t, "a"), newCA(t, "a")
	good := issue(t, ca, "h1")
	past := expired(t, ca, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute))
	future := expired(t, ca, time.Now().Add(time.Minute), time.Now().Add(time.Hour))
	serverOnly := used(t, ca, x509.ExtKeyUsageServerAuth)

	tests := map[string]struct {
		ca   CA
		pair Pair
		want error
	}{
		"wrong CA":      {other, good, ErrWrongCA},
		"expired":       {ca, past, ErrExpired},
		"not yet valid": {ca, future, ErrNotYetValid},
		"key mismatch":  {ca, Pair{good.CertPEM, issue(t, ca, "h1").KeyPEM}, ErrKeyMismatch},
		"server only":   {ca, serverOnly, nil},
		"no PEM":        {ca, Pair{[]byte("x"), good.KeyPEM}, nil},
		"key for cert":  {ca, Pair{good.KeyPEM, good.KeyPEM}, nil},
		"two blocks":    {ca, Pair{slices.Concat(good.CertPEM, good.CertPEM), good.KeyPEM}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := Load(files(t, tt.ca, tt.pair))
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, _, err := Load("/nonexistent", "/nonexistent", "/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// expired is a pair with the validity given.
func expired(t *testing.T, ca CA, from, to time.Time) Pair {
	t.Helper()
	return altered(t, ca, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to })
}

func used(t *testing.T, ca CA, use x509.ExtKeyUsage) Pair {
	t.Helper()
	return altered(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{use} })
}

// altered is what Issue would make with a template changed by f.
func altered(t *testing.T, ca CA, f func(*x509.Certificate)) Pair {
	t.Helper()
	template, err := ca.leaf("h1", loopback, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f(template)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pairOf(der, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoadCA(t *testing.T) {
	ca := newCA(t, "a")
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	if err := ca.Write(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	again, err := LoadCA(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	// What the loaded one issues is accepted by who knows the first.
	if _, _, err := Load(files(t, ca, issue(t, again, "h1"))); err != nil {
		t.Error(err)
	}
	if err := newCA(t, "a").Write(certFile, filepath.Join(dir, "unrelated")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCA(certFile, keyFile); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("mismatch: %v", err)
	}
	_, leaf, leafKey := files(t, ca, issue(t, ca, "h1"))
	if _, err := LoadCA(leaf, leafKey); err == nil {
		t.Error("a host's certificate passed for an authority")
	}
}

func TestIssueLimits(t *testing.T) {
	ca := newCA(t, "a")
	p, err := ca.Issue("h1", nil, nil, 1000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, certFile, _ := files(t, ca, p)
	cert, err := readCert(certFile)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.NotAfter.Equal(ca.cert.NotAfter) {
		t.Errorf("certificate ends %s, authority %s", cert.NotAfter, ca.cert.NotAfter)
	}
	bad := map[string]func() error{
		"host":     func() error { _, err := ca.Issue("", nil, nil, time.Hour); return err },
		"validity": func() error { _, err := ca.Issue("h", nil, nil, 0); return err },
		"too long": func() error { _, err := NewCA("a", maxValidity+1); return err },
		"address":  func() error { _, err := ca.Issue("h", []netip.Addr{{}}, nil, time.Hour); return err },
		"name":     func() error { _, err := ca.Issue("h", nil, []string{""}, time.Hour); return err },
		"CA name":  func() error { _, err := NewCA("", time.Hour); return err },
		"zero CA":  func() error { _, err := CA{}.Issue("h", nil, nil, time.Hour); return err },
	}
	for name, f := range bad {
		if f() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWriteReplacesWhole(t *testing.T) {
	ca := newCA(t, "a")
	caFile, certFile, keyFile := files(t, ca, issue(t, ca, "h1"))
	if err := os.Chmod(keyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := issue(t, ca, "h1").Write(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(caFile, certFile, keyFile); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(keyFile))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("left over: %v", entries)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", e.Name(), info.Mode().Perm())
		}
	}
}
