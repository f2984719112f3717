package mariadb

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/host/replica"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// well are a server's answers when it loses nothing.
func well() (vars, master, slaves []map[string]string) {
	for _, r := range rules {
		value := "whatever"
		if r.ok != nil {
			value = r.ok[0]
		}
		vars = append(vars, map[string]string{"variable_name": strings.ToUpper(r.name), "value": value})
	}
	return vars, []map[string]string{{"file": "bin.000001", "binlog_do_db": "", "binlog_ignore_db": ""}},
		[]map[string]string{{"connection_name": "", "replicate_do_db": "", "replicate_ignore_domain_ids": "", "sql_delay": "0"}}
}

func TestLosses(t *testing.T) {
	if why := losses(well()); len(why) > 0 {
		t.Fatalf("of a server that loses nothing: %q", why)
	}
	for _, r := range rules { // any other value of any of them, but one, is told with its name
		vars, master, slaves := well()
		i := slices.IndexFunc(vars, func(v map[string]string) bool { return lower(v["variable_name"]) == r.name })
		vars[i]["value"] = "another one"
		if r.but != nil {
			vars[i]["value"] = "SET " + r.but[0] + "=0"
		}
		if why := losses(vars, master, slaves); len(why) != 1 || !strings.HasPrefix(why[0], r.name+" is ") {
			t.Errorf("%s: %q", r.name, why)
		}
	}
	for want, change := range map[string]func(master, slaves []map[string]string) []map[string]string{
		`binlog_do_db is "app": want none, or rows would be missing`: func(m, s []map[string]string) []map[string]string {
			m[0]["binlog_do_db"] = "app"
			return s
		},
		`replicate_do_db is "a,b"`: func(_, s []map[string]string) []map[string]string {
			s[0]["replicate_do_db"] = "a,b"
			return s
		},
		`replicate_ignore_domain_ids is "5"`: func(_, s []map[string]string) []map[string]string {
			s[0]["replicate_ignore_domain_ids"] = "5"
			return s
		},
		"3600 s late": func(_, s []map[string]string) []map[string]string {
			s[0]["sql_delay"] = "3600"
			return s
		},
		`by the connection "o'ther": RESET SLAVE 'o''ther' ALL`: func(_, s []map[string]string) []map[string]string {
			return append(s, map[string]string{"connection_name": "o'ther"})
		},
	} {
		vars, master, slaves := well()
		slaves = change(master, slaves)
		if why := losses(vars, master, slaves); len(why) != 1 || !strings.Contains(why[0], want) {
			t.Errorf("want %s: %q", want, why)
		}
	}
}

func TestUnfit(t *testing.T) {
	fine := []string{"--user=mysql", "--innodb-buffer-pool-size=1G", "--slave-parallel-threads=4", "--sync_binlog=0",
		"--log-bin=/var/log/x", "--skip-log-bin",
		"--binlog-format=MIXED", "--innodb_doublewrite", "--innodb-doublewrite=1", "--loose-wsrep-on=0",
		"--skip-name-resolve", "--slave_exec_mode=strict",
		"--innodb_flush_method=O_DIRECT", "--init-connect=SET NAMES utf8mb4", "--binlog-row-image=FULL",
		"--default-storage-engine=innodb", "--replicate-same-server-id=0"}
	if why := Unfit(fine, true); len(why) > 0 {
		t.Errorf("of options that lose nothing: %q", why)
	}
	for arg, want := range map[string]string{
		"--binlog-do-db=app":                       `binlog_do_db is "app"`,
		"--binlog_ignore_db=mysql":                 `binlog_ignore_db is "mysql"`,
		"--loose-replicate-ignore-db=x":            `replicate_ignore_db is "x"`,
		"--replicate-wild-ignore-table=app.tmp%":   `replicate_wild_ignore_table is "app.tmp%"`,
		"--replicate-do-table=a.b":                 `replicate_do_table is "a.b"`,
		"--replicate-rewrite-db=a->b":              `replicate_rewrite_db is "a->b"`,
		"--slave-skip-errors=1062,1032":            `slave_skip_errors is "1062,1032"`,
		"--slave-skip-errors=all":                  `slave_skip_errors is "all"`,
		"--Slave_Exec_Mode=IDEMPOTENT":             `slave_exec_mode is "IDEMPOTENT"`,
		"--skip-innodb-doublewrite":                `innodb_doublewrite is "OFF"`,
		"--innodb_doublewrite=0":                   `innodb_doublewrite is "OFF"`,
		"--wsrep-on":                               `wsrep_on is "ON"`,
		"--wsrep_on=1":                             `wsrep_on is "ON"`,
		"--innodb-force-recovery=3":                `innodb_force_recovery is "3"`,
		"--init-connect=SET SESSION sql_log_bin=0": `init_connect is "SET SESSION sql_log_bin=0"`,
		"--binlog-ignore=x":                        `binlog_ignore_db is "x"`,
		"--default-storage-engine=MEMORY":          `default_storage_engine is "MEMORY": want InnoDB`,
		"--enforce_storage_engine=Aria":            `enforce_storage_engine is "Aria": want InnoDB`,
		"--slave-type-conversions=ALL_LOSSY":       `slave_type_conversions is "ALL_LOSSY"`,
	} {
		if why := Unfit([]string{"--user=mysql", arg}, true); len(why) != 1 || !strings.HasPrefix(why[0], want) {
			t.Errorf("%s: %q, want %s", arg, why, want)
		}
	}
}

func TestUnfitOfADevice(t *testing.T) {
	args := []string{"--binlog-ignore-db=x", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2",
		"--innodb-doublewrite=OFF", "--slave-skip-errors=all"}
	why := Unfit(args, false)
	if len(why) != 2 || !strings.HasPrefix(why[0], "innodb_flush_log_at_trx_commit") || !strings.HasPrefix(why[1], "innodb_doublewrite") {
		t.Errorf("%q", why)
	}
}

// FuzzUnfit: no option makes it panic, and what is refused is named.
func FuzzUnfit(f *testing.F) {
	for _, s := range []string{"--binlog-do-db=app", "=", "--", "skip-", "--loose-skip-innodb_doublewrite", "--slave_skip_errors"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		for _, why := range Unfit([]string{arg}, len(arg)%2 == 0) {
			if name, _, _ := strings.Cut(why, " "); !isRule(name) {
				t.Errorf("%q: %q", arg, why)
			}
		}
	})
}

// TestLossySettings: with a stranger's option file, or a hand's change, no copy is called complete, and none is promoted.
func TestLossySettings(t *testing.T) {
	need.Drill(t, "P5: settings with which a replica can lack what was acknowledged are read from the running server, told, and refused",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	for _, n := range []*node{a, b} {
		if st := n.state(); st.Lossy != "" || st.Problem != "" {
			t.Fatalf("of a server as it comes: %+v", st)
		}
	}
	for set, back := range map[string]string{
		"SET GLOBAL slave_exec_mode='IDEMPOTENT'":                            "SET GLOBAL slave_exec_mode='STRICT'",
		"SET GLOBAL replicate_events_marked_for_skip='FILTER_ON_SLAVE'":      "SET GLOBAL replicate_events_marked_for_skip='REPLICATE'",
		"SET GLOBAL default_storage_engine=MEMORY":                           "SET GLOBAL default_storage_engine=InnoDB",
		"SET GLOBAL gtid_domain_id=7":                                        "SET GLOBAL gtid_domain_id=0",
		"SET GLOBAL enforce_storage_engine=Aria":                             "SET GLOBAL enforce_storage_engine=NULL",
		"SET GLOBAL replicate_wild_ignore_table='app.%'":                     "SET GLOBAL replicate_wild_ignore_table=''",
		"CHANGE MASTER TO MASTER_DELAY=5":                                    "CHANGE MASTER TO MASTER_DELAY=0",
		"CHANGE MASTER TO IGNORE_DOMAIN_IDS=(7)":                             "CHANGE MASTER TO IGNORE_DOMAIN_IDS=()",
		"CHANGE MASTER 'x' TO MASTER_HOST='127.0.0.1', MASTER_USER='nobody'": "RESET SLAVE 'x' ALL",
	} {
		b.sql("STOP SLAVE", set, "START SLAVE")
		st := b.state()
		if st.Lossy == "" || st.Problem == "" {
			t.Errorf("after %s: %+v", set, st)
		}
		_, err := a.Together(ctx, st)
		refused(t, "a proof after "+set, err)
		refused(t, "a promotion after "+set, b.Promote(ctx, replica.Claim{License: replica.Guarantee{
			Safe: true, Primary: st.Of, Replica: st.Node, Relay: st.Relay}}))
		b.sql("STOP SLAVE", back, "START SLAVE")
		try.Until(t, "the replica to be one again", func() bool { st := b.state(); return st.Connected && st.Lossy == "" })
		if g, err := a.Together(ctx, b.state()); err != nil || !g.Safe {
			t.Fatalf("after %s: %+v, %v", back, g, err)
		}
	}
	a.sql("SET GLOBAL sync_binlog=0")
	if g := a.state().Guarantee; g.Safe || !strings.Contains(g.Why, "sync_binlog") {
		t.Errorf("after sync_binlog=0 on the primary: %+v", g)
	}
	a.sql("SET GLOBAL sync_binlog=1")
	// Of an option file: the server must be started anew.
	for arg, n := range map[string]*node{"--binlog-ignore-db=app": a, "--replicate-ignore-db=app": b, "--slave-skip-errors=1062": b} {
		args := n.cmd.Args
		n.cmd.Args = append(slices.Clone(args), arg)
		try.Must(t, n.end(ctx))
		role := map[*node]string{a: "MASTER", b: "SLAVE"}[n]
		try.Must(t, n.start(ctx, role))
		if n == a {
			a.sql("SET GLOBAL read_only=OFF")
		}
		name := strings.ReplaceAll(strings.TrimPrefix(arg[:strings.IndexByte(arg, '=')], "--"), "-", "_")
		if st := n.state(); !strings.Contains(st.Lossy, name) || st.Guarantee.Safe {
			t.Errorf("with %s: %+v", arg, st)
		}
		if n == a {
			_, err := a.Together(ctx, b.state())
			refused(t, "a proof with "+arg, err)
		} else {
			refused(t, "following with "+arg, b.Resync(ctx, a.source("")))
		}
		n.cmd.Args = args
		try.Must(t, n.end(ctx))
		try.Must(t, n.start(ctx, role))
		if n == a {
			a.sql("SET GLOBAL read_only=OFF")
		}
	}
}
