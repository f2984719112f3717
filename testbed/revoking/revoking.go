// Package revoking revokes certificates in tests.
package revoking

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"testing"
	"time"

	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/pki"
)

// WriteList writes an authority's revocation list with the certificates in some files (PEM), in place of the one that is in file.
func WriteList(t testing.TB, ca pki.CA, file string, certs ...string) {
	t.Helper()
	keyPEM, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	parse := func(text []byte) []byte { b, _ := pem.Decode(text); return b.Bytes }
	key, err := x509.ParsePKCS8PrivateKey(parse(keyPEM))
	if err != nil {
		if key, err = x509.ParseECPrivateKey(parse(keyPEM)); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(parse(ca.CertPEM()))
	if err != nil {
		t.Fatal(err)
	}
	out := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, f := range certs {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(parse(text))
		if err != nil {
			t.Fatal(err)
		}
		out.RevokedCertificateEntries = append(out.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, out, cert, key.(crypto.Signer))
	if err == nil {
		err = durable.WriteFile(file, der, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
