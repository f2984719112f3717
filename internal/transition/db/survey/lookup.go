package survey

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
)

const (
	shown     = 20     // values in the text of a finding
	maxMerged = 20_000 // old values in the statements that look at keys: each takes some 40 bytes, twice
)

// knownIDs are the IDs, and those of their old values that the source's rows have, as far
// as they matter for its keys.
type knownIDs struct {
	kinds map[string]*kind

	mu     sync.Mutex
	used   map[string]map[string]bool // old values by kind, without blanks at their end
	merges map[string][][]string      // answers of merged
	tooBig map[string]bool            // kinds that merge too many
}

type kind struct {
	ids.Set
	news   map[string]string // new values by old ones without blanks at their end, as staged IDs are compared
	unique bool              // all old values become different ones, also when case does not count
}

func newIDs(sets map[string]ids.Set) *knownIDs {
	k := &knownIDs{kinds: map[string]*kind{}, used: map[string]map[string]bool{}, merges: map[string][][]string{}, tooBig: map[string]bool{}}
	for name, set := range sets {
		x := &kind{Set: set, news: map[string]string{}, unique: set.Default == nil}
		seen := make(map[string]bool, len(set.Pairs))
		for old, now := range set.Pairs {
			x.news[trim(old)] = now
			f := fold(now)
			x.unique = x.unique && !seen[f]
			seen[f] = true
		}
		k.kinds[name], k.used[name] = x, map[string]bool{}
	}
	return k
}

// trim takes away what staged IDs' comparison (utf8mb4_bin) does not see.
func trim(v string) string { return strings.TrimRight(v, " ") }

// fold is equal for new values that a column which does not tell upper from lower case
// finds equal. Accents are told apart here, and not by all such columns.
func fold(v string) string { return strings.ToLower(trim(v)) }

// now is what an old value becomes.
func (k *kind) now(old string) (string, bool) {
	if v, ok := k.news[old]; ok {
		return v, true
	}
	if k.Default != nil {
		return *k.Default, true
	}
	return "", false
}

// lookup compares the values that the source's rows have with the IDs.
func (s *surveyor) lookup(ctx context.Context, l *look, x mapping.Lookup) error {
	k := s.ids.kinds[x.Kind]
	if !x.Within {
		s.fit(l, x, k)
	}
	var missing []string
	err := walk(ctx, l.tx, x.Values, 1, func(row []string) error {
		v := trim(row[0])
		if _, ok := k.now(v); !ok {
			missing = append(missing, v)
		} else if !k.unique {
			s.ids.use(x.Kind, v)
		}
		return nil
	})
	if err != nil {
		return l.refused(x.Column, "values of "+x.Kind, err)
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		quoted := make([]string, 0, shown)
		for _, v := range missing[:min(shown, len(missing))] {
			quoted = append(quoted, quote(v))
		}
		more := ""
		if len(missing) > shown {
			more = ", ..."
		}
		l.error(x.Column, "%d values have no line among the IDs of %s (%s): %s%s", len(missing), x.Kind, k.From,
			strings.Join(quoted, ", "), more).Values = missing
	}
	return nil
}

func (k *knownIDs) use(kind, old string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used[kind][old] = true
}

// fit looks whether the new values are values of the target's column.
func (s *surveyor) fit(l *look, x mapping.Lookup, k *kind) {
	columns := s.to.Tables[l.t.Table].Columns
	i := slices.IndexFunc(columns, func(c column.Column) bool { return c.Name == x.Column })
	if i < 0 {
		return // told by the plan
	}
	to := columns[i]
	news := slices.Sorted(maps.Values(k.Pairs))
	if k.Default != nil {
		news = append(news, *k.Default)
	}
	var bad []string
	for _, v := range slices.Compact(news) {
		if !takes(to, v) {
			bad = append(bad, v)
		}
	}
	if len(bad) > 0 {
		l.error(x.Column, "%d new values of the IDs of %s (%s) are no values of a column %s: %s", len(bad), x.Kind,
			k.From, to.Type.Text, quote(bad[0])).Values = bad
	}
}

// takes reports whether a column holds a text.
func takes(c column.Column, v string) bool {
	switch c.Type.Kind {
	case column.Char:
		if c.Type.Length > 0 && int64(utf8.RuneCountInString(v)) > c.Type.Length || c.Type.Limit > 0 && int64(len(v)) > c.Type.Limit {
			return false
		}
		return c.Charset == "utf8mb4" || !strings.ContainsFunc(v, func(r rune) bool { return r > 0xFFFF })
	case column.Integer:
		return integer(c.Type, v)
	case column.Enum:
		return slices.Contains(c.Type.Words, v)
	}
	return true
}

func integer(t column.Type, v string) bool {
	if t.Unsigned {
		_, err := strconv.ParseUint(v, 10, t.Bits)
		return err == nil
	}
	_, err := strconv.ParseInt(v, 10, t.Bits)
	return err == nil
}

// merged is mapping.Merged, of the values that the source's rows have.
func (k *knownIDs) merged(name string, folded bool) [][]string {
	x := k.kinds[name]
	if x.unique {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key := fmt.Sprint(name, folded)
	if groups, ok := k.merges[key]; ok {
		return groups
	}
	by := map[string][]string{}
	for _, old := range slices.Sorted(maps.Keys(k.used[name])) {
		now, _ := x.now(old) // it has one: others are not among those used
		if folded {
			now = fold(now)
		}
		by[trim(now)] = append(by[trim(now)], old)
	}
	var groups [][]string
	n := 0
	for _, now := range slices.Sorted(maps.Keys(by)) {
		if len(by[now]) > 1 {
			groups = append(groups, by[now])
			n += len(by[now])
		}
	}
	if n > maxMerged {
		groups, k.tooBig[name] = nil, true
	}
	k.merges[key] = groups
	return groups
}

// warnings are what could not be looked at.
func (k *knownIDs) warnings() (out []Finding) {
	for _, name := range slices.Sorted(maps.Keys(k.tooBig)) {
		out = append(out, warning(fmt.Sprintf("more than %d values of %s become the same as others: whether unique "+
			"keys suffer from it is not looked at", maxMerged, name))...)
	}
	return out
}
