package files

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"holdfast/internal/host/backup"
)

// Entry is one file of the list.
type Entry struct {
	Path   string `json:"path"`             // absolute
	Type   string `json:"type"`             // file, dir, link, hard, pipe, char or block
	Size   int64  `json:"size,omitempty"`   // of a file, bytes, holes too
	SHA256 string `json:"sha256,omitempty"` // of a file's content, holes read as zeros; hex
	Target string `json:"target,omitempty"` // of a link; of a hard link the path that has the content
}

// packer writes one archive.
type packer struct {
	ctx      context.Context
	tar      *tar.Writer
	out      io.Writer // below tar, for what package tar can not write
	options  Options
	entries  []Entry
	first    map[node]string // files with several names, by the first that was met
	changed  []string
	sum      string
	size     int64
	buffer   []byte
	maxNotes int
}

type node struct{ dev, ino uint64 }

// notes are what a reader of the receipt should know.
func (p *packer) notes(t *surveyed) []string {
	var out []string
	if t.sockets > 0 {
		out = append(out, fmt.Sprintf("%d sockets are left out: their programs make them", t.sockets))
	}
	for i, f := range p.changed {
		if i == p.maxNotes {
			out = append(out, fmt.Sprintf("and %d more changed", len(p.changed)-i))
			break
		}
		out = append(out, "changed while it was read: "+f)
	}
	return out
}

// pack writes the archive and puts it on disk.
func pack(ctx context.Context, path string, o Options, t *surveyed) (_ *packer, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	count := &counter{w: io.MultiWriter(f, sum)}
	z, err := zstd.NewWriter(count, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	p := &packer{
		ctx: ctx, tar: tar.NewWriter(z), out: z, options: o, first: map[node]string{},
		buffer: make([]byte, 256<<10), maxNotes: 20,
	}
	err = p.all(t)
	if err == nil {
		err = p.tar.Close()
	}
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	p.sum, p.size = hex.EncodeToString(sum.Sum(nil)), count.n
	return p, nil
}

func (p *packer) all(t *surveyed) error {
	for _, root := range t.roots {
		if err := walk(p.ctx, root, p.one); err != nil {
			return err
		}
	}
	return nil
}

// one writes one entry.
func (p *packer) one(path string, info fs.FileInfo) error {
	if len(p.entries) >= p.options.MaxEntries {
		return fmt.Errorf("more than %d files and directories", p.options.MaxEntries)
	}
	h, err := header(path, info)
	if err != nil || h == nil {
		return err
	}
	e := Entry{Path: path, Type: kinds[h.Typeflag], Target: h.Linkname}
	if h.Typeflag != tar.TypeReg {
		p.entries = append(p.entries, e)
		return p.tar.WriteHeader(h)
	}
	st := info.Sys().(*syscall.Stat_t)
	if st.Nlink > 1 {
		if known, ok := p.first[node{st.Dev, st.Ino}]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, member(known), 0
			p.entries = append(p.entries, Entry{Path: path, Type: kinds[tar.TypeLink], Target: known})
			return p.tar.WriteHeader(h)
		}
	}
	e.Size = h.Size
	if e.SHA256, err = p.file(path, h, st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Nlink > 1 {
		p.first[node{st.Dev, st.Ino}] = path
	}
	p.entries = append(p.entries, e)
	return nil
}

// kinds are the types of members, and how the list calls them.
var kinds = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeSymlink: "link", tar.TypeLink: "hard",
	tar.TypeFifo: "pipe", tar.TypeChar: "char", tar.TypeBlock: "block",
}

// member is the name of a path in the archive.
func member(path string) string { return strings.TrimPrefix(path, "/") }

// header describes a path; nil: it is a socket.
func header(path string, info fs.FileInfo) (*tar.Header, error) {
	if info.Mode().Type() == fs.ModeSocket {
		return nil, nil
	}
	target := ""
	if info.Mode().Type() == fs.ModeSymlink {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	st := info.Sys().(*syscall.Stat_t)
	h := &tar.Header{
		Name: member(path), Linkname: target, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec), Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	switch info.Mode().Type() {
	case 0:
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		if info.Mode()&fs.ModeCharDevice != 0 {
			h.Typeflag = tar.TypeChar
		}
	default:
		return nil, fmt.Errorf("%s: a %v can not be backed up", path, info.Mode().Type())
	}
	return h, attributes(path, h.PAXRecords)
}

// file writes a regular file and gives its hash.
func (p *packer) file(path string, h *tar.Header, before *syscall.Stat_t) (_ string, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var opened, after syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &opened); err != nil {
		return "", err
	}
	if opened.Ino != before.Ino || opened.Dev != before.Dev || opened.Mode != before.Mode {
		return "", errors.New("it was replaced while it was read")
	}
	parts, err := extents(f, h.Size)
	if err != nil {
		return "", err
	}
	sum, short := sha256.New(), false
	if len(parts) == 1 && parts[0] == (extent{0, h.Size}) || h.Size == 0 {
		if err := p.tar.WriteHeader(h); err != nil {
			return "", err
		}
		short, err = p.copy(io.MultiWriter(p.tar, sum), f, extent{0, h.Size})
	} else {
		short, err = p.sparse(h, f, parts, sum)
	}
	if err != nil {
		return "", err
	}
	if err := syscall.Fstat(int(f.Fd()), &after); err != nil {
		return "", err
	}
	if short || after.Size != before.Size || after.Mtim != before.Mtim {
		if !p.options.Changing {
			return "", errors.New("it changed while it was read: stop what writes it, or allow that with `changing`")
		}
		p.changed = append(p.changed, path)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// copy writes one part of a file. When the file is shorter by now, zeros are
// written in place of what is missing, since the header has the size.
func (p *packer) copy(w io.Writer, f *os.File, part extent) (short bool, err error) {
	r := backup.Reader(p.ctx, io.NewSectionReader(f, part.at, part.size))
	n, err := io.CopyBuffer(onlyWriter{w}, r, p.buffer)
	if err != nil || n == part.size {
		return false, err
	}
	return true, zeros(w, part.size-n)
}

// onlyWriter hides what io.Copy would use in place of the buffer.
type onlyWriter struct{ io.Writer }

// zeros writes n zero bytes.
func zeros(w io.Writer, n int64) error {
	block := make([]byte, 64<<10)
	for n > 0 {
		k := min(n, int64(len(block)))
		if _, err := w.Write(block[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// hashHole adds a hole to a hash.
func hashHole(ctx context.Context, h hash.Hash, n int64) error {
	for n > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		k := min(n, 64<<20)
		if err := zeros(h, k); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
