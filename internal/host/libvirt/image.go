package libvirt

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
)

// An image is a file, or an export of an NBD server. The latter is written
//
//	nbd://HOST[:PORT]/EXPORT
//	nbd+unix:///EXPORT?socket=PATH
//
// and with nbds in place of nbd where it is reached by TLS, see nbdtls.go
// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md; a name that the
// server's certificate must have in place of HOST is the parameter tls-hostname). The server
// must let in several clients at once (qemu-nbd --persistent --shared=8): a live
// migration has two, and Check and ProbeImage of every host are one more each
// for a moment.
//
// QEMU's image locks do not reach through NBD: two hosts that write to the same
// export are kept apart by the lock manager (GuestSpec.Lockspace) or by nothing.

// nbdPort is NBD's registered port.
const nbdPort = "10809"

// nbdLimit bounds the look at an export.
const nbdLimit = 3 * time.Second

// nbdExport is where an image lies that comes over the network.
type nbdExport struct {
	host, port string // TCP
	socket     string // or the path of a Unix socket
	name       string // of the export; the default one is called ""
	tls        string // the attribute of libvirt's XML: tlsYes, tlsNo, or "" for what qemu.conf says
	tlsName    string // what the server's certificate must be for; "": host
}

// parseImage returns the export that an image's name means, nil for a file.
func parseImage(image string) (*nbdExport, error) {
	scheme, _, ok := strings.Cut(image, "://")
	if !ok || strings.HasPrefix(image, "/") {
		return nil, nil
	}
	u, err := url.Parse(image)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	e := &nbdExport{name: strings.TrimPrefix(u.Path, "/")}
	if u.User != nil || u.Fragment != "" || u.Opaque != "" || strings.ContainsFunc(e.name, isControl) {
		return nil, fmt.Errorf("image %q: want no user, fragment or control characters", image)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(q["tls-hostname"]) > 1 || strings.ContainsFunc(q.Get("tls-hostname"), isControl) {
		return nil, fmt.Errorf("image %q: want parameters in the form of a URI", image)
	}
	e.tlsName = q.Get("tls-hostname")
	q.Del("tls-hostname")
	if strings.HasPrefix(scheme, "nbds") {
		e.tls = tlsYes
	}
	switch scheme {
	case "nbd", "nbds":
		return e, e.tcp(u, q)
	case "nbd+unix", "nbds+unix":
		return e, e.unix(u, q)
	}
	return nil, fmt.Errorf("image %q: want a path, nbd://, nbds://, nbd+unix:// or nbds+unix://", image)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func (e *nbdExport) tcp(u *url.URL, q url.Values) error {
	e.host, e.port = u.Hostname(), u.Port()
	if e.port == "" {
		e.port = nbdPort
	}
	port, err := strconv.ParseUint(e.port, 10, 16)
	if e.host == "" || err != nil || port == 0 || len(q) > 0 {
		return fmt.Errorf("image %q: want nbd://HOST[:PORT]/EXPORT or nbds://HOST[:PORT]/EXPORT", u)
	}
	return nil
}

func (e *nbdExport) unix(u *url.URL, q url.Values) error {
	e.socket = q.Get("socket")
	if u.Host != "" || len(q) != 1 || !filepath.IsAbs(e.socket) || strings.ContainsFunc(e.socket, isControl) {
		return fmt.Errorf("image %q: want nbd+unix:///EXPORT?socket=PATH with an absolute path", u)
	}
	return nil
}

// String is for messages.
func (e *nbdExport) String() string {
	if e.socket != "" {
		return fmt.Sprintf("NBD export %q at %s", e.name, e.socket)
	}
	return fmt.Sprintf("NBD export %q at %s", e.name, net.JoinHostPort(e.host, e.port))
}

func (e *nbdExport) source() *libvirtxml.DomainDiskSourceNetwork {
	h := libvirtxml.DomainDiskSourceHost{Name: e.host, Port: e.port}
	if e.socket != "" {
		h = libvirtxml.DomainDiskSourceHost{Transport: "unix", Socket: e.socket}
	}
	return &libvirtxml.DomainDiskSourceNetwork{Protocol: "nbd", Name: e.name, TLS: e.tls, TLSHostname: e.tlsName, Hosts: []libvirtxml.DomainDiskSourceHost{h}}
}

// inspect asks the server for the export, whether it can be written, and for
// its first bytes, which tell the format.
func (e *nbdExport) inspect(ctx context.Context, s secure) (format string, err error) {
	ctx, cancel := context.WithTimeout(ctx, share(ctx, nbdLimit))
	defer cancel()
	head, err := e.head(ctx, s)
	if err != nil {
		return "", err
	}
	return formatOf(head), nil
}

// head opens the export and reads its first bytes. ctx must have a deadline.
func (e *nbdExport) head(ctx context.Context, s secure) ([]byte, error) {
	byTLS, err := s.nbdByTLS(e)
	if err != nil {
		return nil, fmt.Errorf("image: %s: %w", e, err)
	}
	network, addr := "tcp", net.JoinHostPort(e.host, e.port)
	if e.socket != "" {
		network, addr = "unix", e.socket
	}
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("image: %s can not be reached from this host (does its server run?): %w", e, err)
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) }) // its only error is that nc is closed
	defer stop()
	var encrypt func() (io.ReadWriter, error)
	if byTLS {
		encrypt = func() (io.ReadWriter, error) { return s.nbdEncrypt(ctx, nc, e) }
	}
	head, err := nbdHead(nc, e.name, encrypt)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("image: %s: the server was reached but does not answer (does it let in several clients: qemu-nbd --persistent --shared=8?): %w", e, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("image: %s: %w", e, err)
	}
	return head, nil
}

// imageDisk is the guest's first disk. When it can not be written or read, the
// guest's CPUs stop before its system learns of it: a full or lost storage that
// comes back costs nothing then (see cluster.Guest.IOError). QEMU's own default
// does so for a full one only, and lets the system remount its disk read-only
// after any other error.
func imageDisk(spec cluster.GuestSpec, format string) (libvirtxml.DomainDisk, error) {
	disk := fileDisk(spec.Image, format, "vda")
	disk.Driver.ErrorPolicy = "stop" // rerror, too: libvirt's rerror_policy follows it
	if spec.RBD != nil {
		disk.Source = &libvirtxml.DomainDiskSource{Network: rbdSource(spec)}
		return disk, nil
	}
	e, err := parseImage(spec.Image)
	if e != nil {
		disk.Source = &libvirtxml.DomainDiskSource{Network: e.source()}
	}
	return disk, err
}
