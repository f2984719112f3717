package ids_test

import (
	"errors"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
)

// TestStagedIDsHaveAnOwner: another copy of the same source does not write over them.
func TestStagedIDsHaveAnOwner(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	if err := ids.Owned(t.Context(), s, "one:3306"); err != nil {
		t.Fatalf("nobody's: %v", err)
	}
	m, sets := mappingOf(mapping.Kind{Kind: "user"}), map[string]ids.Set{"user": {Pairs: map[string]string{"a": "1"}}}
	// What follows the binary log of MySQL has a table of its own there.
	r.SQL("CREATE DATABASE migrate_ids; CREATE TABLE migrate_ids.barrier (id INT)")
	for range 2 {
		if err := ids.Claim(t.Context(), s, "one:3306"); err != nil {
			t.Fatal(err)
		}
		if err := ids.Stage(t.Context(), s, m, sets); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := staged(r), "barrier: ; ids_default: ; ids_user: a=1; owner: 1=one:3306"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for at, want := range map[string]error{"one:3306": nil, "one:330": ids.ErrOwner, "one:33066": ids.ErrOwner} {
		for _, rest := range []string{"", ", databases a, b"} {
			r.SQL("UPDATE migrate_ids.owner SET target = 'one:3306" + rest + "'")
			if err := ids.OwnedAt(t.Context(), s, at); !errors.Is(err, want) {
				t.Errorf("those to one:3306%s, of %s: %v", rest, at, err)
			}
		}
	}
	r.SQL("UPDATE migrate_ids.owner SET target = 'one:3306'")
	for what, err := range map[string]error{"owned": ids.Owned(t.Context(), s, "two:3306"), "claimed": ids.Claim(t.Context(), s, "two:3306")} {
		if !errors.Is(err, ids.ErrOwner) {
			t.Errorf("%s by another: %v", what, err)
		}
	}
	if err := ids.Drop(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := ids.OwnedAt(t.Context(), s, "two:3306"); err != nil {
		t.Errorf("nobody's any more: %v", err)
	}
	if err := ids.Claim(t.Context(), s, "two:3306"); err != nil {
		t.Error(err)
	}
}
