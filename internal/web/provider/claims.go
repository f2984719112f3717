package provider

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// find returns a claim: of that very name, or, with dots in it, the one that lies within others; nil: there is none.
func find(claims map[string]any, name string) any {
	if v, has := claims[name]; has {
		return v
	}
	first, rest, more := strings.Cut(name, ".")
	within, is := claims[first].(map[string]any)
	if !more || !is {
		return nil
	}
	return find(within, rest)
}

// texts are those of a claim that is a text or a list of them.
func texts(claim any) []string {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v {
			if s, is := x.(string); is {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// maxName bounds a name, in characters.
const maxName = 64

// isName reports whether a name may stand in the events. Blanks and parentheses are not in it: behind a name the events
// have from where and by what.
func isName(name string) bool {
	if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName {
		return false
	}
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-@+:|", r) {
			return false
		}
	}
	return true
}

func quoted(names []string) string { return strings.Join(names, ", ") }

// maxShort bounds what others have written, in a line of the log.
const maxShort = 300

func short(s string) string {
	if len(s) > maxShort {
		return strings.ToValidUTF8(s[:maxShort], "") + "…"
	}
	return s
}
