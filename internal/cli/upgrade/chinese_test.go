package upgrade

import (
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

func TestUpgradesAreAllChinese(t *testing.T) {
	p := clitest.Chinese(t)
	clitest.AllChinese(t, p, "upgrade status", upgradeText(request.Standing{ClusterState: upgrade.Normal, NoQuorum: true,
		AsOf: clitest.Time(), Blocked: []string{"the store has no quorum: nothing can be begun until it has one"}}, p))
}
