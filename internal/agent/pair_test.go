package agent

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	"holdfast/internal/pair/group"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// pairNode is node1 of a pair without an agent, and what its group has left.
func pairNode(t *testing.T) (nd *node, file, service string) {
	t.Helper()
	file, run := retirable(t, config.NoWatchdog)
	service = filepath.Join(run, "service")
	call := func(script string) []string { return []string{"/bin/sh", "-c", script, "sh", service} }
	database := filepath.Join(run, "mariadbd") // it does nothing, whatever it is told
	try.Must(t, os.WriteFile(database, []byte("#!/bin/bash\nexec -a \"$0\" sleep 1000\n"), 0o755))
	for _, name := range []string{"admin", "replication"} {
		try.Must(t, os.WriteFile(filepath.Join(run, name), []byte("secret\n"), 0o600))
	}
	me, err := user.Current()
	try.Must(t, err)
	cl := config.Cluster{
		Node: []string{"192.0.2.1 node1", "192.0.2.2 node2", "192.0.2.3 node3"}, Type: config.PairConf, ChronyServers: []string{"192.0.2.9"},
		Pair: &config.Pair{
			Nodes: []string{"node1", "node2"},
			Database: &config.PairDatabase{
				Program: database, User: me.Username, Datadir: filepath.Join(run, "database"), Socket: filepath.Join(run, "db", "s"),
				Admin:       config.PairAccount{User: "a", Credential: "file:" + filepath.Join(run, "admin")},
				Replication: config.PairAccount{User: "r", Credential: "file:" + filepath.Join(run, "replication")},
			},
			Group: []config.PairMember{{Name: "service", Start: call(`touch "$1"`), Stop: call(`rm "$1"`), Status: call(`[ -e "$1" ] || exit 3`)}, {VIP: "192.0.2.7/24"}},
		},
	}
	conf := filepath.Join(run, "cluster.json")
	try.Must(t, os.WriteFile(conf, cl.JSON(), 0o600))
	var n config.Node
	text, err := os.ReadFile(file)
	try.Must(t, err)
	try.Must(t, json.Unmarshal(text, &n))
	n.ConfigFile = conf
	text, err = json.Marshal(n)
	try.Must(t, err)
	try.Must(t, os.WriteFile(file, text, 0o600))
	nd, err = load(Options{NodeFile: file, Log: slog.New(slog.DiscardHandler)})
	try.Must(t, err)
	nd.n.API.Listen = "192.0.2.1:7443"
	return nd, file, service
}

// TestRetireEndsAPair: after an uninstallation nothing of the group is left on the host.
func TestRetireEndsAPair(t *testing.T) {
	need.Real(t, need.Root) // the database is started as an account
	nd, file, service := pairNode(t)
	p := &pairWork{nd: nd, cfg: nd.cfg.Pair.Full()}
	ctx := try.Context(t)
	try.Must(t, os.MkdirAll(p.dir(), 0o700))
	try.Must(t, os.WriteFile(service, nil, 0o600))
	cmd := p.server()
	cmd.Tied = true
	try.Must(t, cmd.Start(ctx, nil))
	try.Until(t, "the database", func() bool { _, err := (p.server()).Process(ctx); return err == nil })
	ended, err := Retire(ctx, file, true)
	if err != nil || len(ended) != 2 || ended[0] != "service has ended" || !strings.Contains(ended[1], p.cfg.Database.Datadir) {
		t.Errorf("ended %q, %v", ended, err)
	}
	if _, err := os.Stat(service); err == nil {
		t.Error("the service is left")
	}
	if _, err := cmd.Process(ctx); !errors.Is(err, proc.ErrGone) {
		t.Errorf("the database is left: %v", err)
	}
	if ended, err := Retire(ctx, file, true); err != nil || len(ended) != 0 {
		t.Errorf("once more: %q, %v", ended, err)
	}
}

func TestOfAPair(t *testing.T) {
	nd, file, _ := pairNode(t)
	listen := nd.n.API.Listen
	nd.n.API.Listen = ""
	if _, err := nd.pair(nil); err == nil || !strings.Contains(err.Error(), file+": api.listen: ") {
		t.Errorf("nobody could ask it for its copy: %v", err)
	}
	nd.n.API.Listen = listen
	p, err := nd.pair(nil)
	try.Must(t, err)
	defer func() { try.Must(t, p.loopDriver().Close()) }()
	args := p.server().Args
	if args[0] != "--defaults-file=/etc/mysql/my.cnf" || !slices.Contains(args, "--server_id=1") || !slices.Contains(args, "--read_only=ON") {
		t.Errorf("the database is started with %q", args)
	}
	if info, err := os.Stat(filepath.Dir(p.cfg.Database.Socket)); err != nil || !info.IsDir() {
		t.Errorf("the directory of the socket: %v", err)
	}
	var e *fail.Error
	if err := p.Copy(t.Context(), "node3", io.Discard, nil); !errors.As(err, &e) || e.Kind != fail.Denied {
		t.Errorf("a copy for a host that is not the other node: %v", err)
	}
	nd.n.Host = "node3"
	v, err := nd.pair(nil)
	try.Must(t, err)
	if _, ok := v.loopDriver().(group.Voter); !ok {
		t.Errorf("a voter has the driver %T", v.loopDriver())
	}
	if err := v.Begin(t.Context(), "root"); !refused(err, fail.Refused, "only votes") {
		t.Errorf("a pair begins on a voter: %v", err)
	}
	if err := v.Copy(t.Context(), "node1", io.Discard, nil); err == nil {
		t.Error("a voter has a copy")
	}
}
