// Package ids reads which value of the old platform is which of the new one: from files,
// from a query of the target, and into tables of the source server, where the copy looks
// them up.
package ids

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// Bounds.
const (
	maxFile   = 64 << 20 // bytes
	maxYAML   = 8 << 20  // bytes: reading YAML takes sixteen times its size
	maxPairs  = 1_000_000
	maxValue  = 255 // characters
	maxFaults = 100 // told of one call: more help nobody
)

// others is what stands for every value that has no pair.
const others = "*"

// Set is what is known of one kind of values.
type Set struct {
	Pairs   map[string]string // new by old
	Default *string           // for the others; nil: they have none
	From    string            // the file's path, or "query"
}

// fromQuery is Set.From of what the target was asked for.
const fromQuery = "query"

// Known tells a plan what there is.
func Known(sets map[string]Set) map[string]mapping.IDs {
	out := make(map[string]mapping.IDs, len(sets))
	for kind, s := range sets {
		out[kind] = mapping.IDs{Given: true, Default: s.Default != nil}
	}
	return out
}

// Load reads the files of a folder, "" for none: KIND.csv or KIND.yaml for each kind
// that the mapping has. A file that is neither is an error, but for those whose name
// begins with a dot. The error tells all that is wrong, a line each.
//
// A CSV file has a line OLD,NEW for each value, and may begin with the line old,new; the
// old value * stands for all that have no line. A YAML file has map, with old: new for
// each value, and default, for all that are not in it. A CSV file has at most 64 MiB and
// a million values, a YAML file at most 8 MiB.
func Load(dir string, kinds []mapping.Kind) (map[string]Set, error) {
	out := map[string]Set{}
	if dir == "" {
		return out, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("want a directory with files of IDs: %w", err)
	}
	f := &faults{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		kind, ending, known := split(e.Name(), kinds)
		if !known {
			f.add("%s: no file of IDs has this name: want %s", path, wanted(kinds))
			continue
		}
		if before, twice := out[kind]; twice {
			f.add("%s: the IDs of %s are in %s already: want one of the files", path, kind, before.From)
			continue
		}
		out[kind] = load(path, ending, f)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return out, nil
}

// endings of files of IDs.
const (
	endCSV  = ".csv"
	endYAML = ".yaml"
)

func split(name string, kinds []mapping.Kind) (kind, ending string, known bool) {
	ending = filepath.Ext(name)
	kind = strings.TrimSuffix(name, ending)
	known = (ending == endCSV || ending == endYAML) && slices.ContainsFunc(kinds, func(k mapping.Kind) bool { return k.Kind == kind })
	return kind, ending, known
}

func wanted(kinds []mapping.Kind) string {
	if len(kinds) == 0 {
		return "none, the mapping has no kinds of IDs"
	}
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		names = append(names, k.Kind)
	}
	return "KIND.csv or KIND.yaml, where KIND is one of " + strings.Join(names, ", ")
}

// Ask fills in, by the queries of the mapping, the kinds that have one and no file. They
// are run at the target and can change nothing. Each gives two columns, old and new; the
// old value * stands for the others. A query that gives nothing is an error; those of all
// kinds are Faults, and each such kind has no value. Of a copy that has begun, see Resume.
func Ask(ctx context.Context, m *mapping.Mapping, sets map[string]Set, target *server.Server, side mapping.Side) error {
	var all Faults
	for _, k := range m.IDs {
		if _, given := sets[k.Kind]; given || k.Query == "" {
			continue
		}
		set, err := asked(ctx, k, target, side)
		if gone(err) {
			return err // the others would say the same
		}
		if err != nil {
			all = append(all, err)
		}
		sets[k.Kind] = set
	}
	if all != nil {
		return all
	}
	return nil
}

// Faults are errors that stand beside each other.
type Faults []error

func (f Faults) Error() string { return errors.Join(f...).Error() }

func (f Faults) Unwrap() []error { return f }

// asked gives what the query of a kind does.
func asked(ctx context.Context, k mapping.Kind, target *server.Server, side mapping.Side) (Set, error) {
	f := &faults{}
	c := &collector{set: Set{From: fromQuery, Pairs: map[string]string{}}, path: "IDs of " + k.Kind + ": query",
		unit: "row", again: true, faults: f}
	err := ask(ctx, side.Fill(k.Query), c, target)
	switch {
	case gone(err):
		return Set{}, fmt.Errorf("IDs of %s: query at the %s: %w", k.Kind, target.Role, err)
	case err != nil:
		err = fmt.Errorf("IDs of %s: query at the %s: %w: %s", k.Kind, target.Role, err, k.Query)
	}
	if err = errors.Join(err, f.err()); err != nil {
		return Set{From: fromQuery}, fmt.Errorf("%w; mend what the query asks for, or give them in a file %s%s", err, k.Kind, endCSV)
	}
	return c.set, nil
}

// gone reports that a server could not be asked, whatever for.
func gone(err error) bool {
	return server.Passing(err) || errors.Is(err, server.ErrOther) || errors.Is(err, context.Canceled)
}

// reads tells whether a statement begins as one that only reads. A read-only transaction
// does not say it of all: MariaDB ends it by itself before it drops a table.
var reads = regexp.MustCompile(`(?i)^[\s(]*(SELECT|WITH)\b`)

func ask(ctx context.Context, query string, c *collector, target *server.Server) (err error) {
	if !reads.MatchString(query) {
		return errors.New("want a statement that begins with SELECT or WITH")
	}
	tx, err := target.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() {
		if e := tx.Rollback(); e != nil && err == nil {
			err = e
		}
	}()
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return err
	}
	if len(cols) != 2 {
		return fmt.Errorf("gives %d columns: want two, old and new", len(cols))
	}
	n := 0
	for rows.Next() {
		n++
		var old, with sql.NullString
		if err := rows.Scan(&old, &with); err != nil {
			return err
		}
		if !old.Valid || !with.Valid {
			c.add(strictyaml.Place{Line: n}, old.String, with.String, "is NULL: want an old and a new value")
			continue
		}
		if !c.pair(strictyaml.Place{Line: n}, old.String, with.String) {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n == 0 {
		return errors.New("gives no rows: want the old and the new values")
	}
	return nil
}

// faults are what is wrong, a line each.
type faults struct {
	list []string
	more int
}

func (f *faults) add(format string, args ...any) {
	if len(f.list) >= maxFaults {
		f.more++
		return
	}
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	list := f.list
	if f.more > 0 {
		list = append(list, fmt.Sprintf("and %d more", f.more))
	}
	return errors.New(strings.Join(list, "\n"))
}

// collector makes a set of pairs as they come.
type collector struct {
	set    Set
	path   string // for faults, with unit and its number
	unit   string // "line" or "row"; "" in YAML, where places have columns
	again  bool   // the same pair may come again
	faults *faults

	at         map[string]strictyaml.Place // where the pairs' old values are
	fallbackAt strictyaml.Place            // and the value for all others
}

// where names a place.
func (c *collector) where(p strictyaml.Place) string {
	if c.unit == "" {
		return p.String()
	}
	return fmt.Sprintf("%s %d", c.unit, p.Line)
}

func (c *collector) add(at strictyaml.Place, old, with, what string) {
	head := c.path + ": " + c.where(at) + ": "
	if c.unit == "" {
		head = strictyaml.At(c.path, at, "map")
	}
	c.faults.add("%s%q, %q: %s", head, short(old), short(with), what)
}

// pair takes what stands at line (row, entry) at; false when there are too many.
func (c *collector) pair(at strictyaml.Place, old, with string) bool {
	if why := bad(old); why != "" {
		c.add(at, old, with, "the old value "+why)
		return true
	}
	if !c.fit(at, old, with) {
		return true
	}
	if old == others {
		if d := c.set.Default; d != nil && (!c.again || *d != with) {
			c.add(at, old, with, fmt.Sprintf("the value for all others is in %s already: %q", c.where(c.fallbackAt), short(*d)))
			return true
		}
		c.set.Default, c.fallbackAt = &with, at
		return true
	}
	return c.put(at, old, with)
}

// fit tells whether a new value can be one.
func (c *collector) fit(at strictyaml.Place, old, with string) bool {
	why := bad(with)
	if with == "" {
		why = "is empty"
	}
	if why != "" {
		c.add(at, old, with, "the new value "+why)
	}
	return why == ""
}

// put takes a checked pair.
func (c *collector) put(at strictyaml.Place, old, with string) bool {
	if before, twice := c.set.Pairs[old]; twice {
		if !c.again || before != with {
			c.add(at, old, with, fmt.Sprintf("the old value is in %s already, for %q", c.where(c.at[old]), short(before)))
		}
		return true
	}
	if len(c.set.Pairs) >= maxPairs {
		c.faults.add("%s: want at most %d pairs", c.path, maxPairs)
		return false
	}
	if c.at == nil {
		c.at = map[string]strictyaml.Place{}
	}
	c.set.Pairs[old], c.at[old] = with, at
	return true
}

// bad tells why a text is no value, "" when it is one. Blanks at its ends are refused:
// servers take values that differ in them for the same.
func bad(v string) string {
	switch {
	case !utf8.ValidString(v):
		return "is not UTF-8"
	case utf8.RuneCountInString(v) > maxValue:
		return fmt.Sprintf("has %d characters: want at most %d", utf8.RuneCountInString(v), maxValue)
	case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "has a control character"
	case strings.TrimSpace(v) != v:
		return "begins or ends with a blank"
	}
	return ""
}

// short cuts a value for an error.
func short(v string) string { return strictyaml.Shorten(v) }
