package version

import "strings"

const (
	wantDotted = "two to 16 parts with dots between them, each of digits or of letters and digits, the first of " +
		"digits, such as 2.0.0.B086 or 24.06.SP1"
	maxParts = 16
)

func parseDotted(v *Version) string {
	parts, ok := partsDotted(v.text)
	if !ok || len(parts) < 2 {
		return wantDotted
	}
	v.parts = parts
	return ""
}

// partsDotted reads one part at least.
func partsDotted(s string) ([]part, bool) {
	fields := strings.Split(s, ".")
	if len(fields) > maxParts {
		return nil, false
	}
	var parts []part
	for i, f := range fields {
		word, num := splitWord(f)
		n, ok := number(num)
		if !ok || i == 0 && word != "" {
			return nil, false
		}
		parts = append(parts, part{word: word, num: n})
	}
	return parts, true
}

// splitWord cuts leading ASCII letters off.
func splitWord(s string) (word, rest string) {
	i := 0
	for i < len(s) && isLetter(s[i]) {
		i++
	}
	return s[:i], s[i:]
}
