package version

import (
	"strconv"
	"strings"
)

const wantCAS = "E and four digits, H and two digits behind it for a hotfix, such as E0531 or E0513H07; or a family, " +
	"a number and .0, such as 2.0"

// parseCAS makes the parts: family, release in the family, hotfix.
func parseCAS(v *Version) string {
	s := v.text
	if major, ok := strings.CutSuffix(s, ".0"); ok {
		n, ok := number(major)
		if !ok || n == 0 || len(major) > 2 || major[0] == '0' {
			return wantCAS
		}
		v.parts = []part{{num: n}}
		return ""
	}
	if len(s) != 5 && (len(s) != 8 || s[5] != 'H') || s[0] != 'E' {
		return wantCAS
	}
	digits := []string{s[1:3], s[3:5]}
	if len(s) == 8 {
		digits = append(digits, s[6:])
	}
	for _, d := range digits {
		n, ok := number(d)
		if !ok {
			return wantCAS
		}
		v.parts = append(v.parts, part{num: n})
	}
	return ""
}

// IsFamily reports whether v is a family of cas, such as 2.0.
func (v Version) IsFamily() bool { return v.scheme == CAS && len(v.parts) == 1 }

// Family returns the family of a cas version: 5.0 of E0503, 2.0 of 2.0. ok is
// false for other schemes and for E00xx, which is of none.
func (v Version) Family() (family Version, ok bool) {
	if v.scheme != CAS || v.parts[0].num == 0 {
		return Version{}, false
	}
	p := v.parts[0]
	return Version{scheme: CAS, text: strconv.FormatUint(p.num, 10) + ".0", parts: []part{p}}, true
}
