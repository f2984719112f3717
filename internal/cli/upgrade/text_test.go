package upgrade

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

func TestUpgradeTextIsBounded(t *testing.T) {
	u := request.Standing{ClusterState: upgrade.Rollup, Job: &job.View{State: "active"}}
	for i := range 3000 {
		name := cluster.HostID(strings.Repeat("x", 50) + strconv.Itoa(i))
		u.Hosts = append(u.Hosts, request.HostStanding{Name: name, Now: strings.Repeat("y", 100)})
		u.Left = append(u.Left, upgrade.LeftHost{Name: name, Why: "dropped"})
		u.Job.Steps = append(u.Job.Steps, job.StepView{ID: string(name) + "/drain", State: "running", Note: strings.Repeat("z", 100)})
	}
	text := upgradeText(u, output.Painter{Cuts: true})
	if n := strings.Count(text, "\n"); n > 400 { // of 3000 hosts: each that is shown takes several
		t.Errorf("%d lines", n)
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(line)) - 1; n > output.Width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"and 2960 more hosts", "and 2980 more steps", "and 2980 more: "} {
		if !strings.Contains(strings.Join(strings.Fields(text), " ")+" ", want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

func TestLastLinesOfAStepThatRunsAreShown(t *testing.T) {
	said := time.Now().Add(-200 * time.Second)
	u := request.Standing{ClusterState: upgrade.Rollup, Job: &job.View{State: "active", Steps: []job.StepView{
		{ID: "m/install/cas", State: "running", Tail: "1\n2\n3\n4\n5\n6 of CAS\n", Said: said}, {ID: "h/stage", State: "running"},
	}}}
	text := upgradeText(u, output.Painter{})
	if want := "\nm/install/cas, last output " + output.WallClock(said) + ", quiet for 3 min\n          | 2\n"; !strings.Contains(text, want) ||
		!strings.Contains(text, "| 6 of CAS") || strings.Contains(text, "h/stage, last") {
		t.Errorf("%s\nwant %s", text, want)
	}
}

func TestWhatProgramsHaveFoundIsShown(t *testing.T) {
	u := request.Standing{ClusterState: upgrade.Rollup, Found: []request.Found{
		{Step: "m/install/cas", Level: "warn", Fault: "w", Text: "pool p1 has one path", Remedy: "Remove it."},
		{Step: "m/install/cas", Level: "fail", Fault: "f", Text: "[FAIL] b", File: "/var/log/upgrade/postcheck-report_1.txt"},
	}}
	text := upgradeText(u, output.Painter{})
	fail, warn, remedy := strings.Index(text, "found     m/install/cas: [FAIL] b"),
		strings.Index(text, "m/install/cas: pool p1 has one path"), strings.Index(text, "Remove it.")
	if fail < 0 || warn < fail || remedy < warn || !strings.Contains(text, "(/var/log/upgrade/postcheck-report_1.txt)") {
		t.Errorf("%s", text)
	}
}
