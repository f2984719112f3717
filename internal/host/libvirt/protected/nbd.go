package protected

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
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

	"holdfast/internal/host/libvirt"
)

// This file speaks as much of the NBD protocol as it takes to see what an export
// is: fixed newstyle negotiation, the options STARTTLS and GO, one read
// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md). All
// numbers are big endian.

// Numbers of the protocol.
const (
	nbdMagic       = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOptMagic    = 0x49484156454f5054 // "IHAVEOPT"
	nbdReplyMagic  = 0x3e889045565a9
	nbdAskMagic    = 0x25609513
	nbdAnswerMagic = 0x67446698

	nbdFlagFixed    = 1 << 0 // of the server: it understands options
	nbdFlagNoZeroes = 1 << 1

	nbdOptStartTLS = 5
	nbdOptGo       = 7
	nbdRepAck      = 1
	nbdRepInfo     = 3
	nbdRepError    = 1 << 31 // set in all errors
	nbdErrTLS      = nbdRepError | 5
	nbdErrUnknown  = nbdRepError | 6
	nbdInfoExport  = 0
	nbdExportRO    = 1 << 1 // transmission flag
	nbdCmdRead     = 0
	nbdCmdDisc     = 2
	nbdReplyMost   = 64 << 10 // bytes of a reply to an option; only texts for people are long
	nbdHeadMost    = 512      // bytes read; a server may refuse less than a sector
	nbdClientFlags = nbdFlagFixed | nbdFlagNoZeroes
)

var errReadOnly = errors.New("the export can only be read: offer it for writing")

// nbdHead opens the export and returns its first bytes, at most nbdHeadMost. It
// fails when the export is empty or can not be written. encrypt is called when the
// server is ready for TLS, and returns what to go on with; nil: without TLS. The
// caller bounds it by a deadline on rw.
func nbdHead(rw io.ReadWriter, export string, encrypt func() (io.ReadWriter, error)) ([]byte, error) {
	if err := nbdGreet(rw); err != nil {
		return nil, err
	}
	if encrypt != nil {
		if err := nbdStartTLS(rw); err != nil {
			return nil, err
		}
		var err error
		if rw, err = encrypt(); err != nil {
			return nil, err
		}
	}
	size, err := nbdGo(rw, export)
	if err != nil {
		return nil, err
	}
	head := make([]byte, min(size, nbdHeadMost))
	if err := nbdSend(rw, uint32(nbdAskMagic), uint16(0), uint16(nbdCmdRead), uint64(1), uint64(0), uint32(len(head))); err != nil {
		return nil, err
	}
	var answer struct {
		Magic, Err uint32
		Cookie     uint64
	}
	if err := nbdReceive(rw, &answer); err != nil {
		return nil, err
	}
	if answer.Magic != nbdAnswerMagic || answer.Cookie != 1 {
		return nil, errors.New("the answer to a read is not NBD's")
	}
	if answer.Err != 0 {
		return nil, fmt.Errorf("read its first bytes: the server reports error %d", answer.Err)
	}
	if _, err := io.ReadFull(rw, head); err != nil {
		return nil, fmt.Errorf("read its first bytes: %w", err)
	}
	return head, nbdSend(rw, uint32(nbdAskMagic), uint16(0), uint16(nbdCmdDisc), uint64(2), uint64(0), uint32(0))
}

// nbdGreet reads the server's greeting and answers it.
func nbdGreet(rw io.ReadWriter) error {
	var hello struct {
		Magic, Opt uint64
		Flags      uint16
	}
	if err := nbdReceive(rw, &hello); err != nil {
		return err
	}
	if hello.Magic != nbdMagic || hello.Opt != nbdOptMagic || hello.Flags&nbdFlagFixed == 0 {
		return errors.New("it is no NBD server with fixed newstyle negotiation")
	}
	return nbdSend(rw, uint32(nbdClientFlags))
}

// nbdReply reads one reply to an option.
func nbdReply(r io.Reader, option uint32) (kind uint32, data []byte, err error) {
	var h struct {
		Magic           uint64
		Opt, Kind, Size uint32
	}
	if err := nbdReceive(r, &h); err != nil {
		return 0, nil, err
	}
	if h.Magic != nbdReplyMagic || h.Opt != option || h.Size > nbdReplyMost {
		return 0, nil, errors.New("the reply to an option is not NBD's")
	}
	data = make([]byte, h.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, fmt.Errorf("read the server's reply: %w", err)
	}
	return h.Kind, data, nil
}

// nbdStartTLS asks for TLS, which begins when it returns without an error.
func nbdStartTLS(rw io.ReadWriter) error {
	if err := nbdSend(rw, uint64(nbdOptMagic), uint32(nbdOptStartTLS), uint32(0)); err != nil {
		return err
	}
	kind, data, err := nbdReply(rw, nbdOptStartTLS)
	switch {
	case err != nil:
		return err
	case kind&nbdRepError != 0:
		return fmt.Errorf("the server offers no TLS (it says %q): have it serve the export by TLS (qemu-nbd --tls-creds)", data)
	case kind != nbdRepAck:
		return errors.New("the reply to an option is not NBD's")
	}
	return nil
}

// nbdGo asks for the export, reads the replies and returns its size.
func nbdGo(rw io.ReadWriter, export string) (size uint64, err error) {
	name := []byte(export)
	if err := nbdSend(rw, uint64(nbdOptMagic), uint32(nbdOptGo), uint32(4+len(name)+2), uint32(len(name)), name, uint16(0)); err != nil {
		return 0, err
	}
	var readOnly bool
	for {
		kind, data, err := nbdReply(rw, nbdOptGo)
		if err != nil {
			return 0, err
		}
		switch {
		case kind&nbdRepError != 0:
			return 0, nbdRefusal(kind, data)
		case kind == nbdRepInfo && len(data) >= 12 && binary.BigEndian.Uint16(data) == nbdInfoExport:
			size = binary.BigEndian.Uint64(data[2:])
			readOnly = binary.BigEndian.Uint16(data[10:])&nbdExportRO != 0
		case kind == nbdRepAck && readOnly:
			return 0, errReadOnly
		case kind == nbdRepAck && size == 0:
			return 0, errors.New("the export is empty: put the content there")
		case kind == nbdRepAck:
			return size, nil
		}
	}
}

func nbdRefusal(kind uint32, text []byte) error {
	switch kind {
	case nbdErrTLS:
		return errors.New("the server wants TLS: name the image by nbds://, in a domain of your own give its source tls='yes'")
	case nbdErrUnknown:
		return fmt.Errorf("the server has no such export (it says %q)", text)
	}
	return fmt.Errorf("the server refuses the export (reply %#x, it says %q)", kind, text)
}

func nbdSend(w io.Writer, fields ...any) error {
	var b bytes.Buffer
	for _, f := range fields {
		if err := binary.Write(&b, binary.BigEndian, f); err != nil {
			return fmt.Errorf("encode a message to the NBD server: %w", err)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("ask the NBD server: %w", err)
	}
	return nil
}

func nbdReceive(r io.Reader, v any) error {
	if err := binary.Read(r, binary.BigEndian, v); err != nil {
		return fmt.Errorf("hear from the NBD server: %w", err)
	}
	return nil
}

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

// byTLS tells whether QEMU on this host would reach the export by TLS.
func (e *nbdExport) byTLS(c libvirt.Certificates) (bool, error) {
	if e.tls != "" {
		return e.tls != tlsNo, nil
	}
	return libvirt.ConfOn(filepath.Join(c.ConfDir, "qemu.conf"), "nbd_tls")
}

// encrypt does the handshake with the server, with the certificates that QEMU would use.
func (e *nbdExport) encrypt(ctx context.Context, nc net.Conn, certs libvirt.Certificates) (io.ReadWriter, error) {
	dir, err := certs.Dir("nbd")
	if err != nil {
		return nil, err
	}
	as, authority := certs.User(), filepath.Join(dir, "ca-cert.pem")
	roots, err := libvirt.ReadAuthority(authority)
	if err == nil {
		err = libvirt.Readable(as, authority)
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
			err = libvirt.QEMUUsage(pair.Leaf)
		}
		if err == nil {
			err = libvirt.Readable(as, cert, key)
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
		return fmt.Errorf("the server's certificate has expired at %s: give the server another one, and restart it",
			leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the server's certificate is valid from %s only, and this host's clock says %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
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
