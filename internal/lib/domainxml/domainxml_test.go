package domainxml

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden file")

var rules = Rules{Folder: "/srv/shared/mngt/"}

func ours() Ours {
	return Ours{
		Name: "mnvm", UUID: "98000000-0000-4000-8000-00000000c0de", OnCrash: "destroy",
		Metadata: `<h:guest xmlns:h="https://example/ours" epoch="2.31"/>`, MetadataNS: "https://example/ours",
		Token: "ours:mnvm:2.31", TokenPrefix: "ours:",
		NVRAM: "/srv/shared/mngt/mnvm_VARS.fd", Seed: "/var/lib/seed & co.iso",
		Lease: &Lease{"locks", "98000000", "/srv/shared"},
	}
}

func fixture(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/operator.xml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t testing.TB, text string) *Domain {
	t.Helper()
	d, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestComplete(t *testing.T) {
	d := parse(t, fixture(t))
	if faults := d.Check(rules); len(faults) > 0 {
		t.Fatal(faults)
	}
	got, err := d.Complete(ours())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/completed.xml", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/completed.xml")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := parse(t, got).Complete(ours())
	if err != nil || again != got {
		t.Errorf("once more: %v\n%s", err, again)
	}
	// Every line that is not ours is there as it was, and in its order.
	rest := got
	for line := range strings.Lines(fixture(t)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "<domain"), strings.Contains(line, "<name>"), strings.Contains(line, "11111111-"),
			strings.HasPrefix(line, "<on_"),
			strings.HasPrefix(line, "<h:guest"), strings.Contains(line, "ours:mnvm"), strings.HasPrefix(line, "<lease>"):
			continue
		}
		_, after, ok := strings.Cut(rest, line)
		if !ok {
			t.Fatalf("%s is gone, or was moved", line)
		}
		rest = after
	}
}

func TestCompleteOfFewWords(t *testing.T) {
	for _, text := range []string{
		`<domain type="kvm"><memory unit="GiB">1</memory><vcpu>1</vcpu><os/><devices/></domain>`,
		`<domain type="kvm"><sysinfo type="smbios"/><metadata/><memory unit="GiB">1</memory><vcpu>1</vcpu><os firmware="efi"><nvram template="/t"/></os><devices/></domain>`,
		`<domain type="kvm"><sysinfo type="smbios"><oemStrings/></sysinfo><memory unit="GiB">1</memory><vcpu>1</vcpu><os><loader type="pflash" readonly="yes">/x</loader></os><devices></devices></domain>`,
	} {
		d := parse(t, text)
		if faults := d.Check(Rules{Folder: "/srv/shared/mngt", Locked: true}); len(faults) > 0 {
			t.Errorf("%s: %v", text, faults)
		}
		o := ours()
		o.Screen = `<graphics type="vnc" listen="192.0.2.1"/>`
		got, err := d.Complete(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"<name>mnvm</name>", "<entry>ours:mnvm:2.31</entry>", o.Metadata, o.Screen,
			`<smbios mode="sysinfo"/>`, `<key>98000000</key>`, `<source file="/var/lib/seed &amp; co.iso"/>`} {
			if strings.Count(got, want) != 1 {
				t.Errorf("%s: want %s once", got, want)
			}
		}
		if strings.Contains(text, "efi") != strings.Contains(got, `/mnvm_VARS.fd</nvram>`) && !strings.Contains(text, "pflash") {
			t.Errorf("variables of UEFI in %s", got)
		}
		if again, err := parse(t, got).Complete(o); err != nil || again != got {
			t.Errorf("once more: %v\n%s", err, again)
		}
	}
}

// The seed is where the guest reads its disks for sure.
func TestSeedsBus(t *testing.T) {
	for disk, want := range map[string]string{
		`<target dev="sda" bus="sata"/>`:   `device="cdrom"><driver name="qemu" type="raw" cache="none"/><source file="/s"/><target dev="sdb" bus="sata"/>`,
		`<target dev="sda"/>`:              `<target dev="sdb" bus="scsi"/>`,
		`<target dev="hda"/>`:              `<target dev="hdb" bus="ide"/>`,
		`<target dev="vda" bus="virtio"/>`: `device="disk"><driver name="qemu" type="raw" cache="none"/><source file="/s"/><target dev="vdb" bus="virtio"/><readonly/>`,
	} {
		d := parse(t, `<domain type="kvm"><os/><devices><disk type="file">`+disk+`</disk></devices></domain>`)
		got, err := d.Complete(Ours{Seed: "/s"})
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, %s", disk, err, got)
		}
	}
}

func TestListen(t *testing.T) {
	for text, want := range map[string]string{
		"<graphics type='vnc' port='5900' listen='192.0.2.1'><listen type='address' address='192.0.2.1'/></graphics>": `<graphics type="vnc" port="5900" listen="192.0.2.9"><listen type="address" address="192.0.2.9"/></graphics>`,
		"<graphics type='vnc' listen='0.0.0.0'/>":     "",
		"<graphics type='spice' listen='192.0.2.1'/>": "",
	} {
		const head, tail = "<domain><devices>", "<sound/></devices></domain>"
		got, changed, err := parse(t, head+text+tail).Listen("192.0.2.9")
		if changed != (want != "") {
			t.Errorf("%s: changed is %v", text, changed)
		}
		if want == "" {
			want = text
		}
		if err != nil || got != head+want+tail {
			t.Errorf("%s: %v, %s", text, err, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "line 1: want one element <domain>",
		"<domain>\n<a>\n</domain>": "line 3: </domain> ends nothing",
		"<domain>":                 "the end of <domain> is missing",
		"<domain a='1' a='2'/>":    "attribute a twice",
		"<domain/><domain/>":       "<domain> follows",
		"<domain/>x":               "text outside",
		"<!DOCTYPE domain [<!ENTITY a 'b'>]><domain/>":     "a document type",
		"<domain>&a;</domain>":                             "invalid character entity &a;",
		"<domainsnapshot/>":                                "want one element <domain>",
		"<domain>\xff</domain>":                            "not UTF-8",
		strings.Repeat("<domain>", maxDepth+1):             "want at most 64 levels",
		"<domain>" + strings.Repeat(" ", MaxBytes):         "want at most 131072",
		"<?xml version='1.0' encoding='latin1'?><domain/>": "latin1",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}

func TestFacts(t *testing.T) {
	d := parse(t, fixture(t))
	if n := parse(t, "<domain><memory unit='GiB'>64</memory><currentMemory unit='GiB'>8</currentMemory></domain>").BeginsWithMiB(); n != 8<<10 {
		t.Errorf("a guest with a balloon begins with %d MiB", n)
	}
	if d.MemoryMiB() != 16384 || d.CPUs() != 8 || d.BeginsWithMiB() != 16384 {
		t.Errorf("%d MiB, %d CPUs", d.MemoryMiB(), d.CPUs())
	}
	if b, ok := d.Bridge("02:00:5e:10:00:01"); b != "br_mgmt" || !ok {
		t.Errorf("bridge %q, %v", b, ok)
	}
	if _, ok := d.Bridge("02:00:5e:10:00:02"); ok {
		t.Error("a card that is not there")
	}
	if w := d.Written(); !slices.Equal(w, []string{"/srv/shared/mngt/mnvm.img", "/srv/shared/mngt/data.img"}) {
		t.Errorf("it writes to %v", w)
	}
	for _, m := range []string{"", "<memory>x</memory>", "<memory unit='EiB'>1</memory>", "<memory unit='TiB'>999999999</memory>"} {
		if n := parse(t, "<domain>"+m+"</domain>").MemoryMiB(); n != 0 {
			t.Errorf("%s: %d", m, n)
		}
	}
}

func FuzzDomain(f *testing.F) {
	f.Add(fixture(f))
	done, err := parse(f, fixture(f)).Complete(ours())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(done)
	f.Add(`<domain type="kvm"><memory unit="GiB">1</memory><vcpu>1</vcpu><os/><devices/></domain>`)
	for _, c := range bad {
		f.Add(strings.Replace(fixture(f), c.old, c.new, 1))
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		for _, c := range d.Check(rules) {
			if c.Path == "" || c.Want == "" {
				t.Errorf("fault without a place or a rule: %+v", c)
			}
		}
		d.Needs()
		d.MemoryMiB()
		got, err := d.Complete(ours())
		locked := rules
		locked.Locked = true
		if err != nil || len(d.Check(locked)) > 0 {
			return
		}
		back, err := Parse(got)
		if err != nil {
			if len(got) > MaxBytes {
				return
			}
			t.Fatalf("what was completed can not be read: %v\n%s", err, got)
		}
		if faults := back.Check(locked); len(faults) > 0 {
			t.Errorf("what was completed is refused: %v\n%s", faults, got)
		}
		if n := back.root.all("uuid"); len(n) != 1 || n[0].text != ours().UUID {
			t.Errorf("uuid %v\n%s", n, got)
		}
		if again, err := back.Complete(ours()); err != nil || again != got {
			t.Errorf("once more: %v\n%q\n%q", err, again, got)
		}
	})
}
