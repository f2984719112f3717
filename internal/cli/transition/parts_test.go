package transition

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/progress"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	align "holdfast/internal/transition/db"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/testbed/try"
)

// saidOf are parts in short: name, state, done/total unit, differences, note.
func saidOf(parts []job.Part) (out []string) {
	for _, p := range parts {
		line := fmt.Sprintf("%s %s %d/%d %s !%d %s", p.Name, p.State, p.Done, p.Total, p.Unit, p.Differences, p.Note)
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

// told is what an agent was told last by a file.
func told(t *testing.T, file string) (p job.Progress) {
	t.Helper()
	text, err := os.ReadFile(file)
	try.Must(t, err)
	try.Must(t, json.Unmarshal(text, &p))
	return p
}

// wants compares parts in short.
func wants(t *testing.T, what string, parts []job.Part, want ...string) {
	t.Helper()
	if got := saidOf(parts); !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPartsOfFollowing(t *testing.T) {
	f := &align.Following{Position: "bin.000002:154", LagSeconds: 1.25, Events: 70}
	wants(t, "nothing has changed", following(f), "binary log running 70/0 events !0 bin.000002:154, 1.2 s behind")
	f.LagSeconds = -1
	if got := following(f); got[0].Note != "bin.000002:154, behind by what is not known yet" {
		t.Errorf("%+v", got)
	}
	shows := progress.NewTicker(&strings.Builder{})
	shows.File = filepath.Join(t.TempDir(), "progress-1.json")
	out := &align.Ran{Follow: &align.Followed{Transactions: 1200, Position: "bin.000002:900"}}
	out.Tables = slices.Grow(out.Tables, 1)[:1]
	out.Tables[0].Target, out.Tables[0].Rows = "nova.a", 7
	followed(shows, out)
	p := told(t, shows.File)
	wants(t, "the end", p.Parts, "binary log done 1200/0 transactions !0 bin.000002:900", "nova.a done 7/0 rows !0 as they were copied")
	if p.Line != "1,200 transactions of the source, up to bin.000002:900" {
		t.Error(p.Line)
	}
}

func TestPartsOfAComparison(t *testing.T) {
	c := &align.Comparing{Checks: 3}
	for _, s := range []struct {
		table         string
		rows          int64
		differ        int
		running, done bool
	}{
		{"nova.waits", 0, 0, false, false}, {"nova.runs", 500, 1, true, false}, {"nova.ended", 70, 0, false, true},
		{"nova.looks", 9, 2, true, true},
	} {
		c.Tables = append(c.Tables, align.Compared{Table: s.table, SourceRows: s.rows, Differ: s.differ, Running: s.running, Done: s.done})
	}
	wants(t, "under way", comparing(c),
		"nova.waits waiting 0/0 rows !0", "nova.runs running 500/0 rows !0 ranges of rows that differ so far: 1",
		"nova.ended done 70/70 rows !0", "nova.looks running 9/9 rows !0 the rows that differ are looked for", "checks waiting 0/3  !0")
	c.Tables, c.Looked, c.Broken = nil, 2, 1
	wants(t, "checks", comparing(c), "checks running 2/3  !0 that do not hold: 1")
	c.Looked = 3
	wants(t, "all checks", comparing(c), "checks failed 3/3  !0 that do not hold: 1")
	c.Broken = 0
	wants(t, "checks that hold", comparing(c), "checks done 3/3  !0")
	c.Checks, c.Looked = 0, 0
	wants(t, "no checks", comparing(c))
}

// TestAStepTakesNoPartsAway: while a comparison waits for what follows the source, its tables stay.
func TestAStepTakesNoPartsAway(t *testing.T) {
	shows := progress.NewTicker(&strings.Builder{})
	shows.File = filepath.Join(t.TempDir(), "progress-1.json")
	tell := tellOn(shows)
	tell.Progress(align.Progress{Compare: &align.Comparing{Table: "a.b", Tables: []align.Compared{{Table: "a.b", Running: true}}}})
	tell.Progress(align.Progress{Step: "waits for what follows"})
	try.Must(t, shows.End())
	p := told(t, shows.File)
	wants(t, "a step", p.Parts, "a.b running 0/0 rows !0")
	if p.Line != "waits for what follows" {
		t.Error(p.Line)
	}
}

// TestPartsOfNetVerify: each kind of objects that the document or the platform has, with how many were read, and at the end what
// differs.
func TestPartsOfNetVerify(t *testing.T) {
	answers := map[string]string{"agents": `{"agents": []}`, "networks": `{"networks": [{"id": "30000000-0000-4000-8000-0000000000aa"}]}`,
		"subnets": `{"subnets": []}`, "extensions": `{"extensions": []}`, "ports": `{"ports": []}`}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[strings.TrimPrefix(r.URL.Path, "/v2.0/")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(text)) // a client that has gone says so itself
	}))
	defer srv.Close()
	d := nettest.Shapes()
	text, err := json.Marshal(d)
	try.Must(t, err)
	dir := t.TempDir()
	file, tells := filepath.Join(dir, "net.json"), filepath.Join(dir, "progress-1.json")
	try.Must(t, os.WriteFile(file, text, 0o600))
	t.Setenv(job.ProgressEnv, tells)
	var said, errs strings.Builder
	cmd := netVerifyCmd(&command.App{Env: command.Env{Stdout: &said, Stderr: &errs}, Output: "text"})
	cmd.SetArgs([]string{"--endpoint", srv.URL, "--file", file})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); fail.ExitCode(err) != 1 {
		t.Fatalf("%v\n%s%s", err, said.String(), errs.String())
	}
	p, have := told(t, tells), d.Counts()
	if p.Line != "compared" {
		t.Error(p.Line)
	}
	for _, kind := range net.Kinds() {
		at := slices.IndexFunc(p.Parts, func(x job.Part) bool { return x.Name == kind })
		switch {
		case at < 0 && have[kind] > 0:
			t.Errorf("%s is not told", kind)
		case at >= 0 && (p.Parts[at].Total != int64(have[kind]) || p.Parts[at].State != job.PartFailed || p.Parts[at].Differences < 1):
			t.Errorf("%+v, want %d objects", p.Parts[at], have[kind])
		case kind == "network" && (p.Parts[at].Done != 1 || p.Parts[at].Differences != int64(have[kind])+1):
			t.Errorf("%+v", p.Parts[at])
		case kind != "network" && at >= 0 && p.Parts[at].Done != 0:
			t.Errorf("%+v", p.Parts[at])
		}
	}
}

// TestPartsOfFeatures: each feature, with what came of it, and what is put back.
func TestPartsOfFeatures(t *testing.T) {
	names := []feature.Name{feature.Restart, feature.Stop, feature.Start}
	over := []feature.Result{{Name: feature.Restart, Result: feature.OK}, {Name: feature.Stop, Result: feature.Failed, Why: "no answer"}}
	wants(t, "the second", trying(feature.Progress{Name: feature.Stop, Done: 1, All: 3, Names: names, Over: over[:1]}),
		"restart done 0/0  !0", "stop running 0/0  !0", "start waiting 0/0  !0")
	wants(t, "the third", trying(feature.Progress{Name: feature.Start, Done: 2, All: 3, Names: names, Over: over}),
		"restart done 0/0  !0", "stop failed 0/0  !0 no answer", "start running 0/0  !0")
	over = append(over, feature.Result{Name: feature.Start, Result: feature.Skipped, Why: "of no use"})
	wants(t, "putting back", trying(feature.Progress{Done: 3, All: 3, Names: names, Over: over}),
		"restart done 0/0  !0", "stop failed 0/0  !0 no answer", "start skipped 0/0  !0 of no use", "putting back what is left to be running 0/0  !0")

	tells := filepath.Join(t.TempDir(), "progress-1.json")
	t.Setenv(job.ProgressEnv, tells)
	var said strings.Builder
	a := &command.App{Env: command.Env{Stdout: &said, Stderr: &said,
		Features: func(_ context.Context, _ feature.Order, tell func(feature.Progress)) (*feature.Report, error) {
			tell(feature.Progress{Name: feature.Restart, All: 3, Names: names})
			wants(t, "told at once", told(t, tells).Parts, "restart running 0/0  !0", "stop waiting 0/0  !0", "start waiting 0/0  !0")
			return &feature.Report{Features: over, Left: []string{"it is still there"}}, nil
		}}}
	if err := features(t.Context(), a, featuresOrder{}, nil, false); fail.ExitCode(err) != 1 {
		t.Errorf("%v\n%s", err, said.String())
	}
	wants(t, "the end", told(t, tells).Parts, "restart done 0/0  !0", "stop failed 0/0  !0 no answer",
		"start skipped 0/0  !0 of no use", "putting back what is left to be failed 0/0  !0 it is still there")
}
