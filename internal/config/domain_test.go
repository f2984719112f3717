package config

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ownDomain = `<domain type="kvm">
  <memory unit="GiB">8</memory><vcpu>4</vcpu><os/>
  <devices>
    <disk type="file"><driver cache="none"/><source file="/srv/shared/mngt/mnvm.img"/><target dev="vda"/></disk>
    <interface type="bridge"><mac address="MAC0"/><source bridge="BRIDGE0"/></interface>
    <interface type="bridge"><mac address="MAC1"/><source bridge="BRIDGE1"/></interface>
  </devices>
</domain>
`

// domainFor is ownDomain with the cards and the folder of a configuration.
func domainFor(cl Cluster) string {
	text := strings.ReplaceAll(ownDomain, "/srv/shared/mngt", strings.TrimSuffix(cl.ImageFolder, "/"))
	for i, n := range cl.Network {
		c := string(rune('0' + i))
		text = strings.NewReplacer("MAC"+c, n.MacAddress, "BRIDGE"+c, n.Bridge).Replace(text)
	}
	return text
}

func withDomain(t *testing.T, value string) string {
	t.Helper()
	quoted, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return change(t, fixture(t, "base.json"), `"CPU": 4`, `"CPU": 4, "DomainXML": `+string(quoted))
}

func TestDomainXML(t *testing.T) {
	base, faults, _ := Parse("base.json", []byte(fixture(t, "base.json")), Options{})
	wantFaults(t, faults)
	good := domainFor(base)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "d.xml"), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "c.json")
	if err := os.WriteFile(file, []byte(withDomain(t, "d.xml")), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, _, err := Load(file, Options{}) // beside the configuration, which is not in this folder
	if err != nil || string(loaded.DomainXML) != good {
		t.Errorf("loaded: %v, %q", err, loaded.DomainXML)
	}
	raw, err := json.Marshal(loaded)
	if err != nil {
		t.Fatal(err)
	}
	again, faults, _ := Parse("again.json", raw, Options{}) // as it is in the store
	wantFaults(t, faults)
	if again.DomainXML != loaded.DomainXML {
		t.Errorf("read again: %q", again.DomainXML)
	}
	read := func(string) ([]byte, error) { return nil, errors.New("no such file") }
	for _, c := range []struct {
		name, value string
		edits       []edit
		opt         Options
		want        []string
	}{
		{"a file that is not there", "d.xml", nil, Options{ReadFile: read}, []string{"DomainXML: no such file"}},
		{"a file in a text", "d.xml", nil, Options{}, []string{`DomainXML: value "d.xml": want the XML itself`}},
		{"no XML", "<domain>", nil, Options{},
			[]string{`DomainXML: value "<domain>": want the XML of a libvirt domain: line 1: the end of <domain> is missing`}},
		{"a disk of one host", strings.ReplaceAll(good, "/mnvm.img", "/../mnvm.img"), nil, Options{},
			[]string{"DomainXML /domain/devices/disk/source/@file: want a file below ImageFolder"}},
		{"another card", strings.ReplaceAll(good, base.Network[0].MacAddress, "02:00:5e:10:00:99"), nil, Options{},
			[]string{"Network[0].MacAddress: want the MAC address of an interface in DomainXML"}},
		{"another bridge", strings.ReplaceAll(good, base.Network[0].Bridge, "br9"), nil, Options{},
			[]string{`Network[0].Bridge: DomainXML has the bridge "br9"`}},
		{"two disks", good, []edit{{`"CPU": 4`, `"CPU": 4, "ImageURL": "nbd://192.0.2.9:10809/m"`}}, Options{},
			[]string{"ImageURL: must be empty with DomainXML"}},
		{"two kernels", good, []edit{{`"CPU": 4`, `"CPU": 4, "DirectBoot": {"Kernel": "/k"}`}}, Options{},
			[]string{"DirectBoot: must be missing with DomainXML"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := withDomain(t, c.value)
			for _, e := range c.edits {
				text = change(t, text, e.old, e.with)
			}
			_, faults, _ := Parse("c.json", []byte(text), c.opt)
			wantFaults(t, faults, c.want...)
		})
	}
	_, faults, warnings := Parse("c.json", []byte(withDomain(t, strings.ReplaceAll(good, ">4<", ">6<"))), Options{})
	wantFaults(t, faults)
	if len(warnings) != 2 || !strings.Contains(warnings[1].String()+warnings[0].String(), "it has 6 CPUs and 8192 MB") {
		t.Errorf("warnings %v", warnings)
	}
}

// TestDomainXMLCounts: with a domain of one's own its CPUs and memory are what is judged, and nothing contradicts that.
func TestDomainXMLCounts(t *testing.T) {
	base, _, _ := Parse("base.json", []byte(fixture(t, "base.json")), Options{})
	small := strings.NewReplacer(">4<", ">2<", ">8<", ">2<").Replace(domainFor(base))
	_, faults, warnings := Parse("c.json", []byte(withDomain(t, small)), Options{})
	wantFaults(t, faults)
	if len(warnings) != 2 || !strings.Contains(warnings[0].Text, "it has 2 CPUs and 2048 MB") ||
		!strings.Contains(warnings[1].Text, "2 CPUs and 2048 MB of memory: the minimum is 4 CPUs and 8 GB") {
		t.Errorf("warnings %v", warnings)
	}
}
