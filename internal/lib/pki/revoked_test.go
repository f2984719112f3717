package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestARevokedCertificateIsRefusedFromTheNextConnectionOn(t *testing.T) {
	ca := newCA(t, "c")
	good, bad := issue(t, ca, "good"), issue(t, ca, "bad")
	caFile, certFile, keyFile := files(t, ca, good)
	server, own, err := Load(caFile, certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	crl := filepath.Join(t.TempDir(), "crl")
	writeList(t, crl, ca)
	if err := Deny(server, own, caFile, crl); err != nil {
		t.Fatal(err)
	}
	_, client, err := Load(files(t, ca, bad))
	if err != nil {
		t.Fatal(err)
	}
	own.ServerName, client.ServerName = "127.0.0.1", "127.0.0.1"
	if peer, serr, cerr := shake(t, server, client); peer != "bad" || serr != nil || cerr != nil {
		t.Fatalf("before: %q, %v, %v", peer, serr, cerr)
	}
	writeList(t, crl, ca, bad.CertPEM)
	if _, serr, cerr := shake(t, server, client); !errors.Is(serr, ErrRevoked) || cerr == nil {
		t.Errorf("a revoked client: %v, %v", serr, cerr)
	}
	badServer, _, err := Load(files(t, ca, bad))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, cerr := shake(t, badServer, own); !errors.Is(cerr, ErrRevoked) {
		t.Errorf("a revoked server: %v", cerr)
	}
	if peer, serr, cerr := shake(t, server, own); peer != "good" || serr != nil || cerr != nil {
		t.Errorf("another certificate: %q, %v, %v", peer, serr, cerr)
	}
	writeList(t, crl, ca, bad.CertPEM, good.CertPEM)
	if err := Deny(server, own, caFile, crl); !errors.Is(err, ErrRevoked) {
		t.Errorf("the own certificate: %v", err)
	}
	writeList(t, crl, newCA(t, "other"))
	if err := Deny(server, own, caFile, crl); !errors.Is(err, ErrWrongCA) {
		t.Errorf("another authority's list: %v", err)
	}
	if err := os.WriteFile(crl, []byte("-----BEGIN X509 CRL-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Deny(server, own, caFile, crl); err == nil {
		t.Error("a list in PEM was taken")
	}
	if _, serr, _ := shake(t, server, own); serr == nil {
		t.Error("an unreadable list lets somebody in")
	}
}

// writeList writes the authority's revocation list of certificates, given as PEM.
func writeList(t *testing.T, file string, ca CA, certs ...[]byte) {
	t.Helper()
	der, err := revoke(ca, certs...)
	if err == nil {
		err = os.WriteFile(file, der, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// revoke makes the authority's revocation list (DER) of certificates, given as PEM.
func revoke(ca CA, certs ...[]byte) ([]byte, error) {
	now := time.Now()
	crl := &x509.RevocationList{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-backdate), NextUpdate: ca.cert.NotAfter}
	for _, c := range certs {
		block, _ := pem.Decode(c)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		crl.RevokedCertificateEntries = append(crl.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: now})
	}
	return x509.CreateRevocationList(rand.Reader, crl, ca.cert, ca.key)
}
