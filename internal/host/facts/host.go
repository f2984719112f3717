package facts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/lib/database"
	"holdfast/internal/lib/text"

	"golang.org/x/sys/unix"
)

// maxFile bounds files that are read, bytes.
const maxFile = 4 << 20

// read reads a file that must not be larger than maxFile. It does not wait for the
// other end of a pipe.
func read(name string) (_ []byte, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if s, err := f.Stat(); err != nil || !s.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s: want a file", name), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		return nil, fmt.Errorf("%s: want at most %d bytes", name, maxFile)
	}
	return b, err
}

func (g *Gatherer) system() (fact.OS, error) {
	b, err := read(g.file("etc/os-release"))
	if errors.Is(err, fs.ErrNotExist) {
		b, err = read(g.file("usr/lib/os-release"))
	}
	if err != nil {
		return fact.OS{}, fmt.Errorf("read which system it is: %w", err)
	}
	return parseOS(b), nil
}

// parseOS reads os-release: NAME=value, with or without quotes as in a shell.
func parseOS(b []byte) fact.OS {
	v := shellVars(b)
	return fact.OS{ID: v["ID"], Like: strings.Fields(v["ID_LIKE"]), Version: v["VERSION_ID"], Name: v["PRETTY_NAME"]}
}

// shellVars reads a file of assignments as a shell would, without expanding
// anything; the last one of a name counts.
func shellVars(b []byte) map[string]string {
	v := map[string]string{}
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, maxFile+1)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		line = strings.TrimPrefix(line, "export ")
		name, value, ok := strings.Cut(line, "=")
		if ok && name != "" && !strings.ContainsAny(name, "# \t") {
			v[name] = unquote(value)
		}
	}
	return v
}

// unquote takes off quotes, or a comment behind a bare word.
func unquote(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	q := s[0]
	if q != '"' && q != '\'' {
		word, _, _ := strings.Cut(s, " #")
		return strings.TrimSpace(word)
	}
	var out strings.Builder
	for i := 1; i < len(s) && s[i] != q; i++ {
		if s[i] == '\\' && q == '"' && i+1 < len(s) {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// space asks the file system of a directory, or of the nearest one above that is
// there.
func space(dir string) (fact.Space, error) {
	at := filepath.Clean(dir)
	for {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		if err == nil {
			free := st.Bavail * uint64(st.Bsize)
			return fact.Space{Dir: dir, Free: int64(min(free, 1<<62))}, nil
		}
		if up := filepath.Dir(at); errors.Is(err, fs.ErrNotExist) && up != at {
			at = up
			continue
		}
		return fact.Space{}, fmt.Errorf("ask for the free space of %s: %w", at, err)
	}
}

var pythonModule = text.Pattern(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

// python imports each module in a process of its own: one that ends the process
// says nothing of the others.
func (g *Gatherer) python(ctx context.Context, modules []string) (map[string]string, error) {
	const program = "import importlib,sys\nimportlib.import_module(sys.argv[1])"
	out := map[string]string{}
	for _, m := range modules {
		if !pythonModule().MatchString(m) {
			out[m] = "it is no name of a module"
			continue
		}
		o, err := g.run(ctx, "python3", "-c", program, m)
		switch {
		case errors.Is(err, errNotThere):
			out[m] = "python3 is not installed"
		case err != nil:
			return nil, fmt.Errorf("import %s: %w", m, err)
		case o.exit != 0:
			out[m] = lastLine(o.all())
		default:
			out[m] = ""
		}
	}
	return out, nil
}

// lastLine is what a failed program has said last: of Python, the error itself.
func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if s := shorten(lines[len(lines)-1]); s != "" {
		return s
	}
	return "it failed and printed nothing"
}

// installed reads the version that a file of the product names, such as
// versions.yml.
func installed(name string) (string, error) {
	b, err := read(name)
	if err != nil {
		return "", fmt.Errorf("read the installed version: %w", err)
	}
	if v := database.VersionIn(b); v != "" {
		return v, nil
	}
	for _, word := range strings.FieldsFunc(string(b), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if v, err := version.Parse(version.CAS, word); err == nil {
			return v.String(), nil
		}
	}
	return "", fmt.Errorf("read the installed version: %s has neither a line Version: VERSION nor one with a version "+
		"of CAS such as E0710", name)
}

// newest returns the time of the newest entry of a directory, zero when there is
// none.
func newest(dir string) (time.Time, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("look for backups: %w", err)
	}
	var last time.Time
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // not complete
		}
		i, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("look for backups: %w", err)
		}
		if i.ModTime().After(last) {
			last = i.ModTime()
		}
	}
	return last, nil
}

// MachineUUID reads the UUID of the hardware from a file of the system; "" where there is none, as in some VMs.
func MachineUUID(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(string(b)))
}
