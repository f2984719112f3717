package program

import (
	"bytes"
	"errors"
	"fmt"
	"holdfast/internal/lib/proc"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

const (
	// settle is how long the output must be quiet before a line is taken for a
	// prompt.
	settle = 100 * time.Millisecond
	// echoWait is how long a secret waits for the echo to be off: programs print
	// the prompt first and may drop what was typed before.
	echoWait = time.Second
	// window is how much output is looked at for a prompt, bytes.
	window = 8 << 10
	// maxPrompt bounds a prompt in a message, characters.
	maxPrompt = 200
)

// sudoPrompt is what sudo is told to ask with.
const sudoPrompt = "[holdfast] password for sudo:"

// expecter watches the output of a terminal and says what to type. It does no
// I/O.
type expecter struct {
	rules   []rule
	creds   *Credentials
	silence time.Duration
	seen    []byte    // output since the last answer, at most window
	skip    []byte    // echo of the last answer that is still to come
	quiet   time.Time // since when there was no output
	asks    time.Time // since when it is known, after quiet, that input is waited for
}

type rule struct {
	re     *regexp.Regexp
	answer Answer
	left   int
}

// terminal is what an expecter asks about the terminal.
type terminal struct {
	echo func() (bool, error)
	// reads says whether some process waits for input; known is false when that
	// can not be told. A process that waits for several files at once counts when
	// the last line has no end.
	reads func(open bool) (yes, known bool)
}

func newExpecter(c *Credentials, sudo bool, now time.Time) (*expecter, error) {
	e := &expecter{creds: c, silence: time.Duration(c.Silence), quiet: now}
	if e.silence == 0 {
		e.silence = DefaultSilence
	}
	list := slices.Clone(c.Expect)
	if _, ok := c.Secrets["sudo"]; ok && sudo {
		list = append(list, Expect{Prompt: sudoPrompt, Answer: Answer{Secret: "sudo"}})
	}
	for i, x := range list {
		text := x.Regexp
		if x.Prompt != "" {
			text = regexp.QuoteMeta(x.Prompt)
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return nil, fmt.Errorf("expect[%d]: %w", i, err)
		}
		e.rules = append(e.rules, rule{re, x.Answer, max(1, x.Times)})
	}
	return e, nil
}

// feed takes output.
func (e *expecter) feed(p []byte, now time.Time) {
	e.quiet = now
	for len(e.skip) > 0 && len(p) > 0 && e.skip[0] == p[0] {
		e.skip, p = e.skip[1:], p[1:]
	}
	if len(p) > 0 {
		e.skip = nil
	}
	e.seen = append(e.seen, p...)
	if n := len(e.seen) - window; n > 0 {
		e.seen = slices.Delete(e.seen, 0, n)
	}
}

// next says what to type now, or why the program can not go on; both are empty
// most of the time.
func (e *expecter) next(t terminal, now time.Time) (typed, fail string, err error) {
	calm := now.Sub(e.quiet)
	line := lastLine(e.seen)
	if calm < settle || line == "" && calm < e.silence {
		return "", "", nil
	}
	for i := range e.rules {
		r := &e.rules[i]
		if !r.re.MatchString(line) {
			continue
		}
		if r.left == 0 {
			return "", fmt.Sprintf("the program asks again what was answered already: %q. Raise times of that "+
				"answer, or correct the answer, in expect of this host's credentials file (upgrade.credentials_file)", shorten(line)), nil
		}
		echo, err := t.echo()
		if err != nil {
			return "", "", err
		}
		if r.answer.Secret != "" && echo && calm < echoWait {
			return "", "", nil
		}
		r.left--
		typed = e.creds.value(r.answer) + "\n"
		e.seen, e.quiet = nil, now
		if echo {
			e.skip = []byte(typed)
		}
		return typed, "", nil
	}
	if calm < e.silence {
		return "", "", nil
	}
	open := len(e.seen) > 0 && e.seen[len(e.seen)-1] != '\n'
	reads, known := t.reads(open)
	if !known {
		reads = open // it may be a prompt
	}
	if !reads {
		e.asks = time.Time{}
		return "", "", nil
	}
	// What it asks may be on its way from the terminal: a second look decides, if nothing came in between.
	if !e.asks.After(e.quiet) {
		e.asks = now
	}
	if now.Sub(e.asks) >= settle {
		return "", fmt.Sprintf("the program waits for an answer that was not given in advance: %q. Add it to expect "+
			"of this host's credentials file (upgrade.credentials_file)", shorten(line)), nil
	}
	return "", "", nil
}

// escapes are the control sequences of terminals, ECMA-48.
func escapes() *regexp.Regexp { return regexp.MustCompile("\x1b(\\[[0-?]*[ -/]*[@-~]|[@-_])") }

// lastLine returns the last line that is not empty, without what can not be
// printed.
func lastLine(p []byte) string {
	text := strings.TrimRightFunc(string(bytes.ToValidUTF8(escapes().ReplaceAll(p, nil), nil)), unicode.IsSpace)
	if i := strings.LastIndexAny(text, "\r\n"); i >= 0 {
		text = text[i+1:]
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text))
}

func shorten(s string) string {
	if r := []rune(s); len(r) > maxPrompt {
		return string(r[len(r)-maxPrompt:])
	}
	return s
}

// sleeps says whether a process waits for something, and is there.
func sleeps(pid int) bool {
	p, ok := statOf(pid)
	return ok && p.State == 'S'
}

// readsTerminal says whether one of the processes waits in a read of the
// terminal. The kernel tells the call that a process sleeps in, to root. With
// open, waiting in poll or select counts as well: line editors do that, but so
// does who waits for a child's output.
func readsTerminal(ps []proc.Proc, tty string, open bool) (yes, known bool) {
	calls := []int64{unix.SYS_READ}
	if open {
		calls = append(calls, unix.SYS_PSELECT6, unix.SYS_PPOLL)
	}
	if open && runtime.GOARCH == "amd64" {
		calls = append(calls, 7, 23) // poll and select, which newer architectures do not have
	}
	if _, err := os.Stat("/proc/self/syscall"); err != nil {
		return false, false // a kernel without it
	}
	known = true
	for _, p := range ps {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", p.PID))
		if err != nil {
			// It is gone, or starts or ends just now: then only root is told, and it does not sleep.
			known = known && !(errors.Is(err, os.ErrPermission) && sleeps(p.PID))
			continue
		}
		fields := strings.Fields(string(data))
		if len(fields) < 2 {
			continue // it runs
		}
		call, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil || !slices.Contains(calls, call) {
			continue
		}
		fd := "0"
		if call == unix.SYS_READ {
			n, err := strconv.ParseUint(strings.TrimPrefix(fields[1], "0x"), 16, 64)
			if err != nil {
				continue
			}
			fd = strconv.FormatUint(n, 10)
		}
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.PID, fd)); err == nil && got == tty {
			return true, true
		}
	}
	return false, known
}
