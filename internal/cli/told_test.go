package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// TestToldTypes: everything that a command tells is known by its type, and no duration in
// it is without a unit.
func TestToldTypes(t *testing.T) {
	clitest.Told(t, cluster.Status{}, cluster.Event{}, cluster.StoreStatus{}, cluster.Backup{}, job.View{},
		upgrade.Plan{}, request.Standing{}, check.Report{}, progress.Outcome{}, api.Progress{})
	s := cluster.Status{Owner: cluster.Owner{Proof: cluster.Proof{Wait: 1}},
		Hosts: []cluster.HostStatus{{Host: cluster.Host{WatchdogTimeout: 1}}}, Takeover: cluster.Takeover{Within: 1}}
	var b bytes.Buffer
	if err := output.JSON(&b, s, true); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`[a-z_]+_ns`).FindAllString(b.String(), -1)
	if want := "wait_ns guard_ns watchdog_timeout_ns silent_ns within_ns lease_ns keepalive_ns grace_ns watchdog_ns " +
		"epsilon_ns election_ns heartbeat_ns detection_ns"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}
