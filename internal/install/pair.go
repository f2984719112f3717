package install

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/config"
)

// DatabaseUnit is the unit by which distributions run MariaDB.
const DatabaseUnit = "mariadb.service"

// DatabaseTools are the programs that copy and replicate a database.
func DatabaseTools() []string { return []string{"mariadb-backup", "mbstream", "mariadb-binlog"} }

// leastDatabase is the oldest MariaDB that is replicated: major and minor version.
var leastDatabase = [2]int{10, 11}

// PairQuery is what a node of a two-node pair is asked of itself.
type PairQuery struct {
	Database config.PairDatabase `json:"database"`          // with its defaults
	Device   *config.PairDevice  `json:"device,omitempty"`  // with its defaults; nil: the database is replicated by itself
	VIPs     []string            `json:"vips,omitempty"`    // as vipaddr.Parse reads them
	Units    []string            `json:"units,omitempty"`   // of systemd, that the group runs
	Planned  bool                `json:"planned,omitempty"` // files with secrets need not be there yet
}

// PairFacts is what a node of a two-node pair says of itself. Errors are "" where all is well.
type PairFacts struct {
	Version     string            `json:"version,omitempty"` // of the database's program, MAJOR.MINOR.PATCH
	Program     string            `json:"program,omitempty"` // why it has none
	Missing     []string          `json:"missing,omitempty"` // of DatabaseTools
	Running     bool              `json:"running"`           // DatabaseUnit runs
	Enabled     bool              `json:"enabled"`           // a boot starts DatabaseUnit
	OptionFile  string            `json:"option_file,omitempty"`
	Lossy       []string          `json:"lossy,omitempty"`       // options in it with which acknowledged writes could be lost
	Device      string            `json:"device,omitempty"`      // why there can be no DRBD device
	Datadir     string            `json:"datadir,omitempty"`     // why a copy can not take its place
	Used        int64             `json:"used"`                  // MiB in Datadir
	Free        int64             `json:"free"`                  // MiB beside it
	Credentials map[string]string `json:"credentials,omitempty"` // errors by file, of those that can not be used
	VIPs        map[string]string `json:"vips,omitempty"`        // errors by address, of those that have no interface
	// states of the group's units, by name, as systemctl is-enabled says them; "" of one that is not there
	Units map[string]string `json:"units,omitempty"`
	// tables in Datadir of engines without transactions, with what can be lost; the first ones
	Weak     []string `json:"weak,omitempty"`
	WeakMore int      `json:"weak_more,omitempty"` // how many there are beside these
}

// pairQuery is nil for hosts that vote only.
func pairQuery(cfg config.Cluster, h Host) *PairQuery {
	if cfg.Pair == nil || cfg.Pair.Peer(h.Name) == "" {
		return nil
	}
	p := cfg.Pair.Full()
	q := &PairQuery{Database: *p.Database, Device: p.Device}
	for _, m := range p.Group {
		if m.VIP != "" {
			q.VIPs = append(q.VIPs, m.VIP)
		}
		if m.Unit != "" {
			q.Units = append(q.Units, m.Unit)
		}
	}
	return q
}

// isPair: there is no management VM, and no hypervisor is asked.
func isPair(cfg config.Cluster) bool { return cfg.Type == config.PairConf }

// holds reports whether a host may run what the cluster keeps up.
func (j *judgement) holds(h Host) bool {
	return !h.Guests && (!isPair(j.cfg) || j.cfg.Pair.Peer(h.Name) != "")
}

// pair judges a node of a two-node pair. need is how much a second copy takes, MiB.
func (j *judgement) pair(s sight, need int64) {
	if !isPair(j.cfg) || !j.holds(s.host) {
		return
	}
	if !j.known(s, "database", "pair", Fail, "see that Pair.Database.Datadir can be read there") {
		return
	}
	f := s.facts.Pair
	if f == nil {
		j.say("database", Fail, "the host has said nothing of its database", "install the same version of Holdfast there")
		return
	}
	d := *j.cfg.Pair.Full().Database
	least := fmt.Sprintf("%d.%d", leastDatabase[0], leastDatabase[1])
	if f.Program != "" {
		j.say("database", Fail, f.Program, "install MariaDB "+least+" or later, or correct Pair.Database.Program")
	} else {
		j.want("database", newEnough(f.Version), Fail, "MariaDB "+f.Version,
			fmt.Sprintf("MariaDB %q: want %s or later", f.Version, least), "upgrade MariaDB on both nodes")
	}
	if j.cfg.Pair.Device != nil {
		j.want("device", f.Device == "", Fail, "DRBD on "+j.cfg.Pair.Device.Disk, f.Device,
			"see that the host has drbd-utils, a kernel with DRBD 8.4 or 9 and a disk of its own for the pair, or correct Pair.Device.Disk")
	} else {
		j.replicated(s, d, need)
	}
	var by []string
	if f.Running {
		by = append(by, "runs")
	}
	if f.Enabled {
		by = append(by, "is enabled")
	}
	j.want("database unit", len(by) == 0, Fail, DatabaseUnit+" neither runs nor is enabled",
		DatabaseUnit+" "+strings.Join(by, " and ")+", and the agent starts the database itself", "systemctl disable --now "+DatabaseUnit)
	if f.OptionFile != "" || len(f.Lossy) == 0 {
		j.want("option file", f.OptionFile == "", Fail, d.OptionFile, f.OptionFile, "make it, or correct Pair.Database.OptionFile")
	} else {
		j.say("option file", Fail, d.OptionFile+": writes that were acknowledged could be lost: "+
			strings.Join(f.Lossy, "; "), "remove that from it, on both nodes")
	}
	for _, unit := range slices.Sorted(maps.Keys(f.Units)) {
		switch state := f.Units[unit]; {
		case state == "":
			j.say("units", Fail, unit+" is not there", "install what has it, on both nodes, or correct Pair.Group (--service)")
		case strings.HasPrefix(state, "masked"):
			j.say("units", Fail, unit+" is masked: it can not be started", "systemctl unmask "+unit)
		case strings.HasPrefix(state, "enabled"):
			j.say("units", Warn, unit+" is enabled: a boot starts it on a node that does not serve, too", "systemctl disable "+unit)
		default:
			j.say("units", Pass, unit+" is there, and no boot starts it", "")
		}
	}
	for _, vip := range slices.Sorted(maps.Keys(f.VIPs)) {
		j.say("virtual address", Fail, f.VIPs[vip], "correct Pair.Group, or give an interface of this host an address of that subnet")
	}
}

// replicated judges what a database needs that is replicated by itself.
func (j *judgement) replicated(s sight, d config.PairDatabase, need int64) {
	f := s.facts.Pair
	j.want("database tools", len(f.Missing) == 0, Fail, strings.Join(DatabaseTools(), ", "),
		"missing: "+strings.Join(f.Missing, ", "), "install them (Debian: mariadb-backup and mariadb-client; RHEL: "+
			"MariaDB-backup and MariaDB-client)")
	if f.Datadir != "" {
		j.say("data directory", Fail, f.Datadir, "correct Pair.Database.Datadir, or make the directory (mariadb-install-db)")
	} else {
		j.want("data directory", f.Free >= need, Fail, fmt.Sprintf("%s: %d MiB, and %d MiB are free beside it", d.Datadir, f.Used, f.Free),
			fmt.Sprintf("%d MiB are free beside %s: a second copy needs %d", f.Free, d.Datadir, need), "make room there")
	}
	// Data that are moved aside are not looked at.
	if len(f.Weak) > 0 && (s.facts.Installed != nil || s.host.Name == j.cfg.Pair.Nodes[0]) {
		what := strings.Join(f.Weak, "; ")
		if f.WeakMore > 0 {
			what += fmt.Sprintf("; and %d more", f.WeakMore)
		}
		j.say("tables", Warn, "of engines without transactions: "+what,
			"make them tables of InnoDB (ALTER TABLE ... ENGINE=InnoDB), where the platform allows it")
	}
	for _, path := range slices.Sorted(maps.Keys(f.Credentials)) {
		j.say("credentials", Fail, f.Credentials[path], "write the password into "+path+", with mode 0600 and the same on both nodes")
	}
}

// pairNeeds is how much a copy of the larger one of the databases takes, MiB.
func pairNeeds(all []sight) (need int64) {
	for _, s := range all {
		if s.facts.Pair != nil {
			need = max(need, s.facts.Pair.Used)
		}
	}
	return need
}

// pairTogether compares the nodes of a two-node pair.
func (j *judgement) pairTogether(all []sight) {
	j.equal(all, "database", Warn, func(f Facts) string {
		if f.Pair == nil {
			return ""
		}
		return minor(f.Pair.Version)
	}, "a newer server can not always be followed by an older one: make them equal")
	if r, ok := j.swaps(); ok && isPair(j.cfg) && (j.before.Pair == nil || j.before.Pair.Peer(string(r.Left.Host)) != "") {
		j.say("member", Fail, fmt.Sprintf("%s is a node of the pair: it can not give way to another host yet",
			r.Left.Host), "keep its name and address; a voter may be replaced")
	}
}

// minor is MAJOR.MINOR of a version.
func minor(version string) string {
	f := strings.SplitN(version, ".", 3)
	return strings.Join(f[:min(2, len(f))], ".")
}

func newEnough(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > leastDatabase[0] || major == leastDatabase[0] && minor >= leastDatabase[1]
}
