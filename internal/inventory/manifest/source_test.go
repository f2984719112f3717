package manifest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cluster/version"
)

var update = flag.Bool("update", false, "write testdata/white_list.json anew (with HOLDFAST_APPCTL_SCRIPTS)")

// judged is what the vendor's upgrade_version_check.py says of a version: rows are those
// of a white list, Answer is what it prints ("" refuses).
type judged struct {
	Rows      [][3]string `json:"rows"`
	Installed string      `json:"installed"`
	Mode      string      `json:"mode"`
	Answer    string      `json:"answer"`
}

// rowCases are generated white lists and versions, a third of which are near misses.
func rowCases() []judged {
	r := rand.New(rand.NewPCG(14, 3))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	last := func() string {
		return pick("*", "*", "B010", "B9", "B038", "SP1", "SP5", "0", "1", "B", "SP", "SP01", "1B0", "B01A", "b010",
			"B010-B038", "B010-B038", "B10-38", "SP1-SP5", "SP2-SP2", "B9-B10",
			"B038-B010", "1-5", "B01-SP9", "SPC1-SPC5", "B1-B2-B3", "H1-H9", "B00000000000000000000001-B99999999999999999999999")
	}
	main := func() string { return pick("24.06", "24.12", "2.0.0", "3.0.0", "2.0", "24", "V500R001", "") }
	var out []judged
	for range 600 {
		c := judged{Mode: pick("offline", "rollup")}
		for range 1 + r.IntN(4) {
			c.Rows = append(c.Rows, [3]string{strings.TrimPrefix(main()+"."+last(), "."),
				pick("offline", "rollup", "offline,rollup", "offline,rollup", "offline,rollup"), pick("true", "false")})
		}
		m := main()
		if row := c.Rows[r.IntN(len(c.Rows))][0]; r.IntN(8) > 0 && strings.Contains(row, ".") {
			m = row[:strings.LastIndexByte(row, '.')]
		}
		c.Installed = strings.TrimPrefix(m+"."+pick("B010", "B010", "B011", "B020", "B038", "B039", "B9", "B1", "B2",
			"SP1", "SP3", "SP5", "SP6", "SP01", "B", "SP", "10", "0", "1B0", "B01A", "b020", "SPC2", "H2", "B5.1", ""), ".")
		out = append(out, c)
	}
	return out
}

// asks makes the vendor's class judge cases from its standard input, without its log and
// without a platform that is installed.
const asks = `
import sys, json, types, importlib.util
log = types.ModuleType('om_log'); log.LOGGER = types.SimpleNamespace(error=lambda *a: None); sys.modules['om_log'] = log
spec = importlib.util.spec_from_file_location('check', sys.argv[1]); m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)
for c in json.load(sys.stdin):
    u = m.UpgradeVersionCheck(None, c['mode'])
    for version, modes, change in c['rows']:
        u.white_list_dict[version] = [modes, change]
    u.source_version = c['installed']
    try:
        print(json.dumps(u.source_version_check()))
    except Exception:
        print('""')
`

// vendorSays runs the vendor's script over cases. dir is its folder action.
func vendorSays(t *testing.T, dir string, cases []judged) []judged {
	t.Helper()
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-B", "-c", asks, filepath.Join(dir, "implement", "upgrade_version_check.py"))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	for i := range cases {
		if err := d.Decode(&cases[i].Answer); err != nil {
			t.Fatal(err)
		}
	}
	return cases
}

// TestVersionsAreComparedAsTheVendorDoes: testdata/white_list.json is what the real
// script has said. With HOLDFAST_APPCTL_SCRIPTS=DIR (the folder action of such a
// package) it is asked again.
func TestVersionsAreComparedAsTheVendorDoes(t *testing.T) {
	const file = "testdata/white_list.json"
	cases := rowCases()
	if dir := os.Getenv("HOLDFAST_APPCTL_SCRIPTS"); dir != "" {
		cases = vendorSays(t, dir, cases)
		if *update {
			var b bytes.Buffer
			for i, c := range cases {
				line, err := json.Marshal(c)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "%s%s\n", map[bool]string{true: "[", false: ","}[i == 0], line)
			}
			b.WriteString("]\n")
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var said []judged
		if err := json.Unmarshal(text, &said); err != nil {
			t.Fatal(err)
		}
		if len(said) != len(cases) {
			t.Fatalf("%s has %d cases, want %d: write it anew", file, len(said), len(cases))
		}
		cases = said
	}
	allowed := 0
	for _, c := range cases {
		m := &Manifest{FromRule: FromAppctl}
		for _, row := range c.Rows {
			s := Source{Version: row[0], ChangeSystemTables: row[2] == "true"}
			for w := range strings.SplitSeq(row[1], ",") {
				s.Modes = append(s.Modes, map[string]Mode{"offline": Offline, "rollup": Rolling}[w])
			}
			m.UpgradeFrom = SetSource(m.UpgradeFrom, s)
		}
		got, err := m.From(version.Dotted, c.Installed, map[string]Mode{"offline": Offline, "rollup": Rolling}[c.Mode])
		words := strings.Fields(c.Answer) // version, modes, whether system tables change
		if (err == nil && got.Allowed) != (len(words) > 0) {
			t.Errorf("%s %s with %v: %+v, %v; the vendor says %q", c.Mode, c.Installed, c.Rows, got, err, c.Answer)
			continue
		}
		if len(words) > 0 {
			allowed++
			if want := words[len(words)-1] == "true"; got.Source.ChangeSystemTables != want {
				t.Errorf("%s %s with %v: system tables change %t; the vendor says %q", c.Mode, c.Installed, c.Rows,
					got.Source.ChangeSystemTables, c.Answer)
			}
		}
	}
	if allowed < len(cases)/10 || allowed > len(cases)*9/10 {
		t.Errorf("%d of %d cases are allowed: that proves little", allowed, len(cases))
	}
}

func TestFromAPatternOfManifests(t *testing.T) {
	m := &Manifest{UpgradeFrom: []Source{
		{Version: "2.0.0.*", Modes: []Mode{Offline}},
		{Version: "2.*", Modes: []Mode{Offline, Rolling}, ChangeSystemTables: true},
	}}
	for _, c := range []struct {
		installed string
		mode      Mode
		row       string
		allowed   bool
	}{
		{"2.0.0.B1", Offline, "2.0.0.*", true},
		{"2.0.0.B1", Rolling, "2.0.0.*", false}, // the first row that matches counts
		{"2.0.0.B1", Reboot, "2.0.0.*", false},
		{"2.1", Reboot, "2.*", true},
		{"3.1", Offline, "", false},
	} {
		got, err := m.From(version.Dotted, c.installed, c.mode)
		if err != nil || got.Source.Version != c.row || got.Listed != (c.row != "") || got.Allowed != c.allowed {
			t.Errorf("%s, %s: %+v, %v", c.installed, c.mode, got, err)
		}
	}
	for _, x := range []struct {
		pattern, installed, want string
	}{{"2.0.0.*", "nonsense", "the version"}, {"~1", "2.0", `the bundle's pattern "~1"`}} {
		m.UpgradeFrom[0].Version = x.pattern
		if _, err := m.From(version.Dotted, x.installed, Offline); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v", x, err)
		}
	}
}
