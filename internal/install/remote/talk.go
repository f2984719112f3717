package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast/internal/install"
	"holdfast/internal/lib/text"
)

// talk is with this program on a host: a line of JSON each way.
type talk struct {
	in    io.WriteCloser
	out   *bufio.Reader
	said  *text.Tail   // to its standard error
	wait  func() error // for its end
	leave func()       // ends the talk, whatever it is doing
}

func newTalk(in io.WriteCloser, out io.Reader, wait func() error, leave func()) *talk {
	return &talk{in: in, out: bufio.NewReaderSize(out, 1<<16), said: &text.Tail{Most: maxSaid}, wait: wait, leave: leave}
}

// Ask sends a request and waits for its answer, whose error is returned. When ctx
// ends the host is left: what it was doing goes on there, and what was not
// confirmed is taken back.
func (t *talk) Ask(ctx context.Context, r install.Request) (install.Answer, error) {
	var a install.Answer
	line, err := json.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("write a request: %w", err)
	}
	defer context.AfterFunc(ctx, func() { t.leave() })()
	if _, err = t.in.Write(append(line, '\n')); err == nil {
		line, err = t.readLine()
	}
	if err != nil {
		if ctx.Err() != nil {
			return a, context.Cause(ctx)
		}
		return a, t.ended(err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("the host said %q in place of an answer", text.Clean(string(line[:min(len(line), 200)])))
	}
	if a.Error != "" {
		return a, errors.New(text.Clean(a.Error))
	}
	return a, nil
}

func (t *talk) readLine() ([]byte, error) {
	var line []byte
	for {
		part, more, err := t.out.ReadLine()
		line = append(line, part...)
		if err == nil && len(line) > maxAnswer {
			err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		}
		if err != nil || !more {
			return line, err
		}
	}
}

// ended says why the program there speaks no more.
func (t *talk) ended(err error) error {
	if errors.Is(err, io.EOF) {
		if werr := t.wait(); werr != nil {
			err = werr
		}
	}
	if said := strings.TrimPrefix(strings.TrimSpace(text.Clean(t.said.String())), "holdfast: "); said != "" {
		return errors.New(said)
	}
	return fmt.Errorf("the connection ended: %w", err)
}
