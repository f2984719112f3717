package install

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/domainxml"
)

// Adoption is a management VM that somebody else runs, which becomes the cluster's.
// (docs/adr/0037)
type Adoption struct {
	Name  string // of its domain
	Built bool   // the cluster starts the machine that it builds, on the same image
}

// SourceTool is the name of the tool whose work Holdfast takes over.
const SourceTool = "zsha"

// SourceUnits are the units of the source tool, as its manual lets them be known: it stops
// services "consul&z", logs in /var/log/z, and calls its services "zs-ha" and "zsha". Consul is its store,
// and starts no guest.
func SourceUnits() []string { return []string{"z.service", "zs-ha.service", "zsha.service"} }

// SourceDaemons are its processes, by the same names.
func SourceDaemons() []string { return []string{"z", "zs-ha", "zsha"} }

// domainFound is what a host has of it.
type domainFound struct {
	host Host
	Guests
}

// States of a guest, as hosts tell them.
const (
	guestRunning = "running"
	guestOff     = "off"
)

// named are the guests of a host that have the name.
func (f domainFound) named(name string) (out []Guest) {
	for _, g := range f.All {
		if g.Named && g.Name == name {
			out = append(out, g)
		}
	}
	return out
}

// alive reports that a guest has a process, or that libvirt says so.
func (g Guest) alive() bool { return g.State != guestOff || len(g.PIDs) > 0 }

// definition is that by which the guest runs, else by which it would start, else the one that
// a takeover before has saved.
func (a Adoption) definition(all []domainFound) (text, host string, ok bool) {
	var off, saved []domainFound
	for _, f := range all {
		for _, g := range f.named(a.Name) {
			if g.alive() {
				return g.XML, f.host.Name, true
			}
			off = append(off, domainFound{host: f.host, Guests: Guests{All: []Guest{g}}})
		}
		if f.Saved != "" {
			saved = append(saved, f)
		}
	}
	switch {
	case len(off) > 0:
		return off[0].All[0].XML, off[0].host.Name, true
	case len(saved) > 0:
		return saved[0].Saved, saved[0].host.Name, true
	}
	return "", "", false
}

// written are the files that a definition writes to.
func written(text string) ([]string, error) {
	d, err := domainxml.Parse(text)
	if err != nil {
		return nil, err
	}
	return d.Written(), nil
}

// files are those that nobody else may have: what the guest writes to by either definition.
func (a Adoption) files(cfg config.Cluster, text string) ([]string, error) {
	out, err := written(text)
	if err != nil {
		return nil, fmt.Errorf("the definition of %s: %w", a.Name, err)
	}
	more := []string{cfg.ImagePath()}
	if cfg.DomainXML != "" {
		if more, err = written(string(cfg.DomainXML)); err != nil {
			return nil, fmt.Errorf("DomainXML: %w", err)
		}
	}
	for _, f := range more {
		if f != "" && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out, nil
}

// judge says what keeps a management VM from being taken over. It is pure. files are those
// of the machine that will be started.
func (a Adoption) judge(files []string, all []domainFound) []Finding {
	j := &judgement{}
	j.at = ""
	if _, _, ok := a.definition(all); !ok {
		j.say("domain", Fail, "no host has a domain "+a.Name, "see: virsh list --all, on each host; and that Node names the host that has it")
		return j.out
	}
	var alive []string
	ours := ""
	for _, f := range all {
		j.at = f.host.Name
		for _, g := range f.All {
			switch {
			case g.Name == cluster.GuestName && g.Name != a.Name:
				if g.alive() {
					ours = f.host.Name
				}
			case !g.Named:
				j.another(g)
			default:
				if g.alive() {
					alive = append(alive, f.host.Name)
				}
				j.adoptable(g, files)
			}
		}
		for _, s := range f.Services {
			if s.Active || s.Enabled {
				j.say("other tools", Warn, s.Name+" would start it, and is stopped and disabled",
					"do not call that tool's own zsha start any more: it would start it again; systemctl enable --now "+s.Name+" is the way back")
			}
		}
		for _, s := range f.Strays {
			j.say("other tools", Fail, s+" runs without a unit, and may start it", "end it first (zsha stop, and see ps)")
		}
	}
	j.at = ""
	if !slices.ContainsFunc(all, func(f domainFound) bool { return len(f.Services)+len(f.Strays) > 0 }) {
		j.say("other tools", Warn, "no host has the source tool's units ("+
			strings.Join(SourceUnits(), ", ")+") or processes ("+strings.Join(SourceDaemons(), ", ")+")",
			"if it keeps "+a.Name+" running here under other names, stop and disable those first (systemctl list-units, ps)")
	}
	switch {
	case len(alive) > 1:
		j.say("domain", Fail, a.Name+" runs on "+strings.Join(alive, " and on ")+": two write to the same disk",
			"end all but one of them at once")
	case len(alive) == 1 && ours != "":
		j.say("domain", Fail, a.Name+" runs on "+alive[0]+", and Holdfast's own on "+
			ours+": two write to the same disk", "end one of them at once")
	case len(alive) == 1:
		j.say("domain", Warn, a.Name+" runs on "+alive[0]+": it shuts down, and the cluster starts it anew", "")
	case len(alive) == 0 && ours == "" && len(a.locked(all)) > 0:
		j.say("image", Fail, "somebody uses "+strings.Join(a.locked(all),
			", ")+", on a host that is not in Node or by another program", "end that first")
	}
	return j.out
}

// unasked refuses hosts on which a cluster was installed and does not run: its store may ask for
// the management VM to run, and would as soon as the agents start.
func unasked(all []sight) (out []Finding) {
	for _, s := range all {
		if in := s.facts.Installed; in != nil && in.Store && !in.Active {
			out = append(out, Finding{s.host.Name, "installed", Fail,
				"Holdfast was installed here and its agent does not run: its store may ask for the management VM to run",
				"start the agents and see that it is stopped (holdfast stop), or uninstall it first"})
		}
	}
	return out
}

// locked are the files that a guest has.
func (a Adoption) locked(all []domainFound) (out []string) {
	for _, f := range all {
		for _, l := range f.Locked {
			if !slices.Contains(out, l) {
				out = append(out, l)
			}
		}
	}
	return out
}

// another judges a guest that has one of the files, and another name.
func (j *judgement) another(g Guest) {
	if g.alive() {
		j.say("guest", Fail, g.Name+" is "+g.State+" here and has a disk of the management VM", "name that one, or end it first")
		return
	}
	j.say("guest", Fail, g.Name+" is defined here and has a disk of the management VM: somebody may start it",
		"name that one, or take its definition away first (virsh undefine --keep-nvram "+g.UUID+")")
}

// adoptable judges the guest itself on one host.
func (j *judgement) adoptable(g Guest, files []string) {
	fail := func(why, remedy string) { j.say("domain", Fail, g.Name+" "+why, remedy) }
	if g.State != guestRunning && g.State != guestOff {
		fail("is "+g.State+": it can not shut itself down", "let it go on (virsh resume), or end it, first")
	}
	if g.Saved {
		fail("has its memory saved on this host (managed save), which would be lost",
			"start it, so that it goes on from there, or give that up: virsh managedsave-remove "+g.Name)
	}
	if g.Snapshots {
		fail("has snapshots or checkpoints, which libvirt keeps", "delete them: virsh snapshot-list "+g.Name)
	}
	for _, f := range g.Disks {
		if !slices.Contains(files, f) {
			fail("writes to "+f+", which is no disk of the machine that the cluster would start", "write that disk into DomainXML, or take it off")
		}
	}
	if g.Persistent || g.alive() {
		j.say("domain", Pass, fmt.Sprintf("%s is %s, autostart %t", g.Name, g.State, g.Autostart), "")
	}
}

// wayBack tells how the old guest is had again, as long as nothing of it is lost.
func (a Adoption) wayBack(saved map[string]string) string {
	var files []string
	for host, f := range saved {
		files = append(files, f+" on "+host)
	}
	slices.Sort(files)
	if len(files) == 0 {
		return ""
	}
	return "the way back: holdfast uninstall, then virsh define FILE with " + strings.Join(files, ", ")
}
