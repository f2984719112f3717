package host

import (
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
func pairNode(t *testing.T) (opt Options, service string) {
	t.Helper()
	run := t.TempDir()
	service = filepath.Join(run, "service")
	call := func(script string) []string { return []string{"/bin/sh", "-c", script, "sh", service} }
	database := filepath.Join(run, "mariadbd") // it does nothing, whatever it is told
	try.Must(t, os.WriteFile(database, []byte("#!/bin/bash\nexec -a \"$0\" sleep 1000\n"), 0o755))
	for _, name := range []string{"admin", "replication"} {
		try.Must(t, os.WriteFile(filepath.Join(run, name), []byte("secret\n"), 0o600))
	}
	me, err := user.Current()
	try.Must(t, err)
	opt = Options{
		File: "/etc/holdfast/agent.json", Exe: "/usr/bin/holdfast", Log: slog.New(slog.DiscardHandler),
		Node: config.Node{Host: "node1", Addr: "192.0.2.1", Cluster: "c", DataDir: filepath.Join(run, "data"), RunDir: filepath.Join(run, "run")},
		Cluster: config.Cluster{
			Node: []string{"192.0.2.1 node1", "192.0.2.2 node2", "192.0.2.3 node3"}, Type: config.PairConf, ChronyServers: []string{"192.0.2.9"},
			Pair: &config.Pair{
				Nodes: []string{"node1", "node2"},
				Database: &config.PairDatabase{
					Program: database, User: me.Username, Datadir: filepath.Join(run, "database"), Socket: filepath.Join(run, "db", "s"),
					Admin:       config.PairAccount{User: "a", Credential: "file:" + filepath.Join(run, "admin")},
					Replication: config.PairAccount{User: "r", Credential: "file:" + filepath.Join(run, "replication")},
				},
				Group: []config.PairMember{{Name: "service", Start: call(`touch "$1"`), Stop: call(`rm "$1"`),
					Status: call(`[ -e "$1" ] || exit 3`)}, {VIP: "192.0.2.7/24"}},
			},
		},
	}
	opt.Node.API.Listen = "192.0.2.1:7443"
	return opt, service
}

// made is this host's part by options that are in order.
func made(t *testing.T, opt Options) *Service {
	t.Helper()
	p, err := New(opt)
	try.Must(t, err)
	return p.Serve(nil)
}

// refused reports whether an error is of a kind, with a part in its text.
func refused(err error, kind fail.Kind, part string) bool {
	var e *fail.Error
	return errors.As(err, &e) && e.Kind == kind && strings.Contains(e.Message, part)
}

// TestEndOfAPair: after an uninstallation nothing of the group is left on the host.
func TestEndOfAPair(t *testing.T) {
	need.Real(t, need.Root) // the database is started as an account
	opt, service := pairNode(t)
	p := &Part{Options: opt, cfg: opt.Cluster.Pair.Full()}
	ctx := try.Context(t)
	try.Must(t, os.MkdirAll(p.dir(), 0o700))
	try.Must(t, os.WriteFile(service, nil, 0o600))
	cmd := p.server()
	cmd.Tied = true
	try.Must(t, cmd.Start(ctx, nil))
	try.Until(t, "the database", func() bool { _, err := (p.server()).Process(ctx); return err == nil })
	ended, err := End(ctx, opt, true)
	if err != nil || len(ended) != 2 || ended[0] != "service has ended" || !strings.Contains(ended[1], p.cfg.Database.Datadir) {
		t.Errorf("ended %q, %v", ended, err)
	}
	if _, err := os.Stat(service); err == nil {
		t.Error("the service is left")
	}
	if _, err := cmd.Process(ctx); !errors.Is(err, proc.ErrGone) {
		t.Errorf("the database is left: %v", err)
	}
	if ended, err := End(ctx, opt, true); err != nil || len(ended) != 0 {
		t.Errorf("once more: %q, %v", ended, err)
	}
}

func TestOfAPair(t *testing.T) {
	opt, _ := pairNode(t)
	silent := opt
	silent.Node.API.Listen = ""
	if _, err := New(silent); err == nil || !strings.Contains(err.Error(), opt.File+": api.listen: ") {
		t.Errorf("nobody could ask it for its copy: %v", err)
	}
	p := made(t, opt)
	defer func() { try.Must(t, p.Driver().Close()) }()
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
	opt.Node.Host = "node3"
	v := made(t, opt)
	if _, ok := v.Driver().(group.Voter); !ok {
		t.Errorf("a voter has the driver %T", v.Driver())
	}
	if err := v.Begin(t.Context(), "root"); !refused(err, fail.Refused, "only votes") {
		t.Errorf("a pair begins on a voter: %v", err)
	}
	if err := v.Copy(t.Context(), "node1", io.Discard, nil); err == nil {
		t.Error("a voter has a copy")
	}
}
