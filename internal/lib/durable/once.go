package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Once writes value into a file that does not exist yet, whole or not at all,
// and returns what the file holds, once that is on disk.
func Once(path, value string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		tmp, err := Temp(path, 0o600, func(f *os.File) error {
			_, err := f.WriteString(value + "\n")
			return err
		})
		if err != nil {
			return "", err
		}
		defer os.Remove(tmp)
		if err = os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("write %s: %w", path, err)
		}
		if err = SyncDir(filepath.Dir(path)); err != nil {
			return "", err
		}
	}
	return ReadOnce(path)
}

// ReadOnce returns what Once has written, and any other file of one word has.
func ReadOnce(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(b))
	if id == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return id, nil
}
