package strictyaml

import (
	"cmp"
	"strconv"
	"strings"
)

// Kind is the type of a value.
type Kind uint8

// Kinds of values.
const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Object
)

// String gives the kind's name for faults.
func (k Kind) String() string {
	return [...]string{"null", "true or false", "a number", "a string", "a list", "an object"}[k]
}

// Node is one value of a document with its place. Keys stay in their order, doubled
// ones included.
type Node struct {
	Kind    Kind
	Exact   bool // Text is as it is written: not so for 007, which is 7, and yes, which is true
	Place   Place
	Text    string // of a string its value, of a number, true and false how it is shown
	source  string // as it is written, where that is not exact
	Items   []*Node
	Members []Member
}

// Member is one field of an object.
type Member struct{ Key, Value *Node }

// Shown is the value as a fault shows it.
func (n *Node) Shown() string {
	switch n.Kind {
	case Null, List, Object:
		return n.Kind.String()
	}
	return n.written()
}

// written is a value as it is written.
func (n *Node) written() string {
	if n.Exact {
		return n.Text
	}
	return cmp.Or(n.source, n.Text)
}

// find gives the value at path, seen from the one at at. It is not exact when path is
// not there: it is what would hold it then.
func (n *Node) find(at, path string) (found *Node, exact bool) {
	if at == path {
		return n, true
	}
	for _, m := range n.Members {
		if next := Field(at, m.Key.Text); m.Key.Kind == String && within(path, next) {
			return m.Value.find(next, path)
		}
	}
	if number, _, ok := strings.Cut(strings.TrimPrefix(path[len(at):], "["), "]"); ok && n.Kind == List {
		if i, err := strconv.Atoi(number); err == nil && 0 <= i && i < len(n.Items) {
			return n.Items[i].find(Index(at, i), path)
		}
	}
	return n, false
}

// within reports whether path is at, or below it.
func within(path, at string) bool {
	rest, ok := strings.CutPrefix(path, at)
	return ok && (at == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Field is the path of a key below path. A key that is no plain word is quoted, a
// long one shortened.
func Field(path, key string) string {
	plain := key != ""
	for _, r := range key {
		plain = plain && IsWord(r)
	}
	switch {
	case !plain:
		return path + "[" + strconv.Quote(Shorten(key)) + "]"
	case path == "":
		return Shorten(key)
	}
	return path + "." + Shorten(key)
}

// Index is the path of an element of the list at path.
func Index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// IsWord reports whether r needs no quotes in a path.
func IsWord(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
}
