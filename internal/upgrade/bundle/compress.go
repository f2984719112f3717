package bundle

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Compression of a bundle.
type Compression string

// Compressions.
const (
	Zstd Compression = "zstd"
	Gzip Compression = "gzip"
	None Compression = "none"
)

// CompressionOf returns the compression that a file's name asks for.
func CompressionOf(name string) (Compression, error) {
	for _, s := range []struct {
		suffix string
		c      Compression
	}{{".hfb", Zstd}, {".tar.gz", Gzip}, {".tgz", Gzip}, {".tar", None}} {
		if strings.HasSuffix(name, s.suffix) {
			return s.c, nil
		}
	}
	return "", fmt.Errorf("file name %q: want one that ends in .hfb (zstd), .tgz or .tar.gz (gzip), or .tar", name)
}

// compress returns a writer of compressed data; closing it does not close w.
func compress(w io.Writer, c Compression) (io.WriteCloser, error) {
	switch c {
	case Zstd:
		// One thread and a fixed window: the same input gives the same bytes.
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxWindow/2))
		if err != nil {
			return nil, fmt.Errorf("begin zstd: %w", err)
		}
		return z, nil
	case Gzip:
		return gzip.NewWriter(w), nil
	case None:
		return struct {
			io.Writer
			io.Closer
		}{w, nopCloser{}}, nil
	}
	return nil, fmt.Errorf("compression %q: want zstd, gzip or none", c)
}

// expanded is the data behind a compression. Its end must be checked by
// finish, after everything was read.
type expanded struct {
	io.Reader
	packed *bufio.Reader
	close  func()
}

// expand finds the compression by its magic number.
func expand(packed *bufio.Reader) (*expanded, error) {
	// Of a shorter file the rest is zero; the tar reader refuses it.
	magic, err := packed.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	e := &expanded{Reader: packed, packed: packed, close: func() {}}
	switch {
	case len(magic) == 0:
		return nil, refuse("", "the file is empty")
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(&oneFrame{packed: packed}, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		e.Reader, e.close = z, z.Close
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		g, err := gzip.NewReader(packed)
		if err != nil {
			return nil, err
		}
		g.Multistream(false) // what comes after it is not ours
		e.Reader = g
	case bytes.HasPrefix(magic, []byte("BZh")):
		return nil, refuse("", "it is compressed with bzip2; want zstd, gzip or a plain tar")
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, refuse("", "it is compressed with xz; want zstd, gzip or a plain tar")
	}
	return e, nil
}

// finish refuses what comes after the compressed data.
func (e *expanded) finish() error {
	_, err := e.packed.Peek(1)
	switch {
	case err == nil:
		return refuse("", "there is more data after the end of the bundle")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// oneFrame passes exactly one zstd frame on. The library would go on with the
// next one, and skip frames that hold anything, so that data could hide there.
type oneFrame struct {
	packed   *bufio.Reader
	left     int64 // bytes of the part at hand
	next     framePart
	checksum bool
}

// framePart is a part of a zstd frame (RFC 8878, section 3.1.1).
type framePart int

const (
	frameHeader framePart = iota
	frameBlock
	frameChecksum
	frameEnd
)

// Read passes bytes of the frame on.
func (f *oneFrame) Read(p []byte) (int, error) {
	for f.left == 0 {
		if f.next == frameEnd {
			return 0, io.EOF
		}
		if err := f.advance(); err != nil {
			return 0, unexpected(err)
		}
	}
	n, err := f.packed.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, unexpected(err)
}

// unexpected makes the end of a file that is not done an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// advance measures the next part.
func (f *oneFrame) advance() error {
	switch f.next {
	case frameHeader:
		head, err := f.packed.Peek(5)
		if err != nil {
			return err
		}
		d := head[4]
		f.checksum = d&4 != 0
		single := d&0x20 != 0
		f.left = 5 + int64([]int{0, 1, 2, 4}[d&3]) + int64([]int{0, 2, 4, 8}[d>>6])
		if !single || d>>6 == 0 {
			f.left++ // the window, or the content size in one byte
		}
		f.next = frameBlock
	case frameBlock:
		head, err := f.packed.Peek(3)
		if err != nil {
			return err
		}
		n := int64(head[0]) | int64(head[1])<<8 | int64(head[2])<<16
		f.left = 3 + n>>3
		if n>>1&3 == 1 { // one byte, repeated
			f.left = 4
		}
		if n&1 == 1 {
			f.next = frameChecksum
		}
	case frameChecksum:
		f.next = frameEnd
		if f.checksum {
			f.left = 4
		}
	}
	return nil
}

// nopCloser has nothing to close.
type nopCloser struct{}

// Close does nothing.
func (nopCloser) Close() error { return nil }
