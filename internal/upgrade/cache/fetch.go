package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/clock"
	"holdfast/internal/upgrade/bundle"
)

// Source opens a bundle's file on another host from an offset on. size is that
// of the whole file in bytes, 0 or less when it is not known. Reading ends with
// ctx. An error that wraps ErrOffset says that the file is shorter.
type Source func(ctx context.Context, offset int64) (r io.ReadCloser, size int64, err error)

// SourceError is an error of a source: another one may do better.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// ErrWrong is wrapped by a SourceError when what a source gave has another hash.
var ErrWrong = errors.New("the source gave something else")

var errStalled = errors.New("the source sends nothing")

// fetchTries is how often in a row a source is asked of which less than
// fetchEnough bytes come.
const (
	fetchTries  = 4
	fetchEnough = 1 << 20
)

// Fetch brings the bundle's file from a source, unless it is here. It goes on
// where an earlier fetch was cut off, and after breaks. note, which may be nil, is
// told how many bytes are here, of how many; 0 when that is not known. Errors of
// the source are a *SourceError.
func (d *Cache) Fetch(ctx context.Context, sha string, from Source, note func(done, total int64)) error {
	return d.fetch(ctx, sha, from, nil, note)
}

// fetch is Fetch that gives a slow source up, with a slowError in the SourceError,
// when better says that another one may be better than so many bytes a second.
func (d *Cache) fetch(ctx context.Context, sha string, from Source, better func(rate int64) bool, note func(done, total int64)) error {
	if err := checkHash(sha); err != nil {
		return err
	}
	release, err := d.hold(ctx, sha)
	if err != nil {
		return err
	}
	defer release()
	if err := d.ready(true); err != nil {
		return err
	}
	switch _, err := d.complete(sha); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		d.log.Warn("bundle cache: a bundle is fetched anew", "sha256", sha, "err", err)
	}
	p, err := d.openPart(ctx, sha)
	if err != nil {
		return fmt.Errorf("fetch bundle %s: %w", short(sha), err)
	}
	p.from, p.better, p.note = from, better, note
	if note == nil {
		p.note = func(int64, int64) {}
	}
	err = p.whole(ctx)
	if err == nil {
		err = p.keep(ctx)
	}
	if err = errors.Join(err, p.f.Close()); err != nil {
		return fmt.Errorf("fetch bundle %s: %w", short(sha), err)
	}
	return nil
}

// part is a file that is being fetched. It may have been begun by an earlier
// fetch, from another source.
type part struct {
	d      *Cache
	sha    string
	from   Source
	better func(rate int64) bool // whether another source may be; nil: none
	note   func(done, total int64)

	f    *os.File
	w    io.Writer // into f
	hash hash.Hash // of the n bytes that f has
	n    int64
	old  bool // some of it is of an earlier fetch
}

func (d *Cache) openPart(ctx context.Context, sha string) (*part, error) {
	f, err := os.OpenFile(d.path(sha, partSuffix), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, full(err)
	}
	p := &part{d: d, sha: sha, f: f, w: d.writer(f), hash: sha256.New()}
	if p.n, err = io.Copy(p.hash, backup.Reader(ctx, f)); err != nil {
		return nil, errors.Join(fmt.Errorf("read what was fetched before: %w", err), f.Close())
	}
	p.old = p.n > 0
	return p, nil
}

func (p *part) right() bool { return hex.EncodeToString(p.hash.Sum(nil)) == p.sha }

// restart forgets all that was fetched.
func (p *part) restart() error {
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.hash.Reset()
	p.n, p.old = 0, false
	return nil
}

// tooLong is for more than the source has: the next try begins at the beginning.
func (p *part) tooLong(err error) error {
	if err := p.restart(); err != nil {
		return err
	}
	return &SourceError{err}
}

// whole brings the file to its end, and compares the hash. When it is wrong and
// an earlier fetch has brought some of it, that one may be to blame: the source
// gets a chance of its own.
func (p *part) whole(ctx context.Context) error {
	for !p.right() {
		if err := p.bring(ctx); err != nil {
			return err
		}
		if p.right() {
			return nil
		}
		if !p.old {
			err := fmt.Errorf("%w: %d bytes with the hash %x", ErrWrong, p.n, p.hash.Sum(nil))
			return errors.Join(&SourceError{err}, os.Remove(p.f.Name()))
		}
		p.d.log.Warn("bundle cache: what was fetched in two parts has a wrong hash, it is fetched anew", "sha256", p.sha, "bytes", p.n)
		if err := p.restart(); err != nil {
			return err
		}
	}
	return nil
}

// bring asks the source until it has given all. It is given up when it does not
// get on.
func (p *part) bring(ctx context.Context) error {
	pause := p.d.pause
	for tries := 1; ; tries++ {
		before := p.n
		err := p.try(ctx)
		var theirs *SourceError
		var slow *slowError
		switch {
		case err == nil, p.right(): // it may be whole though the source told another size
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &theirs), errors.As(err, &slow):
			return err
		}
		if p.n-before >= fetchEnough {
			tries, pause = 0, p.d.pause
		}
		if tries == fetchTries {
			return err
		}
		if !clock.Sleep(ctx, pause) {
			return context.Cause(ctx)
		}
		pause *= 2
	}
}

// try reads from the source until the end or a break.
func (p *part) try(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(p.d.stall, func() { cancel(fmt.Errorf("%w for %s", errStalled, p.d.stall)) })
	defer stall.Stop()
	pace := p.d.watch(p.better, cancel)
	defer pace.end()
	r, size, err := p.from(ctx, p.n)
	if err != nil {
		if errors.Is(err, ErrOffset) && p.n > 0 {
			return p.tooLong(err)
		}
		return theirs(ctx, err)
	}
	// Nothing is lost when closing fails: what was read is compared by its hash.
	end := sync.OnceFunc(func() { _ = r.Close() })
	defer end()
	defer context.AfterFunc(ctx, end)() // for a read that hangs
	switch {
	case size > p.d.limit:
		return &SourceError{fmt.Errorf("its file has %d bytes: want at most %d", size, p.d.limit)}
	case size > 0 && size < p.n:
		return p.tooLong(fmt.Errorf("%w: its file has %d bytes, %d are here", ErrOffset, size, p.n))
	case size > 0:
		if err := p.d.room(size - p.n + backup.Reserve); err != nil {
			return err
		}
	}
	return p.copy(ctx, r, size, pace, func() { stall.Reset(p.d.stall) })
}

// copy appends what comes. tick is called whenever something has come.
func (p *part) copy(ctx context.Context, r io.Reader, size int64, pace *pace, tick func()) error {
	buf := make([]byte, 256<<10)
	end := p.d.limit
	if size > 0 {
		end = size
	}
	for p.n < end {
		if ctx.Err() != nil {
			return theirs(ctx, ctx.Err())
		}
		n, rerr := r.Read(buf[:min(int64(len(buf)), end-p.n)])
		if n > 0 {
			tick()
			var err error
			pace.write(n, func() { err = p.append(buf[:n], size) })
			if err != nil {
				return err
			}
		}
		switch {
		case errors.Is(rerr, io.EOF) && size > 0 && p.n < size:
			return &SourceError{fmt.Errorf("after %d of %d bytes: %w", p.n, size, io.ErrUnexpectedEOF)}
		case errors.Is(rerr, io.EOF):
			return nil
		case rerr != nil:
			return theirs(ctx, fmt.Errorf("after %d bytes: %w", p.n, rerr))
		}
	}
	return nil
}

// append writes what came, takes it into the hash, and tells of it.
func (p *part) append(b []byte, size int64) error {
	done, err := p.w.Write(b)
	p.hash.Write(b[:done]) // a hash takes everything
	p.n += int64(done)
	if err == nil {
		p.note(p.n, max(size, 0))
	}
	return err
}

// theirs is an error of a source; when it was given up, that is why.
func theirs(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &SourceError{err}
}

// keep makes the part that is whole a bundle of the bundle cache. Who pinned its hash
// has checked it: what it is is read from its manifest.
func (p *part) keep(ctx context.Context) error {
	if err := p.f.Sync(); err != nil {
		return full(err)
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	rep, err := bundle.Head(ctx, p.f, bundle.Options{AllowUnsigned: true})
	if err != nil {
		if r := (*bundle.Refusal)(nil); errors.As(err, &r) {
			err = errors.Join(err, os.Remove(p.f.Name()))
		}
		return err
	}
	p.d.hook("fetched")
	if _, err := p.d.commit(p.f.Name(), record{Bundle: describe(p.sha, p.n, rep)}); err != nil {
		return err
	}
	p.d.remember(p.sha, rep.Manifest)
	return nil
}
