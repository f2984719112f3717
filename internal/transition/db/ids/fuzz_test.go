package ids_test

import (
	"encoding/csv"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
)

// FuzzStage: what a file of IDs says is what the source has then, whatever is in it and
// whatever quotes and backslashes mean to the server; nothing of it is a statement.
func FuzzStage(f *testing.F) {
	r := aligntest.MariaDB(f, "--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES")
	s := r.Server("source")
	kinds := []mapping.Kind{{Kind: "project"}}
	for _, v := range [][2]string{
		{"a", "b"}, {"'); DROP DATABASE migrate_ids; -- ", `"\"`}, {`\`, "'"}, {"`", "``"}, {"\\'", "''"}, {"?", "%s"},
		{"{nova}", "/*! 1 */"}, {"\ufeffx", "ä中😀"}, {"a\x00b", "c\x1ad"}, {"*", "x"}, {"-- ", "#"},
		{"a\nb,c", "\"\""}, {strings.Repeat("😀", 255), strings.Repeat("'", 255)}, {strings.Repeat("x", 256), "y"}, {"\xff", "x"},
	} {
		f.Add(v[0], v[1])
	}
	f.Fuzz(func(t *testing.T, old, with string) {
		dir := t.TempDir()
		file, err := os.Create(filepath.Join(dir, "project.csv"))
		if err != nil {
			t.Fatal(err)
		}
		if err := csv.NewWriter(file).WriteAll([][]string{{"old", "new"}, {old, with}, {"another", "one"}}); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		sets, err := ids.Load(dir, kinds)
		if err != nil {
			return // it has said what is wrong
		}
		want := map[string]string{}
		for o, w := range sets["project"].Pairs {
			want[hex.EncodeToString([]byte(o))] = hex.EncodeToString([]byte(w))
		}
		if len(want) == 0 || want[hex.EncodeToString([]byte("another"))] != hex.EncodeToString([]byte("one")) && old != "another" {
			t.Fatalf("%q, %q: read as %q", old, with, sets["project"].Pairs)
		}
		if err := ids.Stage(t.Context(), s, &mapping.Mapping{IDs: kinds}, sets); err != nil {
			t.Fatalf("%q, %q: %v", old, with, err)
		}
		got := map[string]string{}
		rows, err := s.DB.QueryContext(t.Context(), "SELECT LOWER(HEX(old)), LOWER(HEX(new)) FROM migrate_ids.ids_project")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var o, w string
			if err := rows.Scan(&o, &w); err != nil {
				t.Fatal(err)
			}
			got[o] = w
		}
		if err := rows.Err(); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q, %q: staged as %v, want %v, %v", old, with, got, want, err)
		}
	})
}
