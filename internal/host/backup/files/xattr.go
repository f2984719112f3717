package files

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrKey is how archives name an extended attribute.
const xattrKey = "SCHILY.xattr."

// attributes reads the extended attributes of a path, links not followed. POSIX
// access control lists and file capabilities are among them.
func attributes(path string, into map[string]string) error {
	names, err := sized(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: list extended attributes: %w", path, err)
	}
	for n := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		key := string(n)
		if key == "" {
			continue
		}
		value, err := sized(func(b []byte) (int, error) { return unix.Lgetxattr(path, key, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return fmt.Errorf("%s: read extended attribute %s: %w", path, key, err)
		}
		if strings.Contains(key, "=") { // it ends a name in the archive
			return fmt.Errorf("%s: extended attribute %q can not be archived", path, key)
		}
		into[xattrKey+key] = string(value)
	}
	return nil
}

// sized calls f with a buffer that is large enough for its answer.
func sized(f func([]byte) (int, error)) ([]byte, error) {
	for range 10 {
		n, err := f(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = f(b)
		if errors.Is(err, unix.ERANGE) {
			continue // it has grown
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
	return nil, unix.ERANGE
}

// setAttributes writes the extended attributes of an archive's member. An access
// control list that the file has got from its new directory is taken away.
func setAttributes(path string, records map[string]string) error {
	for _, key := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		if _, ours := records[xattrKey+key]; ours {
			continue
		}
		err := unix.Lremovexattr(path, key)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("remove extended attribute %s: %w", key, err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(records)) {
		key, ok := strings.CutPrefix(k, xattrKey)
		if !ok {
			continue
		}
		if err := unix.Lsetxattr(path, key, []byte(records[k]), 0); err != nil {
			return fmt.Errorf("write extended attribute %s: %w", key, err)
		}
	}
	return nil
}
