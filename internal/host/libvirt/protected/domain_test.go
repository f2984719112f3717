package protected

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cluster"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func fullSpec() cluster.GuestSpec {
	return cluster.GuestSpec{
		Resource: cluster.MgmtVM, Epoch: cluster.Epoch{Gen: 2, Seq: 31}, UUID: testUUID, Name: "mnvm", Arch: "x86_64",
		MemoryMiB: 8192, CPUs: 4, Image: "/share/mnvm.img", Seed: "/run/holdfast/seed.iso",
		NICs: []cluster.NIC{{Bridge: "br-mgmt", MAC: "52:54:00:00:00:01"}, {Bridge: "br-data", MAC: "52:54:00:00:00:02"}},
	}
}

func TestDomainXML(t *testing.T) {
	small := fullSpec()
	small.Emulate, small.Seed, small.NICs = true, "", nil
	net := fullSpec()
	net.Image, net.Lockspace, net.OnPanic = "nbd://[fd00::1]:99/mnvm", "/srv/shared/locks", panicCoredump
	small.Boot = &cluster.DirectBoot{Kernel: "/k/vmlinuz", Initrd: "/k/initrd", Cmdline: `console=ttyS0 a="<b>"`}
	arm := fullSpec()
	arm.Arch = "aarch64"
	arm.VNC = &cluster.VNC{Listen: "192.0.2.11", PasswordFile: filepath.Join(t.TempDir(), "vnc")}
	if err := os.WriteFile(arm.VNC.PasswordFile, []byte("a<b"), 0o600); err != nil {
		t.Fatal(err)
	}
	netTLS := net
	netTLS.Image = "nbds://stor/mnvm"
	armNet := net
	armNet.Arch, armNet.OnPanic, armNet.Emulate = "aarch64", "", true
	for _, c := range []struct {
		name, format string
		spec         cluster.GuestSpec
	}{
		{"kvm.xml", formatQcow2, fullSpec()}, {"emulate.xml", formatRaw, small}, {"nbd.xml", formatRaw, net}, {"nbds.xml", formatRaw, netTLS},
		{"aarch64-kvm.xml", formatQcow2, arm}, {"aarch64-nbd.xml", formatRaw, armNet},
	} {
		got, err := domainXML(c.spec, c.format)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		golden := filepath.Join("testdata", c.name)
		if *update {
			if err := os.WriteFile(golden, []byte(got+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got+"\n" != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

func TestDomainXMLRefusesBadSpecs(t *testing.T) {
	for want, edit := range map[string]func(*cluster.GuestSpec){
		"UUID":        func(s *cluster.GuestSpec) { s.UUID = "98000000" },
		"domain name": func(s *cluster.GuestSpec) { s.Name = "a,b" },
		"resource":    func(s *cluster.GuestSpec) { s.Resource = "a:b" },
		"memory":      func(s *cluster.GuestSpec) { s.MemoryMiB = 0 },
		"panic":       func(s *cluster.GuestSpec) { s.OnPanic = "reboot" },
		"lockspace":   func(s *cluster.GuestSpec) { s.Lockspace = "locks" },
		"image":       func(s *cluster.GuestSpec) { s.Image = "rbd://pool/image" },
		"CPUs":        func(s *cluster.GuestSpec) { s.CPUs = -1 },
		"riscv64":     func(s *cluster.GuestSpec) { s.Arch = "riscv64" },
		"on aarch64":  func(s *cluster.GuestSpec) { s.Arch, s.OnPanic = "aarch64", panicCoredump },
	} {
		spec := fullSpec()
		edit(&spec)
		if _, err := domainXML(spec, formatRaw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	good := Options{UUID: testUUID, Name: testName, Resource: cluster.MgmtVM, Socket: filepath.Join(t.TempDir(), "none")}
	d, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Options){
		"uuid":       func(o *Options) { o.UUID = strings.ReplaceAll(o.UUID, "-", "") },
		"name":       func(o *Options) { o.Name = "" },
		"URI":        func(o *Options) { o.MigrateURI = "qemu+tcp://host/system" },
		"URI verbs":  func(o *Options) { o.MigrateURI = "qemu+tcp://%s/system?a=%d" },
		"start note": func(o *Options) { o.RunDir = brokenNote(t) },
	} {
		opt := good
		edit(&opt)
		if d, err := New(opt); err == nil {
			t.Errorf("%s: accepted", name)
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func brokenNote(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "libvirt-start-"+testUUID+".json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
