package lab

import (
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// cpioWriter writes an archive in the "newc" form that Linux takes as its
// initramfs (Documentation/driver-api/early-userspace/buffer-format.rst):
// headers of hexadecimal fields, names and contents padded to four bytes.
type cpioWriter struct {
	w     io.Writer
	inode int
	n     int64
	dirs  map[string]bool
	err   error
}

func newCPIO(w io.Writer) *cpioWriter {
	return &cpioWriter{w: w, dirs: map[string]bool{".": true, "/": true}}
}

func (c *cpioWriter) write(p []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.err = err
}

func (c *cpioWriter) pad() {
	if r := c.n % 4; r != 0 {
		c.write(make([]byte, 4-r))
	}
}

func (c *cpioWriter) entry(name string, mode uint32, body []byte) {
	c.inode++
	c.header(name, mode, c.inode, len(body))
	c.write(body)
	c.pad()
}

func (c *cpioWriter) header(name string, mode uint32, inode, size int) {
	// Fields: inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, check.
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0))
	c.write(append([]byte(name), 0))
	c.pad()
}

// dir writes a folder and those above it, once.
func (c *cpioWriter) dir(name string) {
	name = strings.TrimPrefix(path.Clean(name), "/")
	if name == "" || c.dirs[name] {
		return
	}
	c.dir(path.Dir(name))
	c.dirs[name] = true
	c.entry(name, unix.S_IFDIR|0o755, nil)
}

func (c *cpioWriter) file(name string, perm uint32, body []byte) {
	c.dir(path.Dir(name))
	c.entry(strings.TrimPrefix(name, "/"), unix.S_IFREG|perm, body)
}

func (c *cpioWriter) link(name, target string) {
	c.dir(path.Dir(name))
	c.entry(strings.TrimPrefix(name, "/"), unix.S_IFLNK|0o777, []byte(target))
}

// node writes a character device: the console must be there before the guest's
// own /dev is.
func (c *cpioWriter) node(name string, major, minor int) {
	c.dir(path.Dir(name))
	c.inode++
	name = strings.TrimPrefix(name, "/")
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.inode, unix.S_IFCHR|0o600, 0, 0, 1, 0, 0, 0, 0, major, minor, len(name)+1, 0))
	c.write(append([]byte(name), 0))
	c.pad()
}

// close ends the archive and returns the first error of all writes.
func (c *cpioWriter) close() error {
	c.header("TRAILER!!!", 0, 0, 0)
	if c.err != nil {
		return fmt.Errorf("write initramfs: %w", c.err)
	}
	return nil
}
