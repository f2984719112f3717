package bundle

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/strictyaml"
	"holdfast/testbed/try"
)

func TestBuildVerifyUnpack(t *testing.T) {
	secret, public := testKey(t)
	files := sampleFiles()
	for _, c := range []Compression{Zstd, Gzip, None} {
		t.Run(string(c), func(t *testing.T) {
			data := build(t, files, c, &secret)
			if again := build(t, files, c, &secret); !bytes.Equal(again, data) {
				t.Error("the same input gives other bytes")
			}
			rep, err := verify(data, Options{Keys: []PublicKey{public}})
			if err != nil {
				t.Fatal(err)
			}
			var sum int64
			for name, text := range files {
				if name != manifest.FileManifest {
					sum += int64(len(text))
				}
			}
			if rep.Layout != Native || !rep.Signed || rep.KeyID != keyID(public.ID()) || rep.Files != len(files)-1 || rep.Bytes != sum {
				t.Errorf("report %+v", rep)
			}
			if rep.Comment != "holdfast bundle app 2.0.0.B120" {
				t.Errorf("comment %q", rep.Comment)
			}
			dir := filepath.Join(t.TempDir(), "new")
			if _, err := Unpack(context.Background(), bytes.NewReader(data), dir, Options{Keys: []PublicKey{public}}); err != nil {
				t.Fatal(err)
			}
			sameFiles(t, dir, files)
			built := tempBuild(t, dir)
			if members(t, built)[0].text != readFile(t, dir, manifest.FileManifest) {
				t.Error("an unpacked bundle does not build the same manifest")
			}
		})
	}
}

// tempBuild builds an unpacked bundle again, without its signature.
func tempBuild(t *testing.T, dir string) []byte {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, manifest.FileSignature)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := Build(context.Background(), dir, &out, BuildOptions{Compression: None}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func readFile(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sameFiles compares a directory with what went into a bundle.
func sameFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if name == manifest.FileManifest {
			continue
		}
		if got := readFile(t, dir, name); got != text {
			t.Errorf("%s: %d bytes differ from the %d of the source", name, len(got), len(text))
		}
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o644)
		if strings.HasPrefix(name, "bin/") {
			want = 0o755
		}
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), want)
		}
	}
	n := 0
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			n++
		}
		return err
	})
	if err != nil || n != len(files)+1 { // and the signature
		t.Errorf("%d files: want %d: %v", n, len(files)+1, err)
	}
}

func TestSignatureRules(t *testing.T) {
	secret, public := testKey(t)
	_, other := testKey(t)
	signed, unsigned := build(t, sampleFiles(), None, &secret), build(t, sampleFiles(), None, nil)
	var resigned bytes.Buffer
	if _, err := Sign(context.Background(), bytes.NewReader(unsigned), &resigned, secret, None); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(resigned.Bytes(), signed) {
		t.Error("signing later gives other bytes than building with the key")
	}
	for _, c := range []struct {
		name   string
		data   []byte
		o      Options
		signed bool
		want   string // part of the refusal; empty: accepted
	}{
		{"right key", signed, Options{Keys: []PublicKey{public}}, true, ""},
		{"one of two keys", signed, Options{Keys: []PublicKey{other, public}}, true, ""},
		{"wrong key", signed, Options{Keys: []PublicKey{other}}, false,
			"signed with key " + keyID(public.ID()) + ", which is none of those given"},
		{"wrong key, unsigned allowed", signed, Options{Keys: []PublicKey{other}, AllowUnsigned: true}, false, "none of those given"},
		{"no key", signed, Options{}, false, "no public key is given"},
		{"no key, unsigned allowed", signed, Options{AllowUnsigned: true}, false, ""},
		{"unsigned", unsigned, Options{Keys: []PublicKey{public}}, false, "it is not signed"},
		{"unsigned, allowed", unsigned, Options{Keys: []PublicKey{public}, AllowUnsigned: true}, false, ""},
		{"detached", signed, Options{Keys: []PublicKey{public}, Signature: []byte("x")}, false,
			"a signature over the whole file is for other layouts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rep, err := verify(c.data, c.o)
			if c.want != "" {
				if r := refusal(t, err); !strings.Contains(r.Error(), c.want) {
					t.Errorf("got %q, want %q", r, c.want)
				}
				return
			}
			if err != nil || rep.Signed != c.signed {
				t.Errorf("%+v, %v", rep, err)
			}
		})
	}
}

func TestHeadReadsNoFileButTheCatalogue(t *testing.T) {
	secret, public := testKey(t)
	data := build(t, sampleFiles(), None, &secret)
	cut := bytes.Index(data, []byte("#!/bin/sh"))
	rep, err := Head(context.Background(), bytes.NewReader(data[:cut]), Options{Keys: []PublicKey{public}})
	if err != nil || rep.Files != len(sampleFiles())-1 || string(rep.Catalogue) != sampleCatalogue {
		t.Errorf("%+v, %v", rep, err)
	}
	if rep, err = verify(data, Options{AllowUnsigned: true}); err != nil || string(rep.Catalogue) != sampleCatalogue {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestBuiltManifestReadsBackTheSame(t *testing.T) {
	data := build(t, sampleFiles(), None, nil)
	rep, err := verify(data, Options{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := strictyaml.Encode(rep.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	m, faults := decode(text)
	if len(faults) > 0 || !reflect.DeepEqual(m, rep.Manifest) {
		t.Errorf("%s\n%v", text, faults)
	}
}

func TestBuildFaults(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		change func(t *testing.T, files map[string]string)
		tree   func(t *testing.T, dir string)
		want   string
	}{
		"unlisted": {change: put("more.txt", "x"), want: `(tree): value "more.txt": want no file that no module lists`},
		"missing": {change: put("conf/db.json", ""), tree: remove("conf/db.json"),
			want: `modules[0].files[2]: value "conf/db.json": want a regular file of the tree`},
		"empty dir": {change: edit("web/,", "none/,"),
			want: `modules[1].files[0]: value "none/": want a directory of the tree that has files`},
		"twice": {change: edit("files: [web/, 'web.deb']", "files: [web/, web/empty, web.deb]"),
			want: `modules[1].files[1]: value "web/empty": want each file once`},
		"wrong hash":    {change: edit("'web.deb'", `{path: web.deb, sha256: aa}`), want: "want size and sha256 as the file has them"},
		"unknown field": {change: edit("minSpaceGB", "minSpaceGb"), want: `minSpaceGb: value "minSpaceGb": unknown field`},
		"double key":    {change: edit("name: app", "name: app\nname: app"), want: `name: value "app": duplicate key`},
		"wrong type":    {change: edit("version: 2.0.0.B120", "version: 2.0"), want: `version: value "2.0": want a string, not a number`},
		"bad timeout":   {change: edit("timeout: 10m", "timeout: soon"), want: `modules[0].timeout: value "soon": want a duration`},
		"cycle": {change: edit("- name: db", "- name: db\n  after: [web]"),
			want: `modules[0].after: value "db -> web -> db": want no cycle`},
		"malformed": {change: edit("modules:", "modules: ]"), want: "malformed YAML"},
		"empty manifest": {change: put("manifest.yaml", "# later\n"),
			want: `(file): value "": want fields such as name, version, upgradeFrom, modules: there are none in the file`},
		"no manifest": {tree: remove("manifest.yaml"), want: "manifest.yaml: no such file"},
		"link": {tree: link("web/index.html", "web/link"),
			want: `(tree): value "web/link": want regular files and directories only, this is a symbolic link`},
		"link out":   {tree: link("/etc/passwd", "web/link"), want: "this is a symbolic link that leads out of the tree"},
		"link up":    {tree: link("../../outside", "web/link"), want: "leads out of the tree"},
		"pipe":       {tree: fifo("web/pipe"), want: "this is a device, pipe or socket"},
		"socket":     {tree: socket("web/s"), want: "this is a device, pipe or socket"},
		"case":       {change: put("web/Empty", "x"), want: "differs from \"web/Empty\" in more than upper and lower case"},
		"not normal": {change: put("web/e\u0301", "x"), want: "normal form C"},
		"look-alike": {change: put2("web/\u212a", "web/x\ufb01", "web/xfi"), want: "can not be taken for"},
		"backslash":  {change: put(`web/a\b`, "x"), want: "backslash"},
		"control":    {change: put("web/a\nb", "x"), want: "can not be printed"},
		"catalogue": {change: put("catalogue.yaml", "format: 1\nnome: x\n"),
			want: `path.catalogue: value "catalogue.yaml": want a catalogue of versions: catalogue.yaml:2:1: nome`},
		"own signature":  {change: put("manifest.yaml.minisig", "x"), want: `value "manifest.yaml.minisig": want no file that no module lists`},
		"large manifest": {change: put("manifest.yaml", strings.Repeat("# "+long+"\n", 4000)), want: "want a regular file of at most"},
	} {
		t.Run(name, func(t *testing.T) {
			files := sampleFiles()
			if c.change != nil {
				c.change(t, files)
			}
			dir := tempTree(t, files)
			if c.tree != nil {
				c.tree(t, dir)
			}
			_, err := Build(context.Background(), dir, io.Discard, BuildOptions{Compression: None})
			r := refusal(t, err)
			all := r.Error() + "\n" + manifest.Faults(r.Faults).Error()
			if !strings.Contains(all, c.want) {
				t.Errorf("got %s\nwant %s", all, c.want)
			}
		})
	}
}

func put(name, text string) func(*testing.T, map[string]string) {
	return func(_ *testing.T, files map[string]string) { files[name] = text }
}

func put2(names ...string) func(*testing.T, map[string]string) {
	return func(_ *testing.T, files map[string]string) {
		for _, n := range names {
			files[n] = "x"
		}
	}
}

func edit(old, new string) func(*testing.T, map[string]string) {
	return func(t *testing.T, files map[string]string) {
		if !strings.Contains(files[manifest.FileManifest], old) {
			t.Fatalf("the sample has no %q", old)
		}
		files[manifest.FileManifest] = strings.Replace(files[manifest.FileManifest], old, new, 1)
	}
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { try.Must(t, os.Remove(filepath.Join(dir, name))) }
}

func link(to, name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { try.Must(t, os.Symlink(to, filepath.Join(dir, name))) }
}

func fifo(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { try.Must(t, unix.Mkfifo(filepath.Join(dir, name), 0o600)) }
}

func socket(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		// A short name: a socket's path is limited.
		t.Chdir(dir)
		l, err := net.Listen("unix", name)
		try.Must(t, err)
		t.Cleanup(func() { try.Must(t, l.Close()) })
	}
}
