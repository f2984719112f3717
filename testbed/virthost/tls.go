package virthost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/pki"
)

// Authority makes one.
func Authority(t *testing.T, name string) pki.CA {
	t.Helper()
	ca, err := pki.NewCA(name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// Issue makes the pair of a host at an address.
func Issue(t *testing.T, ca pki.CA, addr string) pki.Pair {
	t.Helper()
	p, err := ca.IssueHypervisor("h", []netip.Addr{netip.MustParseAddr(addr)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TLSURI reaches libvirtd of a host that NewTLS made.
const TLSURI = "qemu+tls://%s/system?pkipath=/etc/libvirt/pki/libvirt"

// NewTLS is New, for hosts whose libvirtd talks by TLS alone, by certificates of the authority daemons, and whose
// QEMU has certificates of the authority that memory gives for each.
func NewTLS(t *testing.T, n int, daemons pki.CA, memory func(i int) pki.CA,
	edit func(h *Host, files map[string]string),
) []*Host {
	t.Helper()
	return New(t, n, func(h *Host, files map[string]string) {
		dir := filepath.Join(h.Dir, "etc/pki")
		ca := memory(h.Number)
		if err := errors.Join(daemons.WriteLibvirt(filepath.Join(dir, "libvirt"), Issue(t, daemons, h.Addr)),
			ca.WriteQEMU(filepath.Join(dir, "qemu"), Issue(t, ca, h.Addr))); err != nil {
			t.Fatal(err)
		}
		files["libvirtd.conf"] = strings.NewReplacer("listen_tls = 0", "listen_tls = 1", "listen_tcp = 1", "listen_tcp = 0").Replace(files["libvirtd.conf"]) + `
ca_file = "/etc/libvirt/pki/libvirt/cacert.pem"
cert_file = "/etc/libvirt/pki/libvirt/servercert.pem"
key_file = "/etc/libvirt/pki/libvirt/serverkey.pem"
`
		files["qemu.conf"] += "default_tls_x509_cert_dir = \"/etc/libvirt/pki/qemu\"\n"
		if edit != nil {
			edit(h, files)
		}
	})
}

// presented is the serial number of the certificate that the libvirtd at an address
// presents to this host.
func presented(ctx context.Context, addr string) (string, error) {
	const dir = "/etc/libvirt/pki/libvirt/"
	_, conf, err := pki.Load(dir+"cacert.pem", dir+"clientcert.pem", dir+"clientkey.pem")
	if err != nil {
		return "", err
	}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", net.JoinHostPort(addr, libvirt.TLSPort))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// mountPKI gives a host an /etc/pki of its own, where its directory has pki.
func mountPKI(dir string) error {
	own := filepath.Join(dir, "pki")
	if _, err := os.Stat(own); err != nil {
		return nil // it has none
	}
	upper, work := filepath.Join(dir, "etc-upper"), filepath.Join(dir, "etc-work")
	err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755), unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
		unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work), os.MkdirAll("/etc/pki", 0o755))
	if err == nil {
		err = unix.Mount(own, "/etc/pki", "", unix.MS_BIND, "")
	}
	if err != nil {
		return fmt.Errorf("mount /etc/pki: %w", err)
	}
	return nil
}
