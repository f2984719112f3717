package libvirt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// makePKI makes a directory with one certificate that is everything: authority, client
// and server at 127.0.0.1.
func makePKI(t *testing.T) (dir string, pair tls.Certificate, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	certPEM, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for name, text := range map[string][]byte{"cacert.pem": certPEM, "clientcert.pem": certPEM, "clientkey.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return dir, pair, roots
}

// TestDialURI: libvirt's way over TLS, with the byte that follows the handshake.
func TestDialURI(t *testing.T) {
	dir, pair, roots := makePKI(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	says := make(chan []byte, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := c.Write(<-says); err != nil {
				t.Logf("the client has gone: %v", err)
			}
			defer c.Close()
		}
	}()
	uri := "qemu+tls://" + ln.Addr().String() + "/system?pkipath=" + dir
	for _, c := range []struct{ uri, byte, want string }{
		{uri, "\x01", ""},
		{uri, "\x00", "does not take our certificate"},
		{uri, "", "wait until libvirtd takes our certificate"},
		{"qemu+tls://127.0.0.1:1/system?pkipath=" + t.TempDir(), "-", "read libvirt's client certificate"},
		{"qemu+ssh://127.0.0.1/system", "-", "no direct connection by qemu+ssh"},
		{"qemu+tcp://127.0.0.1:1/system", "-", "refused"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if c.byte != "-" {
			says <- []byte(c.byte)
		}
		nc, err := dialURI(ctx, c.uri)
		cancel()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %q: %v, want %q", c.uri, c.byte, err, c.want)
		}
		if nc != nil {
			_ = nc.Close() // it was only opened
		}
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	<-done
}
