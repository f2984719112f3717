package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// action checks the action of a phase.
func (c *checker) action(at string, p Phase, a *Action) {
	var kinds []string
	add := func(given bool, kind string) {
		if given {
			kinds = append(kinds, kind)
		}
	}
	add(a.Run != nil, "run")
	add(a.FileTree != nil, "fileTree")
	add(a.Systemd != nil, "systemd")
	add(a.Packages != nil, "packages")
	add(a.Image != nil, "image")
	add(a.Appctl != nil, "appctl")
	add(a.None, "none")
	if len(kinds) != 1 {
		c.add(at, strings.Join(kinds, ", "), "want exactly one of run, fileTree, systemd, packages, image, appctl and none: true")
		return
	}
	if a.AllHosts && (p != Install || a.Run == nil || !a.Once) {
		c.add(at+".allHosts", "true", "want it with run and once: true, as install only")
	}
	if p == Check && a.Run == nil {
		c.add(at, kinds[0], "want run: only a program can find out whether a step was done")
		return
	}
	switch {
	case a.Run != nil:
		c.run(at+".run", a.Run)
	case a.FileTree != nil:
		c.fileTree(at+".fileTree", a.FileTree)
	case a.Systemd != nil:
		c.systemd(at+".systemd", a.Systemd)
	case a.Packages != nil:
		c.packages(at+".packages", a.Packages)
	case a.Image != nil:
		c.image(at+".image", a.Image)
	case a.Appctl != nil:
		c.appctl(at+".appctl", a.Appctl)
	}
}

func (c *checker) appctl(at string, a *Appctl) {
	c.onHost(at+".home", a.Home, 2)
	if !a.Installed {
		c.inBundle(at+".package", a.Script())
	}
	if len(a.Call) == 0 || !isToken(a.Call[0], "_") {
		c.add(at+".call", strings.Join(a.Call, " "), "want a verb of action/appctl.sh, then its arguments")
		return
	}
	c.arguments(at+".call", a.Call)
}

func (c *checker) run(at string, argv []string) {
	if len(argv) == 0 {
		c.add(at, "", "want a program of the bundle, then its arguments")
		return
	}
	c.inBundle(at+"[0]", argv[0])
	c.arguments(at, argv)
}

// arguments checks what follows the first word.
func (c *checker) arguments(at string, argv []string) {
	if len(argv) > maxItems {
		c.add(at, fmt.Sprintf("%d items", len(argv)), fmt.Sprintf("want at most %d", maxItems))
	}
	for i, arg := range argv[1:] {
		here := fmt.Sprintf("%s[%d]", at, i+1)
		if !isPlain(arg) || len(arg) > maxPath {
			c.add(here, arg, fmt.Sprintf("want at most %d bytes that can be printed", maxPath))
		}
		for rest := arg; ; {
			_, after, open := strings.Cut(rest, "{")
			word, more, closed := strings.Cut(after, "}")
			if !open || !closed {
				break
			}
			if isToken(word, "") && !slices.Contains(Placeholders(), "{"+word+"}") {
				c.add(here, arg, "want one of "+strings.Join(Placeholders(), " ")+" for a word in braces")
			}
			rest = more
		}
	}
}

func (c *checker) fileTree(at string, f *FileTree) {
	c.onHost(at+".target", f.Target, 2)
	if bad := PathFault(f.Source); bad != "" {
		c.add(at+".source", f.Source, "want a directory of the bundle: "+bad)
		return
	}
	for p := range c.files {
		if strings.HasPrefix(p, f.Source+"/") {
			return
		}
	}
	c.add(at+".source", f.Source, "want a directory of the bundle that has files")
}

func (c *checker) systemd(at string, s *Systemd) {
	given := 0
	for _, l := range []struct {
		key   string
		units []string
	}{{"stop", s.Stop}, {"start", s.Start}, {"restart", s.Restart}} {
		if l.units != nil {
			given++
		}
		c.tokens(at+"."+l.key, l.units, `._:@\-`, "want the name of a unit")
	}
	if given != 1 {
		c.add(at, fmt.Sprintf("%d lists", given), "want exactly one of stop, start and restart, with the names of units")
	}
}

func (c *checker) packages(at string, p *Packages) {
	if len(p.Deb)+len(p.RPM) == 0 {
		c.add(at, "", "want files in deb, rpm or both")
	}
	for _, l := range []struct {
		key, suffix string
		files       []string
	}{{"deb", ".deb", p.Deb}, {"rpm", ".rpm", p.RPM}} {
		for i, f := range l.files {
			here := fmt.Sprintf("%s.%s[%d]", at, l.key, i)
			c.inBundle(here, f)
			if !strings.HasSuffix(f, l.suffix) {
				c.add(here, f, "want a file that ends in "+l.suffix)
			}
		}
	}
}

func (c *checker) image(at string, m *Image) {
	c.inBundle(at+".file", m.File)
	if !isReference(m.Tag) {
		c.add(at+".tag", m.Tag, "want the image's name and tag, such as registry.example.org/app:1.2.3")
	}
}

// isReference reports whether s can name a container image with a tag.
func isReference(s string) bool {
	name, tag, ok := cutLast(s, ":")
	if !ok || !isToken(tag, "._-") || name == "" || len(name) > maxPart || strings.Contains(tag, "/") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if !isToken(part, "._:-") {
			return false
		}
	}
	return true
}

// cutLast splits s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
