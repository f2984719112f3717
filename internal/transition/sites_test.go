package transition

import (
	"strings"
	"testing"

	"holdfast/internal/lib/strictyaml"
)

const twoSites = `format: 1
sites:
- {name: beijing, servers: ["https://10.1.0.1:7443", "https://10.1.0.2:7443"], ca: ca.pem, cert: c.pem, key: k.pem}
- {name: here, socket: /run/holdfast/holdfast.sock}
`

func TestSites(t *testing.T) {
	f, faults := ParseSites([]byte(twoSites))
	if len(faults) > 0 || len(f.Sites) != 2 || f.Sites[0].Servers[1] != "https://10.1.0.2:7443" || f.Sites[1].Socket == "" {
		t.Errorf("%+v %s", f, strictyaml.Lines("", faults))
	}
}

func TestFaultsOfSites(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(twoSites, old) {
			t.Fatalf("the file has no %q", old)
		}
		return strings.Replace(twoSites, old, new, 1)
	}
	for text, want := range map[string]string{
		edit("format: 1", "format: 3"):                       `1:9: format: value "3": want 1`,
		edit("name: here", "name: beijing"):                  `4:10: sites[1].name: value "beijing": want another name`,
		edit("name: here", "name: a b"):                      `sites[1].name: value "a b": want letters`,
		edit(", socket: /run/holdfast/holdfast.sock", ""):    "sites[1]: value \"here\": want socket or servers",
		edit("socket: /run", "ca: x, socket: /run"):          "want no ca, cert and key beside socket",
		edit("https://10.1.0.2:7443", "http://10.1.0.2:1"):   `sites[0].servers[1]: value "http://10.1.0.2:1": want https://HOST:PORT`,
		edit("https://10.1.0.2:7443", "https://10.1.0.2"):    "want https://HOST:PORT",
		edit(", key: k.pem", ""):                             "sites[0].key",
		edit("key: k.pem", "kay: k.pem"):                     "3:",
		"format: 1\n":                                        "want 1 to 100 sites",
		"format: 1\nsites: [" + strings.Repeat("#", MaxFile): "want at most 262144 bytes",
	} {
		_, faults := ParseSites([]byte(text))
		if got := strictyaml.Lines("", faults); len(faults) == 0 || !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzSites(f *testing.F) {
	f.Add([]byte(twoSites))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, faults := ParseSites(text)
		if len(faults) > 0 {
			return
		}
		for _, s := range file.Sites {
			if s.Name == "" || (s.Socket == "") == (len(s.Servers) == 0) {
				t.Fatalf("a site without faults that can not be asked: %+v", s)
			}
		}
	})
}
