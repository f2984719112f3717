package first

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// lifetime of the certificate of a first run.
const lifetime = 7 * 24 * time.Hour

// Certificate makes one that nobody has signed: there is no authority of a cluster yet. Print is its SHA-256, as
// browsers show it.
func Certificate(host string, addrs []net.Addr) (cert tls.Certificate, print string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // browsers take no Ed25519
	if err != nil {
		return cert, "", fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "Holdfast first run on " + host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime), DNSNames: []string{host, "localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			t.IPAddresses = append(t.IPAddresses, n.IP)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return cert, "", fmt.Errorf("make a certificate: %w", err)
	}
	sum := sha256.Sum256(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":"), nil
}
