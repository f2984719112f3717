// Package hostconf is the configuration of a cluster's hosts, kept in a directory: templates of
// files, and values per cluster, group and host. It renders them, and has the words in which
// hosts are asked what they have instead and told what to write. It is pure: no I/O, no clock.
// See docs/adr/0064.
package hostconf

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/lib/text"
)

// Name is the file of a directory that says what there is in it.
const Name = "config.yaml"

// Format is the only format of these files.
const Format = 1

// Bounds, bytes and numbers.
const (
	MaxConfig = 1 << 20   // of config.yaml
	MaxFile   = 256 << 10 // of a template, and of a file that is rendered or read
	MaxSet    = 512 << 10 // of all files of a host: they are one message
	MaxFiles  = 100       // per host
	maxPath   = 400       // of a target: all paths of a host are in the arguments of a step
)

// Config is config.yaml: docs/transition-config.md has the fields.
type Config struct {
	Format   int                `json:"format"`
	Files    []Template         `json:"files"`
	Values   map[string]string  `json:"values"` // of all clusters
	Clusters map[string]Cluster `json:"clusters"`
}

// Template says what becomes of a template.
type Template struct {
	Template string   `json:"template"` // path in the directory
	Path     string   `json:"path"`     // absolute, on the host
	Mode     string   `json:"mode"`     // octal; "": that of the file that is there, else 0644, of a secret one 0600
	Owner    string   `json:"owner"`    // USER:GROUP, names or numbers of the host; "": of the file that is there, else root
	Secret   bool     `json:"secret"`   // its lines are not shown
	Groups   []string `json:"groups"`   // that have it; none: all hosts of the cluster
}

// Cluster has hosts, in groups or alone, and their values. What is nearer to a host counts.
type Cluster struct {
	Values map[string]string          `json:"values"`
	Groups map[string]Group           `json:"groups"`
	Hosts  map[cluster.HostID]Overlay `json:"hosts"`
}

// Group is hosts that have values in common.
type Group struct {
	Hosts  []cluster.HostID  `json:"hosts"`
	Values map[string]string `json:"values"`
}

// Overlay has the values of one host.
type Overlay struct {
	Values map[string]string `json:"values"`
}

// Names of values that every template finds, beside those of the file.
const (
	valueHost    = "host"    // its name
	valueAddress = "address" // its address, as its agent reports it
	valueCluster = "cluster" // name of the cluster
)

// Parse reads config.yaml. Without faults it can be rendered, if its templates can.
func Parse(data []byte) (*Config, []strictyaml.Fault) {
	if len(data) > MaxConfig {
		return nil, []strictyaml.Fault{{Path: strictyaml.Whole, Value: fmt.Sprintf("%d bytes", len(data)),
			Want: fmt.Sprintf("want at most %d bytes", MaxConfig)}}
	}
	c := &Config{}
	read := strictyaml.Style{Loose: true}.Decode(data, c)
	if len(read.Faults) > 0 {
		return nil, read.Faults
	}
	k := &checker{}
	k.config(c)
	if len(k.faults) > 0 {
		return nil, read.Locate(k.faults)
	}
	return c, nil
}

type checker struct{ faults []strictyaml.Fault }

func (k *checker) fault(path, value, want string) {
	k.faults = append(k.faults, strictyaml.Fault{Path: path, Value: strictyaml.Shorten(value), Want: want})
}

var (
	word  = text.Pattern(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	ident = text.Pattern(`^[A-Za-z_][A-Za-z0-9_]{0,99}$`)
	owner = text.Pattern(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,31}:[A-Za-z0-9_][A-Za-z0-9._-]{0,31}$`)
)

func (k *checker) config(c *Config) {
	if c.Format != Format {
		k.fault("format", fmt.Sprint(c.Format), fmt.Sprintf("want %d, the format that this program knows", Format))
	}
	if len(c.Files) == 0 || len(c.Files) > MaxFiles {
		k.fault("files", fmt.Sprint(len(c.Files)), fmt.Sprintf("want 1 to %d files", MaxFiles))
	}
	if len(c.Clusters) == 0 {
		k.fault("clusters", "", "want a cluster with its hosts")
	}
	k.values("values", c.Values)
	groups := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Clusters)) {
		x := c.Clusters[name]
		k.cluster(strictyaml.Field("clusters", name), name, &x)
		for g := range x.Groups {
			groups[g] = true
		}
	}
	for i := range c.Files {
		k.file(fmt.Sprintf("files[%d].", i), &c.Files[i], groups)
	}
}

func (k *checker) file(at string, f *Template, groups map[string]bool) {
	if !Inside(f.Template) {
		k.fault(at+"template", f.Template, "want the path of a file in the directory")
	}
	if !Target(f.Path) {
		k.fault(at+"path", f.Path, fmt.Sprintf("want the absolute path of a file, in its shortest form, of at most %d bytes", maxPath))
	}
	if f.Mode != "" && !Mode(f.Mode) {
		k.fault(at+"mode", f.Mode, `want an octal mode of a file in quotes, "0400" to "0777"`)
	}
	if f.Owner != "" && !owner().MatchString(f.Owner) {
		k.fault(at+"owner", f.Owner, "want USER:GROUP, names or numbers")
	}
	for i, g := range f.Groups {
		if !groups[g] {
			k.fault(fmt.Sprintf("%sgroups[%d]", at, i), g, "want a group of one of the clusters")
		}
	}
}

func (k *checker) cluster(at, name string, x *Cluster) {
	if !word().MatchString(name) {
		k.fault(at, name, "want a name of letters, digits, '.', '_' and '-', at most 100")
	}
	k.values(at+".values", x.Values)
	some := false
	for _, g := range slices.Sorted(maps.Keys(x.Groups)) {
		where := strictyaml.Field(at+".groups", g)
		if !word().MatchString(g) {
			k.fault(where, g, "want a name of letters, digits, '.', '_' and '-', at most 100")
		}
		k.values(where+".values", x.Groups[g].Values)
		for i, h := range x.Groups[g].Hosts {
			k.host(fmt.Sprintf("%s.hosts[%d]", where, i), h)
			if slices.Contains(x.Groups[g].Hosts[:i], h) {
				k.fault(fmt.Sprintf("%s.hosts[%d]", where, i), string(h), "want each host once")
			}
			some = true
		}
	}
	for _, h := range slices.Sorted(maps.Keys(x.Hosts)) {
		where := strictyaml.Field(at+".hosts", string(h))
		k.host(where, h)
		k.values(where+".values", x.Hosts[h].Values)
		some = true
	}
	if !some {
		k.fault(at, name, "want hosts, in groups or alone")
	}
}

func (k *checker) host(at string, h cluster.HostID) {
	if !word().MatchString(string(h)) {
		k.fault(at, string(h), "want the name of a host: letters, digits, '.', '_' and '-', at most 100")
	}
}

func (k *checker) values(at string, of map[string]string) {
	for _, n := range slices.Sorted(maps.Keys(of)) {
		switch {
		case !ident().MatchString(n):
			k.fault(strictyaml.Field(at, n), n, "want a name of letters, digits and '_', at most 100, that begins with no digit")
		case n == valueHost || n == valueAddress || n == valueCluster:
			k.fault(strictyaml.Field(at, n), n, "want another name: this value is told by the host itself")
		}
	}
}

// Inside reports whether a path is one of a file in a directory.
func Inside(p string) bool {
	return p != "" && p != "." && !path.IsAbs(p) && path.Clean(p) == p && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.ContainsFunc(p, control)
}

// Target reports whether a path is one of a file on a host.
func Target(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && p != "/" && len(p) <= maxPath && !strings.ContainsFunc(p, control)
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// Mode reports whether a text is a mode of a file: its owner may read it, and it has no
// set-user-ID and no other special bit.
func Mode(s string) bool {
	m, err := strconv.ParseUint(s, 8, 32)
	return err == nil && len(s) <= 4 && m <= 0o777 && m&0o400 != 0
}
