package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"aead.dev/minisign"
	"github.com/klauspost/compress/zstd"
)

const (
	block    = 512      // bytes of a tar block
	endMark  = 2 * 512  // zero bytes after the last member
	maxHead  = 64 << 10 // bytes before a member's content that are looked at
	perFile  = 8 << 10  // bytes that a member's header may cost
	baseCost = 64 << 10 // bytes that a bundle may have besides its members
)

var errTooMuch = errors.New("more data than announced")

// input is the raw file. It ends with ctx, and tells its own errors from those
// of what was read.
type input struct {
	ctx context.Context
	r   io.Reader
	err error
}

// Read reads the raw file.
func (in *input) Read(p []byte) (int, error) {
	if in.err == nil {
		in.err = in.ctx.Err()
	}
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		in.err = err
	}
	return n, err
}

// tape sits below the tar reader. It counts what is left to read, and records
// the bytes between two contents.
type tape struct {
	r    io.Reader
	left int64
	on   bool
	head []byte
}

// Read reads tar data.
func (t *tape) Read(p []byte) (int, error) {
	if t.left == 0 {
		return 0, errTooMuch
	}
	n, err := t.r.Read(p[:min(int64(len(p)), t.left)])
	t.left -= int64(n)
	if t.on && len(t.head) <= maxHead {
		t.head = append(t.head, p[:n]...)
	}
	return n, err
}

// stream is a package that is being read, once from front to end.
type stream struct {
	in   *input
	all  *minisign.Reader // hashes the raw file
	data *expanded
	tape *tape
	tr   *tar.Reader
	last string // the member that was read last
	pad  int    // zero bytes that follow it
}

// open begins to read. The caller calls close.
func open(ctx context.Context, r io.Reader) (*stream, error) {
	s := &stream{in: &input{ctx: ctx, r: r}}
	s.all = minisign.NewReader(s.in)
	var err error
	if s.data, err = expand(bufio.NewReaderSize(s.all, 64<<10)); err != nil {
		return nil, s.because("", err)
	}
	s.tape = &tape{r: s.data, left: maxManifest + maxSignature + baseCost}
	s.tr = tar.NewReader(s.tape)
	return s, nil
}

func (s *stream) close() { s.data.close() }

// because turns an error of reading into what it means for the caller: the file
// could not be read, or it is refused.
func (s *stream) because(member string, err error) error {
	if r := (*Refusal)(nil); errors.As(err, &r) {
		return r
	}
	if s.in.err != nil {
		return fmt.Errorf("read the bundle: %w", s.in.err)
	}
	after := ""
	if member == "" && s.last != "" {
		after = " after " + shown(s.last)
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return refuse(member, "it is truncated%s: copy or download it again", after)
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return refuse(member, "its zstd frame needs a window of more than %d MiB", maxWindow>>20)
	case errors.Is(err, errTooMuch):
		return refuse(member, "it unpacks to more data than it may%s", after)
	}
	return refuse(member, "it is damaged%s: copy or download it again (%v)", after, err)
}

// next returns the header of the next member, nil at the end. Besides regular
// files it may be of the other types.
func (s *stream) next(other ...byte) (*tar.Header, error) {
	s.tape.on, s.tape.head = true, s.tape.head[:0]
	h, err := s.tr.Next()
	s.tape.on = false
	if errors.Is(err, io.EOF) {
		return nil, s.ended()
	}
	if err != nil {
		return nil, s.because("", err)
	}
	if why, ok := kindFault(h); !ok && !slices.Contains(other, h.Typeflag) {
		return nil, refuse(h.Name, "it is %s, want regular files only", why)
	}
	return h, nil
}

// ended checks that the tar has its end mark, and zeros before it.
func (s *stream) ended() error {
	head := s.tape.head
	if len(head) != s.pad+endMark || len(bytes.Trim(head[s.pad:], "\x00")) > 0 {
		return s.because("", io.ErrUnexpectedEOF)
	}
	if len(bytes.Trim(head, "\x00")) > 0 {
		return refuse(s.last, "there is data between its content and the next member")
	}
	return nil
}

// kindFault names what a member is when it is no file.
func kindFault(h *tar.Header) (string, bool) {
	switch h.Typeflag {
	case tar.TypeReg:
		return "", true
	case tar.TypeDir:
		return "a directory", false
	case tar.TypeSymlink:
		return fmt.Sprintf("a symbolic link to %q", h.Linkname), false
	case tar.TypeLink:
		return fmt.Sprintf("a hard link to %q", h.Linkname), false
	case tar.TypeChar, tar.TypeBlock:
		return "a device", false
	case tar.TypeFifo:
		return "a pipe", false
	case tar.TypeXGlobalHeader:
		return "a global header", false
	case tar.TypeGNUSparse:
		return "a sparse file", false
	}
	return fmt.Sprintf("of the unknown type %q", h.Typeflag), false
}

// canonical checks that everything since the last content is exactly what Build
// writes before a member: no byte is left that could mean something else to
// another reader.
func (s *stream) canonical(h *tar.Header) error {
	head, err := header(h.Name, h.Size, h.Mode)
	if err != nil {
		return refuse(h.Name, "its tar header can not be written again: %v", err)
	}
	if want := append(make([]byte, s.pad), head...); !bytes.Equal(want, s.tape.head) {
		return refuse(h.Name, "its tar header is not as bundle build writes it")
	}
	return nil
}

// header returns the tar header of a file as Build writes it.
func header(name string, size, mode int64) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: mode, ModTime: time.Unix(0, 0),
	})
	return b.Bytes(), err
}

// done notes that the content of h was read to its end.
func (s *stream) done(h *tar.Header) {
	s.last = h.Name
	s.pad = int(-h.Size & (block - 1))
}

// small reads a member into memory.
func (s *stream) small(h *tar.Header, limit int64) ([]byte, error) {
	if h.Size == 0 || h.Size > limit {
		return nil, refuse(h.Name, "it has %d bytes, want 1 to %d", h.Size, limit)
	}
	data, err := io.ReadAll(s.tr)
	if err != nil {
		return nil, s.because(h.Name, err)
	}
	s.done(h)
	return data, nil
}

// end checks that nothing follows the last member; zeros may when padded.
func (s *stream) end(padded bool) error {
	buf := make([]byte, 32<<10)
	s.tape.left = max(s.tape.left, 1)
	for {
		n, err := s.tape.Read(buf)
		if n > 0 && (!padded || len(bytes.Trim(buf[:n], "\x00")) > 0) {
			return refuse("", "there is more data after the end of the bundle")
		}
		if errors.Is(err, io.EOF) {
			err = s.data.finish()
			if err == nil {
				return nil
			}
		}
		if err != nil {
			return s.because("", err)
		}
	}
}

// content reads one member's content and keeps the error of reading apart from
// those of whoever takes the data.
type content struct {
	r   io.Reader
	err error
}

// Read reads content.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}
