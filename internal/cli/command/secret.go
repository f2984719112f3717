package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
)

// maxKeyFile is more than a key, a signature or a password has, in bytes.
const maxKeyFile = 4 << 10

// ReadSmall reads a file that has to be small.
func ReadSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s: want at most %d bytes", path, maxKeyFile)
	}
	return text, err
}

// Password reads the first line of a file, or asks on a terminal.
func (a *App) Password(ctx context.Context, file, prompt string) (string, error) {
	if file != "" {
		text, err := ReadSmall(file)
		if err != nil {
			return "", fail.Errorf(fail.Invalid, "read the password: %w", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		return strings.TrimSuffix(line, "\r"), nil
	}
	in, ok := a.Env.Stdin.(*os.File)
	if !ok || !output.IsTerminal(in) {
		return "", fail.Errorf(fail.Invalid, "read the password: stdin is not a terminal").With("give it in a file, by --password-file")
	}
	line, err := a.ReadHidden(ctx, in, prompt)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return line, output.Text(a.Env.Stderr, "\n")
}

// ReadHidden asks for a line of a terminal that does not show it, and does not from before the question on.
func (a *App) ReadHidden(ctx context.Context, in *os.File, question string) (line string, err error) {
	before, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return "", err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &quiet); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, before)) }()
	if err := output.Text(a.Env.Stderr, question); err != nil {
		return "", err
	}
	r := Source(ctx, in)
	var text []byte
	for one := make([]byte, 1); len(text) < maxKeyFile; {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		text = append(text, one[:n]...)
	}
	return string(text), nil
}
