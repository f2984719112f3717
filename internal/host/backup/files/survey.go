package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"holdfast/internal/host/backup"
)

// surveyed is what the paths hold before the backup begins.
type surveyed struct {
	roots   []string
	absent  []string
	each    []int64 // bytes on disk of each root
	bytes   int64   // of all
	entries int
	sockets int
}

// survey counts, and finds what can not be backed up before anything is written.
func survey(ctx context.Context, o Options) (*surveyed, error) {
	t := &surveyed{}
	var data int64
	for _, root := range o.Paths {
		there, err := backup.Exists(root)
		if err != nil {
			return nil, err
		}
		if !there {
			if !o.Missing {
				return nil, fmt.Errorf("%s: %w", root, fs.ErrNotExist)
			}
			t.absent = append(t.absent, root)
			continue
		}
		t.roots = append(t.roots, root)
		if at, err := backup.IsMountPoint(root); err != nil || at {
			return nil, errors.Join(fmt.Errorf("%s is a mount point and can not be replaced as a whole: name what is in it", root), err)
		}
		before := t.bytes
		err = walk(ctx, root, func(_ string, info fs.FileInfo) error {
			st := info.Sys().(*syscall.Stat_t)
			t.entries++
			t.bytes += st.Blocks * 512
			if info.Mode().IsRegular() {
				data += info.Size()
			}
			if info.Mode().Type() == fs.ModeSocket {
				t.sockets++
			}
			switch {
			case t.entries > o.MaxEntries:
				return fmt.Errorf("more than %d files and directories", o.MaxEntries)
			case data > o.MaxBytes:
				return fmt.Errorf("more than %d bytes", o.MaxBytes)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		t.each = append(t.each, t.bytes-before)
	}
	return t, nil
}

// walk calls f for the path and all below it, a directory before what is in it.
// It refuses mount points below the path.
func walk(ctx context.Context, root string, f func(path string, info fs.FileInfo) error) error {
	mount, err := backup.MountID(root)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if d.IsDir() || d.Type().IsRegular() { // something may be mounted on both
			if here, err := backup.MountID(path); err != nil || here != mount {
				return errors.Join(fmt.Errorf("%s: something else is mounted there: name what is beside it", path), err)
			}
		}
		if strings.Contains(path, "\n") || strings.ContainsRune(path, 0) {
			return fmt.Errorf("%q: names with line breaks can not be backed up", path)
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		return f(path, info)
	})
}
