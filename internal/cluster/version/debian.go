package version

import (
	"cmp"
	"math"
	"strings"
)

const wantDebian = "[EPOCH:]UPSTREAM[-REVISION]: the epoch a number below 2147483648, upstream with a digit first, " +
	"then letters, digits and . + - ~ (and : behind an epoch); the revision of letters, digits and . + ~; such as 1:2.3~rc1-4"

// debian is a version of a Debian package.
type debian struct {
	epoch              uint64
	upstream, revision string
}

func parseDebian(v *Version) string {
	s := v.text
	colon := ""
	if epoch, rest, found := strings.Cut(s, ":"); found {
		n, ok := number(epoch)
		if !ok || n > math.MaxInt32 {
			return wantDebian
		}
		v.deb.epoch, s, colon = n, rest, ":"
	}
	v.deb.upstream = s
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		v.deb.upstream, v.deb.revision = s[:i], s[i+1:]
		if !debianChars(v.deb.revision, ".+~") {
			return wantDebian
		}
	}
	if u := v.deb.upstream; !debianChars(u, ".+-~"+colon) || !isDigit(u[0]) {
		return wantDebian
	}
	return ""
}

// debianChars reports whether s is not empty and has letters, digits and others only.
func debianChars(s, others string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && !isDigit(s[i]) && strings.IndexByte(others, s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func compareDebian(a, b debian) int {
	return cmp.Or(cmp.Compare(a.epoch, b.epoch), compareRuns(a.upstream, b.upstream), compareRuns(a.revision, b.revision))
}

// compareRuns compares a run that is no number, then one that is, and so on: that
// is how dpkg does it.
func compareRuns(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if c := cmp.Compare(weight(a), weight(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		var x, y string
		x, a = digits(a)
		y, b = digits(b)
		if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
			return c
		}
	}
	return 0
}

// weight is the order of the first character: ~, the end or a digit, letters, all else.
func weight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case isLetter(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}

// digits cuts leading digits off, without leading zeros.
func digits(s string) (num, rest string) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}
