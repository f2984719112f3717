package transition

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
)

// Job is the kind of a job that carries a platform over.
const Job job.Kind = "transition"

// KindCommand is the kind of all steps, with Args as arguments: a program of the step's host
// is run, and has to end with 0.
const KindCommand = "transition-command"

// Args are the arguments of KindCommand.
type Args struct {
	Run []string `json:"run"`
}

// Self stands for this program, as the first word of a command.
const Self = "holdfast"

// nothing is what a step runs that is a person's word alone.
const nothing = "/bin/true"

// Plan is what a run does, one step after the other.
type Plan struct {
	Name  string `json:"name"`
	Steps []Step `json:"steps"`
}

// Step is a command.
type Step struct {
	ID      string         `json:"id"` // STAGE/NAME
	Stage   string         `json:"stage"`
	Host    cluster.HostID `json:"host"`
	Run     []string       `json:"run"`
	Timeout time.Duration  `json:"timeout"`           // ns
	Again   bool           `json:"again,omitempty"`   // it may be run again when nobody knows how it ended
	Confirm string         `json:"confirm,omitempty"` // what a person has to have done, or looked at, before it is run

	// Kind and Args are those of a step that is no command; "": it is one.
	Kind string          `json:"kind,omitempty"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Times of the commands of Holdfast. What copies or upgrades goes on for as long as it takes.
const (
	looks = 4 * time.Hour
	works = maxTimeout
)

// What a person is asked where the file says nothing else.
const (
	confirmCutover = "stop the old platform's API and conductors: nothing may write to its databases and network any more"
	confirmCleanup = "look whether the new platform does what it should: what the work has left on the databases is removed now"
)

// Named is a stage with its name.
type Named struct {
	Name string
	*Stage
}

// All are the stages in their order.
func (s *Stages) All() []Named {
	return []Named{
		{"collect", &s.Collect}, {"ready", &s.Ready}, {"align", &s.Align}, {"network", &s.Network}, {"cutover", &s.Cutover},
		{"hosts", &s.Hosts}, {"restart", &s.Restart}, {"features", &s.Features}, {"cleanup", &s.Cleanup},
	}
}

// Build makes the plan of a file that has no faults.
func Build(f *File) *Plan {
	b := &builder{file: f, plan: &Plan{Name: f.Name}}
	for _, s := range f.Stages.All() {
		b.stage(s)
	}
	return b.plan
}

type builder struct {
	file *File
	plan *Plan
	at   Named
}

// stage adds the steps of a stage, and its question before one of them.
func (b *builder) stage(s Named) {
	b.at = s
	at, question := len(b.plan.Steps), ""
	b.commands(s.Before)
	switch s.Name {
	case "collect":
		if p := b.file.Platform; p != nil {
			b.add("platform", looks, "transition", "collect", "--openrc", p.Source, "--out", p.File)
			b.features(p.Source, "--out")
		}
	case "ready":
		b.ready()
	case "align":
		b.align()
	case "network":
		b.network()
	case "cutover":
		at, question = b.cutover(at)
	case "hosts":
		b.hosts()
	case "restart":
		b.nova()
		if p := b.file.Platform; p != nil {
			b.add("platform", looks, "transition", "collect", "--openrc", p.Target, "--check", "all", "--before", p.File)
		}
	case "features":
		if p := b.file.Platform; p != nil {
			b.features(p.Target, "--before")
		}
	case "cleanup":
		question = b.cleanup()
	}
	b.commands(s.After)
	if s.Confirm != "" {
		question = s.Confirm
	}
	if question != "" && at == len(b.plan.Steps) { // a person's word alone
		b.commands([]Command{{Name: "confirm", Run: []string{nothing}}})
		b.plan.Steps[at].Again = true
	}
	if question != "" {
		b.plan.Steps[at].Confirm = question
	}
}

// add adds a command of Holdfast, which may be given again at any time.
func (b *builder) add(name string, within time.Duration, args ...string) {
	b.plan.Steps = append(b.plan.Steps, Step{
		ID: b.at.Name + "/" + name, Stage: b.at.Name, Host: b.file.Host, Run: append([]string{Self}, args...), Timeout: within, Again: true,
	})
}

func (b *builder) commands(all []Command) {
	for _, c := range all {
		s := Step{ID: b.at.Name + "/" + c.Name, Stage: b.at.Name, Host: c.Host, Run: c.Run, Timeout: time.Duration(c.Timeout)}
		if s.Host == "" {
			s.Host = b.file.Host
		}
		if s.Timeout == 0 {
			s.Timeout = defaultTimeout
		}
		b.plan.Steps = append(b.plan.Steps, s)
	}
}

// ready looks whether the later stages can be begun at all.
func (b *builder) ready() {
	if p := b.file.Platform; p != nil {
		b.add("platform", looks, "transition", "collect", "--openrc", p.Target, "--check", "control", "--before", p.File)
	}
	if b.file.Databases != nil {
		b.db("databases", looks, "plan", false)
	}
	if b.file.Network != nil {
		export, apply, _ := b.file.Network.commands()
		b.add("network-export", looks, export...)
		b.plugs("network-")
		b.add("network", looks, append(apply, "--dry-run")...)
	}
	b.config("diff", looks)
	if b.file.Upgrade != nil {
		b.upgrade("upgrade", looks, "--dry-run")
	}
}

func (b *builder) align() {
	switch d := b.file.Databases; {
	case d == nil:
	case d.Follow:
		b.db("copy", works, "run", false, "--follow", "--catch-up")
	default:
		b.db("copy", works, "run", false)
		b.db("verify", works, "verify", true)
	}
}

func (b *builder) network() {
	if n := b.file.Network; n != nil {
		b.rebuild("")
	}
}

// rebuild brings the network over; prefix tells the steps of a second time apart.
func (b *builder) rebuild(prefix string) {
	export, apply, verify := b.file.Network.commands()
	b.add(prefix+"export", looks, export...)
	b.plugs(prefix)
	b.add(prefix+"apply", works, apply...)
	b.add(prefix+"verify", looks, verify...)
}

// plugs writes into the document how hosts have plugged each port; an export has what Neutron says.
func (b *builder) plugs(prefix string) {
	if n := b.file.Network; n.Hosts {
		b.add(prefix+"hosts", looks, "transition", "net", "host", "--file", n.File, "--agents", "--fix-file", n.File)
	}
}

// nova tells the new platform of hosts and guests that it has not made itself.
func (b *builder) nova() {
	if n, p := b.file.Nova, b.file.Platform; n != nil && p != nil {
		b.add("placement", works, slices.Concat([]string{"transition", "placement", "--openrc", p.Target, "--"}, n.Manage)...)
	}
}

// features tries test guests; result is the flag by which the file is named that has what they could before. A run of
// it that was cut off has left things, so that a person has to look before it is begun again.
func (b *builder) features(openrc, result string) {
	if b.file.Features == nil {
		return
	}
	for _, g := range b.file.Features.Guests {
		args := []string{"transition", "features", "--openstack", "--openrc", openrc, "--guest", g, "--yes", result,
			b.file.Platform.File + ".features-" + g}
		b.add("features-"+g, looks, append(args, b.file.Features.Flags...)...)
		b.plan.Steps[len(b.plan.Steps)-1].Again = false
	}
}

// commands are those of `transition net`.
func (n *Network) commands() (export, apply, verify []string) {
	export = []string{"transition", "net", "export", "--out", n.File}
	if n.Source.Endpoint != "" {
		export = flag(append(export, "--endpoint", n.Source.Endpoint), "--openrc", n.Source.Openrc)
	} else {
		export = append(export, "--db", n.Source.DB)
		export = flag(export, "--db-name", n.Source.DBName)
	}
	leave := strings.Join(n.LeaveOut, ",")
	export = flag(export, "--leave-out", leave)
	apply = []string{"transition", "net", "apply", "--file", n.File, "--applied", n.File + ".applied", "--endpoint",
		n.Target.Endpoint, "--db", n.Target.DB}
	apply = flag(flag(apply, "--openrc", n.Target.Openrc), "--db-name", n.Target.DBName)
	apply = flag(apply, "--leave-out", leave)
	if n.Jobs > 0 {
		apply = append(apply, "--jobs", strconv.Itoa(n.Jobs))
	}
	verify = []string{"transition", "net", "verify", "--file", n.File, "--endpoint", n.Target.Endpoint}
	verify = flag(verify, "--openrc", n.Target.Openrc)
	if n.ReserveDHCP {
		apply, verify = append(apply, "--reserve-dhcp"), append(verify, "--reserve-dhcp")
	}
	return export, apply, verify
}

// cutover brings over what the old platform has written to its end. It returns the place of
// the first step for which that has to have come, and the question; first where there is none.
func (b *builder) cutover(first int) (int, string) {
	d, question := b.file.Databases, ""
	if d != nil && d.Follow {
		b.db("check", works, "plan", false) // while the old platform works on, which writes what breaks checks, too
		b.db("catch-up", works, "run", false, "--follow", "--catch-up")
		first, question = len(b.plan.Steps), confirmCutover
		b.db("databases", works, "run", false, "--follow", "--cut-over")
		b.db("verify", works, "verify", true)
	}
	if b.file.Network != nil {
		if question == "" {
			first, question = len(b.plan.Steps), confirmCutover
		}
		b.rebuild("network-")
	}
	return first, question
}

func (b *builder) hosts() {
	b.config("apply", works, "--yes", "--wait")
	if b.file.Upgrade != nil {
		b.upgrade("upgrade", works, "--yes", "--wait", "--join")
	}
}

// config adds a command of `transition config`.
func (b *builder) config(command string, within time.Duration, more ...string) {
	if x := b.file.Config; x != nil {
		b.add("config", within, append(flag([]string{"transition", "config", command, x.Dir}, "--cluster", x.Cluster), more...)...)
	}
}

func (b *builder) upgrade(name string, within time.Duration, how ...string) {
	u := b.file.Upgrade
	b.add(name, within, slices.Concat([]string{"upgrade", "run", "--bundle", u.Bundle}, how, u.Flags)...)
}

func (b *builder) cleanup() (question string) {
	if b.file.Databases == nil {
		return ""
	}
	b.add("databases", looks, append([]string{"transition", "db", "clean", "--yes"}, b.servers()...)...)
	return confirmCleanup
}

// db adds a command of `transition db`; nova: also with the new platform's own code.
func (b *builder) db(name string, within time.Duration, command string, nova bool, more ...string) {
	d := b.file.Databases
	args := []string{"transition", "db", command}
	args = flag(args, "--profile", d.Profile)
	args = flag(args, "--mapping", d.Mapping)
	args = append(append(args, "--ids", d.IDs), b.servers()...)
	args = flag(args, "--source-db", pairs(d.SourceDB))
	args = flag(args, "--target-db", pairs(d.TargetDB))
	for _, t := range d.Skip {
		args = append(args, "--skip", t)
	}
	if d.Orphans {
		args = append(args, "--leave-out-orphans")
	}
	if nova {
		args = flag(args, "--nova-conf", d.NovaConf)
	}
	b.add(name, within, append(args, more...)...)
}

func (b *builder) servers() []string {
	return []string{"--source", b.file.Databases.Source, "--target", b.file.Databases.Target}
}

func flag(args []string, name, value string) []string {
	if value == "" {
		return args
	}
	return append(args, name, value)
}

func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

// Encode writes the plan.
func (p *Plan) Encode() ([]byte, error) {
	out, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write the plan of a transition: %w", err)
	}
	return out, nil
}

// JobSteps are the steps as the engine has them.
func (p *Plan) JobSteps() ([]job.Step, error) {
	out := make([]job.Step, 0, len(p.Steps))
	for _, s := range p.Steps {
		kind, args := s.Kind, s.Args
		if kind == "" {
			var err error
			if kind, args, err = command(s.Run); err != nil {
				return nil, fmt.Errorf("step %s: %w", s.ID, err)
			}
		}
		out = append(out, job.Step{ID: s.ID, Host: s.Host, Kind: kind, Args: args, Timeout: s.Timeout, Idempotent: s.Again})
	}
	return out, job.CheckSteps(out)
}

func command(run []string) (kind string, args json.RawMessage, err error) {
	args, err = json.Marshal(Args{run})
	return KindCommand, args, err
}

// Line is a command as a shell takes it.
func Line(argv []string) string {
	var out []string
	for _, a := range argv {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool {
			return !strings.ContainsRune("-_./:=,@+%", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}
