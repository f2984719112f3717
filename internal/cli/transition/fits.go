package transition

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/lib/text"
	"holdfast/internal/transition"
	align "holdfast/internal/transition/db"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/neutron"
	"holdfast/internal/transition/net/rebuild"
)

// Fits tells what the commands of a transition would refuse of the values that its file gives them, so that it is known
// before the first of them is run.
func Fits(program func() *cobra.Command, f *transition.File) []strictyaml.Fault {
	c := fitting{program: program}
	if d := f.Databases; d != nil {
		c.dsn("databases.source", d.Source)
		c.dsn("databases.target", d.Target)
		if d.Profile != "" && d.Mapping == "" {
			c.profile(d)
		}
	}
	if n := f.Network; n != nil {
		c.dsn("network.source.db", n.Source.DB)
		c.dsn("network.target.db", n.Target.DB)
		c.endpoint("network.source.endpoint", n.Source.Endpoint)
		c.endpoint("network.target.endpoint", n.Target.Endpoint)
		c.leaveOut(n)
		if n.Jobs > rebuild.MostJobs {
			c.fault("network.jobs", fmt.Sprint(n.Jobs), fmt.Sprintf("want 1 to %d", rebuild.MostJobs))
		}
	}
	if u := f.Upgrade; u != nil {
		c.flags("upgrade.flags", "upgrade run", []string{"--bundle", u.Bundle, "--yes", "--wait", "--join"}, u.Flags)
	}
	if x := f.Features; x != nil {
		c.flags("features.flags", "transition features", []string{"--openstack", "--guest", "g", "--yes"}, x.Flags)
	}
	for _, s := range f.Stages.All() {
		c.commands("stages."+s.Name+".before", s.Before)
		c.commands("stages."+s.Name+".after", s.After)
	}
	c.steps(f)
	return c.faults
}

// steps looks at all that the plan itself would have this program do. What a field has been told of is not told again.
func (c *fitting) steps(f *transition.File) {
	only := *f
	only.Stages = transition.Stages{}
	for _, s := range transition.Build(&only).Steps {
		if len(s.Run) < 3 || s.Run[0] != transition.Self {
			continue
		}
		field := s.Run[2]
		switch {
		case s.Run[1] == "upgrade":
			field = "upgrade"
		case field == "db":
			field = "databases"
		case field == "net":
			field = "network"
		case field == "collect":
			field = "platform"
		case field == "placement":
			field = "nova"
		}
		told := func(x strictyaml.Fault) bool { return x.Path == field || strings.HasPrefix(x.Path, field+".") }
		if err := fitsCommand(c.program, s.Run[1:]); err != nil && !slices.ContainsFunc(c.faults, told) {
			c.fault(field, transition.Line(s.Run), err.Error())
		}
	}
}

// fitsCommand is what a command of this program says of its arguments before it does anything: of each flag that it
// does not take, and of the rest.
func fitsCommand(program func() *cobra.Command, argv []string) error {
	cmd, args, err := program().Find(argv)
	if err != nil || cmd.HasSubCommands() {
		return errors.New("want a command that `holdfast --help` lists")
	}
	slips, taken, bare := untaken(cmd, nil, args)
	if cmd, _, err = program().Find(argv); err != nil {
		return err
	}
	if err = takes(cmd, words(args, taken)); err == nil && !bare {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err == nil && cmd.PreRunE != nil {
		err = cmd.PreRunE(cmd, cmd.Flags().Args())
	}
	if len(slips) > 0 && asksFor(err, args) {
		err = nil
	}
	var flags, all []string
	for _, s := range slips {
		if s.flag != "" {
			flags = append(flags, s.flag)
		} else {
			all = append(all, s.why)
		}
	}
	if len(flags) > 0 {
		all = append([]string{noFlag(cmd, strings.Join(flags, ", "))}, all...)
	}
	if err != nil {
		all = append(all, refused(cmd, err))
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

// slipped is a word that a command does not take.
type slipped struct {
	at   int
	flag string // that it does not have; ""
	why  string
}

// untaken are all words that a command does not take, beside those of own, and the places of the others. A word
// behind a flag that it does not have may be the value of that, so that it is none of both; bare: there is one.
func untaken(cmd *cobra.Command, own, list []string) (slips []slipped, taken []int, bare bool) {
	waits := false // the last that is taken is a flag without its value
	for i := 0; i < len(list); i++ {
		err := takes(cmd, append(slices.Concat(own, words(list, taken)), list[i]))
		switch {
		case err == nil:
			taken, waits = append(taken, i), false
		case strings.HasPrefix(err.Error(), "flag needs an argument: ") && i+1 < len(list) && !strings.HasPrefix(list[i+1], "--"):
			taken, waits = append(taken, i), true
		case strings.HasPrefix(err.Error(), "flag needs an argument: ") && i+1 < len(list):
			slips = append(slips, slipped{at: i + 1, why: "want the value of " + list[i]})
		default:
			if waits {
				taken, waits = taken[:len(taken)-1], false
			}
			slip := slipped{at: i, why: refused(cmd, err)}
			flag, unknown := strings.CutPrefix(err.Error(), "unknown flag: ")
			if unknown {
				slip.flag = flag
			}
			slips = append(slips, slip)
			if unknown && !strings.Contains(list[i], "=") && i+1 < len(list) && !strings.HasPrefix(list[i+1], "-") {
				bare = true
				i++
			}
		}
	}
	return slips, taken, bare
}

// asksFor reports whether an error names a flag that is not given: one that was written otherwise may be meant.
func asksFor(err error, given []string) bool {
	if err == nil {
		return false
	}
	return slices.ContainsFunc(longFlag().FindAllString(err.Error(), -1), func(f string) bool {
		return !slices.ContainsFunc(given, func(g string) bool { return g == f || strings.HasPrefix(g, f+"=") })
	})
}

var longFlag = text.Pattern(`--[a-z][a-z-]*`)

// words are those at some places.
func words(list []string, at []int) []string {
	out := make([]string, 0, len(at))
	for _, i := range at {
		out = append(out, list[i])
	}
	return out
}

// leaveOut looks for names that nothing is left out by. A database may have tables of plug-ins that nobody knows, whose
// names are good, too: of a database, only a slip of the pen is told.
func (c *fitting) leaveOut(n *transition.Network) {
	for i, name := range n.LeaveOut {
		err := rebuild.UnknownNames(&net.Document{}, n.LeaveOut[i:i+1])
		if err == nil || n.Source.DB != "" && !strings.Contains(name, ".") &&
			!slices.ContainsFunc(rebuild.Kinds(), func(kind string) bool { return slip(name, kind) }) {
			continue
		}
		_, want, _ := strings.Cut(err.Error(), ": ")
		c.fault(fmt.Sprintf("network.leaveOut[%d]", i), name, want)
	}
}

// slip reports whether two words differ by one letter that is other, too many or missing.
func slip(a, b string) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(b) && a[i] == b[i] {
		i++
	}
	return a != b && (a[min(i+1, len(a)):] == b[i:] || len(a) == len(b) && a[i+1:] == b[i+1:])
}

type fitting struct {
	program func() *cobra.Command // with all its commands, each time anew
	faults  []strictyaml.Fault
}

func (c *fitting) fault(path, value, want string) {
	c.faults = append(c.faults, strictyaml.Fault{Path: path, Value: strictyaml.Shorten(value), Want: want})
}

// dsn looks at one that is given. It is not shown: what part of it is a password is not known where it does not fit.
func (c *fitting) dsn(path, dsn string) {
	if dsn == "" {
		return
	}
	err := align.CheckDSN(dsn)
	if err == nil {
		return
	}
	want := err.Error()
	switch {
	case strings.HasPrefix(want, "want USER:PASSWORD"): // a password is refused here
		want = "want " + dsnForms + ", or /?option-file=PATH"
	case strings.Contains(want, "has a database") && strings.HasPrefix(path, "network."):
		want = "want no database behind the /: dbName names it"
	case strings.Contains(want, "has a database"):
		want = "want no database behind the /: sourceDB and targetDB name them"
	}
	c.fault(path, "(not shown)", want)
}

func (c *fitting) endpoint(path, url string) {
	if _, err := neutron.New(url); err != nil && url != "" {
		c.fault(path, url, "want http://HOST:PORT or https://HOST:PORT")
	}
}

// profile looks whether there is such a mapping, and has the databases and tables that are named. Where there is none,
// what no mapping has is told all the same.
func (c *fitting) profile(d *transition.Databases) {
	profiles := []string{d.Profile}
	if !slices.Contains(align.Profiles(), d.Profile) {
		profiles = align.Profiles()
		c.fault("databases.profile", d.Profile, "want "+strings.Join(profiles, " or "))
	}
	for i, table := range d.Skip {
		want, all := "", true
		for _, p := range profiles {
			x, err := align.ReadTables("", p)
			if err == nil {
				err = x.Use(nil, nil, []string{table})
			}
			all = all && err != nil
			if err != nil && want == "" {
				_, want, _ = strings.Cut(err.Error(), ": ")
			}
		}
		if all {
			c.fault(fmt.Sprintf("databases.skip[%d]", i), table, want)
		}
	}
	var from, to []string
	for _, p := range profiles {
		x, err := align.ReadTables("", p)
		if err != nil {
			c.fault("databases.profile", d.Profile, err.Error())
			return
		}
		f, t := x.Databases()
		from, to = append(from, f...), append(to, t...)
	}
	c.databases("databases.sourceDB", d.SourceDB, from)
	c.databases("databases.targetDB", d.TargetDB, to)
}

func (c *fitting) databases(path string, given map[string]string, names []string) {
	slices.Sort(names)
	names = slices.Compact(names)
	for name, real := range given {
		if _, err := realNames("", []string{name + "=" + real}, names); err != nil && slices.Contains(names, name) {
			_, want, _ := strings.Cut(err.Error(), ": ")
			c.fault(strictyaml.Field(path, name), real, want)
		}
		if !slices.Contains(names, name) {
			c.fault(strictyaml.Field(path, name), name, "the mapping has no such database there; want one of "+strings.Join(names, ", "))
		}
	}
}

// commands looks at those of this program.
func (c *fitting) commands(path string, all []transition.Command) {
	for i, x := range all {
		if len(x.Run) == 0 || x.Run[0] != transition.Self {
			continue
		}
		at := fmt.Sprintf("%s[%d].run", path, i)
		if err := fitsCommand(c.program, x.Run[1:]); err != nil {
			c.fault(at, strings.Join(x.Run, " "), err.Error())
		}
	}
}

// refused says what a command wants in place of flags that it does not take.
func refused(cmd *cobra.Command, err error) string {
	if flag, ok := strings.CutPrefix(err.Error(), "unknown flag: "); ok {
		return noFlag(cmd, flag)
	}
	if flag, ok := strings.CutPrefix(err.Error(), "flag needs an argument: "); ok {
		return "want a value behind " + flag
	}
	return command.Plainly(cmd, err).Error()
}

func noFlag(cmd *cobra.Command, flag string) string {
	return fmt.Sprintf("%s has no flag %s; see: %s --help", cmd.CommandPath(), flag, cmd.CommandPath())
}

// flags looks for the flags that a command does not take, beside those that the step gives it, and for the one by which
// it refuses the others together.
func (c *fitting) flags(path, line string, own, flags []string) {
	find := strings.Fields(line)
	cmd, _, err := c.program().Find(find)
	if err != nil {
		c.fault(path, line, err.Error())
		return
	}
	slips, taken, _ := untaken(cmd, own, flags)
	all := slices.Concat(own, flags)
	var last error
	wrong := -1 // by the flags up to this one, and all behind it, the command is refused
	for n := 0; n <= len(taken); n++ {
		cmd, _, err := c.program().Find(find)
		if err == nil {
			err = takes(cmd, slices.Concat(own, words(flags, taken[:n])))
		}
		switch {
		case err != nil: // the next is its value
			continue
		case cmd.Flags().NArg() > 0:
			at := taken[n-1]
			slips = append(slips, slipped{at: at, why: "want a flag of `holdfast " + line + "`, or the value of the one before"})
			taken = slices.Delete(taken, n-1, n)
			n--
			continue
		}
		if err = cmd.PreRunE(cmd, nil); err != nil && n > 0 && (last == nil || last.Error() != err.Error()) {
			wrong = taken[n-1]
		}
		last = err
	}
	if last != nil && wrong >= 0 && (len(slips) == 0 || !asksFor(last, all)) {
		slips = append(slips, slipped{at: wrong, why: last.Error()})
	}
	for _, s := range slips {
		c.fault(fmt.Sprintf("%s[%d]", path, s.at), flags[s.at], s.why)
	}
}

// takes reports what is wrong with the flags of a command, in the words of the library.
func takes(cmd *cobra.Command, args []string) error {
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return err })
	return cmd.ParseFlags(args)
}
