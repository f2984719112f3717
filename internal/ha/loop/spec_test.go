package loop

import (
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// TestPathsOfTheSpec: a slash at the end of a folder is no part of its name, and a path that is not set stays so: without a lockspace no
// lease is asked for.
func TestPathsOfTheSpec(t *testing.T) {
	for _, c := range []struct{ given, want string }{{"", ""}, {"/srv/shared/", "/srv/shared"},
		{"/srv//shared", "/srv/shared"}, {"/srv/shared", "/srv/shared"}} {
		cfg := config.Cluster{ImageFolder: c.given, LockManager: &config.LockManager{Lockspace: c.given}}
		a := &Agent{Parts: Parts{Cluster: "c"}}
		if s := a.spec(cfg, cluster.Epoch{}); s.Folder != c.want || s.Lockspace != c.want {
			t.Errorf("%q: folder %q, lockspace %q", c.given, s.Folder, s.Lockspace)
		}
	}
}
