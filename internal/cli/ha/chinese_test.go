package ha

import (
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cluster"
	"holdfast/internal/server/servertest"
)

// TestNothingIsHalfChinese: what is put together of several messages is Chinese in all of them.
func TestNothingIsHalfChinese(t *testing.T) {
	p := clitest.Chinese(t)
	pair := servertest.Three(clitest.Time())
	pair.Type, pair.Owner = cluster.PairConf, cluster.Owner{}
	pair.Takeover = cluster.Takeover{Why: "no host holds it, and no host is able to run it: node1: the pair is not " +
		"set up; node3: this host only votes in the store: it never runs the group"}
	pair.Waiting = "a host that is able to run it: node1: the pair is not set up; node3: this host only votes in the " +
		"store: it never runs the group"
	store := cluster.StoreStatus{Members: []cluster.StoreMember{{Name: "node1", Leader: true, Reachable: true,
		Version: "3.7.1"}, {Name: "node2", Reachable: true}, {Name: "node3"}}}
	event := cluster.Event{Time: clitest.Time(), Kind: cluster.EvTakeover, Host: "node3", To: "node1",
		Proof: cluster.ProofDeadline, Wait: 8e9, By: "node2", Epoch: cluster.Epoch{Seq: 3}}
	for name, text := range map[string]string{
		"status": StatusText(pair, p), "status of a VM": StatusText(servertest.Three(clitest.Time()), p),
		"store status": storeText(store, p), "events": eventText(event, p),
		"host list": hostsText(hostLines(servertest.Three(clitest.Time()), nil), true, p),
	} {
		clitest.AllChinese(t, p, name, text)
	}
}

// TestAHostListIsTold: no duration in it is without a unit.
func TestAHostListIsTold(t *testing.T) { clitest.Told(t, hostLine{}) }
