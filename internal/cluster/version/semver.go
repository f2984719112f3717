package version

import "strings"

const wantSemVer = "MAJOR.MINOR.PATCH without leading zeros, then -PRERELEASE and +BUILD if any, such as 1.2.3 or 1.2.3-rc.1+5"

// Ranks behind the three numbers: a release comes after its prereleases, in
// which numbers come before words.
const (
	preNumber = iota
	preWord
	release
)

func parseSemVer(v *Version) string {
	s, build, hasBuild := strings.Cut(v.text, "+")
	core, pre, hasPre := strings.Cut(s, "-")
	nums := strings.Split(core, ".")
	if len(nums) != 3 {
		return wantSemVer
	}
	for _, f := range nums {
		n, ok := plainNumber(f)
		if !ok {
			return wantSemVer
		}
		v.parts = append(v.parts, part{num: n})
	}
	if hasBuild {
		for f := range strings.SplitSeq(build, ".") {
			if !isIdentifier(f) {
				return wantSemVer
			}
		}
	}
	if !hasPre {
		v.parts = append(v.parts, part{rank: release})
		return ""
	}
	for f := range strings.SplitSeq(pre, ".") {
		p := part{rank: preWord, word: f}
		if strings.Trim(f, "0123456789") == "" {
			n, ok := plainNumber(f)
			if !ok {
				return wantSemVer
			}
			p = part{rank: preNumber, num: n}
		}
		if !isIdentifier(f) {
			return wantSemVer
		}
		v.parts = append(v.parts, p)
	}
	return ""
}

// plainNumber reads a number without leading zeros.
func plainNumber(s string) (uint64, bool) {
	if len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	return number(s)
}

func isIdentifier(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && !isDigit(s[i]) && s[i] != '-' {
			return false
		}
	}
	return s != ""
}
