package libvirt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
)

// presented is the serial number of the certificate that the libvirtd at an address
// presents to this host.
func presented(ctx context.Context, addr string) (string, error) {
	const dir = "/etc/libvirt/pki/libvirt/"
	_, conf, err := pki.Load(dir+"cacert.pem", dir+"clientcert.pem", dir+"clientkey.pem")
	if err != nil {
		return "", err
	}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", net.JoinHostPort(addr, TLSPort))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// mountPKI gives a host of the rig an /etc/pki of its own, where its directory has pki.
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

// TestRenewedCertificates: libvirtd and QEMU take them while a guest runs, which then
// moves encrypted. libvirtd has its certificates where it looks by itself: it reads them
// again from there only.
func TestRenewedCertificates(t *testing.T) {
	need.Drill(t, "P4: certificates of libvirtd and QEMU are renewed while a guest runs, which then moves encrypted")
	needHosts(t, need.Programs("libvirt-clients", "virt-admin"))
	memory, daemons := authority(t, "memory"), authority(t, "libvirtd")
	libvirtd := func(h *host) pki.Place {
		dir := filepath.Join(h.dir, "pki/libvirt")
		return pki.Place{Which: pki.Libvirt, Dir: dir, Cert: []string{dir + "/servercert.pem"}, Key: []string{dir + "/private/serverkey.pem"}}
	}
	hosts := newTLSHostsOf(t, 2, daemons, func(int) pki.CA { return memory }, func(h *host, files map[string]string) {
		p := libvirtd(h)
		err := errors.Join(os.MkdirAll(filepath.Join(h.dir, "pki/CA"), 0o755), os.MkdirAll(filepath.Dir(p.Key[0]), 0o700))
		if err == nil {
			err = errors.Join(daemons.WriteCert(filepath.Join(h.dir, "pki/CA/cacert.pem")), issue(t, daemons, h).Write(p.Cert[0], p.Key[0]))
		}
		if err != nil {
			t.Fatal(err)
		}
		conf, _, _ := strings.Cut(files["libvirtd.conf"], "ca_file")
		files["libvirtd.conf"] = conf
	})
	from, to := hosts[0], hosts[1]
	spec := guest(t)
	filler(t, &spec, false)
	from.must(request{Op: "start", Spec: spec})
	from.until("running", is(cluster.GuestRunning))
	for i, h := range hosts {
		other := hosts[1-i] // hosts of this rig do not reach themselves
		before := other.must(request{Op: "presented", Text: h.addr}).Text
		place, q := libvirtd(h), filepath.Join(h.dir, "etc/pki/qemu")
		qemu := pki.Place{Which: pki.Memory, Dir: q, Cert: []string{q + "/server-cert.pem", q + "/client-cert.pem"}, Key: []string{q + "/server-key.pem", q + "/client-key.pem"}}
		if err := errors.Join(place.Replace(issue(t, daemons, h)), qemu.Replace(issue(t, memory, h))); err != nil {
			t.Fatal(err)
		}
		cert, err := pki.ReadCert(place.Cert[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := other.must(request{Op: "presented", Text: h.addr}).Text; got != before {
			t.Errorf("%s: presents %s before it was told, and %s at first: need it be told at all?", h.addr, got, before)
		}
		h.must(request{Op: "update tls"})
		if got := other.must(request{Op: "presented", Text: h.addr}).Text; got == before || got != cert.SerialNumber.String() {
			t.Errorf("%s: presents %s, before %s, want %s", h.addr, got, before, cert.SerialNumber)
		}
		if s := h.must(request{Op: "security"}).Security; !s.TLS {
			t.Errorf("%s: %+v", h.addr, s)
		}
	}
	from.until("running", is(cluster.GuestRunning))
	a := from.must(request{Op: "migrate", Text: to.addr, TLS: true})
	t.Logf("migrated in %v", a.Took)
	to.until("arrived", is(cluster.GuestArrived))
}
