package drbd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Overview is what the kernel of this host says of its resources, in lines as drbd-overview of drbd-utils 8 has them, by the
// name of the resource; none where there is no DRBD.
//
//	0:r0/0 StandAlone Secondary/Unknown UpToDate/DUnknown
//	0:r0/0 Connected Primary/Secondary UpToDate/UpToDate /srv/pair ext4
func Overview(ctx context.Context) ([]string, error) {
	said, err := run(ctx, func() {}, "drbdsetup", "events2", "--now")
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	return overview(said, mounts)
}

func overview(said string, mounts []*mountinfo.Info) (out []string, err error) {
	var names []string
	for line := range strings.Lines(said) {
		for _, w := range strings.Fields(line) {
			if name, ok := strings.CutPrefix(w, "name:"); ok && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		var st State
		for line := range strings.Lines(said) {
			if _, err := st.take(name, line); err != nil {
				return nil, err
			}
		}
		phase := cmp.Or(st.Connection, "StandAlone") // a resource without a connection
		if phase == "Connected" && st.Replication != "" && st.Replication != "Established" {
			phase = st.Replication
		}
		line := fmt.Sprintf("%s:%s/0 %s %s/%s %s/%s", cmp.Or(st.Minor, "??"), name, phase,
			cmp.Or(st.Role, "Unknown"), cmp.Or(st.PeerRole, "Unknown"), cmp.Or(st.Disk, "Diskless"), cmp.Or(st.PeerDisk, "DUnknown"))
		for _, m := range mounts {
			if st.Minor != "" && m.Source == "/dev/drbd"+st.Minor {
				line += " " + m.Mountpoint + " " + m.FSType
				break
			}
		}
		out = append(out, line)
	}
	return out, nil
}
