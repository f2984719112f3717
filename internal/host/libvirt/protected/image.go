package protected

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
)

// An image is a file, or an export of an NBD server. The latter is written
//
//	nbd://HOST[:PORT]/EXPORT
//	nbd+unix:///EXPORT?socket=PATH
//
// and with nbds in place of nbd where it is reached by TLS, see nbd.go
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
	return &libvirtxml.DomainDiskSourceNetwork{Protocol: "nbd", Name: e.name, TLS: e.tls, TLSHostname: e.tlsName,
		Hosts: []libvirtxml.DomainDiskSourceHost{h}}
}

// inspect asks the server for the export, whether it can be written, and for
// its first bytes, which tell the format.
func (e *nbdExport) inspect(ctx context.Context, c libvirt.Certificates) (format string, err error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, nbdLimit))
	defer cancel()
	head, err := e.head(ctx, c)
	if err != nil {
		return "", err
	}
	return formatOf(head), nil
}

// head opens the export and reads its first bytes. ctx must have a deadline.
func (e *nbdExport) head(ctx context.Context, c libvirt.Certificates) ([]byte, error) {
	byTLS, err := e.byTLS(c)
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
		encrypt = func() (io.ReadWriter, error) { return e.encrypt(ctx, nc, c) }
	}
	head, err := nbdHead(nc, e.name, encrypt)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("image: %s: the server was reached but does not answer (does it let in several "+
			"clients: qemu-nbd --persistent --shared=8?): %w", e, ctx.Err())
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

// nbdAgain is the time between two attempts to reach a server that the network
// says can not be reached.
const nbdAgain = 500 * time.Millisecond

// ProbeImage tells whether the NBD export that image names answers on this host:
// it opens it for writing and reads its first 512 bytes, by TLS where QEMU would. An
// error that comes before ctx ends is an answer: refused, reset, not the export that is
// wanted, certificates that do not fit, or
// a name that can not be resolved, which says nothing of the server. Without an
// answer it goes on until ctx ends, also when the network says that there is no
// way to the server. ctx must have a deadline.
func ProbeImage(ctx context.Context, image string) error {
	return probeImage(ctx, libvirt.NewCertificates("", ""), image)
}

func probeImage(ctx context.Context, certs libvirt.Certificates, image string) error {
	e, err := parseImage(image)
	if err != nil {
		return err
	}
	if e == nil {
		return fmt.Errorf("image %q: want an export of an NBD server", image)
	}
	if err := e.resolve(ctx); err != nil {
		return err
	}
	for {
		_, err := e.head(ctx, certs)
		if !isUnreachable(err) {
			return err
		}
		if !clock.Sleep(ctx, nbdAgain) {
			return err
		}
	}
}

// resolve makes sure that the server's name has an address, in good time before
// ctx ends: a name service that hangs must not look like a disk that does.
func (e *nbdExport) resolve(ctx context.Context) error {
	if e.socket != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, nbdLimit))
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, e.host); err != nil {
		return fmt.Errorf("image: %s: find the server's address: %w", e, err)
	}
	return nil
}

// isUnreachable reports what the kernel says in place of a server that does not
// answer. The connection of a guest that runs hangs meanwhile, as it does when
// nothing is said.
func isUnreachable(err error) bool {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return false
	}
	switch no {
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.ETIMEDOUT:
		return true
	}
	return false
}

// This file reads what lies behind an image: a qcow2 names its base, and the file with its data when
// that is another one (QEMU's docs/interop/qcow2). QEMU does not start without them.

// Of a qcow2's header. All numbers are big endian.
const (
	qcow2V2     = 72  // bytes of a header of version 2
	qcow2V3     = 104 // of version 3 at least; its length is at 100
	qcow2Data   = 1 << 2
	qcow2ExtEnd = 0
	qcow2ExtRaw = 0x44415441 // the name of the file with the data
	qcow2Name   = 1023       // bytes of a name at most
	behindMost  = 200        // images behind one another
)

// behind returns the names that an image has of its base and of the file with its data, "" for none.
func behind(path string) (base, data string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	head := make([]byte, qcow2V3)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", "", err
	}
	if n < qcow2V2 || formatOf(head) != formatQcow2 {
		return "", "", nil
	}
	text := func(at int64, size uint32) (string, error) {
		if size > qcow2Name {
			return "", fmt.Errorf("a name has %d bytes", size)
		}
		b := make([]byte, size)
		_, err := f.ReadAt(b, at)
		return string(b), err
	}
	if at := int64(binary.BigEndian.Uint64(head[8:])); at > 0 {
		if base, err = text(at, binary.BigEndian.Uint32(head[16:])); err != nil {
			return "", "", err
		}
	}
	if n < qcow2V3 || binary.BigEndian.Uint32(head[4:]) < 3 || binary.BigEndian.Uint64(head[72:])&qcow2Data == 0 {
		return base, "", nil
	}
	at := int64(binary.BigEndian.Uint32(head[100:]))
	for range behindMost { // extensions: type, size, content up to a multiple of 8 bytes
		ext := make([]byte, 8)
		if _, err := f.ReadAt(ext, at); err != nil {
			return "", "", err
		}
		kind, size := binary.BigEndian.Uint32(ext), binary.BigEndian.Uint32(ext[4:])
		switch kind {
		case qcow2ExtEnd:
			return base, "", nil
		case qcow2ExtRaw:
			data, err = text(at+8, size)
			return base, data, err
		}
		at += 8 + (int64(size)+7)&^7
	}
	return base, "", nil
}

// checkBehind makes sure that all that lies behind an image is there. What is no file is left to QEMU.
func checkBehind(what, path string) error {
	for range behindMost {
		base, data, err := behind(path)
		if err != nil {
			return fmt.Errorf("%s: read what lies behind %s: %w", what, path, err)
		}
		if data != "" {
			if _, err := checkFile(what+": the data of "+path, beside(path, data)); err != nil {
				return err
			}
		}
		if base = strings.TrimPrefix(base, "file:"); base == "" || strings.Contains(base, ":") {
			return nil
		}
		base = beside(path, base)
		if _, err := checkFile(what+": the base of "+path, base); err != nil {
			return err
		}
		path = base
	}
	return fmt.Errorf("%s: more than %d images lie behind one another", what, behindMost)
}

// beside is a name as the image at path means it.
func beside(path, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(path), name)
}
