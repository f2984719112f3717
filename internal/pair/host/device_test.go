package host

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/group"
	"holdfast/testbed/try"
)

// TestOfAPairOnADevice: what stands below the group, and what such a pair has not.
func TestOfAPairOnADevice(t *testing.T) {
	opt, _ := pairNode(t)
	p := opt.Cluster.Pair
	run := filepath.Dir(p.Database.Datadir)
	p.Device = &config.PairDevice{Disk: "/dev/vdb", Mount: filepath.Join(run, "mount"), Addresses: []string{"10.9.0.1", "10.9.0.2"}}
	p.Database.Datadir, p.Database.Admin, p.Database.Replication = "", config.PairAccount{}, config.PairAccount{}
	host, err := os.Hostname()
	try.Must(t, err)
	if _, err := New(opt); err == nil || !strings.Contains(err.Error(), host) {
		t.Errorf("a host that has another name than its agent: %v", err)
	}
	opt.Node.Host = host
	opt.Cluster.Node[0] = "192.0.2.1 " + opt.Node.Host
	p.Nodes[0] = opt.Node.Host
	w := made(t, opt)
	defer func() { try.Must(t, w.Driver().Close()) }()
	if args := w.server().Args; slices.ContainsFunc(args,
		func(a string) bool { return strings.Contains(a, "server_id") || strings.Contains(a, "read_only") }) ||
		!slices.Contains(args, "--datadir="+filepath.Join(run, "mount", "mysql")) {
		t.Errorf("the database is started with %q", args)
	}
	end, err := w.end("node2", 7789)
	if err != nil || end.Addr.String() != "10.9.0.2:7789" {
		t.Errorf("the other end: %v, %v", end, err)
	}
	_, all := standsOn(t, w.Part)
	if _, ok := all[3].(*group.Address); !ok {
		t.Errorf("the address is a %T: nobody would announce it", all[3])
	}
	var e *fail.Error
	if err := w.Copy(t.Context(), "node2", nil, nil); !errors.As(err, &e) || e.Kind != fail.Refused ||
		!strings.Contains(e.Message, "copies itself") {
		t.Errorf("a copy from agent to agent: %v", err)
	}
}

// standsOn is the copy of a pair, and its members, which are four.
func standsOn(t *testing.T, w *Part) (group.Data, []group.Member) {
	t.Helper()
	members, err := w.members()
	try.Must(t, err)
	data, above, err := w.onDevice("node2", members)
	try.Must(t, err)
	all := slices.Concat(w.first, above)
	var names []string
	for _, m := range all {
		names = append(names, m.Spec().Name)
	}
	if !slices.Equal(names, []string{"file system", "database", "service", "vip"}) {
		t.Errorf("members %q", names)
	}
	return data, all
}
