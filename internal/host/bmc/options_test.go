package bmc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNewRefuses(t *testing.T) {
	good := Options{Type: "ipmi", Address: "10.0.0.1", User: "admin", PasswordFile: "/x", Machine: machineID}
	web := Options{Type: "redfish", Address: "https://10.0.0.1:8443/", User: "admin", PasswordFile: "/x",
		Fingerprint: strings.Repeat("aB:", 31) + "ab"}
	for _, o := range []Options{good, web} {
		if _, err := New(o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for want, c := range map[string]struct {
		o    Options
		edit func(*Options)
	}{
		"type ":         {good, func(o *Options) { o.Type = "apc" }},
		"user":          {good, func(o *Options) { o.User = "" }},
		"at most 16":    {good, func(o *Options) { o.User = strings.Repeat("u", 17) }},
		"password file": {good, func(o *Options) { o.PasswordFile = "" }},
		"UUID":          {good, func(o *Options) { o.Machine = "1234" }},
		"a port":        {good, func(o *Options) { o.Address = "10.0.0.1:70000" }},
		"host name":     {good, func(o *Options) { o.Address = "10.0.0.1/x" }},
		"cipher suite ": {good, func(o *Options) { o.Suite = 2 }},
		"for redfish":   {good, func(o *Options) { o.Fingerprint = web.Fingerprint }},
		"want https":    {web, func(o *Options) { o.Address = "http://10.0.0.1" }},
		"fingerprint":   {web, func(o *Options) { o.Fingerprint = "abcd" }},
		"for ipmi":      {web, func(o *Options) { o.Suite = 3 }},
	} {
		o := c.o
		c.edit(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v; want %q", o, err, want)
		}
	}
}

func TestName(t *testing.T) {
	d := device(t, Options{Type: "ipmi", Address: "10.0.0.1", User: "admin", PasswordFile: "/x"})
	if d.Name() != "ipmi admin@10.0.0.1" {
		t.Errorf("got %q", d.Name())
	}
}

func TestHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1:623", "10.0.0.1:99": "10.0.0.1:99", "bmc1.example": "bmc1.example:623",
		"fd00::1": "[fd00::1]:623", "[fd00::1]": "[fd00::1]:623", "[fd00::1]:99": "[fd00::1]:99",
		"": "", "a b": "", "a:b:c": "", "a/b": "", "u@a": "", "a:0": "",
	} {
		if got, err := hostPort(in, "623"); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestPassword(t *testing.T) {
	dir := t.TempDir()
	path := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return p
	}
	if _, err := readPassword(path("world", "secret", 0o604)); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a file that others may read: %v", err)
	}
	d := device(t, Options{Type: "ipmi", Address: hole(t, "ipmi"), User: "admin", PasswordFile: path("21", strings.Repeat("x", 21), 0o600)})
	fails(t, d.Off(within(t, time.Second)), ErrRefused, "connect")
}

func TestIdentity(t *testing.T) {
	want, err := parseUUID(machineID)
	if err != nil {
		t.Fatal(err)
	}
	smbios, plain, ipmi := identity{want}.readings() // turning is its own inverse
	for name, raw := range map[string][16]byte{"RFC 4122": plain, "SMBIOS": smbios, "IPMI": ipmi} {
		if err := (identity{raw}).is(machineID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := (identity{raw}).is(otherID); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: got %v; want another machine", name, err)
		}
		if err := (identity{raw}).is(""); err != nil {
			t.Errorf("%s, machine not known: %v", name, err)
		}
	}
	if got := (identity{smbios}).String(); got != machineID {
		t.Errorf("got %s; want %s", got, machineID)
	}
	ones := [16]byte{}
	for i := range ones {
		ones[i] = 0xff
	}
	for _, raw := range [][16]byte{{}, ones} {
		if err := (identity{raw}).is(machineID); err != nil || (identity{raw}).String() != "" {
			t.Errorf("%x: got %v, %q; want not known", raw, err, identity{raw})
		}
	}
	if err := (identity{plain}).is("00000000-0000-0000-0000-000000000000"); err != nil {
		t.Errorf("host without a UUID: %v", err)
	}
	for _, bad := range []string{"", "a1b2c3d4e5f64789abcd0123456789ab", machineID + "0", strings.Replace(machineID, "a", "g", 1)} {
		if _, err := parseUUID(bad); err == nil {
			t.Errorf("%q: taken for a UUID", bad)
		}
	}
}
