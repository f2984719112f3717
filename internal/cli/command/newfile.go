package command

import (
	"errors"
	"fmt"
	"os"

	"holdfast/internal/lib/fail"
)

// WriteNew writes a file that must not exist; a failure leaves none behind.
func WriteNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return NotNew("write the configuration", path, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the configuration: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// NotNew is the error of a file that can not be made as one that did not exist.
func NotNew(what, path string, err error) error {
	info, none := os.Stat(path)
	switch {
	case none == nil && info.IsDir():
		return fail.Errorf(fail.Invalid, "%s: %s is a directory", what, path).With("name a file in it, which does not exist yet")
	case errors.Is(err, os.ErrExist):
		return fail.Errorf(fail.Invalid, "%s: %s exists already", what, path).With("name another file, or remove that one")
	}
	return fail.Errorf(fail.Invalid, "%s: %w", what, err).With("name a file in a directory that exists, where you may write")
}
