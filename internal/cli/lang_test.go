package cli

import (
	"strings"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/lib/lang"
	"holdfast/internal/server/servertest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// TestNothingIsHalfChinese: what is put together of several messages is Chinese in all of them.
func TestNothingIsHalfChinese(t *testing.T) {
	c, err := lang.For("zh")
	if err != nil {
		t.Fatal(err)
	}
	p := output.Painter{Lang: c, Cuts: true}
	pair := servertest.Three(clitest.Time())
	pair.Type, pair.Owner = cluster.PairConf, cluster.Owner{}
	pair.Takeover = cluster.Takeover{Why: "no host holds it, and no host is able to run it: node1: the pair is not " +
		"set up; node3: this host only votes in the store: it never runs the group"}
	pair.Waiting = "a host that is able to run it: node1: the pair is not set up; node3: this host only votes in the " +
		"store: it never runs the group"
	store := cluster.StoreStatus{Members: []cluster.StoreMember{{Name: "node1", Leader: true, Reachable: true,
		Version: "3.7.1"}, {Name: "node2", Reachable: true}, {Name: "node3"}}}
	doctor := install.Result{Report: install.Report{Findings: []install.Finding{
		{Node: "node1", Check: "rights", Result: install.Warn, Finding: "the store has no quorum, or this host does not reach it"},
		{Node: "node1", Check: "mounted at boot", Result: install.Warn, Finding: "the store has no quorum, or this host does not reach it"},
		{Node: "node1", Check: "database tools", Result: install.Fail, Finding: "the pair is not set up"},
	}}}
	event := cluster.Event{Time: clitest.Time(), Kind: cluster.EvTakeover, Host: "node3", To: "node1",
		Proof: cluster.ProofDeadline, Wait: 8e9, By: "node2", Epoch: cluster.Epoch{Seq: 3}}
	for name, text := range map[string]string{
		"status": statusText(pair, p), "status of a VM": statusText(servertest.Three(clitest.Time()), p),
		"store status": storeText(store, p), "doctor": installText(doctor, true, p), "events": eventText(event, p),
		"upgrade status": upgradeText(request.Standing{ClusterState: upgrade.Normal, NoQuorum: true, AsOf: clitest.Time(),
			Blocked: []string{"the store has no quorum: nothing can be begun until it has one"}}, p),
		"host list": hostsText(hostLines(servertest.Three(clitest.Time()), nil), true, p),
	} {
		var b strings.Builder
		if _, err := (lang.Writer{Writer: &b, Catalogue: c}).Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.FieldsFunc(b.String(), func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') }) {
			switch strings.ToLower(word) {
			case "node", "prod", "utc", "mib", "itco", "wdt", "g", "s", "store", "agent":
			default:
				t.Errorf("%s: %q in\n%s", name, word, &b)
			}
		}
		if bad := tooWideChinese(b.String()); bad != "" {
			t.Errorf("%s: more than %d columns: %s", name, output.Width, bad)
		}
	}
}

// tooWideChinese is a line that takes more columns than there are.
func tooWideChinese(text string) string {
	for l := range strings.Lines(text) {
		if l = strings.TrimRight(l, "\n"); output.Columns(l) > output.Width {
			return l
		}
	}
	return ""
}
