package transition

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cli/command"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/internal/transition/net/rebuild"
)

// TestExportTellsBoth: where an attribute is not carried over, objects that are not are told as well, and the file is there.
func TestExportTellsBoth(t *testing.T) {
	answers := map[string]string{"agents": `{"agents": []}`, "networks": `{"networks": []}`,
		"subnets": `{"subnets": []}`, "extensions": `{"extensions": []}`, "quotas": `{"quotas": [{"tenant_id": "p"}]}`,
		"security-groups": `{"security_groups": []}`, "security-group-rules": `{"security_group_rules": []}`,
		"ports": `{"ports": [{"id": "p1", "network_id": "n", "vendor_limit": 9}]}`}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[strings.TrimPrefix(r.URL.Path, "/v2.0/")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(text)) // a client that has gone says so itself
	}))
	defer srv.Close()
	var out, errs strings.Builder
	a := &command.App{Env: command.Env{Stdout: &out, Stderr: &errs}, Output: "text"}
	cmd := netExportCmd(a)
	file := filepath.Join(t.TempDir(), "net.json")
	cmd.SetArgs([]string{"--endpoint", srv.URL, "--out", file, "--leave-out", "quota,quotum,prot.x,port.numa"})
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(t.Context())
	said := strings.Join(strings.Fields(fmt.Sprint(err, errs.String())), " ")
	if fail.ExitCode(err) != fail.ExitInvalid || !strings.Contains(said,
		"port p1: vendor_limit: value 9: it is not carried over; --leave-out port.vendor_limit goes on without it") {
		t.Errorf("%v\n%s", err, errs.String())
	}
	if !strings.Contains(said, `--leave-out "quotum": want what the document leaves out, a kind (`) ||
		!strings.Contains(said, `--leave-out "prot.x": want`) ||
		strings.Contains(said, `"quota"`) || strings.Contains(said, `"port.numa"`) {
		t.Errorf("names that there are not: %s", said)
	}
	if !strings.Contains(out.String(), "read, and not written: port 1") || !strings.Contains(out.String(), "not carried over: quota 1: p") {
		t.Errorf("said:\n%s", out.String())
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file was written: %v", err)
	}
}

// TestNetTellsWhatIsLeftOut: export and verify tell what is not carried over by kind, count and ID, as text and as JSON, and verify
// says "nothing else" only without such.
func TestNetTellsWhatIsLeftOut(t *testing.T) {
	d := nettest.Shapes()
	d.LeftOut = []net.LeftOut{{Kind: "router", ID: "r1"}, {Kind: "router", ID: "r2"}, {Kind: "quota", ID: "p"}}
	d.Normalize()
	beside := &rebuild.Verified{Differences: []net.Difference{}, Unbound: []string{"u1"}, LeftOut: d.KindsLeftOut(),
		Beside: []net.LeftOutKind{{Name: "floatingip", Count: 1, IDs: []string{"f1"}}}}
	for name, c := range map[string]struct {
		say   func(a *command.App, js bool) error
		texts []string
		not   string
		js    string
	}{
		"export": {func(a *command.App, js bool) error { return netExported(a, d, true, js) },
			[]string{"written: address_group 1, address_scope 1, agent 3,", "not carried over: router 2: r1, r2",
				"not carried over: quota 1: p", "without a host, as no agent there binds ports: port 3: 60000000-"}, "on the platform",
			`"left_out":[{"kind":"quota","count":1,"ids":["p"]},{"kind":"router","count":2,"ids":["r1","r2"]}]`},
		"verify": {func(a *command.App, js bool) error { return netVerified(a, beside, js) },
			[]string{"Neutron has what the document has", "not carried over: router 2: r1, r2",
				"on the platform, and not compared: floatingip 1: f1", "port 1: u1"}, "nothing else",
			`"unbound":["u1"],"left_out":[{"kind":"quota","count":1,"ids":["p"]},{"kind":"router","count":2,"ids":["r1","r2"]}],"beside":[{"kind":"floatingip","count":1,"ids":["f1"]}]`},
		"verify without such": {func(a *command.App, js bool) error {
			return netVerified(a, &rebuild.Verified{Differences: []net.Difference{}, Unbound: []string{},
				LeftOut: []net.LeftOutKind{}, Beside: []net.LeftOutKind{}}, js)
		}, []string{"Neutron has what the document has, and nothing else"}, "not carried",
			`"equal":true,"differences":[],"unbound":[],"left_out":[],"beside":[]`},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			a := &command.App{Env: command.Env{Stdout: &said, Stderr: &said}}
			if err := c.say(a, false); err != nil {
				t.Fatal(err)
			}
			text := strings.Join(strings.Fields(said.String()), " ")
			for _, want := range c.texts {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, said.String())
				}
			}
			if strings.Contains(text, c.not) {
				t.Errorf("%q is in\n%s", c.not, said.String())
			}
			said.Reset()
			if err := c.say(a, true); err != nil {
				t.Fatal(err)
			}
			var all any
			if err := json.Unmarshal([]byte(said.String()), &all); err != nil {
				t.Fatal(err)
			}
			if js := strings.Join(strings.Fields(said.String()), ""); !strings.Contains(js, c.js) {
				t.Errorf("%s is not in\n%s", c.js, js)
			}
		})
	}
}
