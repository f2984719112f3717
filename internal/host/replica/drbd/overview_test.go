package drbd

import (
	"slices"
	"testing"

	"github.com/moby/sys/mountinfo"
)

// TestOverview: the lines are those of the source's manual (5.3.2, 5.3.3), of what DRBD 8.4 and 9 say.
func TestOverview(t *testing.T) {
	mounts := []*mountinfo.Info{{Source: "/dev/drbd0", Mountpoint: "/srv/pair", FSType: "ext4"}}
	for _, c := range []struct {
		said string
		want []string
	}{
		{"exists -\n", nil},
		{`exists resource name:r1 role:Secondary suspended:no
exists resource name:r0 role:Secondary suspended:no
exists connection name:r0 peer-node-id:1 conn-name:b connection:StandAlone role:Unknown
exists device name:r0 volume:0 minor:0 disk:UpToDate client:no quorum:yes
exists peer-device name:r0 peer-node-id:1 conn-name:b volume:0 replication:Off peer-disk:DUnknown
exists connection name:r1 peer-node-id:1 conn-name:b connection:Connected role:Primary
exists device name:r1 volume:0 minor:1 disk:UpToDate
exists peer-device name:r1 peer-node-id:1 conn-name:b volume:0 replication:Established peer-disk:UpToDate
exists -
`, []string{"0:r0/0 StandAlone Secondary/Unknown UpToDate/DUnknown /srv/pair ext4", "1:r1/0 Connected Secondary/Primary UpToDate/UpToDate"}},
		{`exists resource name:holdfast role:Primary suspended:no
exists connection name:holdfast local:ipv4:10.0.0.1:7789 peer:ipv4:10.0.0.2:7789 connection:Connected role:Secondary
exists device name:holdfast volume:0 minor:5 disk:UpToDate
exists peer-device name:holdfast local:ipv4:10.0.0.1:7789 peer:ipv4:10.0.0.2:7789 volume:0 replication:SyncSource peer-disk:Inconsistent
exists -
`, []string{"5:holdfast/0 SyncSource Primary/Secondary UpToDate/Inconsistent"}},
		{"exists resource name:r0 role:Secondary suspended:no\nexists -\n", []string{"??:r0/0 StandAlone Secondary/Unknown Diskless/DUnknown"}},
	} {
		got, err := overview(c.said, mounts)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q, %v; want %q", got, err, c.want)
		}
	}
	if _, err := overview("nonsense name:r0\nx\n", nil); err == nil {
		t.Error("a line that is none was taken")
	}
}
