package etcdstore

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseSnapshotName reads the time and the revision from the name of a snapshot's
// file, as Snapshot made it.
func ParseSnapshotName(name string) (at time.Time, revision int64, err error) {
	bad := fmt.Errorf("%q is no name of a snapshot: want holdfast-CLUSTER-TIME-rREVISION%s", name, snapshotExt)
	rest, ok := strings.CutSuffix(name, snapshotExt)
	parts := strings.Split(rest, "-")
	if !ok || len(parts) < 4 || parts[0] != "holdfast" {
		return at, 0, bad
	}
	text, ok := strings.CutPrefix(parts[len(parts)-1], "r")
	if at, err = time.Parse(snapshotTime, parts[len(parts)-2]); err != nil || !ok {
		return at, 0, bad
	}
	if revision, err = strconv.ParseInt(text, 10, 64); err != nil {
		return at, 0, bad
	}
	return at, revision, nil
}
