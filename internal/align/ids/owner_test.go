package ids_test

import (
	"errors"
	"testing"

	"holdfast/internal/align"
	"holdfast/internal/align/aligntest"
	"holdfast/internal/align/ids"
)

// TestStagedIDsHaveAnOwner: another copy of the same source does not write over them.
func TestStagedIDsHaveAnOwner(t *testing.T) {
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	if err := ids.Owned(t.Context(), s, "one:3306"); err != nil {
		t.Fatalf("nobody's: %v", err)
	}
	m, sets := mapping(align.Kind{Kind: "user"}), map[string]ids.Set{"user": {Pairs: map[string]string{"a": "1"}}}
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
	for what, err := range map[string]error{"owned": ids.Owned(t.Context(), s, "two:3306"), "claimed": ids.Claim(t.Context(), s, "two:3306")} {
		if !errors.Is(err, ids.ErrOwner) {
			t.Errorf("%s by another: %v", what, err)
		}
	}
	if err := ids.Drop(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := ids.Claim(t.Context(), s, "two:3306"); err != nil {
		t.Error(err)
	}
}
