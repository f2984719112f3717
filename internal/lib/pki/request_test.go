package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// certOf is the certificate of a new pair.
func certOf(t *testing.T, p Pair) *x509.Certificate {
	t.Helper()
	c, err := parseCert("it", p.CertPEM)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestARequestGetsWhatItsMakerHas(t *testing.T) {
	ca := newCA(t, "a")
	caFile, _, _ := files(t, ca, issue(t, ca, "h1"))
	p, err := ca.Issue("h1", []netip.Addr{netip.MustParseAddr("192.0.2.1"), loopback[0]}, []string{"localhost"}, 30*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	have := certOf(t, p)
	for use, want := range map[Use]string{ForAgents: "h1 localhost 192.0.2.1 127.0.0.1", ForHypervisor: "h1 192.0.2.1"} {
		req, err := NewRequest(have)
		if err != nil {
			t.Fatal(err)
		}
		cert, _, err := ca.Sign(req.PEM, have, use, Life(have))
		if err != nil {
			t.Fatal(err)
		}
		pair, leaf, err := req.Pair(cert, caFile)
		if err != nil {
			t.Fatal(err)
		}
		names := slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		if got := strings.Join(names, " "); got != want || leaf.Subject.CommonName != "h1" {
			t.Errorf("%d: %s, want %s", use, got, want)
		}
		if d := Life(leaf) - 30*time.Minute; d.Abs() > time.Second {
			t.Errorf("%d: its life is %s", use, Life(leaf))
		}
		if (leaf.KeyUsage == 0) != (use == ForHypervisor) {
			t.Errorf("%d: key usage %v", use, leaf.KeyUsage)
		}
		if serialOf(t, pair) == have.SerialNumber.String() || string(pair.KeyPEM) == string(p.KeyPEM) {
			t.Errorf("%d: serial number or key of the one before", use)
		}
		if _, _, err := req.Pair(p.CertPEM, caFile); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("%d: a certificate for another key: %v", use, err)
		}
		other := newCA(t, "a")
		foreign, _, err := other.Sign(req.PEM, have, use, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := req.Pair(foreign, caFile); !errors.Is(err, ErrWrongCA) {
			t.Errorf("%d: of another authority: %v", use, err)
		}
	}
}

func TestARequestForMoreIsRefused(t *testing.T) {
	ca := newCA(t, "a")
	have := certOf(t, issue(t, ca, "h1"))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit   func(*x509.CertificateRequest)
		broken bool
		beyond bool
	}{
		"as it is":         {edit: func(*x509.CertificateRequest) {}},
		"less":             {edit: func(r *x509.CertificateRequest) { r.DNSNames, r.IPAddresses = nil, nil }},
		"another name":     {edit: func(r *x509.CertificateRequest) { r.Subject.CommonName = "h2" }, beyond: true},
		"no name":          {edit: func(r *x509.CertificateRequest) { r.Subject.CommonName = "" }, beyond: true},
		"another DNS name": {edit: func(r *x509.CertificateRequest) { r.DNSNames = append(r.DNSNames, "h2") }, beyond: true},
		"another address": {edit: func(r *x509.CertificateRequest) {
			r.IPAddresses = append(r.IPAddresses,
				net.IPv4(192, 0, 2, 9))
		}, beyond: true},
		"a mail address": {edit: func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} }, beyond: true},
		"a URI":          {edit: func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "x", Host: "y"}} }, beyond: true},
		"an authority": {edit: func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}, beyond: true},
		"names beside its own": {edit: func(r *x509.CertificateRequest) {
			r.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "h2"},
				{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "h1"}}
		}},
		"a signature broken": {edit: func(*x509.CertificateRequest) {}, broken: true},
	} {
		r := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "h1"}, DNSNames: slices.Clone(have.DNSNames),
			IPAddresses: slices.Clone(have.IPAddresses)}
		c.edit(r)
		der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
		if err != nil {
			t.Fatal(err)
		}
		if c.broken { // the key of somebody else under the signature of this one
			parsed, err := x509.ParseCertificateRequest(der)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := x509.MarshalPKIXPublicKey(other.Public())
			if err != nil {
				t.Fatal(err)
			}
			der = []byte(strings.Replace(string(der), string(parsed.RawSubjectPublicKeyInfo), string(raw), 1))
		}
		_, leaf, err := ca.Sign(pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), have, ForAgents, time.Minute)
		switch {
		case c.broken || c.beyond:
			if err == nil || c.beyond != errors.Is(err, ErrBeyond) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case !slices.Equal(leaf.DNSNames, have.DNSNames) || len(leaf.IPAddresses) != len(have.IPAddresses) ||
			leaf.Subject.String() != "CN=h1" || leaf.IsCA:
			t.Errorf("%s: %s %v %v, an authority: %t", name, leaf.Subject, leaf.DNSNames, leaf.IPAddresses, leaf.IsCA)
		}
	}
	// What looks like its own name, or like one that has more rights, in the place of each name.
	for _, name := range []string{"H1", "h1.", " h1", "h1 ", "h1\x00", "h1\u200b", "\u04bb1", "h1,h2", "h1/CN=h2", "*",
		"h*", "admin", "root", "localhost"} {
		for place, r := range map[string]x509.CertificateRequest{
			"subject": {Subject: pkix.Name{CommonName: name}}, "DNS name": {Subject: pkix.Name{CommonName: "h1"}, DNSNames: []string{"h1", name}},
		} {
			der, err := x509.CreateCertificateRequest(rand.Reader, &r, key)
			if err != nil {
				continue // no request has such a name
			}
			if _, _, err := ca.Sign(pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), have, ForAgents, time.Minute); err == nil {
				t.Errorf("%s %q is signed", place, name)
			}
		}
	}
	for _, text := range []string{"", "x", string(ca.CertPEM())} {
		if _, _, err := ca.Sign([]byte(text), have, ForAgents, time.Minute); err == nil {
			t.Errorf("%.20q is signed", text)
		}
	}
}
