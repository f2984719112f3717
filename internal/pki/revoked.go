package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
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
	ca, err := readCert(caFile)
	if err != nil {
		return fmt.Errorf("load certificate of the authority: %w", err)
	}
	list := list{ca, crlFile}
	if err := list.check(client.Certificates[0].Leaf); err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	for _, c := range []*tls.Config{server, client} {
		c.VerifyConnection = func(s tls.ConnectionState) error { return list.check(s.PeerCertificates[0]) }
	}
	return nil
}

// Check returns an error with ErrRevoked when a certificate is in the authority's revocation
// list, and others when that can not be read, or is not the authority's.
func Check(caFile, crlFile string, cert *x509.Certificate) error {
	ca, err := readCert(caFile)
	if err != nil {
		return fmt.Errorf("load certificate of the authority: %w", err)
	}
	return list{ca, crlFile}.check(cert)
}

// list is a file with a revocation list of an authority.
type list struct {
	ca   *x509.Certificate
	file string
}

func (l list) check(cert *x509.Certificate) error {
	der, err := os.ReadFile(l.file)
	if err != nil {
		return fmt.Errorf("read the revocation list: %w", err)
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
	for _, e := range crl.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return fmt.Errorf("%q, serial %x: %w on %s", cert.Subject.CommonName, cert.SerialNumber, ErrRevoked, day(e.RevocationTime))
		}
	}
	return nil
}
