package packaging_test

import (
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
)

// build makes the packages of a tree.
func build(t *testing.T, tree, out string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(tree, "packaging", "build.sh"), args...)
	cmd.Env = append(os.Environ(), "OUT="+out, "SOURCE_DATE_EPOCH=1767366245", "COMMIT=0123456789abcdef0123456789abcdef01234567")
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// sums are the files of a directory with their hashes.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return all
}

// TestPackages builds the packages and looks into them.
func TestPackages(t *testing.T) {
	need.Real(t, need.Programs("dpkg", "dpkg-deb"), need.Programs("groff-base", "groff"))
	out := t.TempDir()
	if text, err := build(t, "..", out, "1.4.0~rc1"); err != nil {
		t.Fatal(err, text)
	}
	root := filepath.Join(t.TempDir(), "root")
	if text, err := exec.CommandContext(t.Context(), "dpkg-deb", "-x",
		filepath.Join(out, "holdfast_1.4.0~rc1_amd64.deb"), root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	checkFiles(t, root)
	if list, err := exec.CommandContext(t.Context(), "dpkg-deb", "-c",
		filepath.Join(out, "holdfast_1.4.0~rc1_amd64.deb")).Output(); err != nil || regexp.MustCompile(`(?m) \./opt/$`).Match(list) {
		t.Errorf("/opt is of the package, which takes it away with itself: %v: %.300s", err, list)
	} else if open := openToOthers(string(list)); len(open) > 0 {
		t.Errorf("others than root may change these, or become root by them: %q", open)
	}
	checkBill(t, filepath.Join(out, "holdfast-1.4.0~rc1.cdx.json"), filepath.Join(root, "opt/holdfast/bin/holdfast"))
}

// openToOthers are the lines of a listing of tar whose files another than root owns or may write, or that have the bit
// of another user or group.
func openToOthers(list string) (bad []string) {
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if mode := f[0]; mode[0] != 'l' && (f[1] != "root/root" || mode[5] == 'w' || mode[8] == 'w' || strings.ContainsAny(mode, "sStT")) {
			bad = append(bad, line)
		}
	}
	return bad
}

func TestOpenToOthers(t *testing.T) {
	const ok = "drwxr-xr-x root/root         0 2026-01-02 12:30 ./opt/holdfast/\nlrwxrwxrwx root/root         0 " +
		"2026-01-02 12:30 ./usr/bin/holdfast -> /opt\n"
	if bad := openToOthers(ok); len(bad) > 0 {
		t.Errorf("%q", bad)
	}
	for _, line := range []string{"-rwxrwxr-x root/root", "-rwxr-xrw- root/root", "-rwsr-xr-x root/root",
		"-rwxr-xr-x root/adm", "-rwxr-xr-x build/root"} {
		if bad := openToOthers(ok + line + " 1 2026-01-02 12:30 ./x\n"); len(bad) != 1 {
			t.Errorf("%s: %q", line, bad)
		}
	}
}

// TestPackagesAreReproducible builds the packages in two folders, one of them without
// the history.
func TestPackagesAreReproducible(t *testing.T) {
	need.Drill(t, "packages: two builds of one commit, in different folders, are the same to the byte")
	first, second, other := t.TempDir(), t.TempDir(), t.TempDir()
	if text, err := build(t, "..", first, "1.4.0~rc1"); err != nil {
		t.Fatal(err, text)
	}
	script := `git -C .. ls-files -z --cached --others --exclude-standard | (cd .. && tar --null --ignore-failed-read -T - -cf -) | tar -C "$1" -xf -`
	if text, err := exec.CommandContext(t.Context(), "bash", "-c", script, "sh", other).CombinedOutput(); err != nil {
		t.Fatalf("copy the tree: %v: %s", err, text)
	}
	if text, err := build(t, other, second, "1.4.0~rc1"); err != nil {
		t.Fatal(err, text)
	}
	a, b := sums(t, first), sums(t, second)
	for _, name := range []string{"holdfast_1.4.0~rc1_amd64.deb", "holdfast-1.4.0~rc1.x86_64.rpm", "holdfast-1.4.0~rc1.cdx.json"} {
		if a[name] == "" || a[name] != b[name] {
			t.Errorf("%s: %q in one folder, %q in the other", name, a[name], b[name])
		}
	}
	if len(a) != 3 || len(b) != 3 {
		t.Errorf("want three files: %v, %v", a, b)
	}
}

// plain reads a file that may be compressed.
func plain(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return "", err
		}
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

// checkFiles looks for what the packages have beside the program.
func checkFiles(t *testing.T, root string) {
	t.Helper()
	for path, want := range map[string]string{
		"usr/lib/systemd/system/holdfast.service":               "KillMode=process",
		"usr/lib/tmpfiles.d/holdfast.conf":                      "/etc/holdfast/pki 0700",
		"usr/share/bash-completion/completions/holdfast":        "__start_holdfast",
		"usr/share/zsh/vendor-completions/_holdfast":            "#compdef holdfast",
		"usr/share/fish/vendor_completions.d/holdfast.fish":     "complete -c holdfast",
		"usr/share/man/man1/holdfast.1.gz":                      "holdfast\\-status(1)",
		"usr/share/man/man1/holdfast-transition-db-verify.1.gz": "\\-\\-nova\\-conf",
		"usr/share/man/man1/zsha.1.gz":                          ".SS migrate\n",
		"usr/share/man/man5/holdfast.5.gz":                      "MemorySizeInGB",
		"usr/share/doc/holdfast/changelog.gz":                   "holdfast (1.4.0~rc1) stable",
		"usr/share/doc/holdfast/CHANGELOG.md":                   "# Changelog",
		"usr/share/doc/holdfast/README.md":                      "# Holdfast",
		"usr/share/doc/holdfast/metrics.md":                     "### HoldfastResourceDown",
		"usr/share/holdfast/prometheus/holdfast.rules.yml":      "- alert: HoldfastResourceDown",
		"usr/share/holdfast/prometheus/holdfast.rules.test.yml": "alertname: HoldfastResourceDown",
		"usr/share/holdfast/grafana/holdfast.json":              "holdfast_resource_up",
		"usr/share/doc/holdfast/copyright":                      "/usr/share/common-licenses/Apache-2.0",
	} {
		text, err := plain(filepath.Join(root, path))
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: %v, want %q in it", path, err, want)
		}
	}
	if to, err := os.Readlink(filepath.Join(root, "usr/bin/holdfast")); err != nil || to != "/opt/holdfast/bin/holdfast" {
		t.Errorf("/usr/bin/holdfast leads to %q, %v", to, err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "opt/holdfast/bin/holdfast"), "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "holdfast 1.4.0~rc1 ") {
		t.Errorf("version: %q, %v", out, err)
	}
	zsha := filepath.Join(t.TempDir(), "zsha")
	if err := os.Symlink(filepath.Join(root, "opt/holdfast/bin/holdfast"), zsha); err != nil {
		t.Fatal(err)
	}
	out, err = exec.CommandContext(t.Context(), zsha, "-v").Output()
	if want := "App Version: 1.4.0~rc1\nBuild Date: Fri Jan  2 15:04:05 UTC 2026\nBranch Name: (detached)\nCommit " +
		"ID: 0123456789abcdef0123456789abcdef01234567\n"; err != nil || string(out) != want {
		t.Errorf("zsha -v: %q, %v, want %q", out, err, want)
	}
	pages, err := filepath.Glob(filepath.Join(root, "usr/share/man/man?/*.gz"))
	if err != nil || len(pages) < 30 {
		t.Errorf("%d manual pages, %v", len(pages), err)
	}
	// man would begin six programs for each page.
	cmd := exec.CommandContext(t.Context(), "groff", "-K", "utf8", "-T", "utf8", "-man", "-w", "mac", "-rLL=120n")
	var all, said strings.Builder
	for _, p := range pages {
		text, err := plain(p)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(text)
	}
	cmd.Stdin = strings.NewReader(all.String())
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Errorf("the manual pages: %v: %s", err, said.String())
	}
	for _, p := range pages {
		name, number, _ := strings.Cut(strings.TrimSuffix(filepath.Base(p), ".gz"), ".")
		title := strings.ReplaceAll(strings.ToUpper(name), "-", "[-\u2010\u2212]") + `\(` + number + `\)`
		if n := len(regexp.MustCompile("(?m)^"+title).FindAllIndex(text, -1)); n != 1 {
			t.Errorf("%s: the heading is there %d times in what is formatted, want once", p, n)
		}
	}
}

// checkBill holds a bill of materials against what the schema of CycloneDX 1.6 requires
// and what the program was linked of.
func checkBill(t *testing.T, file, program string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	type component struct {
		Type, Name, Version, PURL string
		Ref                       string `json:"bom-ref"`
	}
	var b struct {
		BomFormat, SpecVersion string
		Version                int
		Metadata               struct {
			Timestamp string
			Component component
		}
		Components   []component
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339, b.Metadata.Timestamp); err != nil || b.BomFormat != "CycloneDX" ||
		b.SpecVersion != "1.6" || b.Version != 1 {
		t.Errorf("%v: %.200s", err, raw)
	}
	if m := b.Metadata.Component; m.Type != "application" || m.Name != "holdfast/cmd/holdfast" &&
		m.Name != "holdfast" || m.Version != "1.4.0~rc1" {
		t.Errorf("it is of %+v", m)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, c := range append(b.Components, b.Metadata.Component) {
		if !slices.Contains([]string{"application", "library"}, c.Type) || c.Name == "" || c.Ref == "" || have[c.Ref] ||
			!strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@") {
			t.Errorf("%+v", c)
		}
		have[c.Ref] = true
	}
	for _, m := range info.Deps {
		if !have["pkg:golang/"+m.Path+"@"+strings.ReplaceAll(m.Version, "+", "%2B")] {
			t.Errorf("%s %s is not in it", m.Path, m.Version)
		}
	}
	if want := len(info.Deps) + 1; len(b.Components) != want || len(b.Dependencies) != 1 ||
		len(b.Dependencies[0].DependsOn) != want || want < 20 {
		t.Errorf("%d components, want %d: the modules and the standard library; %v", len(b.Components), want, b.Dependencies)
	}
	for _, d := range b.Dependencies {
		for _, ref := range append(d.DependsOn, d.Ref) {
			if !have[ref] {
				t.Errorf("%s is no component", ref)
			}
		}
	}
}

// TestBuildRefuses: one line, exit code 2, and nothing is built.
func TestBuildRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"dev"}, "version dev: want one that packages can compare"},
		{[]string{"1.4.0-rc1"}, "version 1.4.0-rc1: want"},
		{[]string{"1.4.0/x"}, "version 1.4.0/x: want"},
		{[]string{"1.4.0", "mips"}, "architecture mips: want amd64 or arm64"},
		{[]string{"1.4.0", "amd64", "more"}, "want [VERSION] [ARCH]"},
	} {
		out := filepath.Join(t.TempDir(), "out")
		text, err := build(t, "..", out, c.args...)
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 ||
			!strings.HasPrefix(text, "packaging/build.sh: "+c.want) || strings.Count(text, "\n") != 1 {
			t.Errorf("%v: %v: %s", c.args, err, text)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%v: %s was made", c.args, out)
		}
	}
}
