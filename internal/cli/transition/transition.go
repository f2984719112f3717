// Package transition has the commands of a transition to another platform: the whole of one, and its parts: databases,
// networks, pinned flows, features of guests, platforms and files of hosts.
package transition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	align "holdfast/internal/transition/db"
)

// Command has the commands of a transition.
func Command(a *command.App) *cobra.Command {
	db := command.Group("db", "Bring the rows of an old platform's databases into a new one's",
		dbPlanCmd(a), dbRunCmd(a), dbVerifyCmd(a), dbProfileCmd(a), dbCleanCmd(a))
	db.Long = `Brings the rows of an old platform's databases into the tables of a new one's,
by a mapping that says what becomes of every column. The source is only read,
but for the database migrate_ids; the target's tables must be empty.

  plan    looks at both sides and says all that stands in the way
  run     copies; interrupted, the same command goes on where it was
  verify  compares every row of the target with the source's, mapped
  clean   removes what the work has left on both servers

See docs/transition-db.md and docs/mapping.md.`
	return command.Group("transition", "Bring a platform to another version, its guests running",
		planCmd(a), runCmd(a), sitesCmd(a), configFilesCmd(a), db, netCmd(a), pinCmd(a),
		unpinCmd(a), featuresCmd(a), collectCmd(a), placementCmd(a))
}

// dbServers are the flags that name the two servers and their databases.
type dbServers struct {
	align.Addresses
	sourceDB, targetDB []string
}

// dsnForms is what a DSN looks like.
const dsnForms = "USER@tcp(HOST:PORT)/, USER@unix(PATH)/ or mysql://USER@HOST:PORT/"

func (s *dbServers) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.Source, "source", "", "`DSN` of the old server: USER@tcp(HOST:PORT)/,\nUSER@unix(PATH)/ or mysql://USER@HOST:PORT/")
	f.StringVar(&s.Target, "target", "", "`DSN` of the new server")
}

func (s *dbServers) names(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.sourceDB, "source-db", nil, "`NAME=REAL`: the mapping's database NAME is REAL\non the "+
		"source; several have commas between")
	f.StringArrayVar(&s.targetDB, "target-db", nil, "`NAME=REAL`: the same for the target")
}

// given looks whether both servers are named.
func (s *dbServers) given(cmd *cobra.Command) error { return command.Usage(cmd, s.missing()) }

// missing tells which servers are not named, all at once.
func (s *dbServers) missing() (err error) {
	for _, f := range []struct{ name, value string }{{"source", s.Source}, {"target", s.Target}} {
		if f.value == "" {
			err = errors.Join(err, fmt.Errorf("no --%s given; want %s", f.name, dsnForms))
		}
	}
	return err
}

// dbMapping are the flags that name the mapping and its IDs.
type dbMapping struct {
	dbServers
	file, profile, ids string
	skip               []string
	orphans            bool
}

func (m *dbMapping) flags(cmd *cobra.Command) {
	m.tables(cmd)
	cmd.Flags().BoolVar(&m.orphans, "leave-out-orphans", false,
		"leave rows out that refer to rows that will\nnot be there; plan and the journal list them")
	cmd.Flags().StringVar(&m.ids, "ids", "", "`directory` with the files of IDs, KIND.csv or\nKIND.yaml")
	m.dbServers.flags(cmd)
}

// tables are the flags that say which tables there are.
func (m *dbMapping) tables(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.file, "mapping", "", "`file` with the mapping")
	f.StringVar(&m.profile, "profile", "", "`name` of a built-in mapping, instead of a file")
	f.StringArrayVar(&m.skip, "skip", nil, "`TABLE` of the target that is left out, as the new\nplatform fills it; may be repeated")
	m.names(cmd)
}

// open reads all files before it asks any server. The caller closes the alignment.
func (m *dbMapping) open(cmd *cobra.Command, a *command.App) (*align.Alignment, error) {
	return m.read(cmd, a, func(file, profile string) (*align.Alignment, error) { return align.Read(file, profile, m.ids) })
}

// check looks at the flags: all but what only files and servers tell.
func (m *dbMapping) check(cmd *cobra.Command) error {
	err := m.missing()
	if (m.file == "") == (m.profile == "") {
		err = errors.Join(err, fmt.Errorf("want --mapping FILE or --profile NAME, one of them; NAME is %s",
			strings.Join(align.Profiles(), " or ")))
	}
	if err != nil {
		return command.Usage(cmd, err)
	}
	if m.profile == "" {
		return nil
	}
	x, err := align.ReadTables("", m.profile)
	if err == nil {
		err = m.databases(x)
	}
	return command.Usage(cmd, err)
}

func (m *dbMapping) read(cmd *cobra.Command, a *command.App,
	read func(file, profile string) (*align.Alignment, error)) (*align.Alignment, error) {
	x, err := read(m.file, m.profile)
	if err != nil {
		return nil, faults(a, err)
	}
	if err := m.databases(x); err != nil {
		return nil, command.Usage(cmd, err)
	}
	m.Password = dbPassword(cmd.Context(), a)
	return x, x.Connect(cmd.Context(), m.Addresses)
}

// databases says what is on which database of the servers, and what is left out.
func (m *dbMapping) databases(x *align.Alignment) error {
	from, to := x.Databases()
	sourceDBs, err := realNames("source-db", m.sourceDB, from)
	if err != nil {
		return err
	}
	targetDBs, err := realNames("target-db", m.targetDB, to)
	if err != nil {
		return err
	}
	if m.orphans {
		x.LeaveOrphans()
	}
	return x.Use(sourceDBs, targetDBs, m.skip)
}

// planError is an error of the work before anything is written, with its kind.
func planError(err error) error { return align.PlanError(err) }

// runError is one of the work that writes.
func runError(err error) error { return align.RunError(err) }

// faults makes bad input of an error that tells one fault a line; others stay as they are.
func faults(a *command.App, err error) error {
	var f *align.Faults
	if !errors.As(err, &f) {
		return err
	}
	lines := strings.Split(strings.TrimSpace(f.Err.Error()), "\n")
	if len(lines) == 1 {
		return fail.Errorf(fail.Invalid, "%s: %w", f.What, f.Err)
	}
	if err := output.Text(a.Env.Stderr, output.CleanLines(strings.Join(lines, "\n"))+"\n"); err != nil {
		return err
	}
	return fail.Errorf(fail.Invalid, "%s: %s", f.What, plural(len(lines), "fault"))
}

// realNames reads NAME=REAL words, and adds the names that stay as they are.
func realNames(flag string, words, names []string) (map[string]string, error) {
	out := map[string]string{}
	for _, w := range pairsOf(words) {
		name, db, ok := strings.Cut(w, "=")
		switch {
		case !ok || name == "" || db == "":
			return nil, fmt.Errorf("--%s %q: want NAME=REAL, such as %s=old_%s", flag, w, names[0], names[0])
		case !slices.Contains(names, name):
			return nil, fmt.Errorf("--%s %q: the mapping has no database %q there; want %s", flag, w, name, strings.Join(names, " or "))
		case strings.ContainsFunc(db, unicode.IsSpace):
			return nil, fmt.Errorf("--%s %q: want the name of a database, without spaces", flag, w)
		case out[name] != "":
			return nil, fmt.Errorf("--%s %q: %s is given twice", flag, w, name)
		}
		out[name] = db
	}
	for _, n := range names {
		if out[n] == "" {
			out[n] = n
		}
	}
	return out, nil
}

// pairsOf takes lists of NAME=REAL apart. A comma before what is no pair is part of a name.
func pairsOf(words []string) (out []string) {
	for _, w := range words {
		for i, pair := range strings.Split(w, ",") {
			if i > 0 && pair != "" && !strings.Contains(pair, "=") {
				out[len(out)-1] += "," + pair
				continue
			}
			out = append(out, pair)
		}
	}
	return out
}

// dbPassword asks for a password on the terminal. Where there is none nobody can be asked,
// and none is sent: accounts that want none are let in.
func dbPassword(ctx context.Context, a *command.App) func(prompt string) (string, error) {
	return func(prompt string) (string, error) {
		in, ok := a.Env.Stdin.(*os.File)
		if !ok || !output.IsTerminal(in) {
			return "", nil
		}
		line, err := a.ReadHidden(ctx, in, prompt)
		if errors.Is(err, io.EOF) {
			return "", fail.Errorf(fail.Invalid, "no password was typed")
		}
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return line, output.Text(a.Env.Stderr, "\n")
	}
}
