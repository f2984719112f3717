package files

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// extent is a part of a file that holds data, bytes.
type extent struct{ at, size int64 }

// maxExtents bounds the parts of one file: beyond it the holes between the rest
// are written as zeros.
const maxExtents = 64 << 10

// extents asks the file system where the data of a file is. Without an answer all
// of it is data.
func extents(f *os.File, size int64) ([]extent, error) {
	var out []extent
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) || err == nil && len(out) == maxExtents {
			return append(out, extent{at, size - at}), nil
		}
		if err != nil {
			return nil, fmt.Errorf("look for holes: %w", err)
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("look for holes: %w", err)
		}
		if data >= size {
			break // it has grown
		}
		out = append(out, extent{data, min(hole, size) - data})
		at = hole
	}
	return out, nil
}

// sparse writes a file with holes in the form that GNU tar calls PAX 1.0: the
// member's data begins with a map of the parts, and its real name and size are in
// the extended header. Package tar reads this form but does not write it.
func (p *packer) sparse(h *tar.Header, f *os.File, parts []extent, sum hash.Hash) (short bool, err error) {
	if last := len(parts) - 1; last < 0 || parts[last].at+parts[last].size < h.Size {
		parts = append(parts, extent{h.Size, 0}) // tells where the file ends
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "%d\n", len(parts))
	stored := int64(0)
	for _, x := range parts {
		fmt.Fprintf(&table, "%d\n%d\n", x.at, x.size)
		stored += x.size
	}
	pad(&table)
	stored += int64(table.Len())
	if err := p.tar.Flush(); err != nil {
		return false, err
	}
	head := sparseHeader(h, stored)
	if _, err := p.out.Write(append(head, table.Bytes()...)); err != nil {
		return false, err
	}
	at := int64(0)
	for _, x := range parts {
		if err := hashHole(p.ctx, sum, x.at-at); err != nil {
			return false, err
		}
		cut, err := p.copy(io.MultiWriter(p.out, sum), f, x)
		if err != nil {
			return false, err
		}
		short, at = short || cut, x.at+x.size
	}
	return short, zeros(p.out, -stored&511)
}

// sparseHeader is the extended header and the header of a file with holes.
func sparseHeader(h *tar.Header, stored int64) []byte {
	var records bytes.Buffer
	add := func(k, v string) { records.WriteString(record(k, v)) }
	add("GNU.sparse.major", "1")
	add("GNU.sparse.minor", "0")
	add("GNU.sparse.name", h.Name)
	add("GNU.sparse.realsize", strconv.FormatInt(h.Size, 10))
	add("size", strconv.FormatInt(stored, 10))
	add("uid", strconv.Itoa(h.Uid))
	add("gid", strconv.Itoa(h.Gid))
	add("mtime", fmt.Sprintf("%d.%09d", h.ModTime.Unix(), h.ModTime.Nanosecond()))
	keys := make([]string, 0, len(h.PAXRecords))
	for k := range h.PAXRecords {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		add(k, h.PAXRecords[k])
	}
	size := int64(records.Len())
	pad(&records)
	out := block(tar.TypeXHeader, size, 0o644)
	out = append(out, records.Bytes()...)
	return append(out, block(tar.TypeReg, stored, h.Mode)...)
}

// record is one record of an extended header: its own length comes first.
func record(k, v string) string {
	rest := " " + k + "=" + v + "\n"
	n := len(rest)
	for {
		length := len(strconv.Itoa(n)) + len(rest)
		if length == n {
			return strconv.Itoa(n) + rest
		}
		n = length
	}
}

// block is a header of 512 bytes. What does not fit into it is in the extended
// header.
func block(kind byte, size, mode int64) []byte {
	b := make([]byte, 512)
	octal := func(from, width int, v int64) {
		if limit := int64(1) << (3 * (width - 1)); v < 0 || v >= limit {
			v = 0
		}
		copy(b[from:], fmt.Sprintf("%0*o\x00", width-1, v))
	}
	copy(b, "GNUSparseFile.0/file")
	octal(100, 8, mode)
	octal(108, 8, 0)
	octal(116, 8, 0)
	octal(124, 12, size)
	octal(136, 12, 0)
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	copy(b[148:], "        ") // the sum counts its own field as spaces
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// pad fills up to a multiple of 512 bytes.
func pad(b *bytes.Buffer) {
	if rest := b.Len() % 512; rest != 0 {
		b.Write(make([]byte, 512-rest))
	}
}
