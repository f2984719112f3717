package facts

import (
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/inventory/fact"
)

func sample(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\ngot  %+v\nwant %+v", what, got, want)
	}
}

func TestMultipathDevices(t *testing.T) {
	same(t, "new", parseMaps(sample(t, "multipath-new.txt")), []fact.Map{
		{Name: "mpatha", WWID: "36001405d2a5b2b4b6ec4f0a9f1e2c3d4", Device: "dm-0",
			Paths: []fact.Path{{Device: "sda", State: "active ready running", Up: true},
				{Device: "sdb", State: "failed faulty running", Up: false}}},
		{Name: "36001405aaaaaaaaaaaaaaaaaaaaaaaaa", WWID: "36001405aaaaaaaaaaaaaaaaaaaaaaaaa", Device: "dm-1",
			Paths: []fact.Path{{Device: "sdc", State: "active ready running", Up: true}}},
		{Name: "eui.36344830526001450025384100000001", WWID: "eui.36344830526001450025384100000001", Device: "dm-2",
			Paths: []fact.Path{{Device: "nvme0n1", State: "active ready running", Up: true},
				{Device: "-", State: "failed undef unknown", Up: false}}},
	})
	same(t, "old", parseMaps(sample(t, "multipath-old.txt")), []fact.Map{
		{Name: "mpath1", WWID: "3600d0230003228bc000339414edb8101", Device: "dm-3",
			Paths: []fact.Path{{Device: "sdb", State: "active ready", Up: true}, {Device: "sdc", State: "failed faulty", Up: false}}},
	})
	same(t, "none", parseMaps("Sep 12 10:00:00 | DM multipath kernel driver not loaded\n"), []fact.Map(nil))
}

func TestISCSISessions(t *testing.T) {
	got, err := parseSessions("tcp: [1] 192.168.1.10:3260,1 iqn.2003-01.org.linux-iscsi.array:lun0 (non-flash)\n" +
		"iser: [12] [fe80::1]:3260,1 iqn.2001-05.com.equallogic:4-52aed6 (non-flash)\n")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "sessions", got, []fact.Session{
		{ID: 1, Portal: "192.168.1.10:3260", Target: "iqn.2003-01.org.linux-iscsi.array:lun0"},
		{ID: 12, Portal: "[fe80::1]:3260", Target: "iqn.2001-05.com.equallogic:4-52aed6"},
	})
	if _, err := parseSessions("iscsiadm: something else\n"); err == nil {
		t.Error("a line that is no session is taken")
	}
}

const tracking = `Reference ID    : CB00710F (ntp.example.net)
Stratum         : 3
Ref time (UTC)  : Fri Jan 27 09:49:17 2023
System time     : 0.000501 seconds slow of NTP time
Last offset     : +0.000004 seconds
Leap status     : Normal
`

func TestChronyTracking(t *testing.T) {
	got, err := parseTracking(tracking)
	if err != nil || !got.Synced || math.Abs(got.OffsetMS+0.501) > 1e-9 || got.By != "chrony" {
		t.Errorf("%+v %v", got, err)
	}
	got, err = parseTracking(strings.NewReplacer("Normal", "Not synchronised", "slow", "fast").Replace(tracking))
	if err != nil || got.Synced || math.Abs(got.OffsetMS-0.501) > 1e-9 {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"", "506 Cannot talk to daemon", strings.Replace(tracking, "0.000501", "NaN", 1),
		strings.Replace(tracking, "Leap", "Keap", 1)} {
		if got, err := parseTracking(bad); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

func TestGrubTellsTheNextKernel(t *testing.T) {
	cfg := sample(t, "grub-debian.cfg")
	for _, c := range []struct{ set, env, want string }{
		{"0", "", "6.1.0-18-amd64"},
		{"1", "", "6.1.0-18-amd64"}, // the submenu's first
		{"1>2", "", "6.1.0-9-amd64"},
		{"1>9", "", ""},
		{"2", "", ""}, // no kernel
		{"memtest", "", ""},
		{"gnulinux-advanced-6f0c>gnulinux-6.1.0-9-amd64-advanced-6f0c", "", "6.1.0-9-amd64"},
		{"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-9-amd64", "", "6.1.0-9-amd64"},
		{"gone>0", "", ""},
		{"${saved_entry}", "# GRUB Environment Block\nsaved_entry=1>2\n####", "6.1.0-9-amd64"},
		{"${saved_entry}", "", "6.1.0-18-amd64"},
		{"0", "next_entry=1>2\n", "6.1.0-9-amd64"},
		{"${other}", "", ""},
	} {
		if got := grubNext([]byte(strings.Replace(cfg, "DEFAULT", c.set, 1)), []byte(c.env)); got != c.want {
			t.Errorf("default %q, environment %q: %q, want %q", c.set, c.env, got, c.want)
		}
	}
}

func TestReleasesAreOrdered(t *testing.T) {
	order := []string{"4.1.0", "4.14.0-generic", "5.10.0-8-amd64", "5.10.0-28-amd64", "6.1.0-9-amd64", "6.1.0-18-amd64", "6.1.0-18-amd64-1"}
	for i, a := range order {
		for j, b := range order {
			if got := compareReleases(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}

func TestOSRelease(t *testing.T) {
	same(t, "os", parseOS([]byte("PRETTY_NAME=\"Rocky Linux 9.3 (Blue Onyx)\"\nID='rocky'\n# a "+
		"comment\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=9.3 # bare\n")),
		fact.OS{ID: "rocky", Like: []string{"rhel", "centos", "fedora"}, Version: "9.3", Name: "Rocky Linux 9.3 (Blue Onyx)"})
}

func TestMountsOfClusterFileSystems(t *testing.T) {
	same(t, "mounts", parseMounts("24 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n"+
		"40 24 252:1 / /vms/my\\040pool rw,relatime shared:9 - ocfs2 /dev/mapper/mpatha rw,_netdev\n"+
		"40 24 252:1 / /vms/my\\040pool rw,relatime shared:9 - ocfs2 /dev/mapper/mpatha rw\n"+
		"41 24 8:32 / /vms/one rw - gfs2 /dev/sdc rw\nbroken\n"), []fact.Mount{
		{Name: "my pool", Dir: "/vms/my pool", Kind: "ocfs2", Device: "/dev/mapper/mpatha", Paths: 0},
		{Name: "one", Dir: "/vms/one", Kind: "gfs2", Device: "/dev/sdc", Paths: 0},
	})
}

func TestPathsOfDevices(t *testing.T) {
	maps := parseMaps(sample(t, "multipath-new.txt"))
	for device, want := range map[string]int{
		"/dev/mapper/mpatha": 2, "/dev/mapper/mpatha1": 2, "/dev/mapper/mpatha-part1": 2, "/dev/dm-1": 1, "/dev/dm-0": 2,
		"/dev/dm-10": 0, "/dev/mapper/36001405aaaaaaaaaaaaaaaaaaaaaaaaa": 1, "/dev/drbd0": 0, "/dev/mapper/vg-lv": 0,
	} {
		if got := pathsOf(device, maps); got != want {
			t.Errorf("%s: %d paths, want %d", device, got, want)
		}
	}
}

func TestParameterNames(t *testing.T) {
	for _, c := range []struct{ format, text, want string }{
		{"json", `{"a": 1, "b": {"c": [1], "d": {}}, "l": [{"x": 1}, {"z": 2}]}`, "a b.c b.d l l[].x l[].z"},
		{"yaml", "a: 1\nb: {c: [1], d: {}}\nl:\n- x: 1\n- z: 2\n", "a b.c b.d l l[].x l[].z"},
		{"ini", "top = 1\n; no\n# no\n[db]\nhost=h\nport: 1\nflag\n[log]\nfile=x=y\n", "db.flag db.host db.port log.file top"},
		{"properties", "ds.username=LREP\n! no\n# no\\\nds.url : a,\\\n  b=c\nds.last=1\n", "ds.last ds.url ds.username"},
		{"ini", "", ""},
	} {
		got, err := params(c.format, []byte(c.text))
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v %v, want %s", c.format, got, err, c.want)
		}
	}
	for format, bad := range map[string]string{"json": `{"a":1} {}`, "yaml": "a: [", "xml": "<a/>"} {
		if got, err := params(format, []byte(bad)); err == nil {
			t.Errorf("%s: %q gives %v", format, bad, got)
		}
	}
	if got, err := params("json", []byte(`[1]`)); err == nil {
		t.Errorf("a list gives %v", got)
	}
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	if _, err := params("json", []byte(deep)); err == nil {
		t.Error("100 levels are taken")
	}
}

// Parsers take what tools print, and tools print anything.
func FuzzParsers(f *testing.F) {
	f.Add(sample(f, "multipath-new.txt"))
	f.Add(sample(f, "multipath-old.txt"))
	f.Add(sample(f, "grub-debian.cfg"))
	f.Add(tracking)
	f.Add("tcp: [1] 192.168.1.10:3260,1 iqn.x:y (non-flash)\n")
	f.Add("41 24 8:32 / /vms/o\\040e rw - gfs2 /dev/sdc rw\n")
	f.Add(`{"a": {"b": [1, {"c": 2}]}}`)
	f.Add("a: &x {b: 1}\nc: *x\n? [1]\n: 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMaps(text) {
			if m.Name == "" || m.WWID == "" {
				t.Errorf("a device without a name: %+v", m)
			}
			for _, p := range m.Paths {
				if p.Device == "" {
					t.Errorf("a path without a device: %+v", m)
				}
			}
		}
		if ss, err := parseSessions(text); err == nil {
			for _, s := range ss {
				if s.Target == "" || s.ID < 0 {
					t.Errorf("%+v", s)
				}
			}
		}
		if c, err := parseTracking(text); err == nil && math.IsNaN(c.OffsetMS) {
			t.Errorf("%+v", c)
		}
		for _, m := range parseMounts(text) {
			if m.Dir == "" || m.Device == "" {
				t.Errorf("%+v", m)
			}
		}
		if strings.Contains(grubNext([]byte(text), []byte(text)), "/") {
			t.Errorf("the next kernel is a path")
		}
		parseOS([]byte(text))
		if got := compareReleases(text, text); got != 0 {
			t.Errorf("%q is not itself: %d", text, got)
		}
		for _, format := range []string{"json", "yaml", "ini", "properties"} {
			if names, err := params(format, []byte(text)); err == nil && len(names) > maxParams {
				t.Errorf("%d names", len(names))
			}
		}
	})
}
