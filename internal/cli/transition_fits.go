package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/strictyaml"
	"holdfast/internal/transition"
	align "holdfast/internal/transition/db"
	"holdfast/internal/transition/net/neutron"
	"holdfast/internal/transition/net/rebuild"
)

// fits tells what the commands of a transition would refuse of the values that its file gives them, so that it is known
// before the first of them is run.
func fits(f *transition.File) []strictyaml.Fault {
	var c fitting
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
		if n.Jobs > rebuild.MostJobs {
			c.fault("network.jobs", fmt.Sprint(n.Jobs), fmt.Sprintf("want 1 to %d", rebuild.MostJobs))
		}
	}
	if u := f.Upgrade; u != nil {
		c.flags("upgrade.flags", "upgrade run", u.Flags)
	}
	if x := f.Features; x != nil {
		c.flags("features.flags", "transition features", x.Flags)
	}
	for _, s := range f.Stages.All() {
		c.commands("stages."+s.Name+".before", s.Before)
		c.commands("stages."+s.Name+".after", s.After)
	}
	return c.faults
}

type fitting struct{ faults []strictyaml.Fault }

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

// profile looks whether there is such a mapping, and has the databases and tables that are named.
func (c *fitting) profile(d *transition.Databases) {
	if !slices.Contains(align.Profiles(), d.Profile) {
		c.fault("databases.profile", d.Profile, "want "+strings.Join(align.Profiles(), " or "))
		return
	}
	for i, table := range d.Skip {
		x, err := align.ReadTables("", d.Profile)
		if err == nil {
			err = x.Use(nil, nil, []string{table})
		}
		if err != nil {
			_, want, _ := strings.Cut(err.Error(), ": ")
			c.fault(fmt.Sprintf("databases.skip[%d]", i), table, want)
		}
	}
	x, err := align.ReadTables("", d.Profile)
	if err != nil {
		c.fault("databases.profile", d.Profile, err.Error())
		return
	}
	from, to := x.Databases()
	c.databases("databases.sourceDB", d.SourceDB, from)
	c.databases("databases.targetDB", d.TargetDB, to)
}

func (c *fitting) databases(path string, given map[string]string, names []string) {
	for name := range given {
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
		cmd, args, err := New(Env{}).Find(x.Run[1:])
		if err != nil || cmd.HasSubCommands() {
			c.fault(at, strings.Join(x.Run, " "), "want a command that `holdfast --help` lists")
			continue
		}
		if err = takes(cmd, args); err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil {
			c.fault(at, strings.Join(x.Run, " "), refused(cmd, err))
		}
	}
}

// refused says what a command wants in place of flags that it does not take.
func refused(cmd *cobra.Command, err error) string {
	if flag, ok := strings.CutPrefix(err.Error(), "unknown flag: "); ok {
		return fmt.Sprintf("%s has no flag %s; see: %s --help", cmd.CommandPath(), flag, cmd.CommandPath())
	}
	if flag, ok := strings.CutPrefix(err.Error(), "flag needs an argument: "); ok {
		return "want a value behind " + flag
	}
	return plainly(cmd, err).Error()
}

// flags looks for the first flag that a command does not take.
func (c *fitting) flags(path, command string, flags []string) {
	for n := 1; n <= len(flags); n++ {
		cmd, _, err := New(Env{}).Find(strings.Fields(command))
		if err == nil {
			err = takes(cmd, flags[:n])
		}
		at := fmt.Sprintf("%s[%d]", path, n-1)
		switch {
		case err == nil && cmd.Flags().NArg() > 0:
			c.fault(at, flags[n-1], "want a flag of `holdfast "+command+"`, or the value of the one before")
		case err == nil, n < len(flags) && strings.HasPrefix(err.Error(), "flag needs an argument: "):
			continue
		default:
			c.fault(at, flags[n-1], refused(cmd, err))
		}
		return
	}
}

// takes reports what is wrong with the flags of a command, in the words of the library.
func takes(cmd *cobra.Command, args []string) error {
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return err })
	return cmd.ParseFlags(args)
}
