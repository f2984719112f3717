// Package earlier has what an earlier version of the program has kept of a real
// upgrade: snapshots of the store, files of a host, and what the commands of that
// version said at the same moments. testdata/README.md tells how they were made.
//
// Tests of the packages to which records belong read them with today's code. What
// never belongs here: something that was made by another program than that version.
package earlier

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"testing"
)

// Version is that of the program that has made all of this.
const Version = "7a344fe"

// Names in it.
const (
	Cluster = "lab"
	Host    = "h2"                           // whose files there are
	Upgrade = "upgrade-20261121-200947-4v7p" // the run
	Commit  = "commit-20261121-201102-qt3c"
	Drain   = "drain-20261121-200944-dkdc" // h3 was emptied before
)

// Moment is one at which the store was kept.
type Moment string

// Moments, in their order.
const (
	Moving Moment = "moving" // two guests are on their way from h2 to h1
	Middle Moment = "middle" // h2/install/agentd is under way
	Failed Moment = "failed" // the run is paused, h1/postCheck/base has failed
	End    Moment = "end"    // committed, and the store was restored from a backup since
)

// Moments are all of them.
var Moments = []Moment{Moving, Middle, Failed, End}

//go:embed testdata/*.gz testdata/*.json
var files embed.FS

// Said is what a command of that version wrote at a moment: upgrade-status,
// upgrade-report or jobs-show.
func Said(t testing.TB, m Moment, what string) []byte {
	t.Helper()
	return read(t, fmt.Sprintf("%s.%s.json", m, what))
}

// Files unpacks the data directory of Host as it was, without the member of the store:
// "middle" at that moment, "prepared" before the commit, "end" at the end.
func Files(t testing.TB, when string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	r := tar.NewReader(bytes.NewReader(unzipped(t, when+"-"+Host+".tar.gz")))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err == nil && !filepath.IsLocal(h.Name) {
			err = fmt.Errorf("%s is not below its directory", h.Name)
		}
		if err == nil {
			err = unpack(filepath.Join(dir, h.Name), h, r)
		}
		if err != nil {
			t.Fatalf("unpack the files of %s: %v", Host, err)
		}
	}
}

func unpack(to string, h *tar.Header, text io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		return os.MkdirAll(to, h.FileInfo().Mode().Perm())
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, text)
	return errors.Join(err, f.Close())
}

// Snapshot writes the backup of a moment into a file.
func Snapshot(t testing.TB, m Moment) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, unzipped(t, string(m)+".db.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Whole reads JSON of a record as today's type. It fails the test when the type lacks a
// field of it, or when something else comes out of what was read.
func Whole[T any](t testing.TB, what string, text []byte) (v T) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Errorf("%s: read as %T: %v", what, v, err)
		return v
	}
	Same(t, what, text, v)
	return v
}

// Same wants a value to be written as this JSON, in whatever order of the fields.
func Same(t testing.TB, what string, want []byte, v any) {
	t.Helper()
	got, err := json.Marshal(v)
	if err != nil {
		t.Errorf("%s: write %T: %v", what, v, err)
		return
	}
	if !reflect.DeepEqual(tree(t, want), tree(t, got)) {
		t.Errorf("%s: as %T it is\n%s\nwant\n%s", what, v, got, want)
	}
}

// tree is JSON without the order of the fields.
func tree(t testing.TB, text []byte) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Errorf("read %s: %v", text, err)
	}
	return v
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	text, err := files.ReadFile(path.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func unzipped(t testing.TB, name string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(read(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
