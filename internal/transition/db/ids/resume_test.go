package ids_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// TestResume: what a copy began with counts, whatever the target says now.
func TestResume(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	s := r.Server("target")
	kinds := []mapping.Kind{{Kind: "cell", Query: "SELECT '1', '5' UNION ALL SELECT '2', '6'"}, {Kind: "user"}, {Kind: "zone"}}
	m, other := mappingOf(kinds...), "o"
	if err := ids.Claim(t.Context(), s, "here"); err != nil {
		t.Fatal(err)
	}
	if got, err := ids.Staged(t.Context(), s, kinds, "here"); err != nil || len(got) != 0 {
		t.Errorf("nothing is staged: %v, %v", got, err)
	}
	sets := func(user map[string]string) map[string]ids.Set {
		return map[string]ids.Set{"user": {Pairs: user, From: "user.csv"},
			"zone": {Pairs: map[string]string{}, Default: &other, From: "zone.csv"}}
	}
	begun := sets(map[string]string{"a": "b"})
	begun["cell"] = ids.Set{Pairs: map[string]string{"1": "4"}, From: "query"}
	if err := ids.Stage(t.Context(), s, m, begun); err != nil {
		t.Fatal(err)
	}
	was, err := ids.Staged(t.Context(), s, kinds, "here")
	if err != nil || fmt.Sprintf("%v %v %s", was["cell"].Pairs, was["user"].Pairs, *was["zone"].Default) != "map[1:4] map[a:b] o" {
		t.Fatalf("%+v, %v", was, err)
	}
	if _, err := ids.Staged(t.Context(), s, kinds, "there"); !errors.Is(err, ids.ErrOwner) {
		t.Errorf("those of another copy: %v", err)
	}
	for _, c := range []struct {
		what, query, gone string // gone is the kind that is not staged any more
		user              map[string]string
		cells, note, err  string
	}{
		{"more values", "", "", map[string]string{"a": "b", "c": "d"}, "map[1:4 2:6]", "", ""},
		{"no answer", "SELECT 1", "", map[string]string{"a": "b"}, "map[1:4]",
			"what the copy began with counts, the target can not be asked anew: IDs of cell: query at the target: gives 1 columns", ""},
		{"a missing table", "SELECT x, y FROM nowhere.z", "", map[string]string{"a": "b"}, "map[1:4]", "the target can not be asked anew", ""},
		{"nothing to go by", "SELECT 1", "cell", map[string]string{"a": "b"}, "", "", "or give them in a file cell.csv"},
		{"staged no more", "", "user", map[string]string{"c": "d"}, "map[1:4 2:6]", "the source has the IDs of user no more", ""},
		{"a line that is changed", "", "", map[string]string{"a": "c"}, "", "",
			`the copy was begun with "b" for "a", which is "c" now: lines may be added, not changed`},
		{"a line that is gone", "", "", map[string]string{}, "", "", `which is not there any more: lines may be`},
	} {
		now, before := sets(c.user), map[string]ids.Set{}
		for kind, set := range was {
			if kind != c.gone {
				before[kind] = set
			}
		}
		x := mappingOf(append([]mapping.Kind{}, kinds...)...)
		if c.query != "" {
			x.IDs[0].Query = c.query
		}
		for range 2 { // again: the same, and nothing is asked
			notes, err := ids.Resume(t.Context(), x, now, before, s, mapping.Side{})
			switch text := strings.Join(notes, "\n"); {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%s: %v, want %s", c.what, err, c.err)
				}
			case err != nil || fmt.Sprint(now["cell"].Pairs) != c.cells || !strings.Contains(text, c.note) || (text == "") != (c.note == ""):
				t.Errorf("%s: %v, %v, %q", c.what, err, now["cell"].Pairs, text)
			}
			if c.gone == "" {
				c.note = ""
			}
		}
	}
	lost := sets(nil)
	r.Kill()
	if _, err := ids.Resume(t.Context(), m, lost, was, s, mapping.Side{}); !server.Passing(err) {
		t.Errorf("of a server that is gone: %v", err)
	}
	if _, err := ids.Staged(t.Context(), s, kinds, "here"); !server.Passing(err) {
		t.Errorf("of a source that is gone: %v", err)
	}
	r.Start()
}

// TestFixed: the same before a question and after it, and when lines are added; not when
// values would count as others.
func TestFixed(t *testing.T) {
	m := mappingOf(mapping.Kind{Kind: "cell", Query: "SELECT 1, 2"}, mapping.Kind{Kind: "user"}, mapping.Kind{Kind: "zone"})
	a, b, five := "a", "b", map[string]string{"1": "5"}
	name := func(sets map[string]ids.Set) string {
		text, err := json.Marshal(ids.Fixed(m, sets))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, c := range []struct {
		what     string
		one, two map[string]ids.Set
		same     bool
	}{
		{"asked or not", nil, map[string]ids.Set{"cell": {Pairs: five, From: "query"}}, true},
		{"a file instead of the question", nil, map[string]ids.Set{"cell": {Pairs: five, From: "cell.csv"}}, false},
		{"a line more", map[string]ids.Set{"user": {}}, map[string]ids.Set{"user": {Pairs: five}}, true},
		{"a file more", nil, map[string]ids.Set{"user": {}}, false},
		{"a line more beside one for all others", map[string]ids.Set{"zone": {Default: &a}},
			map[string]ids.Set{"zone": {Pairs: five, Default: &a}}, false},
		{"another one for all others", map[string]ids.Set{"zone": {Default: &a}}, map[string]ids.Set{"zone": {Default: &b}}, false},
	} {
		if one, two := name(c.one), name(c.two); (one == two) != c.same {
			t.Errorf("%s: %s and %s", c.what, one, two)
		}
	}
}

// TestTornRename: servers that do not rename all tables at once have died meanwhile. What
// was there before counts, and the next stage is right wherever it ends.
func TestTornRename(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	kinds := []mapping.Kind{{Kind: "a"}, {Kind: "b"}}
	m := mappingOf(kinds...)
	sets := func(v string) map[string]ids.Set {
		return map[string]ids.Set{"a": {Pairs: map[string]string{"x": v}}, "b": {Pairs: map[string]string{"y": v}, Default: &v}}
	}
	is := func() string {
		got, err := ids.Staged(t.Context(), s, kinds, "here")
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return "nothing"
		}
		other := "-"
		if d := got["b"].Default; d != nil {
			other = *d
		}
		return fmt.Sprintf("%v %v %s", got["a"].Pairs, got["b"].Pairs, other)
	}
	const first, last = "map[x:old] map[y:old] old", "map[x:new] map[y:new] new"
	renames := strings.Split("a TO a$was,b TO b$was,default TO default$was,default$new TO default,a$new TO a,b$new TO b", ",")
	for done := range len(renames) + 1 {
		r.SQL("DROP DATABASE IF EXISTS migrate_ids")
		if err := ids.Stage(t.Context(), s, m, sets("new")); err != nil {
			t.Fatal(err)
		}
		r.SQL("CREATE DATABASE made")
		for _, table := range []string{"a", "b", "default"} {
			r.SQL("RENAME TABLE migrate_ids.ids_" + table + " TO made.`" + table + "`")
		}
		if err := ids.Stage(t.Context(), s, m, sets("old")); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"a", "b", "default"} {
			r.SQL("RENAME TABLE made.`" + table + "` TO migrate_ids.`ids_" + table + "$new`")
		}
		r.SQL("DROP DATABASE made")
		for _, each := range renames[:done] {
			from, to, _ := strings.Cut(each, " TO ")
			r.SQL("RENAME TABLE migrate_ids.`ids_" + from + "` TO migrate_ids.`ids_" + to + "`")
		}
		want := first
		if done == len(renames) {
			want = last
		}
		if got := is(); got != want {
			t.Errorf("after %d renames %s counts, want %s", done, got, want)
		}
		// Cut off anywhere, all is known still: before or after, of each kind.
		for i, err := 1, errors.New("cut"); err != nil; i += 3 {
			err = ids.Stage(&after{Context: t.Context(), done: make(chan struct{}), left: i}, s, m, sets("new"))
			if got := is(); strings.Contains(got, "map[]") || strings.HasSuffix(got, "-") || got == "nothing" {
				t.Errorf("after %d renames, cut off at %d: %s", done, i, got)
			}
		}
		if err := ids.Stage(t.Context(), s, m, sets("new")); err != nil || is() != last {
			t.Errorf("after %d renames it is staged as %s, %v", done, is(), err)
		}
		if got := staged(r); got != "ids_a: x=new; ids_b: y=new; ids_default: b=new" {
			t.Errorf("after %d renames there is %s", done, got)
		}
	}
	// What is gone for good is not made up: nobody knows which had a value for all others.
	r.SQL("DROP TABLE migrate_ids.ids_default")
	if got := is(); got != "nothing" {
		t.Errorf("without the values for all others: %s", got)
	}
}
