package aligntest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// file is a file of a server's data.
type file struct {
	mode fs.FileMode
	body []byte
}

// Data are the files of a server's data directory, by their names below it.
type Data map[string]file

// installed gives the data of a server that was never started, 26 MiB. They are installed once in a process; each rig writes them
// down, which costs a tenth of the time.
var installed = sync.OnceValues(func() (data Data, err error) {
	dir, err := os.MkdirTemp("", "holdfast-rig-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := &Rig{dir: dir}
	if err := r.installDB(); err != nil {
		return nil, err
	}
	return ReadData(r.data())
})

// Install writes the data of a server that was never started into a directory: root has no
// password. For tests that start servers in their own way.
func Install(t testing.TB, data string) {
	t.Helper()
	all, err := installed()
	if err == nil {
		err = all.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Write writes the files below a directory, which need not exist.
func (d Data) Write(dir string) error {
	for name, f := range d {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, f.body, f.mode)); err != nil {
			return err
		}
	}
	return nil
}

// installDB does it as a person does.
func (r *Rig) installDB() error {
	bin, err := find("mariadb-install-db")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	args := append(r.common(), "--skip-test-db", "--auth-root-authentication-method=normal")
	if out, err := exec.CommandContext(ctx, bin, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", bin, err, out)
	}
	return nil
}

// ReadData reads the data of a server that does not run.
func ReadData(dir string) (Data, error) {
	files := Data{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		body, err := os.ReadFile(path)
		files[name] = file{info.Mode().Perm(), body}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the data of a server: %w", err)
	}
	return files, nil
}
