package action

import (
	"fmt"
	"slices"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/database"
)

// What the scripts ask for in an offline upgrade, on node 0 alone: check_point, then upgrade, which makes
// snapshots on the array where the data is there.
const (
	askSys       = "please enter cantian_sys_pwd: "
	askArrayUser = "please enter dorado_user: "
	askArrayPwd  = "please enter dorado_pwd: "
	askByHand    = "Continue upgrade please input yes, otherwise exit:" // the snapshots were made by hand
)

// unanswered says which question of a later step has no answer on this host, "" for none. It is asked
// before applications are stopped: afterwards it would cost time of service. An operator's word that
// snapshots were made by hand is an answer, too.
func unanswered(home string, mode manifest.Mode, credentials string, snapshotsDone bool) string {
	if mode != manifest.Offline {
		return "" // the choice of the backup has the answers
	}
	e, err := database.Read(home)
	if err != nil || e.Node != 0 {
		return "" // the plan has said so, and the script will
	}
	c := &program.Credentials{}
	if credentials != "" {
		if c, err = program.ReadCredentials(credentials); err != nil {
			return err.Error()
		}
	}
	asks := []string{askSys}
	if !snapshotsDone && !c.Answers(askByHand) && slices.Contains([]string{"dbstor", "dbstore", "combined"}, e.Deploy) {
		asks = append(asks, askArrayUser, askArrayPwd)
	}
	for _, ask := range asks {
		if !c.Answers(ask) {
			return fmt.Sprintf("node 0 will be asked %q, and no answer was given: add it to expect of this host's "+
				"credentials file, which upgrade.credentials_file of the agent's settings names", ask)
		}
	}
	return ""
}
