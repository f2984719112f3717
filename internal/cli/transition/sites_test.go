package transition

import (
	"errors"
	"strings"
	"testing"

	"holdfast/internal/cli/output"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
)

func TestSitesTellWhatIsLost(t *testing.T) {
	lost := &transition.SiteLoss{Guests: 2, Sent: 12500, Lost: 3, LongestMS: 40, Worst: "vm1"}
	got := sitesText([]transition.SiteState{{Site: "north", State: "active", Lost: lost}}, output.Painter{})
	if want := "north     3 of 12,500 packets lost by 2 guests, longest gap 40 ms: vm1\n"; !strings.HasSuffix(got, want) {
		t.Errorf("%s", got)
	}
}

// TestSitesVerdict: a site that does not answer outweighs one that needs a person.
func TestSitesVerdict(t *testing.T) {
	step := []job.StepView{{ID: "align/copy", State: "done"}, {ID: "hosts/upgrade", State: "running", Percent: 40}}
	for _, c := range []struct {
		views []job.View
		deaf  bool
		want  int
	}{
		{[]job.View{{State: "active", Steps: step}, {State: "ended", Result: "done"}}, false, 0},
		{[]job.View{{State: "active"}, {State: "paused"}}, false, fail.ExitFailed},
		{[]job.View{{State: "ended", Result: "aborted"}}, false, fail.ExitFailed},
		{[]job.View{{State: "paused"}}, true, fail.ExitUnavailable},
	} {
		var views []transition.SiteState
		for _, j := range c.views {
			var v transition.SiteState
			v.Take(j)
			views = append(views, v)
			if len(j.Steps) > 0 && (v.Stage != "hosts" || v.Step != "hosts/upgrade" || v.Over != 1 || v.Percent != 40) {
				t.Errorf("%+v", v)
			}
		}
		if c.deaf {
			views = append([]transition.SiteState{{State: transition.SiteUnknown}}, views...)
		}
		err := sitesVerdict(views)
		var e *fail.Error
		if got := fail.ExitCode(err); got != c.want || err != nil && (!errors.As(err, &e) || err.Error() != "") {
			t.Errorf("%+v: exit code %d, %v; want %d", c.views, got, err, c.want)
		}
	}
}
