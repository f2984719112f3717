package libvirt

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
)

// marker is in the memory of guests whose disk mark has marked.
const marker = "HOLDFAST-GUEST-MEMORY-MARKER-98c0de"

// mark writes the marker into the boot sector, which the BIOS reads into memory. More than
// once: one of them may be cut in two by frames.
func mark(t *testing.T, image string) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0x100); at < 0x1d0; at += 0x40 {
		_, werr := f.WriteAt([]byte(marker), at)
		err = errors.Join(err, werr)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func authority(t *testing.T, name string) pki.CA {
	t.Helper()
	ca, err := pki.NewCA(name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue makes a host's pair.
func issue(t *testing.T, ca pki.CA, h *host) pki.Pair {
	t.Helper()
	p, err := ca.IssueHypervisor("h", []netip.Addr{netip.MustParseAddr(h.addr)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tlsURI reaches libvirtd of a host that newTLSHosts made.
const tlsURI = "qemu+tls://%s/system?pkipath=/etc/libvirt/pki/libvirt"

// newTLSHosts makes hosts whose libvirtd talks by TLS alone, and whose QEMU has
// certificates of the authority that memory gives for each.
func newTLSHosts(t *testing.T, n int, memory func(i int) pki.CA) []*host {
	t.Helper()
	return newTLSHostsOf(t, n, authority(t, "libvirtd"), memory, func(*host, map[string]string) {})
}

// newTLSHostsOf has the authority of the libvirtds, too, and may change the settings.
func newTLSHostsOf(t *testing.T, n int, daemons pki.CA, memory func(i int) pki.CA, edit func(h *host, files map[string]string)) []*host {
	t.Helper()
	hosts := newHostsWith(t, n, func(h *host, files map[string]string) {
		dir := filepath.Join(h.dir, "etc/pki")
		ca := memory(h.number)
		if err := errors.Join(daemons.WriteLibvirt(filepath.Join(dir, "libvirt"), issue(t, daemons, h)), ca.WriteQEMU(filepath.Join(dir, "qemu"), issue(t, ca, h))); err != nil {
			t.Fatal(err)
		}
		files["libvirtd.conf"] = strings.NewReplacer("listen_tls = 0", "listen_tls = 1", "listen_tcp = 1", "listen_tcp = 0").Replace(files["libvirtd.conf"]) + `
ca_file = "/etc/libvirt/pki/libvirt/cacert.pem"
cert_file = "/etc/libvirt/pki/libvirt/servercert.pem"
key_file = "/etc/libvirt/pki/libvirt/serverkey.pem"
`
		files["qemu.conf"] += "default_tls_x509_cert_dir = \"/etc/libvirt/pki/qemu\"\n"
		edit(h, files)
	})
	for _, h := range hosts {
		h.must(request{Op: "close"})
		h.must(request{Op: "new", Text: tlsURI})
	}
	return hosts
}

// TestMemoryTravelsEncrypted: by TLS nothing of the guest's memory can be read on the way,
// without it all of it can.
func TestMemoryTravelsEncrypted(t *testing.T) {
	need.Drill(t, "P6: no byte of the memory of a guest travels in the clear")
	ca := authority(t, "memory")
	hosts := newTLSHosts(t, 2, func(int) pki.CA { return ca })
	spec := guest(t)
	filler(t, &spec, false)
	mark(t, spec.Image)
	for _, h := range hosts {
		if s := h.must(request{Op: "security"}).Security; !s.TLS || s.Dir != "/etc/libvirt/pki/qemu" {
			t.Fatalf("%s: %+v", h.addr, s)
		}
	}
	from, to := hosts[0], hosts[1]
	from.must(request{Op: "start", Spec: spec})
	for _, tls := range []bool{false, true} {
		from.until("running", is(cluster.GuestRunning))
		from.must(request{Op: "sniff", Text: marker})
		a := from.must(request{Op: "migrate", Text: to.addr, TLS: tls})
		seen := from.must(request{Op: "sniffed"}).Seen
		t.Logf("TLS %t: %v, %+v", tls, a.Took, seen)
		if (seen.Clear == 0) != tls || seen.Bytes < 1<<20 || seen.Missed > 0 {
			t.Errorf("TLS %t: %+v", tls, seen)
		}
		to.until("arrived", is(cluster.GuestArrived))
		to.must(request{Op: "resume"})
		from, to = to, from
	}
	from.must(request{Op: "kill"})
}

// TestTargetOfAnotherAuthority: nothing is sent, in clear least of all, and the guest stays.
func TestTargetOfAnotherAuthority(t *testing.T) {
	need.Drill(t, "P6: memory goes to no host of another authority")
	authorities := []pki.CA{authority(t, "memory"), authority(t, "memory")}
	hosts := newTLSHosts(t, 2, func(i int) pki.CA { return authorities[i-1] })
	from, to := hosts[0], hosts[1]
	spec := guest(t)
	filler(t, &spec, false)
	mark(t, spec.Image)
	from.must(request{Op: "start", Spec: spec})
	g := from.until("running", is(cluster.GuestRunning))
	from.must(request{Op: "sniff", Text: marker})
	_, err := from.do(request{Op: "migrate", Text: to.addr, TLS: true})
	seen := from.must(request{Op: "sniffed"}).Seen
	t.Logf("%v; %+v", err, seen)
	if err == nil || errors.Is(err, cluster.ErrNotProved) {
		t.Errorf("%v, want an error that says it stays", err)
	}
	if seen.Clear > 0 || seen.Bytes > 1<<20 || seen.Missed > 0 {
		t.Errorf("something was sent: %+v", seen)
	}
	if now := from.until("still here", is(cluster.GuestRunning)); now.PID != g.PID {
		t.Errorf("afterwards: %+v, want %+v", now, g)
	}
	to.until("absent at the target", is(cluster.GuestAbsent))
	from.must(request{Op: "kill"})
}

// TestFleetMemoryTravelsEncrypted: the other guests' too, and the target lets them go on
// over TLS.
func TestFleetMemoryTravelsEncrypted(t *testing.T) {
	need.Drill(t, "P6: no byte of the memory of a fleet's guest travels in the clear")
	ca := authority(t, "memory")
	dir := t.TempDir()
	opt := FleetOptions{Shared: []string{dir}, MigrateURI: tlsURI, MigrateTLS: TLSRequired}
	var hosts []fleet
	for _, h := range newTLSHosts(t, 2, func(int) pki.CA { return ca }) {
		hosts = append(hosts, fleet{h})
		hosts[len(hosts)-1].renew(opt)
	}
	from, to := hosts[0], hosts[1]
	s := small{name: "still", uuid: smallUUID(1), disks: diskXML(fillDisk(t, filepath.Join(dir, "d"), false), "raw")}
	mark(t, filepath.Join(dir, "d"))
	from.setUp("create", fleetRequest{XML: s.xml()})
	time.Sleep(time.Second) // the BIOS has read the marker
	if a, err := from.try("migrate", fleetRequest{UUID: s.uuid, Target: to.addr}, 20*time.Second); err == nil || a.Place != Here || !strings.Contains(err.Error(), TLSRequired) {
		t.Errorf("to a target that can not: %s, %v", a.Place, err)
	}
	from.must(request{Op: "sniff", Text: marker})
	a := from.call("migrate", fleetRequest{UUID: s.uuid, Target: to.addr, Migrate: migrateRequest{TLS: true}})
	seen := from.must(request{Op: "sniffed"}).Seen
	t.Logf("%s, %+v", a.Place, seen)
	if a.Place != Left || seen.Clear > 0 || seen.Bytes < 1<<20 || seen.Missed > 0 {
		t.Errorf("%s, %+v", a.Place, seen)
	}
	if v := to.vms()[s.name]; v.State != VMRunning {
		t.Errorf("at the target: %+v", v)
	}
}

// TestMigrationSecurity: what makes a host able to, and what it says when it is not.
func TestMigrationSecurity(t *testing.T) {
	ca, h := authority(t, "memory"), &host{addr: "192.0.2.1"}
	plain := func(t *testing.T, p pki.Pair, err error) pki.Pair {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	write := func(t *testing.T, dir string, ca pki.CA, p pki.Pair) {
		t.Helper()
		if err := ca.WriteQEMU(dir, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		conf string // of QEMU, %s is a folder
		make func(t *testing.T, dir string)
		want string // "": TLS
	}{
		{"no folder", "", func(*testing.T, string) {}, "there is no certificate in"},
		{"default folder", "", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "pki/qemu"), ca, issue(t, ca, h)) }, ""},
		{"folder of migrations first", "", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "pki/qemu"), ca, issue(t, ca, h))
			if err := os.MkdirAll(filepath.Join(dir, "pki/libvirt-migrate"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "there is no certificate in"},
		{"folder by the settings", "migrate_tls_x509_cert_dir = \"%s/own\"\n", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "own"), ca, issue(t, ca, h))
		}, ""},
		{"of another authority", "", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "pki/qemu"), ca, issue(t, authority(t, "memory"), h))
		}, "unknown authority"},
		{"of an agent", "", func(t *testing.T, dir string) {
			p, err := ca.Issue("h", nil, nil, time.Hour)
			write(t, filepath.Join(dir, "pki/qemu"), ca, plain(t, p, err))
		}, "key encipherment"},
		{"no client's", "", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "pki/qemu"), ca, issue(t, ca, h))
			if err := os.Remove(filepath.Join(dir, "pki/qemu/client-key.pem")); err != nil {
				t.Fatal(err)
			}
		}, "client certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, dir)
			conf := strings.ReplaceAll("user = \"root\"\n"+c.conf, "%s", dir)
			if err := os.WriteFile(filepath.Join(dir, "qemu.conf"), []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := newSecure("", dir, filepath.Join(dir, "pki"))
			if err != nil {
				t.Fatal(err)
			}
			got := s.look()
			if got.TLS != (c.want == "") || !strings.Contains(got.Why, c.want) {
				t.Errorf("%+v, want %q", got, c.want)
			}
		})
	}
}

// TestChoice: both can, so it is TLS; where one can not, nothing is sent if it is required.
func TestChoice(t *testing.T) {
	ca, h := authority(t, "memory"), &host{addr: "192.0.2.1"}
	with, without := t.TempDir(), t.TempDir()
	if err := ca.WriteQEMU(filepath.Join(with, "qemu"), issue(t, ca, h)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(with, "qemu.conf"), []byte("user = \"root\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode        string
		own, target bool
		want, fails bool
	}{
		{TLSAuto, true, true, true, false},
		{TLSAuto, true, false, false, false},
		{TLSAuto, false, true, false, false},
		{TLSRequired, true, true, true, false},
		{TLSRequired, true, false, false, true},
		{TLSRequired, false, true, false, true},
		{TLSOff, true, true, false, false},
	} {
		dir := without
		if c.own {
			dir = with
		}
		s, err := newSecure(c.mode, with, dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.choose(c.target); got != c.want || (err != nil) != c.fails {
			t.Errorf("%+v: %t, %v", c, got, err)
		}
	}
	if _, err := newSecure("yes", "", ""); err == nil {
		t.Error("mode yes was taken")
	}
}

func TestReadableByQEMU(t *testing.T) {
	need.Real(t, need.Root)
	u := (secure{confDir: t.TempDir()}).qemuUser()
	if u == nil || u.Uid == "0" {
		t.Skip("missing: a user of QEMU's (Debian: libvirt-daemon-system)")
	}
	dir := filepath.Join("/tmp", "holdfast-"+filepath.Base(t.TempDir())+"-readable")
	path := filepath.Join(dir, "f")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if readableBy(u, path) {
		t.Error("readable by root alone, and said to be readable")
	}
	if err := os.Chmod(path, 0o644); err != nil || !readableBy(u, path) {
		t.Errorf("not readable by all: %v", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil || readableBy(u, path) {
		t.Errorf("readable in a folder of root's: %v", err)
	}
}
