package protected

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// TestRenewedCertificates: libvirtd and QEMU take them while a guest runs, which then
// moves encrypted. libvirtd has its certificates where it looks by itself: it reads them
// again from there only.
func TestRenewedCertificates(t *testing.T) {
	need.Drill(t, "P4: certificates of libvirtd and QEMU are renewed while a guest runs, which then moves encrypted")
	virthost.Need(t, need.Programs("libvirt-clients", "virt-admin"))
	memory, daemons := virthost.Authority(t, "memory"), virthost.Authority(t, "libvirtd")
	libvirtd := func(h *virthost.Host) pki.Place {
		dir := filepath.Join(h.Dir, "pki/libvirt")
		return pki.Place{Which: pki.Libvirt, Dir: dir, Cert: []string{dir + "/servercert.pem"}, Key: []string{dir + "/private/serverkey.pem"}}
	}
	hosts := withDrivers(t, virthost.NewTLS(t, 2, daemons, func(int) pki.CA { return memory },
		func(h *virthost.Host, files map[string]string) {
			p := libvirtd(h)
			err := errors.Join(os.MkdirAll(filepath.Join(h.Dir, "pki/CA"), 0o755), os.MkdirAll(filepath.Dir(p.Key[0]), 0o700))
			if err == nil {
				err = errors.Join(daemons.WriteCert(filepath.Join(h.Dir, "pki/CA/cacert.pem")),
					virthost.Issue(t, daemons, h.Addr).Write(p.Cert[0], p.Key[0]))
			}
			if err != nil {
				t.Fatal(err)
			}
			conf, _, _ := strings.Cut(files["libvirtd.conf"], "ca_file")
			files["libvirtd.conf"] = conf
		}), virthost.TLSURI)
	from, to := hosts[0], hosts[1]
	spec := guest(t)
	filler(t, &spec, false)
	from.must(request{Op: "start", Spec: spec})
	from.until("running", is(cluster.GuestRunning))
	for i, h := range hosts {
		other := hosts[1-i] // hosts of this rig do not reach themselves
		before := other.must(request{Op: "presented", Text: h.Addr}).Text
		place, q := libvirtd(h.Host), filepath.Join(h.Dir, "etc/pki/qemu")
		qemu := pki.Place{Which: pki.Memory, Dir: q, Cert: []string{q + "/server-cert.pem", q + "/client-cert.pem"},
			Key: []string{q + "/server-key.pem", q + "/client-key.pem"}}
		if err := errors.Join(place.Replace(virthost.Issue(t, daemons, h.Addr)), qemu.Replace(virthost.Issue(t, memory, h.Addr))); err != nil {
			t.Fatal(err)
		}
		cert, err := pki.ReadCert(place.Cert[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := other.must(request{Op: "presented", Text: h.Addr}).Text; got != before {
			t.Errorf("%s: presents %s before it was told, and %s at first: need it be told at all?", h.Addr, got, before)
		}
		h.must(request{Op: "update tls"})
		if got := other.must(request{Op: "presented", Text: h.Addr}).Text; got == before || got != cert.SerialNumber.String() {
			t.Errorf("%s: presents %s, before %s, want %s", h.Addr, got, before, cert.SerialNumber)
		}
		if s := h.must(request{Op: "security"}).Security; !s.TLS {
			t.Errorf("%s: %+v", h.Addr, s)
		}
	}
	from.until("running", is(cluster.GuestRunning))
	a := from.must(request{Op: "migrate", Text: to.Addr, TLS: true})
	t.Logf("migrated in %v", a.Took)
	to.until("arrived", is(cluster.GuestArrived))
}
