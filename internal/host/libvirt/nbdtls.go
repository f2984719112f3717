package libvirt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NBD by TLS, as libvirt 9.0 and QEMU 7.2 of Debian 12 do it. Measured by virsh
// domxml-to-native, and by qemu-img info at qemu-nbd with certificates of each kind.
//
// libvirt: tls='yes' at a disk's <source>, or no such attribute and nbd_tls = 1 in
// qemu.conf, gives QEMU the object tls-creds-x509 (endpoint client, verify-peer on);
// tls='no' does not, whatever nbd_tls is. This is so with Unix sockets, too. Its folder is
// nbd_tls_x509_cert_dir; else /etc/pki/libvirt-nbd where that exists; else
// default_tls_x509_cert_dir; else /etc/pki/qemu. Of these AppArmor of Debian lets QEMU
// read the last one only.
//
// QEMU needs ca-cert.pem there. client-cert.pem and client-key.pem may be missing
// together: a server with verify-peer=off lets it in without. It refuses a certificate of its own
// that has expired, or that is of another authority than ca-cert.pem.
//
// The server's certificate must be of ca-cert.pem and in its time; what it may be used
// for is not looked at. It must be for tlsHostname, else for the host; for a Unix socket
// without tlsHostname any name will do. An address must be one of its IP addresses, a name one of its DNS
// names. The common name counts only for a name, and only where the certificate has no
// alternative names at all and may be used for servers.
//
// The server's refusal of a client comes after the handshake (TLS 1.3): qemu-nbd ends the
// connection without a word.

// Values of nbdExport.tls, as in libvirt's XML.
const (
	tlsYes = "yes"
	tlsNo  = "no"
)

// nbdByTLS tells whether QEMU on this host would reach an export by TLS.
func (s secure) nbdByTLS(e *nbdExport) (bool, error) {
	if e.tls != "" {
		return e.tls != tlsNo, nil
	}
	return confOn(filepath.Join(s.confDir, "qemu.conf"), "nbd_tls")
}

// nbdEncrypt does the handshake with the server of e, with the certificates that QEMU would use.
func (s secure) nbdEncrypt(ctx context.Context, nc net.Conn, e *nbdExport) (io.ReadWriter, error) {
	dir, err := s.dir("nbd")
	if err != nil {
		return nil, err
	}
	as, authority := s.qemuUser(), filepath.Join(dir, "ca-cert.pem")
	roots, err := readAuthority(authority)
	if err == nil {
		err = readable(as, authority)
	}
	if err != nil {
		return nil, fmt.Errorf("TLS to the server: %w", err)
	}
	conf := &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does it as QEMU does, which crypto/tls does not
		VerifyConnection: func(st tls.ConnectionState) error {
			return checkNBDServer(st.PeerCertificates, roots, authority, e.certName())
		},
	}
	cert, key := filepath.Join(dir, "client-cert.pem"), filepath.Join(dir, "client-key.pem")
	own := fmt.Sprintf("it does not take this host's certificate %s, or lets in nobody by it", cert)
	if missing(cert) && missing(key) {
		own = fmt.Sprintf("it may want a certificate, and this host has none: %s and %s do not exist", cert, key)
	} else {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err == nil {
			_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		}
		if err == nil {
			err = qemuUsage(pair.Leaf)
		}
		if err == nil {
			err = readable(as, cert, key)
		}
		if err != nil {
			return nil, fmt.Errorf("TLS to the server: this host's certificate %s: %w", cert, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	c := tls.Client(nc, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS to the server: %w", err)
	}
	return &greeted{ReadWriter: c, why: own}, nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// greeted says of a connection that ends before the server has said anything by TLS what that means.
type greeted struct {
	io.ReadWriter
	why   string
	heard bool
}

func (g *greeted) Read(p []byte) (int, error) {
	n, err := g.ReadWriter.Read(p)
	g.heard = g.heard || n > 0
	var timeout net.Error
	if err != nil && !g.heard && !(errors.As(err, &timeout) && timeout.Timeout()) {
		err = fmt.Errorf("the server ended the connection after the TLS handshake: %s (%w)", g.why, err)
	}
	return n, err
}

// certName is what the server's certificate must be for, "" for anything.
func (e *nbdExport) certName() string {
	if e.tlsName != "" {
		return e.tlsName
	}
	return e.host // "" with a Unix socket
}

// checkNBDServer checks the server's certificates as QEMU does. file is where roots are from.
func checkNBDServer(certs []*x509.Certificate, roots *x509.CertPool, file, name string) error {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	leaf := certs[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	now := time.Now()
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the server's certificate has expired at %s: give the server another one, and restart it", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the server's certificate is valid from %s only, and this host's clock says %s", leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case errors.As(err, &x509.UnknownAuthorityError{}):
		return fmt.Errorf("the server's certificate is not of the authority in %s: %w", file, err)
	case err != nil:
		return fmt.Errorf("the server's certificate: %w", err)
	case name != "" && !isNBDServer(leaf, name):
		return fmt.Errorf("the server's certificate is not for %s, but for %s", name, namesOf(leaf))
	}
	return nil
}

// isNBDServer tells whether a certificate is for a name or an address.
func isNBDServer(c *x509.Certificate, name string) bool {
	if net.ParseIP(name) != nil || len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses)+len(c.URIs) > 0 {
		return !strings.HasSuffix(name, ".") && c.VerifyHostname(name) == nil
	}
	serves := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
	return serves && strings.EqualFold(c.Subject.CommonName, name)
}

// mostNames bounds what is told of a certificate's names.
const mostNames = 4

// namesOf are a certificate's names, for people.
func namesOf(c *x509.Certificate) string {
	var all []string
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	for _, n := range c.DNSNames {
		all = append(all, strconv.Quote(n))
	}
	if len(all) == 0 {
		all = []string{strconv.Quote(c.Subject.CommonName)}
	}
	if len(all) > mostNames {
		all = append(all[:mostNames], "...")
	}
	return strings.Join(all, ", ")
}
