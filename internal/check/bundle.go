package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/upgrade"
)

// checkFacts wants an answer of every host.
func checkFacts(s *scene) []Finding {
	var fs []Finding
	for i := range s.inv.Hosts {
		switch h := &s.inv.Hosts[i]; {
		case h.Down:
			fs = append(fs, onHost(h.Name, Fail, "start the host, or drop it from the plan", "the host is down"))
		case s.Facts[h.Name] == nil:
			fs = append(fs, onHost(h.Name, Fail, "see whether the host's agent runs and can be reached, then check again", "the host has told nothing of itself, so it was not checked"))
		default:
			if age := s.Now.Sub(s.Facts[h.Name].At); age > s.Limits.FactsAge && !s.Facts[h.Name].At.IsZero() {
				fs = append(fs, onHost(h.Name, Warn, "let the host tell its facts anew, then check again", "what the host has told of itself is %s old", age.Round(time.Second)))
			}
			if nk, ok := notKnown(h.Name, s.Facts[h.Name], "os", Info); ok {
				fs = append(fs, nk)
			}
		}
	}
	if len(s.inv.Hosts) == 0 {
		fs = append(fs, inCluster(Fail, "take the inventory of the cluster first", "there is no host to check"))
	}
	return fs
}

// checkWhiteList looks for the first pattern that means the installed version: that
// one counts.
func checkWhiteList(s *scene) []Finding {
	if s.From == s.man.Version {
		return []Finding{inCluster(Info, "", "%s is installed already", s.From)}
	}
	var allowed []string
	for _, src := range s.man.UpgradeFrom {
		ok, err := s.matches(src.Version, s.From)
		if err != nil {
			return []Finding{inCluster(Fail, "see which version is installed, and take the bundle that is made for it", "%v", err)}
		}
		if ok {
			return s.mode(src)
		}
		allowed = append(allowed, src.Version)
	}
	return []Finding{inCluster(Fail, "upgrade to one of these versions first, `holdfast upgrade path` finds the way",
		"%s is not on the white list of %s %s, which has %s", s.From, s.man.Name, s.man.Version, names(allowed))}
}

func (s *scene) mode(src upgrade.Source) []Finding {
	if !slices.Contains(src.Modes, s.Mode) {
		return []Finding{inCluster(Fail, fmt.Sprintf("run it as %s, or upgrade to a version first from which %s is allowed", names(src.Modes), s.Mode),
			"from %s (%s) the upgrade is not allowed in the mode %s", s.From, src.Version, s.Mode)}
	}
	if src.ChangeSystemTables {
		return []Finding{inCluster(Info, "", "the upgrade changes system tables")}
	}
	return nil
}

// checkVersions wants one version everywhere, or those that may run side by side
// while the upgrade is under way.
func checkVersions(s *scene) []Finding {
	by := map[string][]cluster.HostID{}
	s.up(func(h *upgrade.Host, _ *Facts) { v := s.version(h); by[v] = append(by[v], h.Name) })
	var fs []Finding
	s.told(func(h *upgrade.Host, f *Facts) {
		if nk, ok := notKnown(h.Name, f, "version", Warn); ok {
			fs = append(fs, nk)
		}
	})
	for _, v := range keys(by) {
		if l, text, remedy := s.judgeVersion(v); l != OK {
			for _, h := range by[v] {
				if slices.Contains(s.Left, h) && v == s.From {
					fs = append(fs, onHost(h, Warn, "upgrade it by hand, before anything needs the new version on all hosts", "has %s: it was left out of the upgrade", v))
				} else {
					fs = append(fs, onHost(h, l, remedy, "%s", text))
				}
			}
		}
	}
	return fs
}

// judgeVersion says whether a host may have a version now.
func (s *scene) judgeVersion(v string) (l Level, text, remedy string) {
	to := s.man.Version
	switch {
	case v == "":
		return Fail, "the installed version is not known", "see whether the product is installed on the host"
	case s.When == After && v != to:
		return Fail, fmt.Sprintf("has %s, want %s", v, to), "upgrade the host, or roll the others back"
	case s.When == After || v == s.From || s.When == Between && v == to:
		return OK, "", ""
	}
	for _, p := range s.man.Mixed {
		if ok, err := s.matches(p, v); err == nil && ok && s.When == Between {
			return OK, "", ""
		}
	}
	want := s.From
	if s.When == Between {
		want = fmt.Sprintf("%s, %s or what may run beside it", s.From, to)
	}
	return Fail, fmt.Sprintf("has %s, want %s", v, want), "bring all hosts to the same version first"
}

// checkConfig compares parameter names, on each host where the module is.
func checkConfig(s *scene) []Finding {
	var fs []Finding
	s.told(func(h *upgrade.Host, f *Facts) {
		if nk, ok := notKnown(h.Name, f, "config", Fail); ok {
			fs = append(fs, nk)
			return
		}
		for i := range s.man.Modules {
			m := &s.man.Modules[i]
			if !runsOn(m.RunsOn, h) {
				continue
			}
			for _, c := range m.Config {
				fs = append(fs, compareConfig(h.Name, m.Name, c, f.Config)...)
			}
		}
	})
	return fs
}

func compareConfig(h cluster.HostID, module string, want upgrade.ConfigFile, told []Config) []Finding {
	i := slices.IndexFunc(told, func(c Config) bool { return c.Installed == want.Installed })
	remedy := fmt.Sprintf("make the parameter names of %s in the bundle those of %s", want.File, want.Installed)
	switch {
	case i < 0:
		return []Finding{onHost(h, Fail, "check again once the bundle is staged", "%s: %s was not compared", module, want.Installed)}
	case told[i].Why != "":
		return []Finding{onHost(h, Fail, "correct the file, then check again", "%s: %s", module, told[i].Why)}
	case told[i].NotThere:
		return []Finding{onHost(h, Fail, "restore the file, the module is not installed as it should be", "%s: %s is not there", module, want.Installed)}
	case told[i].NotStaged:
		return []Finding{onHost(h, Fail, "check again once the bundle is staged on the host", "%s: %s of the bundle is not on this host", module, want.File)}
	}
	var parts []string
	if lost := minus(told[i].Names, told[i].Bundle); len(lost) > 0 {
		parts = append(parts, "only installed: "+names(lost))
	}
	if extra := minus(told[i].Bundle, told[i].Names); len(extra) > 0 {
		parts = append(parts, "only in the bundle: "+names(extra))
	}
	if len(parts) == 0 {
		return nil
	}
	return []Finding{onHost(h, Fail, remedy, "%s: the parameter names of %s differ; %s", module, want.Installed, strings.Join(parts, "; "))}
}

// minus returns what is in a and not in b.
func minus(a, b []string) []string {
	in := make(map[string]bool, len(b))
	for _, x := range b {
		in[x] = true
	}
	var out []string
	for _, x := range a {
		if !in[x] {
			out = append(out, x)
		}
	}
	return out
}
