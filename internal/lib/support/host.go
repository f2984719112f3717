package support

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// killWait is how long the output of a program that was ended is waited for.
const killWait = time.Second

// Output is the part that has what a program prints.
func Output(name string, tail bool, program string, args ...string) Part {
	return Part{Name: name, Tail: tail, Get: func(ctx context.Context, w io.Writer) error {
		cmd := exec.CommandContext(ctx, program, args...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = w, &said, killWait
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		err := cmd.Run()
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not end", program)
		}
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("%w: the program %s", ErrAbsent, program)
		}
		if err != nil && said.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
		}
		return err
	}}
}

// Absent is the part for which an error with one of these texts means that there is nothing to have.
func Absent(p Part, texts ...string) Part {
	get := p.Get
	p.Get = func(ctx context.Context, w io.Writer) error {
		err := get(ctx, w)
		if err != nil && slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(err.Error(), t) }) {
			return fmt.Errorf("%w: %w", ErrAbsent, err)
		}
		return err
	}
	return p
}

// File is the part that has a file.
func File(name, path string) Part {
	return Part{Name: name, Get: func(_ context.Context, w io.Writer) error { return copyFile(w, path) }}
}

// Files are the parts that have the files which match a pattern, newest first, below a
// directory of the archive: those that have changed since a time, most at most. One that
// is compressed is unpacked. Of a long file the end is kept.
func Files(dir, pattern string, since time.Time, most int) []Part {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return []Part{{Name: dir, Get: func(context.Context, io.Writer) error { return err }}}
	}
	type file struct {
		path string
		at   time.Time
	}
	var files []file
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.ModTime().After(since) {
			files = append(files, file{p, info.ModTime()})
		}
	}
	slices.SortStableFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	var out []Part
	for _, f := range files[:min(len(files), most)] {
		name := strings.TrimSuffix(filepath.Base(f.path), ".gz")
		out = append(out, Part{Name: dir + "/" + name, Tail: true,
			Get: func(_ context.Context, w io.Writer) error { return copyFile(w, f.path) }})
	}
	return out
}

// copyFile writes what a regular file has.
func copyFile(w io.Writer, path string) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() && !strings.HasPrefix(path, "/proc/") {
		return fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	_, err = io.Copy(w, r)
	return err
}
