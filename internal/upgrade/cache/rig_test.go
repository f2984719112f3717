package cache

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/try"
)

// The test binary plays a process that is killed, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "victim" {
		if err := victim(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const manifestText = `
name: app
version: 2.0.0.B120
minSpaceGB: 1
upgradeFrom:
- {version: 1.0.0.B010, modes: [offline, rolling]}
modules:
- name: db
  files: [bin/db.sh, data/]
  actions:
    install: {run: [bin/db.sh, install]}
`

// unsigned accepts what nobody has signed.
var unsigned = bundle.Options{AllowUnsigned: true}

// native builds a bundle with so many bytes that can not be compressed.
func native(t testing.TB, bytesInside int, c bundle.Compression, key *bundle.PrivateKey) []byte {
	t.Helper()
	dir := t.TempDir()
	blob := make([]byte, bytesInside)
	if _, err := rand.NewChaCha8([32]byte{byte(bytesInside)}).Read(blob); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"manifest.yaml": manifestText, "bin/db.sh": "#!/bin/sh\necho \"$@\"\n",
		"data/blob": string(blob), "data/empty": ""} {
		p := filepath.Join(dir, name)
		try.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		try.Must(t, os.WriteFile(p, []byte(text), mode))
	}
	var out bytes.Buffer
	if _, err := bundle.Build(context.Background(), dir, &out, bundle.BuildOptions{Key: key, Compression: c}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// script is a package of the CAS layout.
func script(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := "#!/bin/sh\n"
	try.Must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "upgrade.e0303/upgrade.sh", Mode: 0o755,
		Size: int64(len(text)), ModTime: time.Unix(0, 0)}))
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	try.Must(t, w.Close())
	return b.Bytes()
}

func keys(t testing.TB) (bundle.PrivateKey, bundle.PublicKey, string) {
	t.Helper()
	pair, err := bundle.GenerateKey("")
	try.Must(t, err)
	secret, err := bundle.ParsePrivateKey(pair.Secret, nil)
	try.Must(t, err)
	public, err := bundle.ParsePublicKey(pair.Public)
	try.Must(t, err)
	return secret, public, pair.ID
}

// fresh is a bundle cache in a new directory that is not made yet.
func fresh(t testing.TB) *Cache {
	t.Helper()
	return at(filepath.Join(t.TempDir(), "upgrade", "bundles"))
}

// at is a bundle cache that does not wait long.
func at(dir string) *Cache {
	d := New(dir, slog.New(slog.DiscardHandler))
	d.pause, d.stall = time.Millisecond, 5*time.Second
	return d
}

// with is a bundle cache that has a bundle.
func with(t testing.TB, data []byte) (*Cache, string) {
	t.Helper()
	d := fresh(t)
	b, _, err := d.Put(context.Background(), bytes.NewReader(data), unsigned)
	try.Must(t, err)
	return d, b.SHA256
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

// holds checks what names are in a bundle cache; SHA stands for the hash.
func holds(t testing.TB, d *Cache, sha string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(d.Dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, strings.ReplaceAll(e.Name(), sha, "SHA"))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("the bundle cache holds %q, want %q", got, want)
	}
}

// has checks that a bundle cache has one bundle, complete.
func has(t testing.TB, d *Cache, sha string, data []byte) {
	t.Helper()
	have, err := d.Have()
	try.Must(t, err)
	if !slices.Equal(have, []string{sha}) {
		t.Fatalf("it has %q, want %s", have, sha)
	}
	r, size, err := d.Open(sha, 0)
	try.Must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	try.Must(t, err)
	if size != int64(len(data)) || !bytes.Equal(got, data) {
		t.Errorf("the file has %d bytes, told are %d, want %d, or they differ", len(got), size, len(data))
	}
}
