package cli

import (
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cluster"
)

// notOfPair are words that a pair does not have.
var notOfPair = regexp.MustCompile(`(?i)guest|\bVM|migrat`)

// TestAPairHasNoGuest: what commands say in a pair is of services and switches, also by an agent
// that is too old to tell the type of its configuration. Each line is a command, and a text of what it says.
func TestAPairHasNoGuest(t *testing.T) {
	begin := func(s *cluster.Status) {
		s.Owner.State, s.Owner.Host, s.Owner.To, s.Want.MoveTo, s.OwnerMod = cluster.Migrating, "node1", "node3", "node3", 9
	}
	for _, older := range []bool{false, true} {
		a := clitest.NewAgent(t)
		a.Pair.Lay(nil)
		a.Obey(clitest.Obey)
		a.Upgrades.Waits = "holdfast-group: the cluster moves it itself"
		hosts, err := a.Upgrades.Hosts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a.Upgrades.Reported = hosts[:3] // the last one is no member, and a pair has none of its kind
		if older {
			a.SetType("")
		}
		a.Log(cluster.Event{Kind: cluster.EvMigrating, Host: "node1", To: "node2"},
			cluster.Event{Kind: cluster.EvMigrateEnd, Host: "node1", To: "node2"})
		for _, c := range []struct {
			before     func(s *cluster.Status) // nil: nothing
			line, want string
		}{
			{nil, "status", "services  running on node1"},
			{nil, "events", "switch-failed"},
			{nil, "host list", "SERVICES  VERSION"},
			{nil, "host maintenance node3", "the services are not on it"},
			{nil, "host enable node3", "the maintenance of host node3 has ended"},
			{nil, "host drain node9", "no host of that name reports"},
			{nil, "host drain node3", "node3/drain: "},
			{nil, "jobs list", "node3"},
			{nil, "host forget node3", "only other hosts can be forgotten"},
			{nil, "migrate node2", "the services run on node2"},
			{nil, "stop", "the services are stopped"},
			{nil, "status", "the services are stopped"},
			{nil, "start", "the services run on node2"},
			{nil, "stop --hands-off", "hands are off"},
			{nil, "status", "HANDS OFF"},
			{nil, "start", "the services run on node2"},
			{nil, "store status", "MEMBER"},
			{begin, "status", "switching on node1 -> node3"},
			{begin, "stop --timeout 100ms", "waiting: the services are "},
			{begin, "migrate node2", "holdfast pair status --watch"},
			{begin, "migrate --cancel", "is cancelled: the services run on node1"},
			{func(s *cluster.Status) { s.Owner.State, s.Owner.Host = cluster.Settling, "node2" }, "migrate --cancel", "holdfast pair switch"},
		} {
			if older && c.line == "migrate node2" && c.before != nil || older && strings.Contains(c.want, "pair switch") {
				continue // the agent says it
			}
			if c.before != nil {
				a.Update(c.before)
			}
			if c.line == "stop --timeout 100ms" {
				a.Obey(nil)
			}
			said := commandLine(t, "", append(strings.Fields(c.line), "--socket", a.Socket)...)
			text := said.out + said.err
			if !strings.Contains(text, c.want) {
				t.Errorf("older %t: %s: no %q in:\n%s", older, c.line, c.want, text)
			}
			if w := notOfPair.FindString(text); w != "" {
				t.Errorf("older %t: %s says %q:\n%s", older, c.line, w, text)
			}
			a.Obey(clitest.Obey)
		}
		a.Wait()
	}
}
