package transition

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/lib/text"
)

// Format is the only format of these files.
const Format = 1

// MaxFile bounds a file, bytes: the plan's steps are kept in the cluster's store.
const MaxFile = 256 << 10

// File is what an operator writes: docs/transition.md has the fields.
type File struct {
	Format    int            `json:"format,omitzero"`
	Name      string         `json:"name,omitzero"`
	Host      cluster.HostID `json:"host,omitzero"` // that does the work, unless a command says otherwise, and has the files
	Platform  *Platform      `json:"platform,omitzero"`
	Databases *Databases     `json:"databases,omitzero"`
	Network   *Network       `json:"network,omitzero"`
	Config    *HostConfig    `json:"config,omitzero"`
	Upgrade   *Upgrade       `json:"upgrade,omitzero"`
	Nova      *Nova          `json:"nova,omitzero"`
	Features  *Features      `json:"features,omitzero"`
	Stages    Stages         `json:"stages,omitzero"`
}

// Platform is what the old and the new one have, read by `holdfast transition collect`.
type Platform struct {
	File   string `json:"file,omitzero"`   // what the old one has
	Source string `json:"source,omitzero"` // openrc file of the old one
	Target string `json:"target,omitzero"` // openrc file of the new one
}

// Databases are aligned by `holdfast transition db`, whose flags have these names.
type Databases struct {
	Profile  string            `json:"profile,omitzero"`
	Mapping  string            `json:"mapping,omitzero"`
	IDs      string            `json:"ids,omitzero"`
	Source   string            `json:"source,omitzero"`
	Target   string            `json:"target,omitzero"`
	SourceDB map[string]string `json:"sourceDB,omitzero"`
	TargetDB map[string]string `json:"targetDB,omitzero"`
	Skip     []string          `json:"skip,omitzero"`
	Orphans  bool              `json:"leaveOutOrphans,omitzero"` // rows that refer to rows which will not be there
	Follow   bool              `json:"follow,omitzero"`
	NovaConf string            `json:"novaConf,omitzero"`
}

// Network is rebuilt by `holdfast transition net`.
type Network struct {
	File   string `json:"file,omitzero"` // the document between the two
	Source Side   `json:"source,omitzero"`
	Target Side   `json:"target,omitzero"`
	Jobs   int    `json:"jobs,omitzero"` // requests at once; 0: the command's default

	LeaveOut []string `json:"leaveOut,omitzero"` // what may be left out, as `transition net export` tells it

	ReserveDHCP bool `json:"reserveDHCP,omitzero"` // ports of DHCP wait for the new platform's agents
	Hosts       bool `json:"hosts,omitzero"`       // each port is plugged in the new platform as its host has it; the hosts have agents
}

// Side is a Neutron: its API, its database, or both.
type Side struct {
	Endpoint string `json:"endpoint,omitzero"`
	Openrc   string `json:"openrc,omitzero"` // file with the login to Keystone; "": Neutron asks for none
	DB       string `json:"db,omitzero"`     // DSN
	DBName   string `json:"dbName,omitzero"`
}

// HostConfig is files of the hosts, brought by `holdfast transition config`.
type HostConfig struct {
	Dir     string `json:"dir,omitzero"`
	Cluster string `json:"cluster,omitzero"` // "": the only one of the directory
}

// Upgrade is the hosts' software, brought by `holdfast upgrade run`.
type Upgrade struct {
	Bundle string   `json:"bundle,omitzero"`
	Flags  []string `json:"flags,omitzero"` // of that command, as it takes them
}

// Nova is what the new one has to be told of its hosts and guests, by `holdfast transition placement`.
type Nova struct {
	Manage []string `json:"manage,omitzero"` // nova-manage on the host that does the work: its path, or a program and arguments that run it
}

// Features are tried on test guests by `holdfast transition features`, before and after, by the logins of Platform.
type Features struct {
	Guests []string `json:"guests,omitzero"` // names or UUIDs
	Flags  []string `json:"flags,omitzero"`  // of that command, as it takes them
}

// Stages are what a run goes through, in this order. What stands in the file for each is
// done around the work that the stage has itself.
type Stages struct {
	Collect  Stage `json:"collect,omitzero"`  // facts of the old platform
	Ready    Stage `json:"ready,omitzero"`    // the new control plane works; the upgrade of the hosts can be planned
	Align    Stage `json:"align,omitzero"`    // the databases, as far as that goes while the old platform works
	Network  Stage `json:"network,omitzero"`  // the same of the network
	Cutover  Stage `json:"cutover,omitzero"`  // the old platform's API has stopped: the rest of both, compared
	Hosts    Stage `json:"hosts,omitzero"`    // the hosts' software
	Restart  Stage `json:"restart,omitzero"`  // services of the new control plane
	Features Stage `json:"features,omitzero"` // what guests can do
	Cleanup  Stage `json:"cleanup,omitzero"`  // what is not needed any more
}

// Stage is what a file adds to a stage.
type Stage struct {
	// what a person has to do or to look at before the stage goes on; in cutover it stands where its own does
	Confirm string    `json:"confirm,omitzero"`
	Before  []Command `json:"before,omitzero"`
	After   []Command `json:"after,omitzero"`
}

// Command is a program that ends with 0 where all is well.
type Command struct {
	Name    string         `json:"name,omitzero"` // of its step, unique in the stage
	Host    cluster.HostID `json:"host,omitzero"` // "": the file's
	Run     []string       `json:"run,omitzero"`  // absolute path and arguments; "holdfast" is this program
	Timeout Duration       `json:"timeout,omitzero"`
}

// Duration is a time.Duration that is written as Go does, such as 1h30m.
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < minTimeout || v > maxTimeout {
		return fmt.Errorf("want a time from %s to %.0fh, such as 90s or 1h30m", minTimeout, maxTimeout.Hours())
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes it so that UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Bounds of the time for a command.
const (
	minTimeout     = time.Second
	maxTimeout     = 14 * 24 * time.Hour
	defaultTimeout = 10 * time.Minute
)

// Write writes a file, without remarks.
func (f *File) Write() ([]byte, error) { return strictyaml.Encode(f) }

// Parse reads a file. Without faults it can be built. What else is to hold of its values is told with its own faults.
func Parse(data []byte, also ...func(*File) []strictyaml.Fault) (*File, []strictyaml.Fault) {
	return parse(data, strictyaml.Style{}, func(c *checker, f *File) {
		c.file(f)
		for _, check := range also {
			for _, x := range check(f) {
				if !slices.ContainsFunc(c.faults, func(y strictyaml.Fault) bool { return x.Path == y.Path || strings.HasPrefix(y.Path, x.Path+".") }) {
					c.fault(x.Path, x.Value, x.Want)
				}
			}
		}
	})
}

// Draft reads a file that need not be complete yet: what it has is in the right places.
func Draft(data []byte) (*File, []strictyaml.Fault) {
	return parse(data, strictyaml.Style{}, func(*checker, *File) {})
}

func parse[T any](data []byte, style strictyaml.Style, check func(*checker, *T)) (*T, []strictyaml.Fault) {
	if len(data) > MaxFile {
		return nil, []strictyaml.Fault{{Path: strictyaml.Whole, Value: fmt.Sprintf("%d bytes", len(data)),
			Want: fmt.Sprintf("want at most %d bytes", MaxFile)}}
	}
	f := new(T)
	read := style.Decode(data, f)
	if read.Place("") == (strictyaml.Place{}) { // it is no YAML
		return nil, read.Faults
	}
	c := &checker{read: read}
	check(c, f)
	faults := append(read.Faults, read.Locate(c.faults)...)
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b strictyaml.Fault) int { return a.Place.Compare(b.Place) })
		return nil, faults
	}
	return f, nil
}

type checker struct {
	read   *strictyaml.Decoded
	faults []strictyaml.Fault
}

// fault records a fault of the value at path, unless that was refused already as it was read, or one of these fields
// of it, by which it has the fault.
func (c *checker) fault(path, value, want string, fields ...string) {
	refused := func(f string) bool { return c.read.Refused(strictyaml.Field(path, f)) }
	if !c.read.Refused(path) && !slices.ContainsFunc(fields, refused) {
		c.faults = append(c.faults, strictyaml.Fault{Path: path, Value: strictyaml.Shorten(value), Want: want})
	}
}

var word = text.Pattern(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

const wantWord = "want letters, digits, '.', '_' and '-', at most 63"

func (c *checker) word(path, value string) {
	if !word().MatchString(value) {
		c.fault(path, value, wantWord)
	}
}

// needed wants a value, on one line, that no command could take for a flag.
func (c *checker) needed(path, value, want string) {
	if value == "" {
		c.fault(path, value, want)
		return
	}
	c.line(path, value)
}

func (c *checker) line(path, value string) {
	if strings.HasPrefix(value, "-") || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }) {
		c.fault(path, value, "want one line that does not begin with -")
	}
}

func (c *checker) absolute(path_, value string) {
	if !path.IsAbs(value) {
		c.fault(path_, value, "want an absolute path on the host that does the work")
	}
}

func (c *checker) file(f *File) {
	if f.Format != Format {
		c.fault("format", fmt.Sprint(f.Format), fmt.Sprintf("want %d, the format that this program knows", Format))
	}
	c.word("name", f.Name)
	c.word("host", string(f.Host))
	if p := f.Platform; p != nil {
		c.absolute("platform.file", p.File)
		c.absolute("platform.source", p.Source)
		c.absolute("platform.target", p.Target)
	}
	if f.Databases != nil {
		c.databases(f.Databases)
	}
	if f.Network != nil {
		c.network(f.Network)
	}
	if x := f.Config; x != nil {
		c.absolute("config.dir", x.Dir)
		if x.Cluster != "" {
			c.word("config.cluster", x.Cluster)
		}
	}
	if u := f.Upgrade; u != nil {
		c.absolute("upgrade.bundle", u.Bundle)
		for i, flag := range u.Flags {
			c.flag(fmt.Sprintf("upgrade.flags[%d]", i), flag, "the upgrade goes", ours)
		}
	}
	if f.Nova != nil {
		c.nova(f)
	}
	if f.Features != nil {
		c.features(f)
	}
	all := f.Stages.All()
	some := false
	for _, s := range all {
		c.commands(s.Name+".before", s.Before)
		c.commands(s.Name+".after", s.After)
		some = some || s.Confirm != "" || len(s.Before) > 0 || len(s.After) > 0
		if strings.ContainsFunc(s.Confirm, func(r rune) bool { return r < ' ' }) || len(s.Confirm) > maxConfirm {
			c.fault("stages."+s.Name+".confirm", s.Confirm, fmt.Sprintf("want one line of at most %d bytes", maxConfirm))
		}
	}
	if len(c.read.Faults) == 0 && f.Platform == nil && f.Databases == nil && f.Network == nil && f.Config == nil &&
		f.Upgrade == nil && f.Nova == nil && f.Features == nil && !some {
		c.fault(strictyaml.Whole, "", "want platform, databases, network, config, upgrade or commands of stages: there is nothing to do")
	}
	c.names(f)
}

const maxConfirm = 500

// names looks for steps of one name.
func (c *checker) names(f *File) {
	once := *f
	if f.Features != nil { // a guest that is there twice is a fault of its own
		guests := slices.Compact(slices.Sorted(slices.Values(f.Features.Guests)))
		once.Features = &Features{Guests: guests, Flags: f.Features.Flags}
	}
	seen := map[string]bool{}
	for _, s := range Build(&once).Steps {
		if seen[s.ID] {
			c.fault("stages."+s.Stage, s.ID, "want another name: the stage has a step of that name already")
		}
		seen[s.ID] = true
	}
}

func (c *checker) databases(d *Databases) {
	if (d.Profile == "") == (d.Mapping == "") {
		c.fault("databases", "", "want profile or mapping, one of them", "profile", "mapping")
	}
	if d.Mapping != "" {
		c.absolute("databases.mapping", d.Mapping)
	}
	if d.Profile != "" {
		c.line("databases.profile", d.Profile)
	}
	c.absolute("databases.ids", d.IDs)
	if d.NovaConf != "" {
		c.absolute("databases.novaConf", d.NovaConf)
	}
	c.dsn("databases.source", d.Source)
	c.dsn("databases.target", d.Target)
	for _, names := range []struct {
		field string
		of    map[string]string
	}{{"databases.sourceDB", d.SourceDB}, {"databases.targetDB", d.TargetDB}} {
		for _, k := range slices.Sorted(maps.Keys(names.of)) {
			if v := names.of[k]; v == "" || strings.ContainsAny(k+v, "=,") {
				c.fault(strictyaml.Field(names.field, k), v, "want the name of a database, without = and commas")
			}
		}
	}
	for i, t := range d.Skip {
		c.needed(fmt.Sprintf("databases.skip[%d]", i), t, "want DATABASE.TABLE")
	}
}

// dsn wants one without a password: all who may see a plan would see it.
func (c *checker) dsn(field, dsn string) {
	c.needed(field, dsn, "want USER@tcp(HOST:PORT)/, USER@unix(PATH)/ or mysql://USER@HOST:PORT/")
	at := strings.LastIndex(dsn, "@")
	if at > 0 && strings.Contains(strings.TrimPrefix(dsn[:at], "mysql://"), ":") {
		c.fault(field, "(not shown)", "want no password here: name an option file that only root may read, /?option-file=PATH")
	}
}

func (c *checker) network(n *Network) {
	c.absolute("network.file", n.File)
	if c.read.Given("network.jobs") && n.Jobs < 1 {
		c.fault("network.jobs", fmt.Sprint(n.Jobs), "want a number from 1")
	}
	for i, kind := range n.LeaveOut {
		at := fmt.Sprintf("network.leaveOut[%d]", i)
		if !leftOut().MatchString(kind) {
			c.fault(at, kind, "want KIND or KIND.FIELD, as `transition net export` tells what is not carried over, such as quota")
		} else if slices.Contains(n.LeaveOut[:i], kind) {
			c.fault(at, kind, "want each once")
		}
	}
	if (n.Source.Endpoint == "") == (n.Source.DB == "") {
		c.fault("network.source", n.Source.Endpoint, "want endpoint or db, one of them", "endpoint", "db")
	}
	c.needed("network.target.endpoint", n.Target.Endpoint, "want the URL of the new platform's Neutron")
	c.dsn("network.target.db", n.Target.DB)
	if n.Source.DB != "" {
		c.dsn("network.source.db", n.Source.DB)
	}
	if n.Source.Openrc != "" {
		c.absolute("network.source.openrc", n.Source.Openrc)
		if n.Source.Endpoint == "" {
			c.fault("network.source.openrc", n.Source.Openrc, "want none beside db: it is for the API")
		}
	}
	if n.Source.Endpoint != "" && n.Source.DBName != "" {
		c.fault("network.source.dbName", n.Source.DBName, "want none beside endpoint: it is for db")
	}
	if n.Target.Openrc != "" {
		c.absolute("network.target.openrc", n.Target.Openrc)
	}
	c.line("network.source.endpoint", n.Source.Endpoint)
	c.line("network.source.dbName", n.Source.DBName)
	c.line("network.target.dbName", n.Target.DBName)
}

var leftOut = text.Pattern(`^[a-z][a-z0-9_.:-]{0,99}$`)

// ours are the flags of `upgrade run` that its step gives itself, oursToo those of `transition features`.
var (
	ours    = []string{"--bundle", "--yes", "--wait", "--dry-run", "--join", "--output", "--server", "--socket"}
	oursToo = []string{"--openstack", "--openrc", "--guest", "--yes", "--out", "--before", "--output", "--server", "--socket"}
)

func (c *checker) flag(field, flag, what string, ours []string) {
	name, _, _ := strings.Cut(flag, "=")
	if slices.Contains(ours, name) || strings.HasPrefix(name, "-o") {
		c.fault(field, flag, "want a flag that says how "+what+": this one is the step's own")
	}
}

func (c *checker) nova(f *File) {
	if f.Platform == nil {
		c.fault("nova", "", "want platform in the file, too: what nova-manage did is read back by the login of platform.target", "manage")
	}
	if len(f.Nova.Manage) == 0 {
		c.fault("nova.manage", "", "want the path of nova-manage, or a program and arguments that run it")
	}
	for i, word := range f.Nova.Manage {
		at := fmt.Sprintf("nova.manage[%d]", i)
		switch {
		case i == 0 && !path.IsAbs(word):
			c.fault(at, word, "want the absolute path of a program on the host that does the work")
		case strings.ContainsRune(word, 0):
			c.fault(at, word, "want no null bytes")
		}
	}
}

func (c *checker) features(f *File) {
	if f.Platform == nil {
		c.fault("features", "", "want platform in the file, too: the guests are asked for by the logins of platform.source and platform.target")
	}
	if len(f.Features.Guests) == 0 {
		c.fault("features.guests", "", "want names or UUIDs of test guests, which are stopped, moved and changed")
	}
	for i, g := range f.Features.Guests {
		at := fmt.Sprintf("features.guests[%d]", i)
		c.word(at, g)
		if slices.Contains(f.Features.Guests[:i], g) {
			c.fault(at, g, "want each guest once")
		}
	}
	for i, flag := range f.Features.Flags {
		c.flag(fmt.Sprintf("features.flags[%d]", i), flag, "guests are tried", oursToo)
	}
}

func (c *checker) commands(field string, of []Command) {
	for i := range of {
		x := &of[i]
		at := fmt.Sprintf("stages.%s[%d].", field, i)
		c.word(at+"name", x.Name)
		if x.Host != "" {
			c.word(at+"host", string(x.Host))
		}
		switch {
		case len(x.Run) == 0:
			c.fault(at+"run", "", "want a program and its arguments")
		case x.Run[0] != Self && !path.IsAbs(x.Run[0]):
			c.fault(at+"run[0]", x.Run[0], "want the absolute path of a program, or "+Self)
		}
		for k, arg := range x.Run {
			if strings.ContainsRune(arg, 0) {
				c.fault(fmt.Sprintf("%srun[%d]", at, k), arg, "want no null bytes")
			}
		}
	}
}
