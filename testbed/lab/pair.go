package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"holdfast/internal/config"
)

// WorkPair is a two-node pair, for Options.Work: h1 and h2 keep a database, a service and the
// address FloatingAddr up, all other hosts vote only. The pair is not begun.
const WorkPair = "pair"

// databaseProgram is the one that a pair runs where its configuration names none.
const databaseProgram = "/usr/sbin/mariadbd"

// Names on the hosts of a pair.
const (
	PairSocket  = "/run/database/socket"   // of the database; its account root is root of the host
	PairData    = HostDir + "/database"    // its data directory
	PairService = HostDir + "/service"     // a program: start, stop, kill and status
	pairOptions = HostDir + "/my.cnf"      // option file of the database
	pairAdmin   = HostDir + "/admin"       // passwords
	pairReplica = HostDir + "/replication" //
	PairPort    = 3306
)

// pairConf makes the configuration of the whole cluster that of a pair.
func (p plan) pairConf(cl *config.Cluster, o Options) {
	*cl = config.Cluster{Node: cl.Node, TimingConf: cl.TimingConf, Restart: cl.Restart, Fencing: cl.Fencing, Type: config.PairConf}
	call := func(verb string) []string { return []string{PairService, verb} }
	cl.Pair = &config.Pair{
		Nodes: p.hosts()[:2],
		Database: &config.PairDatabase{
			OptionFile: pairOptions, User: "root", Datadir: PairData, Socket: PairSocket, Port: PairPort,
			Admin:       config.PairAccount{User: "holdfast", Credential: "file:" + pairAdmin},
			Replication: config.PairAccount{User: "replication", Credential: "file:" + pairReplica},
		},
		Group: []config.PairMember{
			{Name: "service", Start: call("start"), Stop: call("stop"), Kill: call("kill"), Status: call("status")},
			{Name: "webip", VIP: netip.PrefixFrom(p.floatingAddr(), 24).String()},
		},
	}
	if o.IPv6 {
		cl.Pair.Group = append(cl.Pair.Group, config.PairMember{Name: "webip6", VIP: netip.PrefixFrom(p.addr6(p.floatingAddr()), 64).String()})
	}
	if o.Second {
		for _, h := range cl.Pair.Nodes {
			cl.Pair.SecondPath = append(cl.Pair.SecondPath, p.secondAddr(h).String())
		}
	}
	switch {
	case len(p.hosts()) != 2:
	case o.VoteDisk:
		cl.Pair.Arbiter = &config.PairArbiter{Disk: SharedDir + "/votes"}
	case len(cl.Fencing.Hosts) > 0:
		cl.Pair.Arbiter = &config.PairArbiter{Fence: true}
	default: // the switch's address decides; the guest's has nobody
		cl.Pair.Arbiter = &config.PairArbiter{Ping: []string{p.addr(1).String(), p.guestAddr().String()}}
	}
}

// service stands for the management service: it runs as long as its process.
const service = `#!/bin/sh
pid=/run/service.pid
alive() { [ -s $pid ] && [ "$(cat /proc/$(cat $pid)/comm 2>/dev/null)" = sleep ]; }
case $1 in
start) alive && exit 0; setsid sleep 1000000000 </dev/null >/dev/null 2>&1 & echo $! >$pid ;;
stop) alive || exit 0; kill $(cat $pid) ;;
kill) alive || exit 0; kill -9 $(cat $pid) ;;
status) alive || exit 3 ;;
esac
`

// preparePair makes what a node of a pair has on its disk: a database as distributions set it
// up, and a service.
func (p plan) preparePair(ctx context.Context) error {
	template := p.path("database")
	if !exists(template) {
		if _, err := run(ctx, "mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+template,
			"--skip-test-db", "--auth-root-authentication-method=socket"); err != nil {
			return errors.Join(err, os.RemoveAll(template))
		}
	}
	for _, h := range p.hosts()[:2] {
		if exists(p.disk(h, "srv", "service")) {
			continue // a host that was on before
		}
		files := []struct {
			name, text string
			mode       os.FileMode
		}{
			{pairOptions, "[mysqld]\ninnodb_buffer_pool_size=32M\ninnodb_log_file_size=8M\nperformance_schema=OFF\ntmpdir=/run\npid-file=/run/database/pid\n", 0o644},
			{pairAdmin, "an admin's & password\n", 0o600}, {pairReplica, "a replica's # password\n", 0o600},
			{PairService, service, 0o755},
		}
		err := os.MkdirAll(p.disk(h, "srv"), 0o755)
		if err == nil {
			_, err = run(ctx, "cp", "-a", template, p.disk(h, "srv", filepath.Base(PairData)))
		}
		for _, f := range files {
			if err == nil {
				err = os.WriteFile(p.disk(h, "srv", filepath.Base(f.name)), []byte(f.text), f.mode)
			}
		}
		if err != nil {
			return fmt.Errorf("prepare the pair's node %s: %w", h, err)
		}
	}
	return nil
}
