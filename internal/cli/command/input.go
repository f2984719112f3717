package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// pollMillis is how soon a read that waits notices its end.
const pollMillis = 100

// interruptible reads a file, also a pipe or a terminal that never says
// anything, until ctx ends.
type interruptible struct {
	ctx context.Context
	f   *os.File
}

// Read waits until there is something, or the end.
func (r interruptible) Read(p []byte) (int, error) {
	conn, err := r.f.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", r.f.Name(), err)
	}
	for {
		if r.ctx.Err() != nil {
			return 0, fmt.Errorf("read %s: %w", r.f.Name(), r.ctx.Err())
		}
		var n int
		var perr error
		err := conn.Control(func(fd uintptr) {
			n, perr = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, pollMillis)
		})
		if errors.Is(perr, unix.EINTR) {
			continue
		}
		if err := errors.Join(err, perr); err != nil {
			return 0, fmt.Errorf("wait for %s: %w", r.f.Name(), err)
		}
		if n > 0 {
			return r.f.Read(p)
		}
	}
}

// Source prepares the input for reading: a file can be left when ctx ends.
func Source(ctx context.Context, in io.Reader) io.Reader {
	if f, ok := in.(*os.File); ok {
		return interruptible{ctx, f}
	}
	return in
}

// ReadInput reads a file, or for - standard input, at most so many bytes, and returns its name for messages.
func (a *App) ReadInput(ctx context.Context, path string, most int64) (name string, data []byte, err error) {
	name, in := path, a.Env.Stdin
	if path == "-" {
		name = "(stdin)"
	} else {
		// Without waiting: a pipe that nobody writes to could not be left again.
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return name, nil, err
		}
		defer f.Close()
		in = f
	}
	data, err = io.ReadAll(io.LimitReader(Source(ctx, in), most))
	return name, data, err
}
