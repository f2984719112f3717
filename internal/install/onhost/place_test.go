package onhost

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/install"
	"holdfast/internal/lib/pki"

	"holdfast/testbed/try"
)

// listing is everything below a folder: path, mode, content.
func listing(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		b.WriteString(rel + " " + info.Mode().String())
		switch info.Mode().Type() {
		case 0:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.WriteString(" " + string(text))
		case fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			b.WriteString(" -> " + to)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPlace(t *testing.T) {
	if !try.UnderUmask(t) {
		return
	}
	root := t.TempDir()
	p := placer{root: root, dir: filepath.Join(t.TempDir(), "work"), gid: os.Getegid()}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	must(os.WriteFile(filepath.Join(root, "etc", "old"), []byte("before"), 0o640))
	must(os.Symlink("/somewhere", filepath.Join(root, "etc", "link")))
	must(os.WriteFile(filepath.Join(root, "etc", "once"), []byte("theirs"), 0o600))
	must(os.WriteFile(filepath.Join(root, "etc", "same"), []byte("same"), 0o600))
	files := []install.File{
		{Path: "/etc/old", Mode: 0o600, Data: []byte("after")},
		{Path: "/etc/once", Mode: 0o600, Data: []byte("ours"), Once: true},
		{Path: "/etc/same", Mode: 0o600, Data: []byte("same")},
		{Path: "/etc/link", Link: "/elsewhere"},
		{Path: "/opt/new/deep/file", Mode: 0o755, Data: []byte("new")},
		{Path: "/opt/new/self", Mode: 0o755, Self: true},
	}
	before := listing(t, root)
	changed, err := p.place(files)
	must(err)
	if want := []string{"/etc/old", "/etc/link", "/opt/new/deep/file", "/opt/new/self"}; !slices.Equal(changed, want) {
		t.Errorf("changed %v, want %v", changed, want)
	}
	after := listing(t, root)
	for _, dir := range []string{"opt", "opt/new", "opt/new/deep"} {
		if !strings.Contains(after, "\n"+dir+" drwxr-xr-x\n") {
			t.Errorf("%s is not everybody's to look into:\n%s", dir, after)
		}
	}
	if _, err := p.place(files); err == nil {
		t.Error("a second placement before the first was confirmed: no error")
	}
	must(p.undo())
	if got := listing(t, root); got != before {
		t.Errorf("after undo:\n%s\nwant:\n%s", got, before)
	}
	if _, err := os.Stat(p.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("undo leaves %s: %v", p.dir, err)
	}
	_, err = p.place(files)
	must(err)
	must(p.keep())
	must(p.undo())
	if got := listing(t, root); got != after {
		t.Error("what was confirmed was taken back")
	}
	if changed, err := p.place(files); err != nil || len(changed) > 0 {
		t.Errorf("once more: %v, %v", changed, err)
	}
}

// TestPlaceThatDies takes back a placement that ended after each number of files.
func TestPlaceThatDies(t *testing.T) {
	files := []install.File{
		{Path: "/a", Mode: 0o600, Data: []byte("new a")},
		{Path: "/d/e/b", Mode: 0o600, Data: []byte("new b")},
		{Path: "/c", Mode: 0o600, Data: []byte("new c")},
	}
	for n := range len(files) + 1 {
		root := t.TempDir()
		p := placer{root: root, dir: filepath.Join(t.TempDir(), "work"), gid: os.Getegid()}
		if err := os.WriteFile(filepath.Join(root, "a"), []byte("old a"), 0o640); err != nil {
			t.Fatal(err)
		}
		before := listing(t, root)
		if err := p.save(files); err != nil {
			t.Fatal(err)
		}
		for _, f := range files[:n] {
			if err := p.put(f); err != nil {
				t.Fatal(err)
			}
		}
		paths, err := p.recover() // as the next program does
		if err != nil || len(paths) != len(files) {
			t.Fatalf("after %d files: %v, %v", n, paths, err)
		}
		if got := listing(t, root); got != before {
			t.Errorf("after %d files:\n%s\nwant:\n%s", n, got, before)
		}
	}
}

// TestPlaceRefuses leaves everything as it was.
func TestPlaceRefuses(t *testing.T) {
	root := t.TempDir()
	p := placer{root: root, dir: filepath.Join(t.TempDir(), "work"), gid: os.Getegid()}
	if err := os.MkdirAll(filepath.Join(root, "etc", "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := listing(t, root)
	for _, bad := range []install.File{
		{Path: "/etc/dir", Mode: 0o600, Data: []byte("x")},
		{Path: "/etc/file/below", Mode: 0o600, Data: []byte("x")},
		{Path: "/etc/file", Link: "/x"},
		{Path: "/etc/new", Mode: 0o600, Group: []string{"no-such-group-here"}},
	} {
		changed, err := p.place([]install.File{{Path: "/etc/first", Mode: 0o600, Data: []byte("1")}, bad})
		if err == nil || changed != nil {
			t.Errorf("%s: %v, %v", bad.Path, changed, err)
		}
		if got := listing(t, root); got != before {
			t.Errorf("%s:\n%s\nwant:\n%s", bad.Path, got, before)
		}
	}
}

func TestBondFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines [][2]string
		want  []string
	}{
		{"all well", [][2]string{{"Bonding Mode", "IEEE 802.3ad Dynamic link aggregation"}, {"MII Status", "up"},
			{"Partner Mac Address", "00:11:22:33:44:55"}, {"Slave Interface", "p1"}, {"MII Status", "up"}}, nil},
		{"no partner", [][2]string{{"Bonding Mode", "IEEE 802.3ad Dynamic link aggregation"},
			{"Partner Mac Address", "00:00:00:00:00:00"}}, []string{"bond0: the switch does not speak LACP"}},
		{"another mode has none", [][2]string{{"Bonding Mode", "fault-tolerance (active-backup)"},
			{"Partner Mac Address", "00:00:00:00:00:00"}}, nil},
		{"a cable", [][2]string{{"Bonding Mode", "fault-tolerance (active-backup)"}, {"MII Status", "up"},
			{"Slave Interface", "p1"}, {"MII Status", "down"}}, []string{"p1 of bond0 is down"}},
	} {
		if got := bondFaults("bond0", c.lines); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestARenewedCertificateIsReplaced: an agent has made links of the files that an
// installation put there; those of others are refused.
func TestARenewedCertificateIsReplaced(t *testing.T) {
	root := t.TempDir()
	p := placer{root: root, dir: filepath.Join(t.TempDir(), "work"), gid: os.Getegid()}
	ca, err := pki.NewCA("a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	place := pki.AgentPlace(root+"/ca.pem", root+"/host.pem", root+"/host.key")
	for range 2 {
		pair, err := ca.Issue("h1", nil, nil, time.Minute)
		if err == nil {
			if err = place.Replace(pair); errors.Is(err, fs.ErrNotExist) {
				err = pair.Write(root+"/host.pem", root+"/host.key")
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	files := []install.File{{Path: "/host.key", Mode: 0o600, Data: []byte("key")}, {Path: "/host.pem", Mode: 0o600, Data: []byte("cert")}}
	before := listing(t, root)
	if changed, err := p.place(files); err != nil || len(changed) != 2 {
		t.Fatalf("%v, %v", changed, err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(root + f.Path); err != nil || string(text) != string(f.Data) {
			t.Errorf("%s: %q, %v", f.Path, text, err)
		}
	}
	if err := p.undo(); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, root); after != before {
		t.Errorf("taken back:\n%s\nwas:\n%s", after, before)
	}
	if err := os.Symlink("/somewhere/host.pem", root+"/other.pem"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.place([]install.File{{Path: "/other.pem", Mode: 0o600, Data: []byte("x")}}); err == nil ||
		!strings.Contains(err.Error(), "is no file") {
		t.Errorf("a link of somebody else: %v", err)
	}
}
