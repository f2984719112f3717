package group

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/internal/lib/durable"
)

// wroteFile is the file that says that a copy was promoted, and has not followed since. dir
// survives reboots. Of a server it holds the run that was promoted, once that is known.
func wroteFile(dir string) string { return filepath.Join(dir, "pair-wrote") }

// readWrote reports that a copy was promoted and has not followed since, and in which run.
func readWrote(dir string) (run string, yes bool, err error) {
	b, err := os.ReadFile(wroteFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return string(b), err == nil, err
}

// forgetWrote says that the copy follows, or was not promoted after all.
func forgetWrote(dir string) error {
	return removed(wroteFile(dir))
}

// there reports that a file is there.
func there(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// removed sees to it that files of one directory are not there, also after a crash.
func removed(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(filepath.Dir(paths[0]))
}
