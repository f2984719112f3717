package seed

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"

	"holdfast/testbed/try"
)

func sample() Seed {
	return Seed{
		InstanceID: "mnvm-host1-1.7", Hostname: "mnvm",
		NICs: []NIC{
			{MAC: "52:54:00:AA:00:01", IP: "10.0.0.5", Netmask: "255.255.255.0", Gateway: "10.0.0.1", DefRoute: true},
			{MAC: "52:54:00:aa:00:02"},
			{MAC: "52:54:00:aa:00:03", IP: "fd00::5", Netmask: "64"},
		},
		DNS: []string{"10.0.0.2", "10.0.0.3"}, NTP: []string{"192.0.2.7", "time.example.org"}, ConsoleIP: "192.0.2.9",
	}
}

const wantNetwork = `version: 2
ethernets:
  eth0:
    match:
      macaddress: "52:54:00:aa:00:01"
    set-name: "eth0"
    dhcp4: false
    addresses:
      - "10.0.0.5/24"
    routes:
      - to: "0.0.0.0/0"
        via: "10.0.0.1"
    nameservers:
      addresses:
        - "10.0.0.2"
        - "10.0.0.3"
  eth2:
    match:
      macaddress: "52:54:00:aa:00:03"
    set-name: "eth2"
    dhcp4: false
    addresses:
      - "fd00::5/64"
`

func TestWriteThenRead(t *testing.T) {
	if !try.UnderUmask(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "seed.iso")
	for _, name := range []string{"old", "mnvm"} { // the second one replaces the first
		s := sample()
		s.Hostname = name
		if err := Write(path, s); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("QEMU has a user of its own: %v, %v", info.Mode(), err)
	}
	label, got := readISO(t, path)
	if label != "cidata" {
		t.Errorf("label %q", label)
	}
	for name, want := range map[string]string{
		"meta-data":      "instance-id: \"mnvm-host1-1.7\"\nlocal-hostname: \"mnvm\"\n",
		"network-config": wantNetwork,
		"user-data": "#cloud-config\npreserve_hostname: false\nssh_deletekeys: false\nntp:\n  enabled: true\n  " +
			"servers:\n    - \"192.0.2.7\"\n    - \"time.example.org\"\nwrite_files:\n  - path: /etc/holdfast/console-ip\n" +
			"    permissions: \"0644\"\n    content: \"192.0.2.9\\n\"\n",
	} {
		if got[name] != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got[name], want)
		}
	}
	if len(got) != 3 {
		t.Errorf("files %v", got)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files left beside the seed: %v, %v", left, err)
	}
}

func readISO(t *testing.T, path string) (label string, files map[string]string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := iso9660.OpenImage(f)
	if err != nil {
		t.Fatal(err)
	}
	if label, err = img.Label(); err != nil {
		t.Fatal(err)
	}
	root, err := img.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	children, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for _, c := range children {
		b, err := io.ReadAll(c.Reader())
		if err != nil {
			t.Fatal(err)
		}
		files[c.Name()] = string(b)
	}
	return strings.TrimSpace(label), files
}

func TestWriteRefusesBadSeeds(t *testing.T) {
	for want, edit := range map[string]func(*Seed){
		"instance id":     func(s *Seed) { s.InstanceID = "a\nb" },
		"hostname":        func(s *Seed) { s.Hostname = "-x" },
		"MAC address":     func(s *Seed) { s.NICs[0].MAC = "52:54" },
		"address":         func(s *Seed) { s.NICs[0].IP = "10.0.0" },
		"not at the left": func(s *Seed) { s.NICs[0].Netmask = "255.0.255.0" },
		"netmask \"33\"":  func(s *Seed) { s.NICs[0].Netmask = "33" },
		"netmask \"\"":    func(s *Seed) { s.NICs[0].Netmask = "" },
		"gateway of the":  func(s *Seed) { s.NICs[0].Gateway = "" },
		"another address": func(s *Seed) { s.NICs[0].Gateway = "10.0.1.1" },
		"at most one":     func(s *Seed) { s.NICs[2].DefRoute, s.NICs[2].Gateway = true, "fd00::1" },
		"name server":     func(s *Seed) { s.DNS = []string{"ns"} },
		"time server":     func(s *Seed) { s.NTP = []string{"a\nb"} },
		"console":         func(s *Seed) { s.ConsoleIP = "x" },
		"no network card": func(s *Seed) { s.NICs = nil },
	} {
		s := sample()
		edit(&s)
		dir := t.TempDir()
		err := Write(filepath.Join(dir, "seed.iso"), s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", want, left, err)
		}
	}
	if err := Write(filepath.Join(t.TempDir(), "none", "seed.iso"), sample()); err == nil {
		t.Error("a directory that does not exist: no error")
	}
}
