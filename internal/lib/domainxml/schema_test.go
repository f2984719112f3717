package domainxml

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// schemaDir is where libvirt keeps its schemas, in RELAX NG.
const schemaDir = "/usr/share/libvirt/schemas"

// recorded is what a domain may have by libvirt's schema: a line for each attribute, and
// for each element with text, then what its value is.
const recorded = "testdata/schema.txt"

// rng is an element of a schema.
type rng struct {
	XMLName xml.Name
	Name    string `xml:"name,attr"`
	Type    string `xml:"type,attr"`
	Href    string `xml:"href,attr"`
	Text    string `xml:",chardata"`
	Kids    []*rng `xml:",any"`
}

// schema is what a schema and those that it includes define.
type schema struct {
	t       *testing.T
	defines map[string][]*rng
	found   map[string][]string // values of each place
}

func (s *schema) load(file string) *rng {
	b, err := os.ReadFile(filepath.Join(schemaDir, file))
	if err != nil {
		s.t.Fatal(err)
	}
	var g rng
	if err := xml.NewDecoder(bytes.NewReader(b)).Decode(&g); err != nil {
		s.t.Fatal(err)
	}
	for _, k := range g.Kids {
		switch k.XMLName.Local {
		case "include":
			s.load(k.Href)
		case "define":
			s.defines[k.Name] = append(s.defines[k.Name], k)
		}
	}
	return &g
}

// walk notes all places below path. open are the elements that are being walked: a schema may
// contain itself. as is the definition that a value is of.
func (s *schema) walk(n *rng, path, as string, open []*rng) {
	name := n.Name
	kids := n.Kids
	if (n.XMLName.Local == "element" || n.XMLName.Local == "attribute") && name == "" {
		name, kids = names(n.Kids[0]), n.Kids[1:]
	}
	switch n.XMLName.Local {
	case "ref":
		for _, d := range s.defines[name] {
			if !slices.Contains(open, d) {
				for _, k := range d.Kids {
					s.walk(k, path, name, append(slices.Clip(open), d))
				}
			}
		}
		return
	case "element":
		// Where a device is in the machine, its name and order: the guest's own.
		if slices.Contains(open, n) || slices.Contains([]string{"address", "alias", "acpi", "boot"}, name) && strings.Count(path, "/") == 1 {
			return
		}
		path, open, as = strings.TrimPrefix(path+"/"+name, "/domain/"), append(slices.Clip(open), n), ""
	case "attribute":
		path, as = path+"/@"+name, ""
		if len(kids) == 0 {
			s.note(path, "text")
		}
	case "text", "data":
		value := n.XMLName.Local
		if n.Type != "" {
			value = n.Type
		}
		if as != "" {
			value = as
		}
		s.note(path, value)
		return
	case "value":
		s.note(path, "="+strings.TrimSpace(n.Text))
		return
	case "param", "except":
		return
	}
	for _, k := range kids {
		s.walk(k, path, as, open)
	}
}

// names are those that an element or attribute may have.
func names(n *rng) string {
	switch n.XMLName.Local {
	case "name":
		return strings.TrimSpace(n.Text)
	case "choice":
		var all []string
		for _, k := range n.Kids {
			all = append(all, names(k))
		}
		return strings.Join(all, "|")
	}
	return "*" // anyName, nsName
}

func (s *schema) note(path, value string) {
	path = strings.TrimPrefix(path, "/domain/")
	if !slices.Contains(s.found[path], value) {
		s.found[path] = append(s.found[path], value)
	}
}

// read returns the lines of recorded.
func readSchema(t *testing.T) string {
	s := &schema{t: t, defines: map[string][]*rng{}, found: map[string][]string{}}
	start := s.load("domain.rng").Kids[0]
	s.walk(start, "", "", nil)
	var lines []string
	for path, values := range s.found {
		slices.Sort(values)
		lines = append(lines, path+" "+strings.Join(values, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// later are places that the schemas of later libvirts have, as far as they are known here.
const later = `
devices/crypto/@model text
devices/disk/source/dataStore/source/@file absFilePath
devices/disk/source/dataStore/source/@dev absFilePath
devices/disk/backingStore/source/dataStore/source/@file absFilePath
devices/disk/source/dataStore/format/@type text
devices/disk/throttlefilters/throttlefilter/@group text
devices/interface/source/@dev text
devices/pstore/path absFilePath
devices/video/model/@blob =off =on
os/nvram/@format =qcow2 =raw
throttlegroups/throttlegroup/group_name text
`

// covers reports whether a pattern, without its conditions, names a place of the schema.
func covers(p pattern, place []string) bool {
	if len(p) == 1 && p[0].names[0] == "**" {
		return true
	}
	if len(p) == 0 || len(place) == 0 {
		return len(p) == len(place)
	}
	s := p[0]
	if !slices.ContainsFunc(strings.Split(place[0], "|"),
		func(name string) bool { return s.called(name) && (name[0] == '@') == (s.names[0][0] == '@') }) {
		return s.names[0] == "." && covers(p[1:], place)
	}
	return covers(p[1:], place[1:]) || s.chain && covers(p, place[1:])
}

// harmless are the patterns of places that say nothing about a host, with the reasons.
func harmless(t *testing.T) (out []pattern) {
	b, err := os.ReadFile("testdata/harmless.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		at, why, ok := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "#") || at == "" {
			continue
		}
		if !ok || len(strings.TrimSpace(why)) < 5 {
			t.Errorf("%s: no reason", line)
		}
		out = append(out, parsePattern(at))
	}
	return out
}

// Every place that libvirt's schema knows is in the table, or refused, or harmless with a reason.
func TestSchema(t *testing.T) {
	if *update {
		if err := os.WriteFile(recorded, []byte(readSchema(t)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	free := harmless(t)
	used := make([]bool, len(free))
	inTable := make([]bool, len(table))
	for line := range strings.Lines(string(b) + later) {
		at, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		place := strings.Split(at, "/")
		known := at == "" || refusedDevice(t, place)
		for i, p := range patterns {
			if len(p) <= len(place) && covers(p, place[:len(p)]) { // it, or an element around it
				inTable[i] = true
				known = known || slices.Contains(table[i].never, "*")
			}
			known = known || covers(p, place)
		}
		for i, p := range free {
			if covers(p, place) {
				known, used[i] = true, true
			}
		}
		if !known {
			t.Errorf("%s: neither in the table nor harmless", line)
		}
	}
	for i, ok := range used {
		if !ok {
			t.Errorf("harmless.txt: the schema has nothing at %v", free[i])
		}
	}
	for i, ok := range inTable {
		if !ok && table[i].at[0] != '.' {
			t.Errorf("table: the schema has nothing at %s", table[i].at)
		}
	}
}

// refusedDevice reports whether a domain with such a device is refused.
func refusedDevice(t *testing.T, place []string) bool {
	if len(place) < 2 || place[0] != "devices" {
		return false
	}
	at := "/domain/devices/" + place[1]
	for _, f := range parse(t, "<domain><devices><"+place[1]+"/></devices></domain>").Check(rules) {
		if f.Path == at || f.Path == at+"/backend/@type" || place[1] == "hostdev" {
			return true
		}
	}
	return false
}
