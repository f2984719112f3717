package support

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// removed stands where a secret was.
const removed = "[removed]"

// Secret is a text that must not be in an archive.
type Secret string

// String keeps a secret out of what is printed.
func (Secret) String() string { return removed }

// shortest is the length from which on a known secret is removed from within words, too.
const shortest = 4

// maxSecretFile bounds a file that has secrets.
const maxSecretFile = 1 << 20

// SecretsOf reads secrets out of files that have nothing else: all of each file, its lines,
// what stands in quotes and what follows a colon or an equals sign, but where a line says whose secret it is, as user = root.
// Files that do not exist have none; of others that can not be read it says so.
func SecretsOf(paths ...string) (known []Secret, trouble []string) {
	for _, p := range paths {
		b, err := readSecret(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			trouble = append(trouble, fmt.Sprintf("the secrets of %s are not known: %v; what looks like one is removed all the same", p, err))
			continue
		}
		text := string(b)
		if all := strings.TrimSpace(text); all != "" {
			known = append(known, Secret(all))
		}
		add := func(s string) {
			if s = strings.TrimSpace(s); len(s) >= shortest {
				known = append(known, Secret(s))
			}
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "-----") || strings.HasPrefix(line, "#") || whose.MatchString(line) {
				continue
			}
			add(line)
			if i := strings.IndexAny(line, ":="); i >= 0 {
				add(strings.Trim(line[i+1:], ` "'`))
			}
		}
		for _, q := range quoted.FindAllString(text, -1) {
			add(strings.Trim(q, `"'`))
		}
	}
	return known, trouble
}

// whose is a line of a file with secrets that tells where one is used. Such a word is in many texts that need it to be understood.
var whose = regexp.MustCompile(`^(?:user|host|port|socket|database|basedir|datadir)\s*=`)

var quoted = regexp.MustCompile(`"[^"\n]+"|'[^'\n]+'`)

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
		if secretName.MatchString(name) && len(value) >= shortest {
			known = append(known, Secret(value))
		}
	}
	return known
}

var secretName = regexp.MustCompile(`(?i)pass|secret|token|credential|private|api_?key`)

// redactor removes secrets from texts.
type redactor struct {
	known *strings.Replacer
	short *regexp.Regexp // nil: none
}

func newRedactor(known []Secret) *redactor {
	var long, short []string
	for _, k := range known {
		if len(k) >= shortest {
			long = append(long, forms(string(k))...)
		} else {
			short = append(short, regexp.QuoteMeta(string(k)))
		}
	}
	// The longest first: a secret may contain another.
	slices.SortFunc(long, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range slices.Compact(long) {
		pairs = append(pairs, s, removed)
	}
	r := &redactor{known: strings.NewReplacer(pairs...)}
	if len(short) > 0 {
		r.short = regexp.MustCompile(`(^|[^0-9A-Za-z])(?:` + strings.Join(short, "|") + `)($|[^0-9A-Za-z])`)
	}
	return r
}

// forms are the ways in which texts and documents write a secret.
func forms(s string) []string {
	out := []string{s, html.EscapeString(s), url.QueryEscape(s), url.PathEscape(s), hex.EncodeToString([]byte(s))}
	if quoted, err := json.Marshal(s); err == nil {
		out = append(out, string(quoted[1:len(quoted)-1]))
	}
	// What stands at the beginning of something longer ends on another boundary.
	whole := []byte(s)[:len(s)/3*3]
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		out = append(out, enc.EncodeToString([]byte(s)))
		if len(whole) >= 6 {
			out = append(out, enc.EncodeToString(whole))
		}
	}
	return out
}

const keyEnd = "PRIVATE KEY-----"

// patterns are what looks like a secret; the first group stays, and the last one.
var patterns = []struct {
	is   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`), removed},
	{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*):[^\s"']+@`), "${1}:" + removed + "@"},
	// The user may be a known secret elsewhere, and be removed before.
	{regexp.MustCompile(`([\w.-]+|\[removed\]):[^\s"']+@(tcp|unix)\(`), "${1}:" + removed + "@${2}("},
	{regexp.MustCompile(`(?i)(<(?:[\w-]*(?:passw(?:or)?d|passphrase|secret|token)[\w-]*)>)[^<]+`), "${1}" + removed},
	{regexp.MustCompile(`(?i)(--?(?:passw(?:or)?d|passphrase|secret|token)[ =])\S+`), "${1}" + removed},
	{regexp.MustCompile(`(?i)("--?(?:passw(?:or)?d|passphrase|secret|token)",\s*")[^"]*`), "${1}" + removed},
	{regexp.MustCompile(`(?i)(authorization["']?\s*[:=]\s*["']?(?:(?:basic|bearer|digest)\s+)?)[^\s"']+`), "${1}" + removed},
	{regexp.MustCompile(`(?i)(\bsecret\b[^\n]*?\bdata\\?"?\s*[:=]\s*\\?"?)[A-Za-z0-9+/=]+`), "${1}" + removed},
	{regexp.MustCompile(`\bAQ[A-Za-z0-9+/]{36,38}={1,2}`), removed},
	{regexp.MustCompile(`\$(?:1|5|6|y|2[aby])\$[^\s:"']+`), removed},
}

// named is a value with a name that sounds like a secret.
var named = regexp.MustCompile(`(?i)([\w.-]*(?:passw(?:or)?d|passphrase|secret|token|credential|api[_-]?key|private[_-]?key|unlock[_-]?key)\\?["']?\s*[:=]\s*)(\\"[^"\\]*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&{}\[\]<>"']+)`)

// pass returns the text without secrets.
func (r *redactor) pass(text []byte) []byte {
	// The rest of a key whose beginning is not here.
	if i := bytes.Index(text, []byte("-----END ")); i >= 0 && bytes.HasPrefix(afterWords(text[i+len("-----END "):]), []byte(keyEnd)) && !bytes.Contains(text[:i], []byte("-----BEGIN ")) {
		text = append([]byte(removed), text[i:]...)
	}
	s := r.known.Replace(string(text))
	if r.short != nil {
		s = r.short.ReplaceAllString(s, "${1}"+removed+"${2}")
	}
	for _, p := range patterns {
		s = p.is.ReplaceAllString(s, p.with)
	}
	return []byte(named.ReplaceAllStringFunc(s, func(m string) string {
		parts := named.FindStringSubmatch(m)
		value := strings.Trim(parts[2], `\"'`)
		if strings.HasPrefix(value, "file:/") || value == removed || value == "" {
			return m // a reference is no secret
		}
		return parts[1] + strings.Replace(parts[2], value, removed, 1)
	}))
}

// afterWords skips the kind of a key, as in "RSA PRIVATE KEY-----".
func afterWords(text []byte) []byte {
	if i := bytes.Index(text[:min(len(text), 64)], []byte(keyEnd)); i >= 0 {
		return text[i:]
	}
	return text
}
