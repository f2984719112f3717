package bundle

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// upgradeOrder is the list in env.sh that every package has.
const upgradeOrder = "UPGRADE_ORDER"

// orderLists are the lists in env.sh that an upgrade needs.
func orderLists() []string {
	return []string{upgradeOrder, "START_ORDER", "STOP_ORDER", "PRE_UPGRADE_ORDER", "POST_UPGRADE_ORDER", "ROLLBACK_ORDER"}
}

// env is what action/env.sh says of an upgrade.
type env struct {
	lists       map[string][]string // modules by the name of the list
	installPath string              // where the product is; empty when the script computes it
}

// modules returns the names in all lists, those of the upgrade first.
func (e env) modules() []string {
	var out []string
	for _, list := range orderLists() {
		for _, n := range e.lists[list] {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

var (
	assignment  = regexp.MustCompile(`^(?:export\s+|readonly\s+|declare\s+-a\s+)?([A-Za-z_][A-Za-z0-9_]*)=`)
	identifier  = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)
	moduleName  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	plainTarget = regexp.MustCompile(`^/[A-Za-z0-9_./-]+$`)
)

// parseEnv reads the lists of modules from the text of env.sh. It runs nothing:
// a list that is not written out in full is an error.
func parseEnv(text string) (env, error) {
	e := env{lists: map[string][]string{}}
	for off := 0; off < len(text); {
		used, err := e.statement(text[off:])
		if err != nil {
			return env{}, fmt.Errorf("line %d: %w", strings.Count(text[:off], "\n")+1, err)
		}
		off += used
	}
	if len(e.lists[upgradeOrder]) == 0 {
		return env{}, fmt.Errorf("it has no list %s", upgradeOrder)
	}
	return e, nil
}

// statement reads one line, or a list over several, and returns its length.
func (e *env) statement(text string) (used int, err error) {
	line, _, _ := strings.Cut(text, "\n")
	used = min(len(line)+1, len(text))
	plain := strings.TrimSpace(line)
	if plain == "" || plain[0] == '#' {
		return used, nil
	}
	set := assignment.FindStringSubmatch(plain)
	if set != nil && slices.Contains(orderLists(), set[1]) {
		return e.list(set[1], text)
	}
	if set != nil && set[1] == "INSTALL_PATH" {
		e.installPath = installPath(plain[len(set[0]):])
	}
	for _, word := range identifier.FindAllString(plain, -1) {
		if slices.Contains(orderLists(), word) {
			return 0, fmt.Errorf("what it does with %s can not be told without running it; want only %s=(NAME ...) at the begin of a line", word, word)
		}
	}
	return used, nil
}

// list reads one list of modules, up to the end of its last line.
func (e *env) list(name, text string) (used int, err error) {
	if _, twice := e.lists[name]; twice {
		return 0, fmt.Errorf("%s is set twice", name)
	}
	start := strings.Index(text, "=") + 1
	names, n, err := parseArray(text[start:])
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	e.lists[name] = names
	used = start + n
	rest, _, _ := strings.Cut(text[used:], "\n")
	if end := strings.TrimSpace(rest); end != "" && end[0] != '#' {
		return 0, fmt.Errorf("%s: want nothing after the list", name)
	}
	return min(used+len(rest)+1, len(text)), nil
}

// installPath reads the value of INSTALL_PATH, if it is plain.
func installPath(value string) string {
	value = strings.Trim(strings.TrimSpace(value), `"'`)
	if !plainTarget.MatchString(value) || path.Clean(value) != value {
		return ""
	}
	return value
}

// parseArray reads ("a" 'b' c), over several lines if need be, and returns how
// many bytes it is.
func parseArray(text string) (names []string, used int, err error) {
	if !strings.HasPrefix(text, "(") {
		return nil, 0, fmt.Errorf("want a list in parentheses")
	}
	for i := 1; i < len(text); {
		switch b := text[i]; {
		case strings.IndexByte(" \t\r\n", b) >= 0:
			i++
		case b == ')':
			return names, i + 1, nil
		case b == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		default:
			word, n := arrayWord(text[i:])
			if !moduleName.MatchString(word) {
				return nil, 0, fmt.Errorf("%q: want names of letters, digits and _ . -, nothing computed", word)
			}
			if slices.Contains(names, word) {
				return nil, 0, fmt.Errorf("%q is there twice", word)
			}
			if len(names) == 100 {
				return nil, 0, fmt.Errorf("want at most 100 names")
			}
			names = append(names, word)
			i += n
		}
	}
	return nil, 0, fmt.Errorf("the list has no end")
}

// arrayWord returns the next word and the bytes it takes. Quotes around the
// whole word are taken off; any other quote stays in it, to be refused.
func arrayWord(text string) (word string, used int) {
	end := strings.IndexAny(text, " \t\r\n)")
	if end < 0 {
		end = len(text)
	}
	word = text[:end]
	if q := word[0]; (q == '"' || q == '\'') && len(word) > 2 && word[len(word)-1] == q {
		word = word[1 : len(word)-1]
	}
	return word, end
}
