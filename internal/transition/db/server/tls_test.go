package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// authority signs certificates, in a folder.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key = a.generate()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.write("ca", "CERTIFICATE", der)
	return a
}

func (a *authority) generate() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name+".pem") }

func (a *authority) write(name, kind string, der []byte) {
	if err := os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// sign makes NAME.pem and NAME-key.pem, for addresses.
func (a *authority) sign(name string, addresses ...net.IP) {
	key := a.generate()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: addresses, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name, "CERTIFICATE", der)
	if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		a.t.Fatal(err)
	}
	a.write(name+"-key", "PRIVATE KEY", der)
}

// TestTLS: what a DSN and an option file ask for is what a real server's connections are.
func TestTLS(t *testing.T) {
	need.More(t)
	ca, stranger := newAuthority(t, "test"), newAuthority(t, "stranger")
	ca.sign("server", net.IPv4(127, 0, 0, 1))
	ca.sign("elsewhere", net.IPv4(192, 0, 2, 1))
	ca.sign("client")
	rig := func(cert string) *aligntest.Rig {
		return aligntest.MariaDB(t, "--ssl-ca="+ca.path("ca"), "--ssl-cert="+ca.path(cert), "--ssl-key="+ca.path(cert+"-key"))
	}
	right, elsewhere, without := rig("server"), rig("elsewhere"), aligntest.MariaDB(t)
	right.SQL("CREATE USER certified@'%' IDENTIFIED BY 'c' REQUIRE X509")
	options := func(text string) string {
		name := filepath.Join(t.TempDir(), "my.cnf")
		if err := os.WriteFile(name, []byte("[client]\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "option-file=" + name
	}
	yes := "cipher"
	for _, c := range []struct {
		r          *aligntest.Rig
		user, more string
		want       string // "cipher", "" without, or a part of the error
	}{
		{right, "", "", ""},
		{right, "", "tls=false", ""},
		{right, "", "tls=skip-verify", yes},
		{right, "", "tls=preferred", yes},
		{without, "", "tls=preferred", ""},
		{without, "", "tls=skip-verify", "server does not support TLS"},
		{right, "", "tls=true&tls-ca=" + ca.path("ca"), yes},
		{right, "", "tls-ca=" + ca.path("ca"), yes},
		{right, "", "tls=true", "certificate signed by unknown authority"},
		{right, "", "tls=true&tls-ca=" + stranger.path("ca"), "certificate signed by unknown authority"},
		{elsewhere, "", "tls=true&tls-ca=" + ca.path("ca"), "certificate is valid for 192.0.2.1, not 127.0.0.1"},
		{right, "", "tls-ca=" + ca.path("client-key"), "want certificates in PEM"},
		{elsewhere, "", options("ssl-ca=" + ca.path("ca")), yes}, // its authority is right, its name is not asked
		{elsewhere, "", options("ssl-ca=" + ca.path("ca") + "\nssl-verify-server-cert"), "certificate is valid for 192.0.2.1"},
		{right, "", options("ssl-ca=" + stranger.path("ca")), "certificate signed by unknown authority"},
		{right, "", options("ssl-mode=REQUIRED"), yes},
		{right, "", options("ssl-mode=VERIFY_IDENTITY\nssl-ca=" + ca.path("ca")), yes},
		{right, "certified:c", "tls-ca=" + ca.path("ca"), "Access denied"},
		{right, "certified:c", "tls-ca=" + ca.path("ca") + "&tls-cert=" + ca.path("client") + "&tls-key=" + ca.path("client-key"), yes},
		{right, "certified:c", options("ssl-ca=" + ca.path("ca") + "\nssl-cert=" + ca.path("client") + "\nssl-key=" +
			ca.path("client-key")), yes},
	} {
		user := c.user
		if user == "" {
			user = aligntest.User + ":" + aligntest.Password
		}
		dsn := fmt.Sprintf("%s@tcp(127.0.0.1:%d)/?%s", user, c.r.Port(), c.more)
		s, err := server.Open(t.Context(), "source", dsn, server.Options{})
		got := ""
		if err == nil {
			var name string
			err = s.DB.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(&name, &got)
			if e := s.Close(); e != nil {
				t.Error(e)
			}
		}
		switch {
		case err != nil && (c.want == yes || c.want == "" || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v: want %q", dsn, err, c.want)
		case err == nil && (got != "") != (c.want == yes):
			t.Errorf("%s: cipher %q: want %q", dsn, got, c.want)
		}
	}
}
