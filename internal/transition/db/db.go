// Package db is the sequence of an alignment: what is done in which order with the parts
// beside it, from the plan until what the work has left is removed. Its errors have kinds
// of package fail; what has none yet gets one by PlanError or RunError.
package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/profile"
	"holdfast/internal/transition/db/replicate"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/survey"
	"holdfast/internal/transition/db/verify"
)

// maxMapping is more than package mapping accepts; what is longer is not read.
const maxMapping = 2 << 20 // bytes

// Addresses are where the servers are: their DSNs.
type Addresses struct {
	Source, Target string
	Replica        string                              // of the target, which a run waits for; "": none
	Password       func(prompt string) (string, error) // asks a person for one that is given nowhere else
}

// Servers are both sides, open. replica may be nil.
type Servers struct{ source, target, replica *server.Server }

// Alignment is a mapping with both servers: Read, Use, Connect, then the work.
type Alignment struct {
	*Servers
	mapping              *mapping.Mapping
	text                 []byte   // of the mapping
	skip                 []string // tables that are left out of it
	orphans              bool     // they are left out
	sets                 map[string]ids.Set
	hash                 string            // see copyHash
	sourceDBs, targetDBs map[string]string // real names by the mapping's, all that it uses
	targetSide           mapping.Side
	plan                 *mapping.Plan // of the last survey
}

// Tell is how people hear of the work. None is nil; several goroutines may call them.
type Tell struct {
	Note     func(string)   // what they should know, a line
	Progress func(Progress) // twice a second at most, and when a step begins
	Log      *slog.Logger   // what is out of the ordinary
}

// Standing is how far a table is.
type Standing = copier.Standing

// Following is how far a run is that follows the source, Followed what it has done, and Comparing how far a comparison is, with
// each table Compared.
type (
	Following = replicate.Progress
	Followed  = replicate.Result
	Comparing = verify.Progress
	Compared  = verify.Standing
)

// Progress is how far the work is. One field is set.
type Progress struct {
	Step    string // what has begun, where nothing is counted
	Copy    *copier.Progress
	Follow  *Following
	Compare *Comparing
}

// Faults are what is wrong with the input, a line each.
type Faults struct {
	What string // was tried
	Err  error
}

// Error tells all of them.
func (f *Faults) Error() string { return f.What + ": " + f.Err.Error() }

// Profiles are the names of the built-in mappings.
func Profiles() []string { return profile.Names() }

// Profile is a built-in mapping, and its text.
func Profile(name string) (*mapping.Mapping, []byte, error) {
	if !slices.Contains(profile.Names(), name) {
		return nil, nil, fail.Errorf(fail.Invalid, "profile %q: want %s", name, strings.Join(profile.Names(), " or "))
	}
	return profile.Mapping(name)
}

// Read reads the files: of a mapping, or where profile is given that one, and of the IDs in
// a directory. The error may be *Faults.
func Read(file, profile, idsDir string) (x *Alignment, err error) {
	if x, err = ReadTables(file, profile); err != nil {
		return nil, err
	}
	if x.sets, err = ids.Load(idsDir, x.mapping.IDs); err != nil {
		return nil, &Faults{"read the IDs", err}
	}
	return x, nil
}

// ReadTables is Read without IDs, for who needs to know the tables alone.
func ReadTables(file, profile string) (x *Alignment, err error) {
	x = &Alignment{}
	if profile != "" {
		x.mapping, x.text, err = Profile(profile)
	} else {
		x.mapping, x.text, err = readMapping(file)
	}
	return x, err
}

func readMapping(path string) (m *mapping.Mapping, text []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, maxMapping))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return nil, nil, fail.Errorf(fail.Invalid, "read the mapping: %w", err)
	}
	if m, err = mapping.ParseMapping(path, text); err != nil {
		return nil, nil, &Faults{"read the mapping", err}
	}
	return m, text, nil
}

// CheckDSN looks whether a text is a DSN, without opening anything.
func CheckDSN(dsn string) error { return server.CheckDSN(dsn) }

// LeaveOrphans leaves rows out that refer to rows which will not be there.
func (x *Alignment) LeaveOrphans() {
	x.orphans = true
	x.mapping.LeaveOrphans()
}

// Databases are those of the mapping, by their names in it.
func (x *Alignment) Databases() (source, target []string) { return server.Databases(x.mapping) }

// Use says which databases of the servers the mapping's are, all of them, and leaves tables
// of the target out.
func (x *Alignment) Use(sourceDBs, targetDBs map[string]string, skip []string) error {
	x.sourceDBs, x.targetDBs, x.skip = sourceDBs, targetDBs, skip
	if len(skip) == 0 {
		return nil
	}
	if err := x.mapping.Skip(skip); err != nil {
		return fmt.Errorf("--skip: %w", err)
	}
	// Those that only tables need which are left out do not have to be there.
	from, to := server.Databases(x.mapping)
	maps.DeleteFunc(x.sourceDBs, func(name, _ string) bool { return !slices.Contains(from, name) })
	maps.DeleteFunc(x.targetDBs, func(name, _ string) bool { return !slices.Contains(to, name) })
	return nil
}

// Connect opens the servers. Close closes them.
func (x *Alignment) Connect(ctx context.Context, a Addresses) (err error) {
	if x.hash, err = x.copyHash(); err != nil {
		return err
	}
	if x.Servers, err = Connect(ctx, a); err != nil {
		return err
	}
	if err = x.visible(ctx); err != nil {
		err = PlanError(err)
	} else if x.targetSide, err = x.target.Side(ctx, x.targetDBs); err != nil {
		err = PlanError(err)
	} else if a.Replica != "" {
		x.replica, err = a.open(ctx, "replica", a.Replica)
	}
	if err != nil {
		return errors.Join(err, x.Close())
	}
	return nil
}

// visible looks whether the accounts see all databases, and tells what to grant where not.
func (x *Alignment) visible(ctx context.Context) error {
	for _, s := range []struct {
		at    *server.Server
		names map[string]string
	}{{x.source, x.sourceDBs}, {x.target, x.targetDBs}} {
		for _, db := range s.names {
			if is, err := s.at.Has(ctx, db); err != nil {
				return err
			} else if !is {
				_, err = x.source.Side(ctx, x.sourceDBs)
				_, other := x.target.Side(ctx, x.targetDBs)
				return x.rights(ctx, fail.Errorf(fail.Invalid, "%w", errors.Join(err, other)))
			}
		}
	}
	return nil
}

// rights adds to an error the GRANTs that the accounts lack, if there are any.
func (x *Alignment) rights(ctx context.Context, of *fail.Error) error {
	lacks, err := survey.Rights(ctx, x.mapping, x.source, x.target, x.sourceDBs, x.targetDBs)
	if err != nil {
		return errors.Join(of, err)
	}
	if len(lacks) == 0 {
		return of
	}
	return of.With("these statements give the rights that the accounts lack:\n  " + strings.Join(lacks, "\n  "))
}

// Connect opens the source and the target.
func Connect(ctx context.Context, a Addresses) (*Servers, error) {
	source, err := a.open(ctx, "source", a.Source)
	if err != nil {
		return nil, err
	}
	target, err := a.open(ctx, "target", a.Target)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return &Servers{source: source, target: target}, nil
}

// open reaches a server: when it is there, what was said about it is wrong, its password, too.
func (a *Addresses) open(ctx context.Context, role, dsn string) (*server.Server, error) {
	s, err := server.Open(ctx, role, dsn, server.Options{Password: a.Password})
	return s, kinded(err, fail.Invalid)
}

// Close ends the connections.
func (s *Servers) Close() error {
	err := errors.Join(s.source.Close(), s.target.Close())
	if s.replica != nil {
		err = errors.Join(s.replica.Close(), err)
	}
	return err
}

// lock takes the locks of both servers.
func (s *Servers) lock(ctx context.Context) (locked context.Context, unlock func(), err error) {
	ctx, ours, err := copier.Lock(ctx, s.target)
	if err != nil {
		return nil, nil, err
	}
	ctx, theirs, err := copier.Lock(ctx, s.source)
	if err != nil {
		ours()
		return nil, nil, err
	}
	return ctx, func() { theirs(); ours() }, nil
}

// goal names the target: its server as that calls itself, by which Clean knows it again
// (see ids.OwnedAt), and the databases.
func (x *Alignment) goal() string {
	return fmt.Sprintf("%s, databases %s", x.target.Name(), strings.Join(slices.Sorted(maps.Values(x.targetDBs)), ", "))
}
