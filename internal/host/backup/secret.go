package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// maxSecret bounds a secret, bytes.
const maxSecret = 1024

// SecretRef is a secret by reference: the path of a file that only its owner may
// read. Plans and journals hold the path and never the secret.
type SecretRef string

// Read gives the file's content without a trailing newline. It refuses a file
// that others may read, that is no regular file, is empty, is longer than 1 KiB or
// has more than one line. Opening does not block, so that a pipe put there by
// mistake holds nobody up.
func (s SecretRef) Read() (secret string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read a secret: %w", err)
		}
	}()
	path := string(s)
	if path == "" {
		return "", errors.New("want the path of a file")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := private(f); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case err != nil:
		return "", err
	case len(b) > maxSecret:
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxSecret)
	case len(b) == 0:
		return "", fmt.Errorf("%s is empty", path)
	case strings.ContainsAny(string(b), "\n\r\x00"):
		return "", fmt.Errorf("%s has more than one line", path)
	}
	return string(b), nil
}

// CheckPrivate looks whether a file with secrets is one that only its owner may
// read.
func CheckPrivate(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return private(f)
}

func private(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", f.Name())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("others may read %s: do `chmod 600 %s`", f.Name(), f.Name())
	}
	return nil
}
