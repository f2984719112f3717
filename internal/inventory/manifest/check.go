package manifest

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/internal/lib/strictyaml"
)

// Fault is one thing that is wrong in a manifest.
type Fault = strictyaml.Fault

// Faults is everything that is wrong in one manifest.
type Faults []Fault

// Error gives one line for each fault.
func (fs Faults) Error() string { return strictyaml.Lines("", fs) }

// Limits of a manifest.
const (
	maxName    = 64     // bytes
	maxItems   = 200    // modules, and items of any short list
	maxSources = 1000   // rows of upgradeFrom
	maxSpaceGB = 100000 // far more than any bundle needs

	minTimeout = time.Second
	maxTimeout = 24 * time.Hour
)

// FileManifest and FileSignature are the members of a bundle that no module may
// have.
const (
	FileManifest  = "manifest.yaml"
	FileSignature = "manifest.yaml.minisig"
)

// checker collects faults.
type checker struct {
	faults   []Fault
	files    map[string]bool // paths of all files
	allHosts int             // modules that change all hosts
}

func (c *checker) add(path, value, want string) {
	c.faults = append(c.faults, Fault{Path: path, Value: strictyaml.Shorten(value), Want: want})
}

// Check returns everything that is wrong in a complete manifest, as a built
// bundle has it: with size, hash and mode of every file. The syntax of version
// patterns is for CheckPatterns.
func (m *Manifest) Check() []Fault {
	c := &checker{files: map[string]bool{}}
	c.head(m)
	c.checkFiles(m)
	names := map[string]bool{}
	for i := range m.Modules {
		mod := &m.Modules[i]
		at := fmt.Sprintf("modules[%d]", i)
		if names[mod.Name] {
			c.add(at+".name", mod.Name, "want a name that no other module has")
		}
		names[mod.Name] = true
		c.module(at, mod)
	}
	if len(m.Modules) > 0 && !slices.ContainsFunc(m.Modules, func(mod Module) bool { return !mod.FilesOnly() }) {
		c.add("modules", "", "want at least one with actions: files alone upgrade nothing")
	}
	c.checkOrder(m)
	if m.Path != nil {
		c.inBundle("path.catalogue", m.Path.Catalogue)
	}
	return c.faults
}

// CheckPatterns asks ok for the syntax of every version pattern.
func (m *Manifest) CheckPatterns(ok func(pattern string) error) []Fault {
	c := &checker{}
	for i, s := range m.UpgradeFrom {
		if err := ok(s.Version); err != nil {
			c.add(fmt.Sprintf("upgradeFrom[%d].version", i), s.Version, err.Error())
		}
	}
	for i, p := range m.Mixed {
		if err := ok(p); err != nil {
			c.add(fmt.Sprintf("mixed[%d]", i), p, err.Error())
		}
	}
	return c.faults
}

func (c *checker) head(m *Manifest) {
	c.name("name", m.Name)
	if !isToken(m.Version, "._+~-") {
		c.add("version", m.Version, "want a version: letters, digits and . _ + ~ -, at most 64")
	}
	if m.MinSpaceGB < 0 || m.MinSpaceGB > maxSpaceGB {
		c.add("minSpaceGB", fmt.Sprint(m.MinSpaceGB), fmt.Sprintf("want GiB from 1 to %d, or nothing for %d", maxSpaceGB, DefaultMinSpaceGB))
	}
	if m.Kernel != "" && !isToken(m.Kernel, "._+~-") {
		c.add("kernel", m.Kernel, "want a kernel release as uname -r shows it")
	}
	if m.Kernel != "" && !m.RequiresReboot {
		c.add("kernel", m.Kernel, "want requiresReboot: true as well: a new kernel runs only after a reboot")
	}
	c.tokens("requires.commands", m.Requires.Commands, "._+-", "want the name of a program")
	c.tokens("requires.pythonModules", m.Requires.PythonModules, "._", "want the name of a python module")
	c.sources(m)
	if len(m.Mixed) > maxItems {
		c.add("mixed", fmt.Sprintf("%d items", len(m.Mixed)), fmt.Sprintf("want at most %d", maxItems))
	}
	for i, p := range m.Mixed {
		c.pattern(fmt.Sprintf("mixed[%d]", i), p)
	}
	switch n := len(m.Modules); {
	case n == 0:
		c.add("modules", "", "want at least one module")
	case n > maxItems:
		c.add("modules", fmt.Sprintf("%d items", n), fmt.Sprintf("want at most %d", maxItems))
	}
}

func (c *checker) sources(m *Manifest) {
	switch n := len(m.UpgradeFrom); {
	case n == 0:
		c.add("upgradeFrom", "", "want at least one version that can be upgraded")
	case n > maxSources:
		c.add("upgradeFrom", fmt.Sprintf("%d items", n), fmt.Sprintf("want at most %d", maxSources))
	}
	if m.FromRule != "" && m.FromRule != FromAppctl {
		c.add("fromRule", m.FromRule, "want nothing or "+FromAppctl)
	}
	for i, s := range m.UpgradeFrom {
		at := fmt.Sprintf("upgradeFrom[%d]", i)
		c.pattern(at+".version", s.Version)
		if len(s.Modes) == 0 {
			c.add(at+".modes", "", "want offline, rolling or both")
		}
		for j, mode := range s.Modes {
			if mode != Offline && mode != Rolling || slices.Contains(s.Modes[:j], mode) {
				c.add(fmt.Sprintf("%s.modes[%d]", at, j), string(mode), "want offline or rolling, each at most once")
			}
		}
	}
}

func (c *checker) pattern(path, p string) {
	if p == "" || len(p) > maxName || !isPlain(p) || strings.Contains(p, " ") {
		c.add(path, p, "want a version pattern such as 2.0.0.B086, 2.0.0.* or 3.0.0.B010-B038")
	}
}

func (c *checker) name(path, n string) {
	if !isToken(n, "._-") {
		c.add(path, n, "want a name: letters, digits and . _ -, at most 64, a letter or digit first")
	}
}

// tokens checks a short list of words.
func (c *checker) tokens(path string, list []string, more, want string) {
	if len(list) > maxItems {
		c.add(path, fmt.Sprintf("%d items", len(list)), fmt.Sprintf("want at most %d", maxItems))
	}
	for i, s := range list {
		if !isToken(s, more) {
			c.add(fmt.Sprintf("%s[%d]", path, i), s, want)
		}
	}
}

func (c *checker) module(at string, m *Module) {
	c.name(at+".name", m.Name)
	switch label, ok := strings.CutPrefix(m.RunsOn, "label:"); {
	case ok:
		key, value, both := strings.Cut(label, "=")
		if !both || !isToken(key, "._/-") || value != "" && !isToken(value, "._/-") {
			c.add(at+".runsOn", m.RunsOn, "want label:KEY=VALUE, of letters, digits and . _ / -")
		}
	case strings.HasPrefix(m.RunsOn, onEngine):
		c.onHost(at+".runsOn", strings.TrimPrefix(m.RunsOn, onEngine), 2)
	case !slices.Contains([]string{"", "manager", "host", "all"}, m.RunsOn):
		c.add(at+".runsOn", m.RunsOn, "want manager, host, all, label:KEY=VALUE or engine:/DIRECTORY")
	}
	if d := time.Duration(m.Timeout); d != 0 && (d < minTimeout || d > maxTimeout) {
		c.add(at+".timeout", d.String(), fmt.Sprintf("want a duration from %s to %s", minTimeout, maxTimeout))
	}
	if has := m.Actions.Rollback != nil; has != m.CanRollback {
		c.add(at+".canRollback", fmt.Sprint(m.CanRollback), "want true with a rollback action (none: true counts), and false without one")
	}
	if r := m.Actions.Rollback; r != nil && r.None {
		for _, p := range Phases() {
			// What a program has changed, a rollback of nothing may leave; what is changed here by itself comes back.
			if a := m.Actions.Get(p); a != nil && p != PreCheck && (a.Packages != nil || a.FileTree != nil) {
				c.add(at+".actions.rollback.none", "true",
					fmt.Sprintf("want a rollback that takes back what actions.%s changes: packages or fileTree, as "+
						"there; or canRollback: false without one", p))
			}
		}
	}
	for i, f := range m.Config {
		p := fmt.Sprintf("%s.config[%d]", at, i)
		c.inBundle(p+".file", f.File)
		c.onHost(p+".installed", f.Installed, 1)
		if !slices.Contains([]string{"", "json", "yaml", "ini", "properties"}, f.Format) {
			c.add(p+".format", f.Format, "want json, yaml, ini or properties")
		}
	}
	if a := m.Actions.Install; a != nil && a.AllHosts {
		if m.RunsOn != "manager" {
			c.add(at+".runsOn", m.RunsOn, "want manager: with allHosts: true the active manager changes all hosts")
		}
		if c.allHosts++; c.allHosts > 1 {
			c.add(at+".actions.install.allHosts", "true", "want it in one module at most")
		}
	}
	for _, p := range Phases() {
		if a := m.Actions.Get(p); a != nil {
			c.action(at+".actions."+string(p), p, a)
		}
	}
	switch {
	case !m.FilesOnly():
	case len(m.Files) == 0:
		c.add(at+".actions", "", "want at least one action, or files for the programs of other modules")
	case m.RunsOn != "":
		c.add(at+".runsOn", m.RunsOn, "want nothing here, or an action: without actions the files go to all hosts")
	}
}

// onHost checks an absolute path on a host, with at least so many parts.
func (c *checker) onHost(at, p string, parts int) {
	if !path.IsAbs(p) || path.Clean(p) != p || !isPlain(p) || len(p) > maxPath || strings.Count(p, "/") < parts || p == "/" {
		c.add(at, p, fmt.Sprintf("want an absolute path without . and .., at least %d below /", parts))
	}
}

// inBundle checks that p is a file of the bundle.
func (c *checker) inBundle(at, p string) {
	if !c.files[p] {
		c.add(at, p, "want a file that a module of this bundle lists")
	}
}

// isToken reports whether s has letters, digits and bytes of more only, a
// letter, digit or underscore first, and 1 to 64 bytes.
func isToken(s, more string) bool {
	for i := range len(s) {
		b := s[i]
		alnum := '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if !alnum && (strings.IndexByte(more, b) < 0 || i == 0 && b != '_') {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}
