package cloud

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
)

// maxOpenrc bounds an openrc file, bytes.
const maxOpenrc = 64 << 10

// Openrc reads the variables of an openrc file, as openstack(1) is given them by a shell: lines NAME=VALUE or
// export NAME=VALUE, where a value may stand in single or double quotes; comments, and lines that begin with unset.
// Nothing is run and nothing is replaced: other lines, and a value with $ or ` outside of single quotes, are refused.
// Only the file's owner and root may be able to read it. Errors are of kind fail.Invalid.
func Openrc(file string) (getenv func(string) string, err error) {
	text, err := durable.ReadSecretUpTo(file, maxOpenrc)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "openrc file: %w", err)
	}
	all := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "unset ") {
			continue
		}
		name, value, found := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		if !found || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" {
			return nil, fail.Errorf(fail.Invalid, "openrc file %s: line %d: want export NAME=VALUE: no other command of a shell is run", file, i+1)
		}
		if all[name], err = unquote(value); err == nil && !utf8.ValidString(value) {
			err = errors.New("want UTF-8")
		}
		if err != nil {
			return nil, fail.Errorf(fail.Invalid, "openrc file %s: line %d: %s: %w", file, i+1, name, err)
		}
	}
	return func(name string) string { return all[name] }, nil
}

// unquote reads a word as a shell does, which may have quoted parts, and a comment behind it. Errors do not show it.
func unquote(text string) (string, error) {
	var b strings.Builder
	var mark byte // the quotation mark that is open
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == mark:
			mark = 0
		case mark == '\'':
			b.WriteByte(c)
		case c == '\\' && i+1 < len(text) && (mark == 0 || strings.IndexByte("\"\\$`", text[i+1]) >= 0):
			i++
			b.WriteByte(text[i])
		case c == '$' || c == '`':
			return "", fmt.Errorf("want %c in single quotes: nothing is replaced", c)
		case mark == '"':
			b.WriteByte(c)
		case c == '\'' || c == '"':
			mark = c
		case c == ' ' || c == '\t':
			if rest := strings.TrimSpace(text[i:]); rest != "" && rest[0] != '#' {
				return "", errors.New("want a value with spaces in quotes")
			}
			return b.String(), nil
		case strings.IndexByte("&;|<>()\\", c) >= 0:
			return "", fmt.Errorf("want %c in quotes: no command of a shell is run", c)
		default:
			b.WriteByte(c)
		}
	}
	if mark != 0 {
		return "", fmt.Errorf("a quotation mark %c has no end on its line", mark)
	}
	return b.String(), nil
}
