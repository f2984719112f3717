package server_test

import (
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
)

// TestSettingsForPeopleDoNotCount: what an administrator has set for people at a prompt
// leaves out no row here and holds no work back.
func TestSettingsForPeopleDoNotCount(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL("SET GLOBAL sql_select_limit = 2; SET GLOBAL autocommit = 0; SET GLOBAL completion_type = 1; SET GLOBAL group_concat_max_len = 4")
	r.SQL("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2), (3), (4), (5); COMMIT")
	s := r.Server("source")
	if _, err := s.DB.ExecContext(t.Context(), "INSERT INTO d.t VALUES (6)"); err != nil {
		t.Fatal(err)
	}
	rows, err := s.DB.QueryContext(t.Context(), "SELECT id FROM d.t")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	if rows.Err() != nil || n != 6 {
		t.Errorf("%d rows, %v; want 6", n, rows.Err())
	}
	if got := r.SQL("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT COUNT(*) FROM d.t"); got != "6" {
		t.Errorf("others see %s rows, want 6", got)
	}
	all := ""
	if err := s.DB.QueryRowContext(t.Context(), "SELECT GROUP_CONCAT(id ORDER BY id SEPARATOR ', ') FROM d.t").Scan(&all); err != nil ||
		all != "1, 2, 3, 4, 5, 6" {
		t.Errorf("gathered %q, %v", all, err)
	}
}
