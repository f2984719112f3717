package support

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// Secret is a text that must not be in an archive.
type Secret string

// String keeps a secret out of what is printed.
func (Secret) String() string { return removed }

// shortest is the length from which on a known secret is removed from within words, too.
const shortest = 4

// maxSecretFile bounds a file that has secrets.
const maxSecretFile = 1 << 20

// SecretsOf reads secrets out of files: all of a file that has one line, or no names; the lines of keys; and
// the values of names that sound like secrets. Users, hosts and other words are none: texts need them to be
// understood. Files that do not exist have none; of others that can not be read it says so.
func SecretsOf(paths ...string) (known []Secret, trouble []string) {
	for _, p := range paths {
		b, err := readSecret(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			trouble = append(trouble, fmt.Sprintf("the secrets of %s are not known: %v; "+
				"what looks like one is removed all the same", p, err))
			continue
		}
		known = append(known, secretsOfText(string(b))...)
	}
	return known, trouble
}

var (
	// naming is a name with its value in a file of secrets; the rest of the line is looked at once more.
	naming = regexp.MustCompile(`["']?([\w.-]+)["']?\s*[:=]\s*("[^"\n]*"|'[^'\n]*'|[^\n]*)`)
	// section is where names follow.
	section = regexp.MustCompile(`^\[.*\]$`)
	// account is a line of a simulated management controller: number, allowed or not, user, password.
	account = regexp.MustCompile(`^user\s+\d+\s+\w+\s+"[^"]*"\s+"([^"]+)"`)
	// padding is the end of a line in base64, which looks like a value.
	padding = regexp.MustCompile(`^=*$`)
	inKey   = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*` + keyEnd + `.*?(?:-----END|\z)`)
	inOther = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*-----.*?-----END [A-Z0-9 ]*-----`)
	// fileName is a name whose value is a secret in a file that has some: there a key is one, too.
	fileName = regexp.MustCompile(`(?i)(?:` + names + `|\b(?:` + briefly + `)|[_-](?:` +
		briefly + `)|(?-i:[a-z0-9]P(?:wd|ass))|\bkey|[_-]key)s?$`)
)

// secretsOfText finds the secrets in the text of a file.
func secretsOfText(text string) (known []Secret) {
	add := func(s string) {
		if s = strings.Trim(strings.TrimSpace(s), `"'`); len(s) >= shortest {
			known = append(known, Secret(s))
		}
	}
	all := strings.TrimSpace(text)
	if all != "" && (!strings.Contains(all, "\n") || !strings.HasPrefix(all, "[")) {
		known = append(known, Secret(all)) // a short one, too
	}
	for _, k := range inKey.FindAllString(text, -1) {
		for line := range strings.Lines(k) {
			if !strings.HasPrefix(line, "-----") {
				add(line)
			}
		}
	}
	text = inOther.ReplaceAllString(inKey.ReplaceAllString(text, ""), "")
	var bare []string
	var called []string // names below secrets: what refers to one is none
	var values []string // of single names
	plain := true       // nothing has a name
	below := -1         // the indentation of a name with all below it secret; -1: none
	for line := range strings.Lines(text) {
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if indent <= below {
			below = -1
		}
		if m := account.FindStringSubmatch(line); m != nil {
			add(m[1])
			plain = false
			continue
		}
		if section.MatchString(line) {
			plain = false
			continue
		}
		all, named := below >= 0, false
		for rest := line; ; {
			m := naming.FindStringSubmatchIndex(rest)
			if m == nil || padding.MatchString(rest[m[4]:m[5]]) && rest[m[3]] == '=' {
				break
			}
			named = true
			name, value := rest[m[2]:m[3]], rest[m[4]:m[5]]
			switch isSecret := fileName.MatchString(name); {
			case isSecret && opens(value):
				all, below = true, indent
			case all:
				called = append(called, name)
				add(value)
				add(first(value))
			case isSecret:
				values = append(values, value)
			}
			rest = rest[m[4]:]
		}
		plain = plain && !named
		switch {
		case below >= 0 && !named:
			add(line)
		case !named:
			bare = append(bare, line)
		}
	}
	if plain {
		for _, l := range bare {
			add(l)
		}
	}
	for _, v := range values {
		if !slices.Contains(called, first(v)) {
			add(v)
			add(first(v))
		}
	}
	return known
}

// opens says whether what follows a name is no value, but begins several.
func opens(value string) bool { return value == "" || strings.ContainsAny(value[:1], "{|>") }

// first is what a value is in a list within a line.
func first(value string) string {
	v, _, _ := strings.Cut(value, ",")
	return strings.Trim(strings.TrimRight(v, "} "), `"'`)
}

// readSecret reads a regular file, and waits for none.
func readSecret(p string) ([]byte, error) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("no regular file")
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxSecretFile))
}

// SecretsIn are the values of variables of an environment whose names sound like secrets.
func SecretsIn(environ []string) (known []Secret) {
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if variable.MatchString(name) && !directory.MatchString(name) && !isHarmless(name) && len(value) >= shortest {
			known = append(known, Secret(value))
		}
	}
	return known
}

// variable is a variable that has a secret, unless it is called like a directory.
var variable = regexp.MustCompile(`(?i)(?:` + names + `|pass|pwd|pw|psk|_key|[_-]auth)s?$`)

var directory = regexp.MustCompile(`^(?:OLD)?PWD$`)
