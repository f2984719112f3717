package ha

import (
	"strings"
	"testing"
	"unicode/utf8"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
)

// TestNothingWraps: on a terminal of 80 columns every line of every view fits, and what
// tells what is wrong is there in full.
func TestNothingWraps(t *testing.T) {
	s := clitest.LongNames()
	p := output.Painter{Colours: true, Cuts: true}
	busy := "a long sentence of what it waits for: " +
		string(s.Hosts[1].Name) + ", which is away; two members of the store must not be away at once"
	j := job.View{ID: "drain-12", Title: "empty host " + string(s.Hosts[1].Name), State: "ended", Result: "failed",
		User: "administrator@example.com", Began: clitest.Time()}
	j.Steps = append(j.Steps, job.StepView{ID: string(s.Hosts[0].Name) + "/drain", State: "running", Percent: 100, Attempt: 12, Note: busy})
	store := cluster.StoreStatus{}
	for _, h := range s.Hosts {
		store.Members = append(store.Members, cluster.StoreMember{Name: string(h.Name), Version: "3.7.1"})
	}
	views := map[string]string{
		"status":     StatusText(s, p),
		"host list":  hostsText(hostLines(s, nil), false, p),
		"jobs list":  jobsText([]job.View{j}, p),
		"jobs show":  jobText(j, p),
		"store":      storeText(store, p),
		"not colour": StatusText(s, output.Painter{Cuts: true}),
	}
	for name, text := range views {
		if bad := clitest.TooWide(text, output.Width); len(bad) > 0 {
			t.Errorf("%s: %d columns:\n%s\nof\n%s", name, utf8.RuneCountInString(bad[0]), strings.Join(bad, "\n"), text)
		}
	}
	flat := func(s string) string {
		return strings.Join(strings.Fields(clitest.Escapes.ReplaceAllString(s, "")), " ")
	}
	for name, want := range map[string]string{
		"status": "rac~visor-02", "host list": "bridge br-management has no link", "jobs show": "must not be away at once",
	} {
		if !strings.Contains(flat(views[name]), want) {
			t.Errorf("%s does not say %q:\n%s", name, want, views[name])
		}
	}
	for _, h := range s.Hosts {
		for _, name := range []string{"status", "host list"} {
			if !strings.Contains(flat(views[name]), h.Addr) {
				t.Errorf("%s does not have the address %s in full:\n%s", name, h.Addr, views[name])
			}
		}
	}
}
