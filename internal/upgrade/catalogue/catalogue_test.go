package catalogue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/upgrade/catalogue"
	"holdfast/internal/upgrade/path"
)

const good = `
format: 1
name: test
scheme: dotted
versions: [2.0.0.B086, {version: "24.06", kernel: "4.14", reboot: true, excludes: [net]}]
components: [net]
hops: [{from: 2.0.0.*, to: "*"}]
rules:
  - {name: a, kind: block, from: <2.0.0.B086, text: Too old., remedy: wait.}
`

func TestParse(t *testing.T) {
	lines := strings.Replace(good, "text: Too old.", `text: "Too\n  old. "`, 1)
	c, err := catalogue.Parse("c.yaml", []byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Spec()
	if len(s.Versions) != 2 || s.Versions[0].Version != "2.0.0.B086" || s.Versions[0].Reboot != nil {
		t.Errorf("versions: got %+v", s.Versions)
	}
	if k := s.Versions[1]; k.Kernel != "4.14" || k.Reboot == nil || !*k.Reboot || len(k.Excludes) != 1 {
		t.Errorf("version with attributes: got %+v", k)
	}
	if len(s.Rules) != 1 || s.Rules[0].Text != "Too old." || s.Reboot || len(s.Hops) != 1 {
		t.Errorf("got %+v", s)
	}
}

// TestParseFaults changes one thing of the good catalogue each.
func TestParseFaults(t *testing.T) {
	for _, x := range []struct{ old, text, want string }{
		{"name: test", "nam: test", `c.yaml:3:1: nam: value "nam": unknown field; want one of format, name, scheme`},
		{"name: test", "name: test\nname: other", `c.yaml:4:1: name: value "other": duplicate key`},
		{"name: test", "name: 1.5", `c.yaml:3:7: name: value "1.5": want a string, not a number: put it in quotes`},
		{"name: test", "name: [a]", `c.yaml:3:7: name: value "a list": want a string, not a list`},
		{"name: test", `name: "a\tb"`, `c.yaml:3:7: name: value "a\tb": want 1 to 64 lower case letters`},
		{"text: Too old.", `text: "a\eb"`, `c.yaml:9:53: rules[0].text: value "a\x1bb": want text without control characters`},
		{"remedy: wait.", "remedy: !!binary /w==", `c.yaml:9:71: rules[0].remedy: value "\xff": want text without control characters`},
		{"name: test", "'na me': test", `c.yaml:3:1: ["na me"]: value "na me": unknown field`},
		{"name: test", "1: test", `c.yaml:3:1: (file): value "1": a field name must be a string, quote it`},
		{"format: 1", "format: one", `c.yaml:2:9: format: value "one": want a whole number`},
		{"format: 1", "format: 2", `c.yaml:2:9: format: value "2": want 1, the format that this program knows`},
		{"format: 1", "", `c.yaml:3:1: format: value "": want 1`},
		{"[2.0.0.B086,", "[2.0,", `c.yaml:5:12: versions[0]: value "2.0": want a string or an object, not a number: put it in quotes`},
		{"[2.0.0.B086,", "[2.0.0-B086,", `c.yaml:5:12: versions[0].version: value "2.0.0-B086": read dotted version`},
		{"[2.0.0.B086,", "[null,", `c.yaml:5:12: versions[0].version: value "": read dotted version`},
		{`version: "24.06"`, "version: 24.06", `c.yaml:5:34: versions[1].version: value "24.06": want a string, not a number: put it in quotes`},
		{"reboot: true", "reboot: 1", `c.yaml:5:67: versions[1].reboot: value "1": want true or false`},
		{"excludes: [net]", "excludes: net", `c.yaml:5:83: versions[1].excludes: value "net": want a list`},
		{"from: <2.0.0.B086", "from: =2.0", `c.yaml:9:34: rules[0].from: value "=2.0": read pattern`},
		{"kind: block", "kind: wall", `c.yaml:9:21: rules[0].kind: value "wall": want block, through, reboot or note`},
		{"kind: block", "kind: block, why: x", `c.yaml:9:28: rules[0].why: value "why": unknown field`},
		{"format: 1", "format: 1\n---\nformat: 1", `c.yaml:3:1: (file): value "---": want one YAML document`},
		{"format: 1", "format: [", `c.yaml:3:7: malformed YAML: want a comma before the next value, or ] at the end of the list that began with [`},
		{"name: test", "name: \xff", `c.yaml:3:7: value "\\xff": the file must be UTF-8`},
		{"name: test", "<<: {name: x}", `c.yaml:3:1: value "<<": YAML merge keys are not supported`},
		{good, "", `c.yaml:1:1: (file): value "": want fields such as format, name, scheme, versions`},
		{good, "- a", `c.yaml:1:1: (file): value "a list": want an object`},
		{good, strings.Repeat("#", 3<<20), `c.yaml: (file): value "": want at most 2097152 bytes`},
		{"name: test", "rules: [&a [*a]]", `c.yaml:3:13: value "*a": malformed YAML: the value contains itself`},
		{"components: [net]", "components: [" + strings.Repeat("a,", 200000) + "]",
			`c.yaml:6:13: components: value "200000": want at most 1000 of them`},
		{"name: test", "components: " + strings.Repeat("[", 40) + strings.Repeat("]", 40),
			`c.yaml:3:14: components[0]: value "a list": want a string, not a list`},
	} {
		text := strings.Replace(good, x.old, x.text, 1)
		if text == good {
			t.Fatalf("%q is not in the good catalogue", x.old)
		}
		_, err := catalogue.Parse("c.yaml", []byte(text))
		var f *catalogue.Faults
		if !errors.As(err, &f) || !hasLine(err.Error(), x.want) {
			t.Errorf("%.80q: got %.1000v, want %q", x.text, err, x.want)
		}
	}
}

func hasLine(text, begin string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begin) {
			return true
		}
	}
	return false
}

// TestLargeCatalogue has as many versions as are allowed, and one more.
func TestLargeCatalogue(t *testing.T) {
	var b strings.Builder
	b.WriteString("format: 1\nname: large\nscheme: dotted\nversions:\n")
	for i := range path.MaxVersions {
		fmt.Fprintf(&b, "- {version: \"1.%d\", kernel: \"%d\"}\n", i, i/1000)
	}
	c, err := catalogue.Parse("large.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	res, err := path.Plan(c, "1.0", fmt.Sprintf("1.%d", path.MaxVersions-1), path.Environment{})
	if err != nil || len(res.Hops) != 1 || !res.Hops[0].Reboot {
		t.Errorf("got %+v, %v, want one hop", res, err)
	}
	b.WriteString("- \"2.0\"\n")
	if _, err := catalogue.Parse("large.yaml", []byte(b.String())); err == nil || !strings.Contains(err.Error(), "want 1 to 20000 of them") {
		t.Errorf("got %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := catalogue.Load(t.Context(), file)
	if err != nil || c.Spec().Name != "test" {
		t.Errorf("got %v, %v", c, err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"builtin:vmw":              "the built-in one is builtin:cas",
		filepath.Join(dir, "none"): "no such file",
		dir:                        "not a regular file",
		pipe:                       "not a regular file",
	} {
		if _, err := catalogue.Load(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := catalogue.Load(ctx, file); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good), "2.0.0.B086", "24.06")
	f.Add([]byte("format: 1\nname: x\nscheme: cas\nversions: [E0306]\nfamilies: [{name: '3.0', as: E0306}]\n"), "3.0", "E0705")
	f.Add([]byte("format: 1\nname: x\nscheme: semver\nrules: &a [{modes: *a}]\nversions: [1.2.3]\n"), "1.2.3", "1.3.0")
	f.Fuzz(func(t *testing.T, data []byte, from, to string) {
		c, err := catalogue.Parse("f.yaml", data)
		if err != nil {
			var faults *catalogue.Faults
			if !errors.As(err, &faults) || len(faults.Faults) == 0 {
				t.Fatalf("got %v, want faults", err)
			}
			for _, x := range faults.Faults {
				if x.Where() == "0:0" || x.Want == "" || strings.Contains(x.Error(), "\n") {
					t.Errorf("fault without place or rule, or of two lines: %q", x.Error())
				}
			}
			return
		}
		res, err := path.Plan(c, from, to, path.Environment{Components: c.Spec().Components})
		if err != nil {
			return
		}
		if res.Hops == nil || res.Blocked != nil && (len(res.Hops) > 0 || res.Blocked.Rule == "" || res.Blocked.Reason == "") {
			t.Fatalf("%s to %s: got %+v", from, to, res)
		}
	})
}
