package filetree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
)

// copyTree copies Source to the stage and puts all of it on disk. Modes, links,
// times and extended attributes are those of the source. Bundles have no owners,
// no modes of directories and no labels, so these are taken from what is at the
// same place of the old tree; a new file gets the owner of its directory.
func (s *Swap) copyTree(ctx context.Context) error {
	c := &copier{s: s, owner: map[string][2]int{}}
	err := filepath.WalkDir(s.Source, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(s.Source, path)
		if err != nil {
			return err
		}
		return c.entry(rel)
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", s.Source, err)
	}
	if s.Files != nil && c.files != len(s.Files) {
		return fmt.Errorf("copy %s: it has %d files, the manifest lists %d", s.Source, c.files, len(s.Files))
	}
	// Directories last, the deepest first: to fill one changes it.
	for i := len(c.dirs) - 1; i >= 0; i-- {
		if err := c.finishDir(c.dirs[i]); err != nil {
			return fmt.Errorf("copy %s: %w", s.Source, err)
		}
	}
	return durable.SyncDir(filepath.Dir(s.stage()))
}

type copier struct {
	s     *Swap
	files int
	dirs  []string          // relative, parents first
	owner map[string][2]int // of directories
}

// entry copies one file, link or directory.
func (c *copier) entry(rel string) error {
	src, dst := filepath.Join(c.s.Source, rel), filepath.Join(c.s.stage(), rel)
	var st, was unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return fmt.Errorf("look at %s: %w", src, err)
	}
	err := unix.Lstat(filepath.Join(c.s.Target, rel), &was)
	there := err == nil
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("look at %s: %w", filepath.Join(c.s.Target, rel), err)
	}
	own := [2]int{int(st.Uid), int(st.Gid)}
	if up, ok := c.owner[filepath.Dir(rel)]; ok && rel != "." {
		own = up
	}
	if there {
		own = [2]int{int(was.Uid), int(was.Gid)}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		c.owner[rel] = own
		c.dirs = append(c.dirs, rel)
		err = os.Mkdir(dst, 0o700)
	case unix.S_IFREG:
		c.files++
		err = c.file(rel, src, dst)
	case unix.S_IFLNK:
		var to string
		if to, err = os.Readlink(src); err == nil {
			err = os.Symlink(to, dst)
		}
	default:
		err = fmt.Errorf("%s is neither a file, nor a directory, nor a link", src)
	}
	if err != nil {
		return err
	}
	// The owner first: to change it takes capabilities away.
	if err := os.Lchown(dst, own[0], own[1]); err != nil {
		return fmt.Errorf("give %s to its owner: %w", dst, err)
	}
	return c.attributes(rel, src, dst, there)
}

// file copies the content and checks it on its way.
func (c *copier) file(rel, src, dst string) error {
	in, err := os.OpenFile(src, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	if err == nil && c.s.Files != nil {
		want, ok := c.s.Files[rel]
		if got := hex.EncodeToString(h.Sum(nil)); !ok || want.Size != n || want.SHA256 != got {
			err = fmt.Errorf("%s is not what the manifest says", src)
		}
	}
	return errors.Join(err, out.Close())
}

// label is the attribute that SELinux decides by: that of the place, not that of
// the directory into which the bundle was unpacked.
const label = "security.selinux"

// attributes copies extended attributes, and what else an entry has but its
// content, and puts a file on disk.
func (c *copier) attributes(rel, src, dst string, there bool) error {
	list, err := xattrs(src)
	if err != nil {
		return fmt.Errorf("list attributes of %s: %w", src, err)
	}
	for _, name := range list {
		if name == label {
			continue
		}
		if err := copyXattr(src, dst, name); err != nil {
			return err
		}
	}
	if there {
		err := copyXattr(filepath.Join(c.s.Target, rel), dst, label)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	info, err := os.Lstat(src)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 || info.IsDir() {
		return nil // a link has no mode; a directory gets its own at the end
	}
	return c.finish(dst, info.Mode(), info)
}

// finish sets mode and time and puts an entry on disk.
func (c *copier) finish(dst string, mode fs.FileMode, times fs.FileInfo) error {
	if err := os.Chmod(dst, mode); err != nil {
		return err
	}
	if err := os.Chtimes(dst, times.ModTime(), times.ModTime()); err != nil {
		return err
	}
	f, err := os.OpenFile(dst, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("put %s on disk: %w", dst, err)
	}
	return nil
}

func (c *copier) finishDir(rel string) error {
	info, err := os.Lstat(filepath.Join(c.s.Source, rel))
	if err != nil {
		return err
	}
	mode := info.Mode()
	if was, err := os.Lstat(filepath.Join(c.s.Target, rel)); err == nil && was.IsDir() {
		mode = was.Mode()
	}
	return c.finish(filepath.Join(c.s.stage(), rel), mode, info)
}

// xattrs returns the names of the attributes of an entry; a link is not followed.
func xattrs(path string) ([]string, error) {
	buf := make([]byte, 64<<10) // the kernel's limit
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for name := range bytes.SplitSeq(buf[:n], []byte{0}) {
		if len(name) > 0 && !strings.HasPrefix(string(name), "trusted.overlay.") {
			out = append(out, string(name))
		}
	}
	return out, nil
}

func copyXattr(src, dst, name string) error {
	value := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(src, name, value)
	if err == nil {
		err = unix.Lsetxattr(dst, name, value[:n], 0)
	}
	if err != nil {
		return fmt.Errorf("copy attribute %s of %s: %w", name, src, err)
	}
	return nil
}
