package hostconf

import (
	"strings"
	"testing"

	"holdfast/internal/cluster"
)

// TestFindingsOfCeph: what a client of Ceph would fail of is told, once for all hosts, and nothing of what is well.
func TestFindingsOfCeph(t *testing.T) {
	const open, shut = "[global]\nauth_client_required = none\n", "[global]\nauth client required = cephx\n"
	const well = "[client]\nrbd_default_features=13\n"
	const local = "[libvirt]\nvirt_type = kvm\n"
	const logs = "[DEFAULT]\n[libvirt]\nimages_type = rbd\nrbd_user = cinder\nrbd_secret_uuid = 4\n"
	for name, c := range map[string]struct{ ceph, nova, want string }{
		"well":               {open + well, local, ""},
		"well, by keys":      {shut + well, logs, ""},
		"no ceph.conf":       {"", logs, ""},
		"nothing is said":    {"[global]\n", local, "rbd_default_features is not set"},
		"only in a comment":  {"[client]\n# rbd_default_features = 13\n", local, "rbd_default_features is not set"},
		"in another section": {"[osd]\nrbd_default_features = 13\n", local, "rbd_default_features is not set"},
		"of Luminous": {"[client]\nrbd default features = 61 ; all\n", local,
			"rbd_default_features is 61: Ceph's Hammer does not know 48 of it"},
		"client counts": {"[client]\nrbd_default_features = 125\n[global]\nrbd-default-features = 3\n",
			local, "rbd_default_features is 125: Ceph's Hammer does not know 112"},
		"by names": {"[global]\nrbd_default_features = layering,exclusive-lock\n", local, ""},
		"a name that is too new": {"[global]\nrbd_default_features = \"layering, fast-diff\"\n", local,
			"has fast-diff, which Ceph's Hammer does not know"},
		"keys for an open cluster":  {open + well, logs, "[libvirt] rbd_user is set, and ceph.conf says; [libvirt] rbd_secret_uuid is set"},
		"a key of Cinder":           {open + well, "[ceph-1]\nrbd_user = cinder\n", "[ceph-1] rbd_user is set"},
		"a store's user of Glance":  {open + well, "[rbd]\nrbd_store_user=glance\n", "[rbd] rbd_store_user is set"},
		"no key for a shut cluster": {shut + well, "[libvirt]\nimages_type = rbd\n", "[libvirt] images_type is rbd, and rbd_user is not set"},
		"shut by default": {well, "[libvirt]\nimages_type = rbd\nrbd_user =\n",
			"[libvirt] images_type is rbd, and rbd_user is not set"},
		"an old word": {"[global]\nauth supported = none\n" + well, logs, "[libvirt] rbd_user is set; [libvirt] rbd_secret_uuid is set"},
	} {
		var hosts []Host
		for _, h := range []string{"c1", "c2"} {
			x := Host{Name: cluster.HostID(h), Files: []File{{Path: "/etc/nova/nova.conf", Content: c.nova}}}
			if c.ceph != "" {
				x.Files = append(x.Files, File{Path: "/etc/ceph/ceph.conf", Content: c.ceph})
			}
			hosts = append(hosts, x)
		}
		got, want := Findings(hosts), strings.Split(c.want, "; ")
		if c.want == "" {
			want = nil
		}
		if len(got) != len(want) {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
			continue
		}
		for i, f := range got {
			if !strings.Contains(f.Finding, want[i]) || len(f.Hosts) != 2 || f.Remedy == "" {
				t.Errorf("%s: %+v, want %s", name, f, want[i])
			}
		}
	}
}
