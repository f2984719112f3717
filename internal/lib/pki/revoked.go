package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// ErrRevoked: the authority has taken the certificate back.
var ErrRevoked = errors.New("certificate is revoked")

// Deny makes both configurations of Load refuse certificates that are in the
// authority's revocation list in crlFile (DER). The file is read again at each
// handshake, so that a new list holds at once; one that can not be read or is not
// the authority's refuses everybody, so replace it by a rename. That its next
// update is overdue changes nothing: a forgotten renewal must not cut a cluster
// off. It fails when the file can not be used now, and with ErrRevoked when the
// host's own certificate is in it.
func Deny(server, client *tls.Config, caFile, crlFile string) error {
	list, err := OpenList(caFile, crlFile)
	if err != nil {
		return err
	}
	if err := list.Check(client.Certificates[0].Leaf); err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	for _, c := range []*tls.Config{server, client} {
		c.VerifyConnection = func(s tls.ConnectionState) error { return list.Check(s.PeerCertificates[0]) }
	}
	return nil
}

// List is a file with a revocation list of an authority. Its methods may be called
// concurrently. They read the file each time; the authority's signature is checked once for each
// content, as many connections are looked at again and again.
type List struct {
	ca   *x509.Certificate
	file string

	mu      sync.Mutex
	der     []byte               // the last content that could be used
	revoked map[string]time.Time // by serial number, in decimal
	turn    int
}

// OpenList reads the authority's certificate. The list is read when it is asked.
func OpenList(caFile, crlFile string) (*List, error) {
	ca, err := readCert(caFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate of the authority: %w", err)
	}
	return &List{ca: ca, file: crlFile}, nil
}

// Check returns an error with ErrRevoked when a certificate is in the list, and another when
// the list can not be used.
func (l *List) Check(cert *x509.Certificate) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.read(); err != nil {
		return err
	}
	if at, ok := l.revoked[cert.SerialNumber.String()]; ok {
		return fmt.Errorf("%q, serial %x: %w on %s", cert.Subject.CommonName, cert.SerialNumber, ErrRevoked, day(at))
	}
	return nil
}

// Turn counts the contents that the list has had since it was opened. It stays as it is, with an
// error, while the list can not be used.
func (l *List) Turn() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.read()
	return l.turn, err
}

// read takes in what the file has now. The caller holds mu.
func (l *List) read() error {
	der, err := os.ReadFile(l.file)
	if err != nil {
		return fmt.Errorf("read the revocation list: %w", err)
	}
	if l.turn > 0 && bytes.Equal(der, l.der) {
		return nil
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		if bytes.HasPrefix(der, []byte("-----BEGIN")) {
			err = errors.New("it is PEM, want DER (openssl crl -outform DER)")
		}
		return fmt.Errorf("read the revocation list %s: %w", l.file, err)
	}
	if err := crl.CheckSignatureFrom(l.ca); err != nil {
		return fmt.Errorf("read the revocation list %s: %w: %w", l.file, ErrWrongCA, err)
	}
	l.der, l.revoked = der, make(map[string]time.Time, len(crl.RevokedCertificateEntries))
	for _, e := range crl.RevokedCertificateEntries {
		l.revoked[e.SerialNumber.String()] = e.RevocationTime
	}
	l.turn++
	return nil
}
