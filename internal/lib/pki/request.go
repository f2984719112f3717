package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// ErrBeyond: a request asks for a name or an address that its maker has not.
var ErrBeyond = errors.New("the request asks for more than its maker's certificate has")

// altNames is the extension of names and addresses, the only one that a request of ours has (RFC 5280, 4.2.1.6).
var altNames = asn1.ObjectIdentifier{2, 5, 29, 17}

const pemRequest = "CERTIFICATE REQUEST"

// Request asks an authority for a certificate. Its key stays with who made it.
type Request struct {
	PEM []byte
	key *ecdsa.PrivateKey
}

// NewRequest makes a key and asks for a certificate with the name and the addresses
// of the one that the host has.
func NewRequest(have *x509.Certificate) (Request, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Request{}, fmt.Errorf("make key for %q: %w", have.Subject.CommonName, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: have.Subject, DNSNames: have.DNSNames, IPAddresses: have.IPAddresses}, key)
	if err != nil {
		return Request{}, fmt.Errorf("make request for a certificate of %q: %w", have.Subject.CommonName, err)
	}
	return Request{PEM: pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), key: key}, nil
}

// Pair puts a certificate that was signed for the request to its key. caFile is the
// authority that the host's peers trust: with another one it fails with ErrWrongCA.
func (r Request) Pair(certPEM []byte, caFile string) (Pair, *x509.Certificate, error) {
	const from = "the new certificate"
	fail := func(err error) (Pair, *x509.Certificate, error) {
		return Pair{}, nil, fmt.Errorf("take a certificate: %w", err)
	}
	cert, err := parseCert(from, certPEM)
	if err != nil {
		return fail(err)
	}
	ca, err := readCert(caFile)
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(checkKey(cert, from, r.key, "its key"), checkChain(ca, caFile, cert, from)); err != nil {
		return fail(err)
	}
	p, err := pairOf(cert.Raw, r.key)
	return p, cert, err
}

// Use is what a certificate is for.
type Use int

const (
	ForAgents     Use = iota // agents and the store
	ForHypervisor            // libvirtd or QEMU, see IssueHypervisor
)

// Sign signs a request whose maker has shown the certificate have. The new one has
// the name and the addresses of that one, whatever the request says; it fails with
// ErrBeyond when it asks for others. That of a hypervisor has no local ones.
func (ca CA) Sign(requestPEM []byte, have *x509.Certificate, use Use, validity time.Duration) (certPEM []byte,
	cert *x509.Certificate, err error) {
	name := have.Subject.CommonName
	fail := func(err error) ([]byte, *x509.Certificate, error) {
		return nil, nil, fmt.Errorf("sign certificate for %q: %w", name, err)
	}
	if ca.key == nil {
		return fail(errors.New("the authority has no key"))
	}
	der, err := onePEM("the request", requestPEM, pemRequest)
	if err != nil {
		return fail(err)
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return fail(fmt.Errorf("parse the request: %w", err))
	}
	if err := req.CheckSignature(); err != nil {
		return fail(fmt.Errorf("the request: %w", err))
	}
	if _, ok := req.PublicKey.(*ecdsa.PublicKey); !ok {
		return fail(fmt.Errorf("the request's key is a %T, not an ECDSA key", req.PublicKey))
	}
	if err := within(req, have); err != nil {
		return fail(err)
	}
	var ips []netip.Addr
	for _, ip := range have.IPAddresses {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return fail(fmt.Errorf("address %s of the maker's certificate", ip))
		}
		if use == ForAgents || !addr.Unmap().IsLoopback() {
			ips = append(ips, addr)
		}
	}
	names := have.DNSNames
	if use == ForHypervisor {
		names = nil
	}
	template, err := ca.leaf(name, ips, names, validity)
	if err != nil {
		return fail(err)
	}
	if use == ForHypervisor {
		template.KeyUsage = 0
	}
	der, err = x509.CreateCertificate(rand.Reader, template, ca.cert, req.PublicKey, ca.key)
	if err != nil {
		return fail(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		return fail(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: der}), cert, nil
}

// within refuses a request for more than a certificate has.
func within(req *x509.CertificateRequest, have *x509.Certificate) error {
	if req.Subject.CommonName != have.Subject.CommonName {
		return fmt.Errorf("%w: name %q", ErrBeyond, req.Subject.CommonName)
	}
	for _, n := range req.DNSNames {
		if !slices.Contains(have.DNSNames, n) {
			return fmt.Errorf("%w: name %q", ErrBeyond, n)
		}
	}
	for _, ip := range req.IPAddresses {
		if !slices.ContainsFunc(have.IPAddresses, func(h net.IP) bool { return h.Equal(ip) }) {
			return fmt.Errorf("%w: address %s", ErrBeyond, ip)
		}
	}
	if len(req.EmailAddresses)+len(req.URIs) > 0 {
		return fmt.Errorf("%w: a mail address or a URI", ErrBeyond)
	}
	for _, e := range req.Extensions { // such as that of an authority: it would have no effect
		if !e.Id.Equal(altNames) {
			return fmt.Errorf("%w: extension %s", ErrBeyond, e.Id)
		}
	}
	return nil
}

// Life is how long a certificate of ours was meant to be used, from its making on.
func Life(c *x509.Certificate) time.Duration {
	d := c.NotAfter.Sub(c.NotBefore)
	if d > backdate {
		d -= backdate
	}
	return d
}

// ReadCert reads a certificate of a file, whether its time is over or not.
func ReadCert(file string) (*x509.Certificate, error) { return readCert(file) }

// Equal reports whether two authorities' certificates are the same.
func (ca CA) Equal(certPEM []byte) bool {
	return bytes.Equal(bytes.TrimSpace(certPEM), bytes.TrimSpace(ca.CertPEM()))
}
