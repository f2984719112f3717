package manifest

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of paths; lengths in bytes.
const (
	maxPath = 1024
	maxPart = 255

	maxDepth = 64 // parts of a path
)

// PathFault says what is wrong with the path of a file in a bundle; empty means
// nothing. It knows no normal forms of Unicode.
func PathFault(p string) string {
	switch {
	case p == "":
		return "the name is empty"
	case !utf8.ValidString(p):
		return "the name is not UTF-8"
	case !isPlain(p):
		return "the name has characters that can not be printed"
	case strings.Contains(p, `\`):
		return "the name has a backslash"
	case p[0] == '/':
		return "the name is absolute"
	case p[0] == '-':
		return "the name begins with -, a program would take it for an option"
	case strings.HasSuffix(p, "/"):
		return "the name ends in /"
	case len(p) > maxPath:
		return fmt.Sprintf("the name has more than %d bytes", maxPath)
	}
	if strings.Count(p, "/") >= maxDepth {
		return fmt.Sprintf("the name has more than %d parts", maxDepth)
	}
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "..":
			return "the name leads out, by .."
		case part == "" || part == ".":
			return "the name has an empty part or ."
		case len(part) > maxPart:
			return fmt.Sprintf("a part of the name has more than %d bytes", maxPart)
		}
	}
	return ""
}

// FoldPath returns a key that paths share when they differ in upper and lower
// case only.
func FoldPath(p string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, p)
}

// isPlain reports whether all of s can be printed; a space can.
func isPlain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// ParseMode reads the permissions of a file: "0644" and such. The owner may
// read, nobody else may write, and there are no other bits.
func ParseMode(s string) (mode uint32, ok bool) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || len(s) != 4 || n > 0o777 || n&0o400 == 0 || n&0o022 != 0 {
		return 0, false
	}
	return uint32(n), true
}

// checkFiles checks the files of all modules, and that no two share a place.
func (c *checker) checkFiles(m *Manifest) {
	folded := map[string]string{FoldPath(FileManifest): FileManifest, FoldPath(FileSignature): FileSignature}
	for i := range m.Modules {
		for j, f := range m.Modules[i].Files {
			at := fmt.Sprintf("modules[%d].files[%d]", i, j)
			c.file(at, f)
			switch first, taken := folded[FoldPath(f.Path)]; {
			case taken && first == f.Path:
				c.add(at+".path", f.Path, "want each file once, and neither the manifest nor its signature")
			case taken:
				c.add(at+".path", f.Path, fmt.Sprintf("want a name that differs from %q in more than upper and lower case", first))
			}
			folded[FoldPath(f.Path)] = f.Path
			c.files[f.Path] = true
		}
	}
	for i := range m.Modules {
		for j, f := range m.Modules[i].Files {
			for dir, ok := parentOf(f.Path); ok; dir, ok = parentOf(dir) {
				if first, taken := folded[FoldPath(dir)]; taken {
					c.add(fmt.Sprintf("modules[%d].files[%d].path", i, j), f.Path, fmt.Sprintf("want a path that is not below the file %q", first))
				}
			}
		}
	}
}

// parentOf returns the directory of a relative path, if it has one.
func parentOf(p string) (dir string, ok bool) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "", false
	}
	return p[:i], true
}

func (c *checker) file(at string, f File) {
	if bad := PathFault(f.Path); bad != "" {
		c.add(at+".path", f.Path, "want a relative path without . and ..: "+bad)
	}
	if f.Size < 0 {
		c.add(at+".size", fmt.Sprint(f.Size), "want a size in bytes")
	}
	if len(f.SHA256) != 64 || strings.Trim(f.SHA256, "0123456789abcdef") != "" {
		c.add(at+".sha256", f.SHA256, "want 64 lower-case hex digits")
	}
	if _, ok := ParseMode(f.Mode); !ok {
		c.add(at+".mode", f.Mode, `want permissions in quotes such as "0644" or "0755": readable for the owner, writable for nobody else`)
	}
}
