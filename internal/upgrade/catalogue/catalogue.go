// Package catalogue reads the catalogues of package path from YAML, strictly:
// a field that is unknown or given twice, a value of another type, a version
// that can not be read are faults with the path of the field. It also holds the
// built-in catalogues.
package catalogue

import (
	"context"
	_ "embed" // the built-in catalogue
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster/version"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/upgrade/path"
)

//go:embed cas.yaml
var casYAML []byte

const (
	// BuiltIn begins the names of the catalogues in this program.
	BuiltIn = "builtin:"
	// CAS is the catalogue of the CAS virtualization platform.
	CAS = BuiltIn + "cas"

	maxFile       = 2 << 20 // bytes; MaxVersions of package path fit
	maxComponents = 1000
)

// Faults is all that is wrong in one catalogue.
type Faults struct {
	File   string
	Faults []path.Fault
}

// Error gives one line for each fault: file, field, value, what is allowed.
func (f *Faults) Error() string { return strictyaml.Lines(f.File, f.Faults) }

// For returns the built-in catalogue of the product that has a version, nil when there is
// none. 1.0 and 2.0 may be versions of anything; an E number is one of CAS.
func For(v string) *path.Catalogue {
	if at, err := version.Find(version.CAS, v); err != nil || at.IsFamily() {
		return nil
	}
	return cas()
}

// cas is the built-in catalogue, which is read once: nobody changes it.
var cas = sync.OnceValue(func() *path.Catalogue {
	c, err := Parse(CAS, casYAML)
	if err != nil {
		panic(err) // a test has read it
	}
	return c
})

// Load reads the catalogue of a name: builtin:cas, or a file, which must be a
// regular one. The error is a *Faults when the content is wrong.
func Load(ctx context.Context, name string) (*path.Catalogue, error) {
	if name == CAS {
		return cas(), nil
	}
	if strings.HasPrefix(name, BuiltIn) {
		return nil, fmt.Errorf("load catalogue %q: the built-in one is %s", name, CAS)
	}
	data, err := read(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("load a catalogue: %w", err)
	}
	return Parse(name, data)
}

// read reads a regular file of at most maxFile bytes.
func read(ctx context.Context, name string) (data []byte, err error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read %s: %w", name, ctx.Err())
	}
	// Without waiting: opening a pipe that nobody writes to would not end.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", name)
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Parse reads a catalogue from YAML; name is for its faults. The error is a
// *Faults.
func Parse(name string, data []byte) (*path.Catalogue, error) {
	if len(data) > maxFile {
		return nil, &Faults{name, []path.Fault{{Path: strictyaml.Whole, Want: fmt.Sprintf("want at most %d bytes", maxFile)}}}
	}
	var spec path.Spec
	read := strictyaml.Decode(data, &spec)
	faults := append(read.Faults, oversight(&spec)...)
	var c *path.Catalogue
	if len(faults) == 0 {
		c, faults = path.New(spec)
	}
	if len(faults) > 0 {
		return nil, &Faults{name, read.Locate(faults)}
	}
	return c, nil
}

// oversight checks what concerns the text rather than the paths.
func oversight(spec *path.Spec) []path.Fault {
	var faults []path.Fault
	if n := len(spec.Components); n > maxComponents { // each is compared with the others
		faults = append(faults, path.Fault{Path: "components", Value: strconv.Itoa(n),
			Want: fmt.Sprintf("want at most %d of them", maxComponents)})
	}
	return append(faults, tidy(spec)...)
}

// tidy folds white space in the texts for people, which may have several lines,
// and refuses what no terminal should get to see. All other fields are names,
// versions and patterns, which have a strict form.
func tidy(spec *path.Spec) []path.Fault {
	var faults []path.Fault
	fold := func(text *string, list string, i int, field string) {
		if !utf8.ValidString(*text) || strings.ContainsFunc(*text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
			at := fmt.Sprintf("%s[%d].%s", list, i, field)
			faults = append(faults, path.Fault{Path: at, Value: strictyaml.Shorten(*text), Want: "want text without control characters"})
		}
		*text = strings.Join(strings.Fields(*text), " ")
	}
	for i := range spec.Versions {
		fold(&spec.Versions[i].Kernel, "versions", i, "kernel")
	}
	for i := range spec.Families {
		fold(&spec.Families[i].Text, "families", i, "text")
	}
	for i := range spec.Rules {
		fold(&spec.Rules[i].Text, "rules", i, "text")
		fold(&spec.Rules[i].Remedy, "rules", i, "remedy")
	}
	return faults
}
