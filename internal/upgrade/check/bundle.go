package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
)

// checkFacts wants an answer of every host.
func checkFacts(s *scene) []Finding {
	var fs []Finding
	for i := range s.inv.Hosts {
		h, level, left := &s.inv.Hosts[i], Fail, ""
		if slices.Contains(s.Left, h.Name) {
			level, left = Warn, "; it was left out of the upgrade"
		}
		switch {
		case h.Down:
			fs = append(fs, onHost(h.Name, level, "start the host, or leave it out of the upgrade (--drop)", "the host is down%s", left))
		case s.Facts[h.Name] == nil:
			fs = append(fs, onHost(h.Name, level, "check that the host's agent runs and can be reached, then repeat the check",
				"the host has reported no facts%s, so it was not checked%s", reason(s.why[h.Name]), left))
		default:
			if age := s.Now.Sub(s.Facts[h.Name].At); age > s.Limits.FactsAge && !s.Facts[h.Name].At.IsZero() {
				fs = append(fs, onHost(h.Name, Warn, "repeat the check; if the facts stay old, restart the agent "+
					"of the host", "the facts of the host are %s old", age.Round(time.Second)))
			}
			for _, fact := range []string{"os", "guests", "bridges"} { // the plan judges what it means for guests
				if nk, ok := notKnown(h.Name, s.Facts[h.Name], fact, Info); ok {
					fs = append(fs, nk)
				}
			}
		}
	}
	if len(s.inv.Hosts) == 0 {
		fs = append(fs, inCluster(Fail, "start the agents of the hosts: holdfast host list shows which hosts report",
			"there is no host to check"))
	}
	return fs
}

// reason puts a reason in brackets, when there is one.
func reason(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// checkWhiteList looks for the first pattern that means the installed version: that
// one counts.
func checkWhiteList(s *scene) []Finding {
	switch {
	case s.man.Version == "":
		return []Finding{inCluster(Info, "give the bundle: --bundle FILE", "no bundle was given: what a bundle asks of the hosts is not checked")}
	case s.From == "" && !s.Back:
		return []Finding{inCluster(Fail, "say which version is installed: --version V",
			"it is not known which version is installed: no upgrade has told it yet")}
	case s.From == s.man.Version:
		return []Finding{inCluster(Info, "", "the cluster has %s already", s.From)}
	}
	if s.Back {
		return nil // the way back asks for no white list
	}
	from, err := s.man.From(s.Scheme, s.From, s.Mode)
	switch src := from.Source; {
	case err != nil:
		return []Finding{inCluster(Fail, "find out which version is installed, and take the bundle for it", "%v", err)}
	case !from.Listed:
		var allowed []string
		for _, x := range s.man.UpgradeFrom {
			allowed = append(allowed, x.Version)
		}
		return []Finding{inCluster(Fail, "upgrade to one of these versions first, `holdfast upgrade path` finds the way",
			"%s is not on the white list of %s %s, which has %s", s.From, s.man.Name, s.man.Version, Names(allowed))}
	case !from.Allowed:
		return []Finding{inCluster(Fail, fmt.Sprintf("choose --mode %s, or first upgrade to a version from which "+
			"%s is allowed", Names(src.Modes), s.Mode.Listed()),
			"from %s (%s) the upgrade is not allowed in the mode %s", s.From, src.Version, s.Mode.Listed())}
	case src.ChangeSystemTables:
		return []Finding{inCluster(Info, "", "the upgrade changes system tables")}
	}
	return nil
}

// checkVersions wants one version everywhere, or those that may run side by side
// while the upgrade is under way.
func checkVersions(s *scene) []Finding {
	by := map[string][]cluster.HostID{}
	var mute []cluster.HostID
	var fs []Finding
	s.up(func(h *inventory.Host, f *fact.Facts) {
		switch v := s.version(h); {
		case v == "" && h.Unread && !s.done(h.Name):
			fs = append(fs, onHost(h.Name, Warn,
				"name the file that holds the version in the platform file (status.versionFile), or let a run of the same bundle take the host in",
				"its version is unknown: it had %s before an upgrade, and was not read since", orUnknown(cmp.Or(h.Version, s.inv.Version))))
		case v != "" || !s.done(h.Name):
			by[v] = append(by[v], h.Name)
		case f != nil && f.Unknown["version"] == "":
			mute = append(mute, h.Name)
		}
	})
	level := Warn
	if s.man.AllHosts() != nil && !slices.Contains(s.Confirmed, manifest.RuleReadBack) {
		level = Fail // nothing else tells that the bundle's program has changed them
	}
	if len(mute) > 0 {
		fs = append(fs, inCluster(level, "name the file that holds the version in the platform file (status.versionFile), then repeat the check",
			"the current version of these hosts is not known: %s", Names(mute)))
	}
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if nk, ok := notKnown(h.Name, f, "version", level); ok {
			fs = append(fs, nk)
		}
	})
	for _, v := range keys(by) {
		if l, text, remedy := s.judgeVersion(v); l != OK {
			for _, h := range by[v] {
				if slices.Contains(s.Left, h) {
					fs = append(fs, onHost(h, Warn, "bring it to the version of the others by hand before anything "+
						"needs that version on all hosts", "has version %s, the others have %s: it was left out", orUnknown(v), s.to()))
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
	to := s.to()
	switch {
	case v == "":
		return Fail, "the installed version is not known", "check that the product is installed on the host"
	case s.When == After && v != to:
		remedy = "upgrade the host, or roll the others back"
		if s.Back {
			remedy = "roll the host back, too, or upgrade the others"
		}
		return Fail, fmt.Sprintf("has version %s, want %s", v, to), remedy
	case s.When == After || v == s.From || s.When == Between && (v == s.man.Version || s.man.MayMix(s.Scheme, v)):
		return OK, "", ""
	case v == s.man.Version:
		return Warn, fmt.Sprintf("has version %s already, others have %s", v, s.From),
			"it is left out of the upgrade; check that this is the version that it should have"
	case s.upgrades(v):
		return Warn, fmt.Sprintf("has version %s, others have %s; the bundle upgrades both", v, s.From), "find out why the versions differ"
	}
	want := s.From
	if s.When == Between {
		want = fmt.Sprintf("%s, %s or what may run beside it", s.From, s.man.Version)
	}
	return Fail, fmt.Sprintf("has version %s, want %s", v, want), "bring all hosts to the same version first"
}

// upgrades reports whether the bundle upgrades a version in the mode of the run,
// also while others have the new one.
func (s *scene) upgrades(v string) bool {
	from, err := s.man.From(s.Scheme, v, s.Mode)
	return err == nil && from.Allowed && (s.Mode == manifest.Offline || len(s.man.Mixed) == 0 || s.man.MayMix(s.Scheme, v))
}

// checkConfig compares parameter names, on each host where the module is.
func checkConfig(s *scene) []Finding {
	var fs []Finding
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if nk, ok := notKnown(h.Name, f, "config", Fail); ok {
			fs = append(fs, nk)
			return
		}
		for i := range s.man.Modules {
			m := &s.man.Modules[i]
			if !m.On(h) {
				continue
			}
			for _, c := range m.Config {
				fs = append(fs, compareConfig(h.Name, m.Name, c, f.Config)...)
			}
		}
	})
	return fs
}

func compareConfig(h cluster.HostID, module string, want manifest.ConfigFile, told []fact.Config) []Finding {
	i := slices.IndexFunc(told, func(c fact.Config) bool { return c.Installed == want.Installed })
	remedy := fmt.Sprintf("change the parameter names of %s in the bundle to those of %s", want.File, want.Installed)
	switch {
	case i < 0:
		return []Finding{onHost(h, Fail, "repeat the check; if it stays so, upgrade the agent of the host",
			"%s: %s was not compared", module, want.Installed)}
	case told[i].Why != "":
		return []Finding{onHost(h, Fail, "correct the file, then repeat the check", "%s: %s", module, told[i].Why)}
	case told[i].NotThere:
		return []Finding{onHost(h, Fail, "restore the file: the module is not installed correctly",
			"%s: %s is not there", module, want.Installed)}
	case told[i].NotStaged:
		return []Finding{onHost(h, Warn, "it is compared when the bundle is staged on the host, before "+
			"anything is changed", "%s: %s of the bundle is not on this host yet", module, want.File)}
	}
	var parts []string
	if lost := minus(told[i].Names, told[i].Bundle); len(lost) > 0 {
		parts = append(parts, "only installed: "+Names(lost))
	}
	if extra := minus(told[i].Bundle, told[i].Names); len(extra) > 0 {
		parts = append(parts, "only in the bundle: "+Names(extra))
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
