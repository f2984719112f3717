package action

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/action/filetree"
	"holdfast/internal/host/action/program"
)

// Bundle is an unpacked bundle. Nothing of it is used that is not as its manifest
// says.
type Bundle struct {
	Dir   string          // absolute
	Files map[string]File // by path in the bundle: those of all modules
}

// File is what the manifest says of a file.
type File struct {
	Size   int64  // bytes
	SHA256 string // 64 lower-case hex digits
	Mode   uint32 // permissions
}

// open opens a listed file by a path without links.
func (b *Bundle) open(name string) (*os.File, File, error) {
	want, ok := b.Files[name]
	if !ok {
		return nil, File{}, fmt.Errorf("%s: the manifest does not list it", name)
	}
	dir, err := unix.Open(b.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, File{}, fmt.Errorf("open the bundle %s: %w", b.Dir, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, File{}, fmt.Errorf("open %s of the bundle: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), filepath.Join(b.Dir, name))
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, File{}, errors.Join(fmt.Errorf("look at %s of the bundle: %w", name, err), f.Close())
	}
	return f, want, nil
}

// program returns a program of the bundle as the helper checks it right before it
// is run. That it is listed, runnable and reached without links is checked here.
func (b *Bundle) program(name string) (program.File, error) {
	f, want, err := b.open(name)
	if err != nil {
		return program.File{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return program.File{}, fmt.Errorf("look at %s of the bundle: %w", name, err)
	}
	if want.Mode&0o100 == 0 || info.Mode()&0o100 == 0 {
		return program.File{}, fmt.Errorf("%s of the bundle is no program: mode %04o, the manifest says %04o", name,
			info.Mode().Perm(), want.Mode)
	}
	return program.File{Path: f.Name(), Size: want.Size, SHA256: want.SHA256}, nil
}

// Verify compares a file with the manifest and returns its absolute path.
func (b *Bundle) Verify(ctx context.Context, name string) (string, error) {
	f, want, err := b.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, &reader{ctx, f})
	if err != nil {
		return "", fmt.Errorf("read %s of the bundle: %w", name, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != want.Size || got != want.SHA256 {
		return "", fmt.Errorf("%s of the bundle is not what the manifest says: %d bytes with the hash %s, "+
			"want %d with %s", name, n, got, want.Size, want.SHA256)
	}
	return f.Name(), nil
}

// reader reads until its context ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// tree returns the files that the manifest lists below a directory, by their path
// in it.
func (b *Bundle) tree(dir string) map[string]filetree.File {
	out := map[string]filetree.File{}
	for name, f := range b.Files {
		if rel, ok := strings.CutPrefix(name, dir+"/"); ok {
			out[rel] = filetree.File{Size: f.Size, SHA256: f.SHA256}
		}
	}
	return out
}
