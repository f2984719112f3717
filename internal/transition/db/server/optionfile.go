package server

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	plain "holdfast/internal/lib/text"
)

// maxOptions is the most bytes of an option file.
const maxOptions = 1 << 20

// options takes what an option file says in a group. What the DSN says already stays.
func (a *address) options(file, group string) error {
	text, mode, err := readOptions(file)
	if err != nil {
		return fmt.Errorf("option file: %w", err)
	}
	list, err := parseOptions(text, group)
	if err != nil {
		return fmt.Errorf("option file %s: %w", file, err)
	}
	f := &address{file: file}
	for _, o := range list {
		if err := f.option(o); err != nil {
			return fmt.Errorf("option file %s: line %d: %s: %w", file, o.line, o.name, err)
		}
	}
	if f.password != "" && mode&0o006 != 0 {
		return fmt.Errorf("option file %s: holds a password, and everybody may read or write it (%04o): want chmod o= %s", file, mode, file)
	}
	a.fill(f)
	return nil
}

// readOptions reads a file with its rights. It need not be a plain one.
func readOptions(name string) (text string, mode os.FileMode, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxOptions+1))
	if err != nil {
		return "", 0, err
	}
	if len(data) > maxOptions {
		return "", 0, fmt.Errorf("%s: want at most %d bytes", name, maxOptions)
	}
	return string(data), info.Mode().Perm(), nil
}

// option is a line of an option file.
type option struct {
	line  int
	name  string // with - for _
	value string
	given bool // there is a =
}

// parseOptions reads the lines of one group as the servers' own programs do: # and ;
// begin comments, values may be in quotes, and in them \ begins an escape. What would
// lead to other files is an error: it would be left out silently. So is a group that is
// not there.
func parseOptions(text, group string) (out []option, err error) {
	in, found := false, false
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		line = strings.Trim(line, " \t\r\f\v")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '!':
			return nil, fmt.Errorf("line %d: includes other files, which is not followed: want the file that has group [%s] itself", n, group)
		case line[0] == '[':
			name, _, ok := strings.Cut(line[1:], "]")
			if !ok {
				return nil, fmt.Errorf("line %d: want [GROUP]", n)
			}
			in = strings.Trim(name, " \t") == group
			found = found || in
		case in:
			o := parseOption(line)
			// What is no name is not shown: it may be a password whose = is missing.
			if o.line = n; !word(o.name) {
				return nil, fmt.Errorf("line %d: want NAME=VALUE", n)
			}
			out = append(out, o)
		}
	}
	if !found {
		return nil, fmt.Errorf("has no group [%.80s]", group)
	}
	return out, nil
}

func parseOption(line string) option {
	name, value, given := strings.Cut(uncomment(line), "=")
	value = strings.Trim(value, " \t\r\f\v")
	if n := len(value); n > 1 && value[0] == value[n-1] && (value[0] == '"' || value[0] == '\'') {
		value = value[1 : n-1]
	}
	return option{name: strings.ReplaceAll(strings.Trim(name, " \t\r\f\v"), "_", "-"), value: unescape(value), given: given}
}

// uncomment cuts a line at a # that is not in quotes.
func uncomment(line string) string {
	var quote byte
	escaped := false
	for i := range len(line) {
		c := line[i]
		if (c == '\'' || c == '"') && !escaped {
			switch quote {
			case 0:
				quote = c
			case c:
				quote = 0
			}
		}
		if quote == 0 && c == '#' {
			return line[:i]
		}
		escaped = quote != 0 && c == '\\' && !escaped
	}
	return line
}

// escapes are the letters behind a \; before any other sign it stays.
var escapes = map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', 'b': '\b', 's': ' ', '"': '"', '\'': '\'', '\\': '\\'}

func unescape(v string) string {
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			if c, ok := escapes[v[i+1]]; ok {
				b.WriteByte(c)
				i++
				continue
			}
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

// option takes a line. Later ones count. What other programs use is passed over, but
// nothing that would make the connection safer than it is.
func (a *address) option(o option) error {
	texts := map[string]*string{"user": &a.user, "host": &a.host, "port": &a.port, "socket": &a.socket,
		"ssl-ca": &a.tls.ca, "ssl-cert": &a.tls.cert, "ssl-key": &a.tls.key}
	if into := texts[o.name]; into != nil {
		if *into = o.value; o.value == "" {
			return errors.New("want a value")
		}
		if !utf8.ValidString(o.value) {
			return fmt.Errorf("value %.80q: want UTF-8", o.value)
		}
		if o.name == "port" && !plain.Port(o.value) {
			return fmt.Errorf("value %.20q: want 1 to 65535", o.value)
		}
		return nil
	}
	switch o.name {
	case "password":
		// A line without = has the user asked; one with an empty value does not.
		a.password, a.given, a.ask = o.value, o.given, !o.given
		return nil
	case "protocol":
		return a.protocol(o.value)
	case "ssl-mode":
		return a.tls.sslMode(o.value)
	case "ssl", "ssl-verify-server-cert":
		return a.tls.option(o)
	case "skip-ssl", "disable-ssl":
		a.tls.mode = off
		return nil
	}
	if strings.Contains(o.name, "ssl") || strings.HasPrefix(o.name, "tls") {
		return errors.New("is not known here: want ssl-ca, ssl-cert, ssl-key, ssl-mode, ssl-verify-server-cert or ssl")
	}
	return nil
}

func (a *address) protocol(v string) error {
	switch strings.ToLower(v) {
	case "tcp":
		a.net = "tcp"
	case "socket":
		a.net = "unix"
	default:
		return fmt.Errorf("value %.80q: want tcp or socket", v)
	}
	return nil
}

// sslMode reads what MySQL's programs call so.
func (s *security) sslMode(v string) error {
	modes := map[string]mode{"DISABLED": off, "PREFERRED": preferred, "REQUIRED": unverified, "VERIFY_CA": chain, "VERIFY_IDENTITY": verified}
	m, ok := modes[strings.ToUpper(v)]
	if s.mode = m; !ok {
		return fmt.Errorf("value %.80q: want DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY", v)
	}
	return nil
}

// option reads what MariaDB's programs know: a yes or no, which without a value is yes.
func (s *security) option(o option) error {
	yes, ok := truth(o.value)
	switch {
	case !o.given:
		yes = true
	case !ok:
		return fmt.Errorf("value %.80q: want 1 or 0", o.value)
	}
	switch {
	case o.name == "ssl" && !yes:
		s.mode = off
	case o.name == "ssl" && (s.mode == unset || s.mode == off):
		s.mode = unverified
	case o.name != "ssl" && yes:
		s.mode = verified
	case o.name != "ssl" && s.mode == verified:
		s.mode = unverified
	}
	return nil
}

// fill takes from an option file what the DSN does not say.
func (a *address) fill(f *address) {
	a.file = f.file
	if a.user == "" {
		a.user = f.user
	}
	switch {
	case a.given:
	case f.user == "" || f.user == a.user:
		a.password, a.given, a.ask = f.password, f.given, f.ask
	default:
		a.ask = true // a password belongs to its user
	}
	if a.host == "" && a.port == "" && a.socket == "" {
		a.host, a.port = f.host, f.port
		if a.net == "" {
			a.net, a.socket = f.net, f.socket
		}
	}
	a.tls.fill(f.tls)
}

// fill takes from an option file what the DSN does not say. In such a file, without a
// word of how to verify, it is done by the authority that it names.
func (s *security) fill(f security) {
	switch {
	case f.mode == off:
		f = security{mode: off}
	case f.ca != "" && f.mode != verified:
		f.mode = chain
	case f.cert != "" && f.mode == unset:
		f.mode = unverified
	}
	switch {
	case *s == security{}:
		*s = f
	case s.mode == unset || s.mode == verified:
		s.ca = cmp.Or(s.ca, f.ca)
		if s.cert == "" && s.key == "" {
			s.cert, s.key = f.cert, f.key
		}
	}
}
