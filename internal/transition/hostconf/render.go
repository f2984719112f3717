package hostconf

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"

	"holdfast/internal/cluster"
)

// File is a file as a host is to have it.
type File struct {
	Path    string `json:"path"`
	Mode    string `json:"mode,omitempty"`  // as Template.Mode
	Owner   string `json:"owner,omitempty"` // as Template.Owner
	Secret  bool   `json:"secret,omitempty"`
	Content string `json:"content"` // UTF-8
}

// Host is a host that gets files.
type Host struct {
	Name  cluster.HostID `json:"name"`
	Files []File         `json:"files"` // in the order of config.yaml
}

// Hosts are the names of a cluster's hosts, in order.
func (c *Config) Hosts(name string) []cluster.HostID {
	x, set := c.Clusters[name], map[cluster.HostID]bool{}
	for _, g := range x.Groups {
		for _, h := range g.Hosts {
			set[h] = true
		}
	}
	for h := range x.Hosts {
		set[h] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Render renders the files of the hosts of a cluster that the configuration has. texts are
// the templates by their paths, addresses those of all hosts of the cluster. An error names
// template, line and value, and the first host at which it occurs.
func (c *Config) Render(name string, texts map[string]string, addresses map[cluster.HostID]string) ([]Host, error) {
	parsed, err := c.templates(texts)
	if err != nil {
		return nil, err
	}
	var out []Host
	var errs []error
	seen := map[string]bool{}
	add := func(host cluster.HostID, err error) {
		if !seen[err.Error()] {
			seen[err.Error()] = true
			errs = append(errs, fmt.Errorf("host %s: %w", host, err))
		}
	}
	for _, h := range c.Hosts(name) {
		values, err := c.valuesOf(name, h)
		if err != nil {
			add(h, err)
			continue
		}
		values[valueHost], values[valueAddress], values[valueCluster] = string(h), addresses[h], name
		host := Host{Name: h}
		size, paths := 0, map[string]bool{}
		for _, f := range c.Files {
			if !c.isOn(name, h, f.Groups) {
				continue
			}
			text, err := run(parsed[f.Template], values)
			if err == nil && paths[f.Path] {
				err = fmt.Errorf("%s: two templates are for this path", f.Path)
			}
			if err != nil {
				add(h, err)
				continue
			}
			paths[f.Path] = true
			size += len(text)
			host.Files = append(host.Files, File{Path: f.Path, Mode: f.Mode, Owner: f.Owner, Secret: f.Secret, Content: text})
		}
		if size > MaxSet {
			add(h, fmt.Errorf("its files have %d bytes in all: want at most %d", size, MaxSet))
		}
		if len(host.Files) > 0 {
			out = append(out, host)
		}
	}
	return out, errors.Join(errs...)
}

func (c *Config) templates(texts map[string]string) (map[string]*template.Template, error) {
	out := map[string]*template.Template{}
	var errs []error
	for _, f := range c.Files {
		if out[f.Template] != nil {
			continue
		}
		text, ok := texts[f.Template]
		if !ok {
			errs = append(errs, fmt.Errorf("template %s: there is no such file", f.Template))
			continue
		}
		t, err := template.New(f.Template).Option("missingkey=error").Parse(text)
		if err != nil {
			errs = append(errs, templateFault(err))
			continue
		}
		out[f.Template] = t
	}
	return out, errors.Join(errs...)
}

// valuesOf are the values of a host. Two groups of one host must not differ about a value
// that the host itself does not have.
func (c *Config) valuesOf(name string, h cluster.HostID) (map[string]string, error) {
	x, out, from := c.Clusters[name], map[string]string{}, map[string]string{}
	maps.Copy(out, c.Values)
	maps.Copy(out, x.Values)
	own := x.Hosts[h].Values
	for _, g := range slices.Sorted(maps.Keys(x.Groups)) {
		if !slices.Contains(x.Groups[g].Hosts, h) {
			continue
		}
		for _, n := range slices.Sorted(maps.Keys(x.Groups[g].Values)) {
			v := x.Groups[g].Values[n]
			if _, set := own[n]; from[n] != "" && out[n] != v && !set {
				return nil, fmt.Errorf("its groups %s and %s have different values of %s: give the host one of its own", from[n], g, n)
			}
			out[n], from[n] = v, g
		}
	}
	maps.Copy(out, own)
	return out, nil
}

func (c *Config) isOn(name string, h cluster.HostID, groups []string) bool {
	return len(groups) == 0 || slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(c.Clusters[name].Groups[g].Hosts, h) })
}

// bounded takes as many bytes as a file may have.
type bounded struct{ strings.Builder }

var errLong = fmt.Errorf("it becomes longer than %d bytes", MaxFile)

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > MaxFile {
		return 0, errLong
	}
	return b.Builder.Write(p)
}

var (
	executing = regexp.MustCompile(`^(.*): executing ".*" at <(.*)>: (.*)$`)
	noEntry   = regexp.MustCompile(`^map has no entry for key "(.*)"$`)
)

// templateFault says in words of this program what the library says of a template: file, line and what is wrong.
func templateFault(err error) error {
	text := strings.TrimPrefix(err.Error(), "template: ")
	m := executing.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("template %s", text)
	}
	if key := noEntry.FindStringSubmatch(m[3]); key != nil {
		return fmt.Errorf("template %s: no value %s: want it among the values of %s", m[1], key[1], Name)
	}
	return fmt.Errorf("template %s: at %s: %s", m[1], m[2], m[3])
}

func run(t *template.Template, values map[string]string) (string, error) {
	var b bounded
	if err := t.Execute(&b, values); err != nil {
		if errors.Is(err, errLong) {
			return "", fmt.Errorf("template %s: %w", t.Name(), errLong)
		}
		return "", templateFault(err)
	}
	text := b.String()
	if !utf8.ValidString(text) {
		return "", fmt.Errorf("template %s: what it becomes is not UTF-8", t.Name())
	}
	return text, nil
}
