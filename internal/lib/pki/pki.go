// Package pki makes and loads the certificates of a cluster: one authority of
// its own, and one certificate per host that serves as server and as client.
// All keys are ECDSA P-256, all connections TLS 1.3 and mutual.
//
// It holds no policy: who may get a certificate is decided by the caller, who a
// peer is, and so what it may do, by the common name of its certificate: the name of
// the host, or of an operator (docs/adr/0026).
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"
)

// backdate is how long before its making a certificate is valid, so that hosts
// whose clocks are behind accept it during the installation.
const backdate = time.Hour

// maxValidity keeps times within the years that X.509 can write.
const maxValidity = 100 * 365 * 24 * time.Hour

const (
	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY"
)

// CA is a certificate authority with its private key. The zero value is not
// usable: make one by NewCA or LoadCA.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate and its private key, each as one PEM block.
type Pair struct {
	CertPEM []byte
	KeyPEM  []byte // PKCS #8
}

// NewCA makes a self-signed authority that is valid for validity from now. name
// becomes its common name.
func NewCA(name string, validity time.Duration) (CA, error) {
	if name == "" {
		return CA{}, errors.New("make certificate authority: empty name")
	}
	from, to, err := period(validity)
	if err != nil {
		return CA{}, fmt.Errorf("make certificate authority %q: %w", name, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return CA{}, fmt.Errorf("make key of certificate authority %q: %w", name, err)
	}
	// No serial number: CreateCertificate draws a random one.
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             from,
		NotAfter:              to,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return CA{}, fmt.Errorf("sign certificate authority %q: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return CA{}, fmt.Errorf("read back certificate authority %q: %w", name, err)
	}
	return CA{cert: cert, key: key}, nil
}

// Issue makes a certificate for a host, for use as server and as client. Its
// common name is host; its names are host, dnsNames and ips. It is valid for
// validity from now, but never longer than the authority itself.
func (ca CA) Issue(host string, ips []netip.Addr, dnsNames []string, validity time.Duration) (Pair, error) {
	if ca.key == nil {
		return Pair{}, fmt.Errorf("issue certificate for %q: the authority has no key", host)
	}
	if host == "" {
		return Pair{}, errors.New("issue certificate: empty host name")
	}
	template, err := ca.leaf(host, ips, dnsNames, validity)
	if err != nil {
		return Pair{}, fmt.Errorf("issue certificate for %q: %w", host, err)
	}
	return ca.pair(template)
}

// pair makes a key and signs a certificate for it.
func (ca CA) pair(template *x509.Certificate) (Pair, error) {
	host := template.Subject.CommonName
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make key for %q: %w", host, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return Pair{}, fmt.Errorf("sign certificate for %q: %w", host, err)
	}
	return pairOf(der, key)
}

// leaf is the template of a host's certificate.
func (ca CA) leaf(host string, ips []netip.Addr, dnsNames []string, validity time.Duration) (*x509.Certificate, error) {
	from, to, err := period(validity)
	if err != nil {
		return nil, err
	}
	if to.After(ca.cert.NotAfter) {
		to = ca.cert.NotAfter
	}
	if from.Before(ca.cert.NotBefore) {
		from = ca.cert.NotBefore
	}
	if !time.Now().Before(to) {
		return nil, fmt.Errorf("%w: the authority itself ended on %s", ErrExpired, day(ca.cert.NotAfter))
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: host},
		NotBefore:             from,
		NotAfter:              to,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{host},
	}
	for _, name := range dnsNames {
		if name == "" {
			return nil, errors.New("empty DNS name")
		}
		if !slices.Contains(template.DNSNames, name) {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	for _, ip := range ips {
		if !ip.IsValid() {
			return nil, errors.New("invalid IP address")
		}
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.Unmap().AsSlice()))
	}
	return template, nil
}

// CertPEM is the authority's certificate, which every host needs, as PEM.
func (ca CA) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: ca.cert.Raw})
}

// pairOf writes a certificate and its key as PEM.
func pairOf(der []byte, key *ecdsa.PrivateKey) (Pair, error) {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode private key: %w", err)
	}
	return Pair{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: keyDER}),
	}, nil
}

// period is the time from which and to which a new certificate is valid.
func period(validity time.Duration) (from, to time.Time, err error) {
	if validity <= 0 || validity > maxValidity {
		return from, to, fmt.Errorf("validity %s is not between 0 and %.0f years", validity, math.Round(maxValidity.Hours()/24/365))
	}
	now := time.Now()
	return now.Add(-backdate), now.Add(validity), nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
