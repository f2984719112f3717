package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast/internal/fail"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/profile"
	"holdfast/internal/transition/db/server"
)

// maxMapping is more than package align accepts; what is longer is not read.
const maxMapping = 2 << 20 // bytes

func (a *app) transitionCmd() *cobra.Command {
	db := group("db", "Bring the rows of an old platform's databases into a new one's",
		a.dbPlanCmd(), a.dbRunCmd(), a.dbVerifyCmd(), a.dbProfileCmd(), a.dbCleanCmd())
	db.Long = `Brings the rows of an old platform's databases into the tables of a new one's,
by a mapping that says what becomes of every column. The source is only read,
but for the database migrate_ids; the target's tables must be empty.

  plan    looks at both sides and says all that stands in the way
  run     copies; interrupted, the same command goes on where it was
  verify  compares every row of the target with the source's, mapped
  clean   removes what the work has left on both servers

See docs/transition-db.md and docs/mapping.md.`
	db.SetUsageTemplate(strings.Replace(db.UsageTemplate(), "for more information about", "for more about", 1)) // 80 columns
	return group("transition", "Bring a platform to another version, its guests running", db)
}

// dbServers are the flags that name the two servers and their databases.
type dbServers struct {
	source, target     string
	sourceDB, targetDB []string
}

// dsnForms is what a DSN looks like.
const dsnForms = "USER@tcp(HOST:PORT)/, USER@unix(PATH)/ or mysql://USER@HOST:PORT/"

func (s *dbServers) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.source, "source", "", "`DSN` of the old server: USER@tcp(HOST:PORT)/,\nUSER@unix(PATH)/ or mysql://USER@HOST:PORT/")
	f.StringVar(&s.target, "target", "", "`DSN` of the new server")
}

func (s *dbServers) names(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.sourceDB, "source-db", nil, "`NAME=REAL`: the mapping's database NAME is REAL\non the source; several have commas between")
	f.StringArrayVar(&s.targetDB, "target-db", nil, "`NAME=REAL`: the same for the target")
}

// given looks whether both servers are named.
func (s *dbServers) given(cmd *cobra.Command) error {
	for _, f := range []struct{ name, value string }{{"source", s.source}, {"target", s.target}} {
		if f.value == "" {
			return usage(cmd, fmt.Errorf("no --%s given; want %s", f.name, dsnForms))
		}
	}
	return nil
}

// dbMapping are the flags that name the mapping and its IDs.
type dbMapping struct {
	dbServers
	file, profile, ids string
	skip               []string
}

func (m *dbMapping) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.file, "mapping", "", "`file` with the mapping")
	f.StringVar(&m.profile, "profile", "", "`name` of a built-in mapping, instead of a file")
	f.StringVar(&m.ids, "ids", "", "`directory` with the files of IDs, KIND.csv or\nKIND.yaml")
	f.StringArrayVar(&m.skip, "skip", nil, "`TABLE` of the target that is left out, as the new\nplatform fills it; may be repeated")
	m.dbServers.flags(cmd)
	m.names(cmd)
}

// alignment is a mapping with both servers, open.
type alignment struct {
	mapping              *mapping.Mapping
	text                 []byte   // of the mapping
	skip                 []string // tables that are left out of it
	sets                 map[string]ids.Set
	hash                 string // see copyHash
	source, target       *server.Server
	sourceDBs, targetDBs map[string]string // real names by the mapping's, all that it uses
	targetSide           mapping.Side
}

// open reads all files before it asks any server. The caller closes the alignment.
func (m *dbMapping) open(cmd *cobra.Command, a *app) (*alignment, error) {
	if err := m.given(cmd); err != nil {
		return nil, err
	}
	x := &alignment{skip: m.skip}
	var err error
	if x.mapping, x.text, err = m.read(cmd, a); err != nil {
		return nil, err
	}
	if x.sets, err = ids.Load(m.ids, x.mapping.IDs); err != nil {
		return nil, a.faults("read the IDs", err)
	}
	if err := x.databases(m); err != nil {
		return nil, usage(cmd, err)
	}
	if x.hash, err = x.copyHash(); err != nil {
		return nil, err
	}
	if x.source, x.target, err = m.connect(cmd.Context(), a); err != nil {
		return nil, err
	}
	if x.targetSide, err = x.target.Side(cmd.Context(), x.targetDBs); err != nil {
		return nil, errors.Join(planError(err), x.Close())
	}
	return x, nil
}

// databases finds out what is on which database of the servers, and leaves tables out.
func (x *alignment) databases(m *dbMapping) (err error) {
	from, to := server.Databases(x.mapping)
	if x.sourceDBs, err = realNames("source-db", m.sourceDB, from); err != nil {
		return err
	}
	if x.targetDBs, err = realNames("target-db", m.targetDB, to); err != nil || len(m.skip) == 0 {
		return err
	}
	if err := x.mapping.Skip(m.skip); err != nil {
		return fmt.Errorf("--skip: %w", err)
	}
	// Those that only tables need which are left out do not have to be there.
	from, to = server.Databases(x.mapping)
	maps.DeleteFunc(x.sourceDBs, func(name, _ string) bool { return !slices.Contains(from, name) })
	maps.DeleteFunc(x.targetDBs, func(name, _ string) bool { return !slices.Contains(to, name) })
	return nil
}

// Close ends the connections.
func (x *alignment) Close() error { return errors.Join(x.source.Close(), x.target.Close()) }

// read reads the mapping.
func (m *dbMapping) read(cmd *cobra.Command, a *app) (*mapping.Mapping, []byte, error) {
	switch {
	case (m.file == "") == (m.profile == ""):
		return nil, nil, usage(cmd, fmt.Errorf("want --mapping FILE or --profile NAME, one of them; NAME is %s", strings.Join(profile.Names(), " or ")))
	case m.profile != "":
		return readProfile(m.profile)
	}
	text, err := readMapping(m.file)
	if err != nil {
		return nil, nil, fail.Errorf(fail.Invalid, "read the mapping: %w", err)
	}
	mapping, err := mapping.ParseMapping(m.file, text)
	if err != nil {
		return nil, nil, a.faults("read the mapping", err)
	}
	return mapping, text, nil
}

func readProfile(name string) (*mapping.Mapping, []byte, error) {
	if !slices.Contains(profile.Names(), name) {
		return nil, nil, fail.Errorf(fail.Invalid, "profile %q: want %s", name, strings.Join(profile.Names(), " or "))
	}
	return profile.Mapping(name)
}

func readMapping(path string) (text []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, maxMapping))
}

// faults makes bad input of an error that tells one fault a line.
func (a *app) faults(what string, err error) error {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	if len(lines) == 1 {
		return fail.Errorf(fail.Invalid, "%s: %w", what, err)
	}
	if err := writeText(a.env.Stderr, cleanLines(strings.Join(lines, "\n"))+"\n"); err != nil {
		return err
	}
	return fail.Errorf(fail.Invalid, "%s: %s", what, plural(len(lines), "fault"))
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

// connect opens both servers.
func (s *dbServers) connect(ctx context.Context, a *app) (source, target *server.Server, err error) {
	if source, err = a.openServer(ctx, "source", s.source); err != nil {
		return nil, nil, err
	}
	if target, err = a.openServer(ctx, "target", s.target); err != nil {
		return nil, nil, errors.Join(err, source.Close())
	}
	return source, target, nil
}

func (a *app) openServer(ctx context.Context, role, dsn string) (*server.Server, error) {
	s, err := server.Open(ctx, role, dsn, server.Options{Password: func(prompt string) (string, error) { return a.dbPassword(ctx, prompt) }})
	return s, openError(err)
}

// dbPassword asks for a password on the terminal. Where there is none nobody can be asked,
// and none is sent: accounts that want none are let in.
func (a *app) dbPassword(ctx context.Context, prompt string) (string, error) {
	in, ok := a.env.Stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return "", nil
	}
	if err := writeText(a.env.Stderr, prompt); err != nil {
		return "", err
	}
	line, err := readHidden(ctx, in)
	if errors.Is(err, io.EOF) {
		return "", fail.Errorf(fail.Invalid, "no password was typed")
	}
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return line, writeText(a.env.Stderr, "\n")
}
