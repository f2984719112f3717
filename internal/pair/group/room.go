package group

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// full says that less than a hundredth of the file system of a directory is free, "" when more is, or
// when nobody can tell.
func full(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Bavail >= fs.Blocks/100 {
		return ""
	}
	return fmt.Sprintf("the file system of %s is full: %d MB of %d are free", dir, fs.Bavail*uint64(fs.Bsize)/1e6, fs.Blocks*uint64(fs.Bsize)/1e6)
}

// Full says that the file system has no room, "" when it has, or is not mounted.
func (m *Mount) Full() string {
	if n, _, err := m.mounted(); err != nil || n != 1 {
		return ""
	}
	return full(m.Dir)
}
