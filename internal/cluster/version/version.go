package version

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Scheme is a way to write and to order versions.
type Scheme string

// Schemes of versions.
const (
	CAS    Scheme = "cas"
	VRB    Scheme = "vrb"
	Dotted Scheme = "dotted"
	SemVer Scheme = "semver"
	Debian Scheme = "debian"
)

// Schemes lists all schemes, in the order in which Detect tries them.
func Schemes() []Scheme { return []Scheme{VRB, CAS, SemVer, Dotted, Debian} }

const (
	maxText   = 128 // bytes of a version
	maxDigits = 18  // of one number, so that it fits 64 bits
)

// Version is a version of one scheme. The zero value is none: comparing it is an
// error.
type Version struct {
	scheme Scheme
	text   string
	parts  []part
	deb    debian // scheme debian only
}

// part is one step of the order. Versions compare by their parts, these by rank,
// word and number; a missing part comes first.
type part struct {
	rank int
	word string
	num  uint64
}

// ParseError is a text that is no version of the scheme.
type ParseError struct {
	Scheme Scheme
	Text   string
	Want   string // what is allowed
}

// Error gives the fault in one line.
func (e *ParseError) Error() string {
	return fmt.Sprintf("read %s version %s: want %s", e.Scheme, quote(e.Text), e.Want)
}

// quote shows a text in one line, cut when it is long.
func quote(s string) string {
	if len(s) > maxText {
		return strconv.QuoteToASCII(s[:maxText]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

// Parse reads a version strictly: no spaces, no other case. Errors are a
// *ParseError, or name an unknown scheme.
func Parse(s Scheme, text string) (Version, error) {
	var parse func(*Version) (want string)
	switch s {
	case CAS:
		parse = parseCAS
	case VRB:
		parse = parseVRB
	case Dotted:
		parse = parseDotted
	case SemVer:
		parse = parseSemVer
	case Debian:
		parse = parseDebian
	default:
		return Version{}, unknownScheme(s)
	}
	if len(text) > maxText {
		return Version{}, &ParseError{s, text, fmt.Sprintf("at most %d bytes", maxText)}
	}
	v := Version{scheme: s, text: text}
	if want := parse(&v); want != "" {
		return Version{}, &ParseError{s, text, want}
	}
	return v, nil
}

func unknownScheme(s Scheme) error {
	var names []string
	for _, k := range Schemes() {
		names = append(names, string(k))
	}
	return fmt.Errorf("version scheme %s: want %s", quote(string(s)), strings.Join(names, ", "))
}

// Detect returns the first scheme, in the order of Schemes, in which all texts
// are versions. cas needs one E number at least, because 2.0 alone may be
// anything. A text such as 1.2.3-1 is a version of semver and of debian: who
// knows the scheme should say it.
func Detect(texts ...string) (Scheme, error) {
	if len(texts) == 0 {
		return "", fmt.Errorf("detect the version scheme: want one version at least")
	}
	for _, s := range Schemes() {
		release := s != CAS
		ok := true
		for _, t := range texts {
			v, err := Parse(s, t)
			ok = ok && err == nil
			release = release || !v.IsFamily()
		}
		if ok && release {
			return s, nil
		}
	}
	shown := make([]string, len(texts))
	for i, t := range texts {
		shown[i] = quote(t)
	}
	return "", fmt.Errorf("detect the version scheme of %s: no scheme knows all of them", strings.Join(shown, ", "))
}

// Scheme returns the scheme, "" for the zero Version.
func (v Version) Scheme() Scheme { return v.scheme }

// String returns the text that was parsed.
func (v Version) String() string { return v.text }

// Compare returns -1, 0 or 1 when a is before, the same as or after b. 24.6 and
// 24.06 are the same. Versions of two schemes have no order: an error.
func Compare(a, b Version) (int, error) {
	if a.scheme == "" || a.scheme != b.scheme {
		return 0, fmt.Errorf("compare %s version %s with %s version %s: only versions of one scheme have an order",
			a.scheme, quote(a.text), b.scheme, quote(b.text))
	}
	return compare(a, b), nil
}

// compare is Compare for versions that are known to be of one scheme.
func compare(a, b Version) int {
	if a.scheme == Debian {
		return compareDebian(a.deb, b.deb)
	}
	return slices.CompareFunc(a.parts, b.parts, comparePart)
}

func comparePart(a, b part) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.word, b.word), cmp.Compare(a.num, b.num))
}

// number reads 1 to maxDigits digits.
func number(s string) (uint64, bool) {
	if s == "" || len(s) > maxDigits || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// isLetter reports whether c is an ASCII letter.
func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// isDigit reports whether c is an ASCII digit.
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
