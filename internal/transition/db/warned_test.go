package db

import (
	"fmt"
	"slices"
	"testing"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/survey"
)

// TestWarningsThatSayTheSame are one line with how many there are, and the first places.
func TestWarningsThatSayTheSame(t *testing.T) {
	of := func(table, column, text string) survey.Finding {
		return survey.Finding{Finding: mapping.Finding{Table: table, Column: column, Text: text}}
	}
	var all []survey.Finding
	for i := range 7 {
		all = append(all, of("a.t", fmt.Sprintf("c%d", i), "collation"))
	}
	all = append(all, of("a.t", "c0", "other"), of("", "", "of the server"), of("", "", "of the server"),
		of("a.t", "", "twice"), of("b.t", "", "twice"))
	want := []string{"7 times: collation (a.t c0, a.t c1, a.t c2, a.t c3, a.t c4, ...)", "a.t c0: other",
		"of the server", "of the server", "2 times: twice (a.t, b.t)"}
	if got := (&Survey{Result: &survey.Result{Warnings: all}}).Warned(); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
