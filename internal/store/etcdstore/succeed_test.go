package etcdstore

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestWhoIsReplaced(t *testing.T) {
	m := func(id uint64, name, url string) *pb.Member {
		return &pb.Member{ID: id, Name: name, PeerURLs: []string{url}}
	}
	a, b := m(1, "a", "u1"), m(2, "b", "u2")
	for _, c := range []struct {
		what            string
		left, name, url string
		members         []*pb.Member
		want            uint64 // 0: none
		bad             bool
	}{
		{"its own data are lost", "", "c", "u3", []*pb.Member{a, b, m(3, "c", "u3")}, 3, false},
		{"its own name at another address", "", "c", "u9", []*pb.Member{a, b, m(3, "c", "u3")}, 0, true},
		{"another name and address", "c", "d", "u4", []*pb.Member{a, b, m(3, "c", "u3")}, 3, false},
		{"another name", "c", "d", "u3", []*pb.Member{a, b, m(3, "c", "u3")}, 3, false},
		{"another address", "c", "c", "u4", []*pb.Member{a, b, m(3, "c", "u3")}, 3, false},
		{"the old one is gone", "c", "d", "u4", []*pb.Member{a, b}, 0, false},
		{"the new one is there, and has not begun", "c", "d", "u4", []*pb.Member{a, b, m(4, "", "u4")}, 4, false},
		{"the new one has lost its data again", "c", "d", "u4", []*pb.Member{a, b, m(4, "d", "u4")}, 4, false},
		{"the same name, and the new one has lost its data", "c", "c", "u4", []*pb.Member{a, b, m(4, "c", "u4")}, 4, false},
		{"the address is somebody else's", "c", "d", "u2", []*pb.Member{a, b}, 0, true},
		{"another one is about to join", "c", "d", "u4", []*pb.Member{a, b, m(5, "", "u5")}, 0, true},
	} {
		got, err := find(c.members, c.left, c.name, c.url)
		if (err != nil) != c.bad || got.GetID() != c.want {
			t.Errorf("%s: member %d, %v, want %d", c.what, got.GetID(), err, c.want)
		}
	}
}
