package program

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/strictyaml"
)

// Credentials is the content of a credentials file, in YAML or JSON. The file
// must be a regular one of root or of this process's user, and nobody else may
// read it.
type Credentials struct {
	Secrets map[string]string `json:"secrets,omitempty"` // by name; each is replaced by *** in the log
	Expect  []Expect          `json:"expect,omitempty"`  // answers to prompts of a program with a terminal
	Stdin   []Answer          `json:"stdin,omitempty"`   // lines of standard input of one without
	Silence Seconds           `json:"silence,omitempty"` // how long an unknown prompt is waited on; 0: DefaultSilence
}

// Answer is a text, or the secret of that name.
type Answer struct {
	Text   string `json:"text,omitempty"`
	Secret string `json:"secret,omitempty"`
}

// Expect answers a prompt. The prompt is sought in the last line of the output
// that is not empty.
type Expect struct {
	Prompt string `json:"prompt,omitempty"` // these very characters
	Regexp string `json:"regexp,omitempty"` // or this expression, RE2
	Answer
	// Times is how often the prompt is answered; 0 means once. A prompt that comes
	// again means that the answer was refused, and a third wrong password may lock
	// an account.
	Times int `json:"times,omitempty"`
}

// Seconds is a duration in the form of Go, such as 30s.
type Seconds time.Duration

// UnmarshalText reads a duration.
func (s *Seconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q: want a duration such as 30s", text)
	}
	*s = Seconds(d)
	return nil
}

// MarshalText writes the duration.
func (s Seconds) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// maxCredentials bounds a credentials file, bytes.
const maxCredentials = 1 << 20

// ReadCredentials reads and checks a credentials file. Its errors never show a
// secret.
func ReadCredentials(path string) (*Credentials, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSecrets, path, err)
	}
	c := &Credentials{}
	if faults := (strictyaml.Style{Loose: true}).Decode(data, c).Faults; len(faults) > 0 {
		// Of a fault no more is shown than where it is: the rest may quote a secret.
		return nil, fmt.Errorf("%w: %swant YAML or JSON with secrets, expect, stdin and silence only, and quotes "+
			"around texts such as 007 and yes", ErrSecrets, strictyaml.At(path, faults[0].Place, ""))
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSecrets, path, err)
	}
	return c, nil
}

func readPrivate(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open it: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at it: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, errors.New("it is no regular file")
	case st.Mode&0o077 != 0:
		return nil, fmt.Errorf("others may use it (mode %04o): want 0600", st.Mode&0o7777)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("it belongs to user %d: want root or the user of this process", st.Uid)
	case st.Size > maxCredentials:
		return nil, fmt.Errorf("it has %d bytes: want at most %d", st.Size, maxCredentials)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCredentials))
	if err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	return data, nil
}

func (c *Credentials) check() error {
	for name, s := range c.Secrets {
		if s == "" || strings.ContainsFunc(s, unicode.IsControl) {
			return fmt.Errorf("secret %q: want at least one character and no control characters", name)
		}
	}
	answer := func(at string, a Answer) error {
		if a.Secret == "" {
			if strings.ContainsFunc(a.Text, unicode.IsControl) {
				return fmt.Errorf("%s: want no control characters in an answer", at)
			}
			return nil
		}
		if _, ok := c.Secrets[a.Secret]; !ok || a.Text != "" {
			return fmt.Errorf("%s: want either a text or the name of a secret that is there, got %q", at, a.Secret)
		}
		return nil
	}
	for i, a := range c.Stdin {
		if err := answer(fmt.Sprintf("stdin[%d]", i), a); err != nil {
			return err
		}
	}
	for i, e := range c.Expect {
		at := fmt.Sprintf("expect[%d]", i)
		if (e.Prompt == "") == (e.Regexp == "") || e.Times < 0 {
			return fmt.Errorf("%s: want either a prompt or a regexp, and times of at least 1 if any", at)
		}
		if _, err := regexp.Compile(e.Regexp); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if err := answer(at, e.Answer); err != nil {
			return err
		}
	}
	return nil
}

// Answers reports whether there is an answer to a prompt, and not an empty one.
func (c *Credentials) Answers(prompt string) bool {
	return slices.ContainsFunc(c.Expect, func(x Expect) bool {
		text := x.Regexp
		if x.Prompt != "" {
			text = regexp.QuoteMeta(x.Prompt)
		}
		re, err := regexp.Compile(text)
		return err == nil && re.MatchString(strings.TrimSpace(prompt)) && c.value(x.Answer) != ""
	})
}

// value returns the text of a checked answer.
func (c *Credentials) value(a Answer) string {
	if a.Secret != "" {
		return c.Secrets[a.Secret]
	}
	return a.Text
}

// stars is what the log shows in place of a secret.
const stars = "***"

// redactor replaces secrets in a stream, also those that come in pieces.
type redactor struct {
	secrets [][]byte // the longest first
	held    []byte   // what may be the beginning of a secret
}

func newRedactor(c *Credentials) *redactor {
	r := &redactor{}
	for _, s := range c.Secrets {
		r.secrets = append(r.secrets, []byte(s))
	}
	slices.SortFunc(r.secrets, func(a, b []byte) int { return len(b) - len(a) })
	return r
}

// pass returns what may be shown now.
func (r *redactor) pass(p []byte) []byte {
	if len(r.secrets) == 0 {
		return p
	}
	data := append(r.held, p...)
	var out []byte
	i := 0
	for i < len(data) {
		n, partly := r.at(data[i:])
		switch {
		case n > 0:
			out = append(out, stars...)
			i += n
		case partly:
			r.held = bytes.Clone(data[i:])
			return out
		default:
			out = append(out, data[i])
			i++
		}
	}
	r.held = nil
	return out
}

// at returns the length of the secret that data begins with, or that data is the
// beginning of one.
func (r *redactor) at(data []byte) (n int, partly bool) {
	for _, s := range r.secrets {
		if len(data) < len(s) && bytes.HasPrefix(s, data) {
			return 0, true // the longest may still come
		}
		if bytes.HasPrefix(data, s) {
			return len(s), false
		}
	}
	return 0, false
}

// rest returns what is left at the end: no secret, but perhaps the beginning of
// one.
func (r *redactor) rest() []byte {
	out := r.held
	r.held = nil
	if len(out) > 3 {
		return []byte(stars) // a long beginning would tell too much
	}
	return out
}

// text redacts a text as a whole.
func (r *redactor) text(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, string(secret), stars)
	}
	return s
}
