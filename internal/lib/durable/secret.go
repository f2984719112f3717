package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// maxBytes bounds a secret.
const maxBytes = 1024

// ReadSecret returns a file's content without a trailing newline. It refuses a file that
// others may read, that is no regular one, is empty or longer than 1 KiB. Opening does
// not block, so that a pipe put there by mistake holds nobody up. No error has the
// secret in it.
func ReadSecret(path string) (string, error) { return ReadSecretUpTo(path, maxBytes) }

// ReadSecretUpTo is ReadSecret with another limit, in bytes.
func ReadSecretUpTo(path string, most int64) (text string, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("others may read %s: do `chmod 600 %s`", path, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", err
	}
	if int64(len(b)) > most {
		return "", fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 {
		return "", fmt.Errorf("%s is empty", path)
	}
	return string(b), nil
}
