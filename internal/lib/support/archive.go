package support

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"
)

// beside is how many parts are got at once.
const beside = 4

// Part is a file of an archive. Get may be slow, fail or hang: what it has written until
// then is kept, and what it writes later is not taken.
type Part struct {
	Name string
	Tail bool // of too much the end is kept, not the beginning
	Get  func(ctx context.Context, w io.Writer) error
}

// Options say what an archive is like.
type Options struct {
	Name   string        // of its directory
	Parts  []Part        // each has a name of its own
	Within time.Duration // for one part
	All    time.Duration // for all of them
	Most   int           // bytes of one part
	Total  int           // bytes of all parts
	Now    time.Time
	Known  []Secret // secrets that must not be in it
	Notes  []string // lines for the index
}

// Entry is what has become of a part.
type Entry struct {
	Name   string
	Bytes  int
	Why    string // what is missing of it; empty: nothing
	Normal bool   // that is as it should be: there is nothing to have
}

// ErrAbsent is the error of a part of something that this host does not have, and need not.
var ErrAbsent = errors.New("not there")

// indexName is the file that says what is in an archive and what is not.
const indexName = "index.txt"

// Write gets all parts and writes the archive. An error is one of w, or of ctx.
func Write(ctx context.Context, w io.Writer, o Options) ([]Entry, error) {
	short, cancel := context.WithTimeout(ctx, o.All)
	defer cancel()
	texts, entries := collect(short, o)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	put := func(name string, text []byte) error {
		h := &tar.Header{Name: path.Join(o.Name, name), Mode: 0o600, Size: int64(len(text)), ModTime: o.Now, Typeflag: tar.TypeReg}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		_, err := out.Write(text)
		return err
	}
	err := put(indexName, NewRedactor(o.Known).Pass(index(o, entries)))
	for i, text := range texts {
		if err == nil && len(text) > 0 {
			err = put(entries[i].Name, text)
		}
	}
	return entries, cmp.Or(err, out.Close(), zip.Close())
}

// index lists the parts, and what is missing.
func index(o Options, entries []Entry) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, made at %s\n", o.Name, o.Now.UTC().Format(time.RFC3339))
	b.WriteString("Passwords and keys are removed: where one was it says " + removed + ".\n")
	for _, n := range o.Notes {
		b.WriteString(strings.Join(strings.Fields(n), " ") + "\n")
	}
	b.WriteByte('\n')
	for _, e := range entries {
		fmt.Fprintf(&b, "%9d  %s", e.Bytes, e.Name)
		if e.Why != "" {
			b.WriteString(": " + strings.Join(strings.Fields(e.Why), " "))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// collect gets all parts, without their secrets.
func collect(ctx context.Context, o Options) ([][]byte, []Entry) {
	red := NewRedactor(o.Known)
	texts, entries := make([][]byte, len(o.Parts)), make([]Entry, len(o.Parts))
	room := make(chan struct{}, beside)
	var all sync.WaitGroup
	for i, p := range o.Parts {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			texts[i], entries[i] = get(ctx, o, p, red)
		})
	}
	all.Wait()
	left := o.Total
	for i := range texts {
		if len(texts[i]) > left {
			texts[i], entries[i].Why = nil, fmt.Sprintf("left out: the archive has %d MiB already", o.Total>>20)
		}
		left -= len(texts[i])
		entries[i].Bytes = len(texts[i])
		entries[i].Why = string(red.Pass([]byte(entries[i].Why)))
	}
	return texts, entries
}

// get gets one part.
func get(ctx context.Context, o Options, p Part, red *Redactor) ([]byte, Entry) {
	ctx, cancel := context.WithTimeout(ctx, o.Within)
	defer cancel()
	s := &sink{most: o.Most, tail: p.Tail}
	ended := make(chan error, 1) // what hangs is left behind
	go func() { ended <- p.Get(ctx, s) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = errors.New("it does not answer in time")
	}
	text, cut := s.close(red)
	e := Entry{Name: p.Name}
	switch {
	case errors.Is(err, ErrAbsent) && len(text) > 0: // what it has says so
	case errors.Is(err, ErrAbsent):
		e.Why, e.Normal = err.Error(), true
	case err != nil && !errors.Is(err, errFull):
		e.Why = "not complete: " + err.Error()
		if len(text) == 0 {
			e.Why = "not available: " + err.Error()
		}
	case cut && p.Tail:
		e.Why = "the beginning is left out"
	case cut:
		e.Why = "the end is left out"
	case len(text) == 0:
		e.Why, e.Normal = "empty", true
	}
	return text, e
}

var errFull = errors.New("more than is taken of a part")

// sink takes what a part writes. It takes more than is kept, so that a secret on the
// border is seen as a whole.
type sink struct {
	mu     sync.Mutex
	most   int
	tail   bool
	buf    []byte
	lost   bool // bytes were dropped
	closed bool
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errFull
	}
	s.buf = append(s.buf, p...)
	switch limit := 2 * s.most; {
	case len(s.buf) <= limit:
	case s.tail:
		s.buf = append(s.buf[:0], s.buf[len(s.buf)-limit:]...)
		s.lost = true
	default:
		s.buf, s.lost, s.closed = s.buf[:limit], true, true
		return 0, errFull
	}
	return len(p), nil
}

// close returns what is kept, without secrets, in whole lines.
func (s *sink) close(red *Redactor) (text []byte, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	text, cut = s.buf, s.lost
	if s.lost { // half a line may begin or end with half a secret
		text = whole(text, s.tail)
	}
	text = red.Pass(text)
	if len(text) <= s.most {
		return text, cut
	}
	if s.tail {
		return whole(text[len(text)-s.most:], true), true
	}
	return whole(text[:s.most], false), true
}

// whole drops the part of a line at one end.
func whole(text []byte, tail bool) []byte {
	if tail {
		return text[bytes.IndexByte(text, '\n')+1:]
	}
	return text[:bytes.LastIndexByte(text, '\n')+1]
}
