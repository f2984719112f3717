package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"holdfast/internal/lib/durable"
)

// Write puts the pair into two files of mode 0600. Each is replaced as a whole
// and is on disk when Write returns. The two are not replaced together: after a
// crash between them Load fails with ErrKeyMismatch, and Write mends it. Where the
// files are in use, Place.Replace replaces them together.
func (p Pair) Write(certFile, keyFile string) error {
	if err := durable.WriteFile(keyFile, p.KeyPEM, 0o600); err != nil {
		return fmt.Errorf("write private key: %w", err)
	}
	if err := durable.WriteFile(certFile, p.CertPEM, 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}

// Write puts the authority's certificate and key into two files, as Pair.Write
// does. The key belongs on the host that admits others only.
func (ca CA) Write(certFile, keyFile string) error {
	if ca.key == nil {
		return errors.New("write certificate authority: it has no key")
	}
	p, err := pairOf(ca.cert.Raw, ca.key)
	if err != nil {
		return fmt.Errorf("write certificate authority: %w", err)
	}
	return p.Write(certFile, keyFile)
}

// WriteCert puts the authority's certificate alone into a file, as every host
// needs it for Load.
func (ca CA) WriteCert(certFile string) error {
	if err := durable.WriteFile(certFile, ca.CertPEM(), 0o600); err != nil {
		return fmt.Errorf("write certificate of the authority: %w", err)
	}
	return nil
}

// KeyPEM is the authority's private key as PEM (PKCS #8). It belongs into files of
// root's only.
func (ca CA) KeyPEM() ([]byte, error) {
	if ca.key == nil {
		return nil, errors.New("write certificate authority: it has no key")
	}
	p, err := pairOf(ca.cert.Raw, ca.key)
	return p.KeyPEM, err
}

// ParseCA is LoadCA for texts that were read already. name says in errors where
// they are from.
func ParseCA(name string, certPEM, keyPEM []byte) (CA, error) {
	cert, err := parseCert(name+" (certificate)", certPEM)
	if err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	key, err := parseKey(name+" (key)", keyPEM)
	if err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	return pairedCA(cert, name, key, name)
}

// LoadCA reads an authority that CA.Write wrote. It fails with ErrKeyMismatch
// or ErrExpired, or when the certificate is not one of an authority.
func LoadCA(certFile, keyFile string) (CA, error) {
	cert, err := readCert(certFile)
	if err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	return pairedCA(cert, certFile, key, keyFile)
}

func pairedCA(cert *x509.Certificate, certFile string, key *ecdsa.PrivateKey, keyFile string) (CA, error) {
	if !cert.IsCA {
		return CA{}, fmt.Errorf("load certificate authority: %s is not the certificate of an authority", certFile)
	}
	if err := checkKey(cert, certFile, key, keyFile); err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	if err := checkPeriod(cert, certFile); err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	return CA{cert: cert, key: key}, nil
}

func readCert(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read PEM file: %w", err)
	}
	return parseCert(file, text)
}

func parseCert(file string, text []byte) (*x509.Certificate, error) {
	der, err := onePEM(file, text, pemCert)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate %s: %w", file, err)
	}
	return cert, nil
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read PEM file: %w", err)
	}
	return parseKey(file, text)
}

func parseKey(file string, text []byte) (*ecdsa.PrivateKey, error) {
	der, err := onePEM(file, text, pemKey)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse private key %s: %w", file, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key %s is a %T, not an ECDSA key", file, parsed)
	}
	return key, nil
}

// onePEM is the content of a text's only PEM block.
func onePEM(file string, data []byte, kind string) ([]byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s does not begin with a PEM block %q", file, kind)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, fmt.Errorf("%s has more than one PEM block", file)
	}
	return block.Bytes, nil
}
