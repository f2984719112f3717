package migration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/virthost"
)

// TestMigrationSecurity: what makes a host able to, and what it says when it is not.
func TestMigrationSecurity(t *testing.T) {
	ca, h := virthost.Authority(t, "memory"), "192.0.2.1"
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
		{"default folder", "", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "pki/qemu"), ca, virthost.Issue(t, ca, h)) }, ""},
		{"folder of migrations first", "", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "pki/qemu"), ca, virthost.Issue(t, ca, h))
			if err := os.MkdirAll(filepath.Join(dir, "pki/libvirt-migrate"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "there is no certificate in"},
		{"folder by the settings", "migrate_tls_x509_cert_dir = \"%s/own\"\n", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "own"), ca, virthost.Issue(t, ca, h))
		}, ""},
		{"of another authority", "", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "pki/qemu"), ca, virthost.Issue(t, virthost.Authority(t, "memory"), h))
		}, "unknown authority"},
		{"of an agent", "", func(t *testing.T, dir string) {
			p, err := ca.Issue("h", nil, nil, time.Hour)
			write(t, filepath.Join(dir, "pki/qemu"), ca, plain(t, p, err))
		}, "key encipherment"},
		{"no client's", "", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "pki/qemu"), ca, virthost.Issue(t, ca, h))
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
			s, err := New("", "", libvirt.NewCertificates(dir, filepath.Join(dir, "pki")))
			if err != nil {
				t.Fatal(err)
			}
			got := s.Security()
			if got.TLS != (c.want == "") || !strings.Contains(got.Why, c.want) {
				t.Errorf("%+v, want %q", got, c.want)
			}
		})
	}
}

// TestChoice: both can, so it is TLS; where one can not, nothing is sent if it is required.
func TestChoice(t *testing.T) {
	ca, h := virthost.Authority(t, "memory"), "192.0.2.1"
	with, without := t.TempDir(), t.TempDir()
	if err := ca.WriteQEMU(filepath.Join(with, "qemu"), virthost.Issue(t, ca, h)); err != nil {
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
		s, err := New("", c.mode, libvirt.NewCertificates(with, dir))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Choose(c.target); got != c.want || (err != nil) != c.fails {
			t.Errorf("%+v: %t, %v", c, got, err)
		}
	}
	if _, err := New("", "yes", libvirt.Certificates{}); err == nil {
		t.Error("mode yes was taken")
	}
}
