package server

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/mapping"
)

// TestKeysOfExpressions, which MySQL 8 has: nothing of them is kept but the name.
func TestKeysOfExpressions(t *testing.T) {
	text := func(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
	x := &mapping.Schema{}
	for _, k := range [][3]string{{"PRIMARY", "id", ""}, {"lower", "a", ""}, {"lower", "", ""}, {"plain", "a", ""},
		{"start", "a", "3"}, {"start", "b", ""}} {
		if err := index(x, []sql.NullString{text(k[0]), text(k[1]), text(k[2])}); err != nil {
			t.Fatal(err)
		}
	}
	apart(x)
	if got := fmt.Sprint(x.Key, x.Unique, x.Expressions); got != "[id] [{plain [a] []} {start [a b] [3 0]}] [lower]" {
		t.Error(got)
	}
	if err := index(x, []sql.NullString{text("k"), text("a"), text("many")}); err == nil ||
		!strings.Contains(err.Error(), `key k: SUB_PART "many": want a number`) {
		t.Error(err)
	}
}

// TestWordsForTheEndOfTheLog: newer MySQL has forgotten the old ones, MariaDB does not know
// the new ones.
func TestWordsForTheEndOfTheLog(t *testing.T) {
	for _, c := range []struct {
		vendor  string
		version [3]int
		want    string
	}{
		{MariaDB, [3]int{11, 8, 2}, "SHOW MASTER STATUS"}, {MySQL, [3]int{8, 3, 9}, "SHOW MASTER STATUS"},
		{MySQL, [3]int{5, 7, 44}, "SHOW MASTER STATUS"},
		{MySQL, [3]int{8, 4, 0}, "SHOW BINARY LOG STATUS"}, {MySQL, [3]int{9, 0, 0}, "SHOW BINARY LOG STATUS"},
	} {
		if got := (&Server{Vendor: c.vendor, Version: c.version}).AskPosition(); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.vendor, c.version, got, c.want)
		}
	}
}

// TestListsOfRules: asked only of servers that have them.
func TestListsOfRules(t *testing.T) {
	for _, c := range []struct {
		vendor  string
		version [3]int
		want    string
	}{
		{MariaDB, [3]int{10, 3, 9}, ""},
		{MariaDB, [3]int{10, 3, 10}, "TABLE_NAME, CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS"},
		{MySQL, [3]int{8, 0, 15}, ""},
		{MySQL, [3]int{8, 0, 16}, "t.ENFORCED = 'YES'"},
		{MySQL, [3]int{5, 7, 44}, ""},
	} {
		got := (&reader{s: &Server{Vendor: c.vendor, Version: c.version}}).rules()
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s %v: %q, want %q", c.vendor, c.version, got, c.want)
		}
	}
}
