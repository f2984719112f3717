package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/strictyaml"
)

// sample is a manifest as an author writes it.
const sample = `
name: app
version: 2.0.0.B120
minSpaceGB: 1
requires:
  commands: [tree]
  pythonModules: [requests]
upgradeFrom:
- version: 2.0.0.*
  modes: [offline, rolling]
- version: 1.0.0.B010-B038
  modes: [offline]
  changeSystemTables: true
path:
  catalogue: catalogue.yaml
order:
  stop: [web, db]
modules:
- name: db
  timeout: 10m
  canRollback: true
  files: [bin/db.sh, catalogue.yaml, conf/db.json]
  config:
  - file: conf/db.json
    installed: /etc/app/db.json
  actions:
    preCheck: {run: [bin/db.sh, check, '{from}'], idempotent: true}
    install: {run: [bin/db.sh, install, '{mode}']}
    rollback: {none: true}
    check: {run: [bin/db.sh, done, '{phase}']}
- name: web
  after: [db]
  runsOn: label:tier=web
  files: [web/, 'web.deb']
  actions:
    stop: {systemd: {stop: [web.service]}}
    install: {fileTree: {source: web, target: /opt/app/web}}
    start: {packages: {deb: [web.deb]}}
`

const sampleCatalogue = "format: 1\nname: app\nscheme: dotted\nversions: [2.0.0.B086, 2.0.0.B120]\n"

// sampleFiles are the files of the sample's tree.
func sampleFiles() map[string]string {
	return map[string]string{
		"manifest.yaml":  sample,
		"bin/db.sh":      "#!/bin/sh\necho \"$@\"\n",
		"catalogue.yaml": sampleCatalogue,
		"conf/db.json":   `{"port": 5432}`,
		"web/index.html": strings.Repeat("<p>line\n", 500),
		"web/empty":      "",
		"web/" + strings.Repeat("long-name/", 30) + "Übersicht": "deep",
		"web.deb": string(bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, 3000)),
	}
}

// tempTree writes files below a new directory; those in bin are programs.
func tempTree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(name, "bin/") {
			mode = 0o755
		}
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// testKey makes a pair of keys.
func testKey(t testing.TB) (PrivateKey, PublicKey) {
	t.Helper()
	pair, err := GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := ParsePrivateKey(pair.Secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublicKey(pair.Public)
	if err != nil {
		t.Fatal(err)
	}
	return secret, public
}

// build builds a bundle of files.
func build(t testing.TB, files map[string]string, c Compression, key *PrivateKey) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Build(context.Background(), tempTree(t, files), &out, BuildOptions{Key: key, Compression: c}); err != nil {
		t.Fatalf("build: %v", err)
	}
	return out.Bytes()
}

func verify(data []byte, o Options) (*Report, error) {
	return Verify(context.Background(), bytes.NewReader(data), o)
}

// refusal returns the refusal that an error must be.
func refusal(t testing.TB, err error) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return r
}

// entry is a member of an archive that a test makes.
type entry struct {
	tar.Header
	text string
}

func file(name, text string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: epoch()}, text: text}
}

// archive writes a tar of any members.
func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.text))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// members reads a tar back into entries.
func members(t testing.TB, data []byte) []entry {
	t.Helper()
	var out []entry
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, entry{*h, string(text)})
	}
}

// packed compresses data.
func packed(t testing.TB, data []byte, c Compression) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := compress(&b, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// minimal is a complete manifest for the given files, all with mode 0644, of
// which the first is run.
func minimal(files ...manifest.File) string {
	var b strings.Builder
	b.WriteString("name: m\nversion: \"1\"\nupgradeFrom:\n- {version: \"0\", modes: [offline]}\nmodules:\n- name: m\n  files:\n")
	for _, f := range files {
		b.WriteString("  - {path: " + quote(f.Path) + ", size: " + itoa(f.Size) + ", sha256: \"" + f.SHA256 + "\", mode: \"0644\"}\n")
	}
	b.WriteString("  actions:\n    install: {none: true}\n")
	return b.String()
}

// fileOf describes a file with its content.
func fileOf(path, text string) manifest.File {
	sum := sha256.Sum256([]byte(text))
	return manifest.File{Path: path, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), Mode: "0644"}
}

// ls returns the names below a directory.
func ls(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func epoch() time.Time { return time.Unix(0, 0) }

func quote(s string) string { return strconv.Quote(s) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// decode reads a manifest without looking at what it says.
func decode(text []byte) (*manifest.Manifest, []manifest.Fault) {
	m := &manifest.Manifest{}
	return m, strictyaml.Decode(text, m).Faults
}
