package mariadb

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/lib/fail"
)

// rule is a variable of the server that can make "the other node has every acknowledged write" untrue.
type rule struct {
	name string
	ok   []string // the values that do not; "" is an empty one
	but  []string // or: words of values that do, in any case; then ok is nil
	why  string
}

const (
	filtered      = "rows would be missing on the other node"
	ignored       = "what can not be applied would be left out in silence"
	anotherEngine = "a table would have an engine here that the other node's does not have"
	unwritten     = "a crash would lose what was acknowledged"
)

// rules are from MariaDB's documentation of its system variables. One that a version does not have says nothing. Sessions can
// change some for themselves; that takes a privilege (BINLOG ADMIN, SUPER) and is not seen here. No rule is needed for
// binlog_row_image, whose least image still has the key of a row, or all of its columns; for slave_ddl_exec_mode, by which
// a table is made anew and not left out; and for init_file, whose writes on a standby are found as any that are stray.
var rules = []rule{
	{name: "binlog_do_db", ok: []string{""}, why: filtered}, // a variable since 11.7; before, SHOW MASTER STATUS tells it
	{name: "binlog_ignore_db", ok: []string{""}, why: filtered},
	{name: "replicate_do_db", ok: []string{""}, why: filtered},
	{name: "replicate_ignore_db", ok: []string{""}, why: filtered},
	{name: "replicate_do_table", ok: []string{""}, why: filtered},
	{name: "replicate_ignore_table", ok: []string{""}, why: filtered},
	{name: "replicate_wild_do_table", ok: []string{""}, why: filtered},
	{name: "replicate_wild_ignore_table", ok: []string{""}, why: filtered},
	{name: "replicate_rewrite_db", ok: []string{""}, why: "rows would be in another database on the other node"},
	{name: "replicate_events_marked_for_skip", ok: []string{"REPLICATE"}, why: filtered},
	{name: "slave_skip_errors", ok: []string{"OFF"}, why: ignored},
	{name: "sql_slave_skip_counter", ok: []string{"0"}, why: ignored},
	{name: "slave_exec_mode", ok: []string{"STRICT"}, why: ignored},
	{name: "slave_type_conversions", but: []string{"ALL_LOSSY"}, why: "values would be cut on the other node"},
	{name: "slave_run_triggers_for_rbr", ok: []string{"NO"}, why: "triggers would change rows twice on the other node"},
	{name: "gtid_ignore_duplicates", ok: []string{"OFF"}, why: ignored},
	{name: "default_master_connection", ok: []string{""}, why: "another connection would be meant than the pair's"},
	{name: "init_connect", but: []string{"sql_log_bin", "skip_replication", "binlog_format"}, why: filtered},
	{name: "init_slave", but: []string{"sql_log_bin", "skip_replication", "foreign_key_checks", "slave_exec_mode"}, why: filtered},
	{name: "log_bin", ok: []string{"ON"}, why: filtered},
	{name: "log_slave_updates", ok: []string{"ON"}, why: "rows would be missing after a second switch"},
	{name: "binlog_format", ok: []string{"ROW"}, why: "statements can have other results on the other node"},
	// What creates a table names an engine, or the server that applies it takes its own.
	{name: "default_storage_engine", ok: []string{"InnoDB"}, why: anotherEngine},
	{name: "enforce_storage_engine", ok: []string{"", "InnoDB"}, why: anotherEngine},
	{name: "gtid_strict_mode", ok: []string{"ON"}, why: "the histories of the nodes could diverge"},
	{name: "gtid_domain_id", ok: []string{"0"}, why: "the order of its writes beside the other node's would not be kept"},
	{name: "wsrep_on", ok: []string{"OFF"}, why: "Galera would replicate beside the pair"},
	{name: "sync_binlog", ok: []string{"1"}, why: unwritten},
	{name: "innodb_flush_log_at_trx_commit", ok: []string{"1", "3"}, why: unwritten},
	{name: "innodb_doublewrite", ok: []string{"ON"}, why: unwritten},
	{name: "innodb_flush_method", but: []string{"nosync", "littlesync"}, why: unwritten},
	{name: "debug_no_sync", ok: []string{"OFF"}, why: unwritten}, // in all builds: the binary log is not synced either
	{name: "rocksdb_flush_log_at_trx_commit", ok: []string{"1"}, why: unwritten},
	{name: "innodb_force_recovery", ok: []string{"0"}, why: "the server runs with damaged data"},
}

// wrong says why a value is not that of a server that loses nothing; "" when it is.
func (r rule) wrong(value string) string {
	same := func(a string) bool { return strings.EqualFold(a, strings.TrimSpace(value)) }
	within := func(word string) bool { return strings.Contains(lower(value), lower(word)) }
	switch {
	case r.ok != nil && !slices.ContainsFunc(r.ok, same):
		// That a variable may be empty beside a value is not told.
		want := cmp.Or(strings.TrimPrefix(strings.Join(r.ok, " or "), " or "), "none")
		return fmt.Sprintf("%s is %.100q: want %s, or %s", r.name, value, want, r.why)
	case r.ok == nil && slices.ContainsFunc(r.but, within):
		return fmt.Sprintf("%s is %.100q, and %s", r.name, value, r.why)
	}
	return ""
}

// lossy says why a server does not give, or does not take, every write; none when it does. It is asked, as what it does is not
// what an option file says.
func (d *Driver) lossy(ctx context.Context, q querier, run string, within time.Duration) (why []string, err error) {
	var names []string
	for _, r := range rules {
		names = append(names, text(r.name))
	}
	vars, err := d.rows(ctx, q, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+strings.Join(names, ", ")+")")
	if err != nil {
		return nil, err
	}
	master, err := d.binlogFilters(ctx, q, run, within)
	if err != nil {
		return nil, err
	}
	slaves, err := d.rows(ctx, q, "SHOW ALL SLAVES STATUS")
	if err != nil {
		return nil, err
	}
	return losses(vars, master, slaves), nil
}

// binlogFilters asks what is left out of the binary log. That is fixed while a server runs, and is asked once: the statement waits
// where two commits wait for a replica. Within the time it may not be known: none, then.
func (d *Driver) binlogFilters(ctx context.Context, q querier, run string, within time.Duration) ([]map[string]string, error) {
	d.filters.Lock()
	known, rows := d.filters.run == run && run != "", d.filters.rows
	d.filters.Unlock()
	if known {
		return rows, nil
	}
	actx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	rows, err := d.rows(actx, q, "SHOW MASTER STATUS")
	switch {
	case err == nil:
		d.filters.Lock()
		defer d.filters.Unlock()
		d.filters.run, d.filters.rows = run, rows
	case within < d.cfg.Limit && actx.Err() != nil && ctx.Err() == nil:
		return nil, nil
	}
	return rows, err
}

// losses judges what a server says: its variables, the state of its binary log, and what it follows.
func losses(vars, master, slaves []map[string]string) (why []string) {
	said := map[string]bool{}
	judge := func(name, value string) {
		if i := slices.IndexFunc(rules, func(r rule) bool { return r.name == name }); i >= 0 && !said[name] {
			if w := rules[i].wrong(value); w != "" {
				said[name], why = true, append(why, w)
			}
		}
	}
	for _, v := range vars {
		judge(lower(v["variable_name"]), v["value"])
	}
	for _, m := range master {
		judge("binlog_do_db", m["binlog_do_db"])
		judge("binlog_ignore_db", m["binlog_ignore_db"])
	}
	for _, s := range slaves {
		if name := s["connection_name"]; name != "" {
			why = append(why, fmt.Sprintf("it also follows another server, by the connection %.60q: RESET SLAVE %s ALL", name, quoted(name)))
			continue
		}
		for _, key := range []string{"replicate_do_domain_ids", "replicate_ignore_domain_ids"} {
			if s[key] != "" {
				why = append(why, fmt.Sprintf("%s is %.60q: %s", key, s[key], filtered))
			}
		}
		for _, r := range rules {
			if v, has := s[r.name]; has && strings.HasPrefix(r.name, "replicate_") {
				judge(r.name, v)
			}
		}
		if delay := s["sql_delay"]; delay != "" && delay != "0" {
			why = append(why, "it applies what it receives "+delay+" s late: CHANGE MASTER TO MASTER_DELAY=0")
		}
	}
	return why
}

// quoted is a name of a connection in a statement.
func quoted(name string) string { return "'" + strings.ReplaceAll(name, "'", "''") + "'" }

// needLossless refuses a server that does not give, or does not take, every write.
func (d *Driver) needLossless(ctx context.Context, q querier) error {
	run, err := d.run(ctx)
	if err != nil {
		return err
	}
	why, err := d.lossy(ctx, q, run, d.cfg.Limit)
	if err == nil && len(why) > 0 {
		err = fail.Errorf(fail.Refused, "with the settings of this database writes that were acknowledged could "+
			"be lost: %s", strings.Join(why, "; ")).
			With("remove them from the option file, on both nodes")
	}
	return err
}

// Unfit says which options of an option file make a server of it lossy; none when none does. args are what the server's program
// shows with --print-defaults. Where the database is replicated by itself, what Options sets is not looked at, as that is given to
// the server behind them; else only what a crash would lose counts.
func Unfit(args []string, replicated bool) (why []string) {
	for _, a := range args {
		name, value, given := strings.Cut(strings.TrimLeft(a, "-"), "=")
		name = strings.ReplaceAll(lower(name), "-", "_")
		for _, p := range []string{"loose_", "maximum_"} {
			name = strings.TrimPrefix(name, p)
		}
		for p, means := range map[string]string{"skip_": "OFF", "disable_": "OFF", "enable_": "ON"} {
			if rest, has := strings.CutPrefix(name, p); has && !given && isRule(rest) {
				name, value, given = rest, means, true
			}
		}
		for _, r := range rules {
			// A name may be cut where no other option begins like it.
			if r.name != name && !(len(name) >= shortest && strings.HasPrefix(r.name, name)) {
				continue
			}
			if replicated && ours(r.name) || !replicated && (r.why != unwritten || r.name == "sync_binlog") {
				continue
			}
			if w := r.wrong(r.shown(value, given)); w != "" {
				why = append(why, w)
			}
		}
	}
	return why
}

// shortest is how much of a name there must be, if it is cut.
const shortest = 10

func isRule(name string) bool {
	return slices.ContainsFunc(rules, func(r rule) bool { return r.name == name })
}

// ours reports that Options sets a variable.
func ours(name string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return s.name == name })
}

// shown is a value of an option file as the server shows it.
func (r rule) shown(value string, given bool) string {
	if !slices.Contains(r.ok, "ON") && !slices.Contains(r.ok, "OFF") {
		return value
	}
	switch v := lower(value); {
	case !given, v == "1", v == "true", v == "yes":
		return "ON"
	case v == "0", v == "false", v == "no":
		return "OFF"
	}
	return value
}
