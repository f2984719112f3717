package replicate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file says what can be followed.

// Check tells which tables of a plan can not be followed row by row: those whose rows
// can not be found again by the source's key, and those whose rows are told by values
// that the binary log does not give exactly (a number that is rounded, JSON, and what
// only one server knows). It asks no server.
func Check(p *mapping.Plan) (out []mapping.Finding) {
	for i := range p.Tables {
		t := &p.Tables[i]
		if t.Kept == nil {
			out = append(out, mapping.Finding{Table: t.Target,
				Text: fmt.Sprintf("can not be followed: its primary key is not that of table %s, so that it can not "+
					"be told which of its rows a changed row concerns", t.Source)})
			continue
		}
		for _, from := range t.Reads() {
			s := t.SourceSchema(from)
			if s == nil {
				out = append(out, mapping.Finding{Table: t.Target, Text: fmt.Sprintf("can not be followed: the source has no table %s", from)})
				continue
			}
			for _, touch := range t.Touched(from) {
				out = append(out, unknown(t.Target, from, s, touch.Columns)...)
			}
		}
	}
	return out
}

// unknown finds columns whose values are not exact in row events.
func unknown(target, from string, s *mapping.Schema, columns []string) (out []mapping.Finding) {
	for _, c := range s.Columns {
		if slices.Contains(columns, c.Name) && !kinds[c.Type.Kind] {
			out = append(out, mapping.Finding{Table: target, Column: c.Name,
				Text: fmt.Sprintf("can not be followed: the binary log does not tell column %s of table %s, of type "+
					"%s, exactly", c.Name, from, c.Type.Text)})
		}
	}
	return out
}

// settings are what a binary log must have been written with. Where a server does not
// know one, it has no other way than ours.
var settings = []struct{ name, want, only string }{
	{"log_bin", "ON", ""},
	{"binlog_format", "ROW", ""},
	{"binlog_row_image", "FULL", ""},
	{"binlog_order_commits", "ON", server.MySQL},
	{"binlog_storage_engine", "", server.MariaDB}, // in another form, such a log has no positions
}

// Ready tells whether the source's binary log can be followed from now on: how it is
// written, whether it leaves mapped databases out, and whether this account may read it.
// All that is wrong is told at once. Nothing is changed.
func Ready(ctx context.Context, source *server.Server, p *mapping.Plan) error {
	var faults []error
	for _, f := range Check(p) {
		faults = append(faults, fmt.Errorf("%s: %s", f.Table, f.Text))
	}
	have, err := variables(ctx, source.DB)
	if err != nil {
		return fmt.Errorf("source: its settings: %w", err)
	}
	faults = append(faults, set(source.Vendor, have)...)
	if v := have["log_bin"]; v == "0" || strings.EqualFold(v, "OFF") {
		return errors.Join(faults...) // there is nothing to be read
	}
	if err := filters(ctx, source, p); err != nil {
		faults = append(faults, err)
	}
	faults = append(faults, cascades(ctx, source, p)...)
	at, err := now(ctx, source)
	if err == nil {
		err = try(ctx, source, at) // which refuses a position that is too far in a file, too
	}
	if err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// set tells which settings of a server are not as a binary log must be written with.
func set(vendor string, have map[string]string) (faults []error) {
	for _, s := range settings {
		v, known := have[s.name]
		if on := strings.EqualFold(v, s.want) || v == "1" && s.want == "ON"; known && !on && (s.only == "" || s.only == vendor) {
			faults = append(faults, fmt.Errorf("source: %s is %q: want %s to follow its binary log", s.name, v, cmp.Or(s.want, "none")))
		}
	}
	return faults
}

// now is the end of the source's binary log.
func now(ctx context.Context, source *server.Server) (place, error) {
	file, pos, ok, err := source.Position(ctx)
	if err == nil && !ok {
		err = errors.New("it has no binary log, or the account may not ask (want REPLICATION CLIENT; BINLOG MONITOR on MariaDB)")
	}
	if err != nil {
		return place{}, fmt.Errorf("source: position of the binary log: %w", err)
	}
	return place{file, pos}, nil
}

func variables(ctx context.Context, db *sql.DB) (map[string]string, error) {
	names := []string{"'server_id'", "'lower_case_table_names'"}
	for _, s := range settings {
		names = append(names, "'"+s.name+"'")
	}
	rows, err := db.QueryContext(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+strings.Join(names, ", ")+")")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		out[strings.ToLower(name)] = value
	}
	return out, rows.Err()
}

// filters tells when the log does not have all of the mapped databases: their changes
// would be missing, and nothing would tell.
func filters(ctx context.Context, source *server.Server, p *mapping.Plan) error {
	only, without, err := logged(ctx, source)
	if err != nil {
		return fmt.Errorf("source: which databases the binary log has: %w", err)
	}
	var missing []string
	for i := range p.Tables {
		for _, t := range p.Tables[i].Reads() {
			db, _ := p.Tables[i].SourceName(t)
			if out := only != nil && !slices.Contains(only, db) || slices.Contains(without, db); out && !slices.Contains(missing, db) {
				missing = append(missing, db)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("source: the binary log does not have database %s: want it named by binlog_do_db, where "+
			"that is given, and not by binlog_ignore_db", strings.Join(missing, ", "))
	}
	return nil
}

// cascades tells of foreign keys by which the server changes rows of tables that a plan
// reads: it does so below the binary log, which has the change of the parent alone.
func cascades(ctx context.Context, source *server.Server, p *mapping.Plan) (faults []error) {
	var seen []string
	for i := range p.Tables {
		for _, t := range p.Tables[i].Reads() {
			if slices.Contains(seen, t) {
				continue
			}
			seen = append(seen, t)
			db, name := p.Tables[i].SourceName(t)
			var as, definition string
			// information_schema has the rules of keys for those only who may do more than read.
			if err := source.DB.QueryRowContext(ctx, "SHOW CREATE TABLE "+sqlexpr.Quote(db)+"."+
				sqlexpr.Quote(name)).Scan(&as, &definition); err != nil {
				faults = append(faults, fmt.Errorf("source: table %s: its foreign keys: %w", t, err))
				continue
			}
			for _, k := range rules(definition) {
				faults = append(faults, fmt.Errorf("source: table %s can not be followed: foreign key %s: the binary "+
					"log does not have the rows that it changes: want RESTRICT or NO ACTION, or a copy without following", t, k))
			}
		}
	}
	return faults
}

// rules are the foreign keys of a definition, as SHOW CREATE TABLE gives it, one in a
// line, that change rows of the table itself: "NAME with ON DELETE CASCADE".
func rules(definition string) (out []string) {
	for line := range strings.Lines(definition) {
		words := tokens(line)
		if len(words) < 3 || words[0].quoted || words[0].text != "CONSTRAINT" || words[2].quoted || words[2].text != "FOREIGN" {
			continue
		}
		for i := 3; i+2 < len(words); i++ {
			rule := words[i+2]
			if words[i] != (token{text: "ON"}) || rule.quoted || rule.text == "RESTRICT" || rule.text == "NO" {
				continue
			}
			text := "ON " + words[i+1].text + " " + rule.text
			if rule.text == "SET" && i+3 < len(words) {
				text += " " + words[i+3].text // NULL, DEFAULT
			}
			out = append(out, words[1].text+" with "+text)
		}
	}
	return out
}

// logged are the databases that the log has alone (nil: all), and those that it leaves out.
func logged(ctx context.Context, source *server.Server) (only, without []string, err error) {
	rows, err := source.DB.QueryContext(ctx, source.AskPosition())
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, nil, err
	}
	values := make([]sql.RawBytes, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, nil, err
		}
		for i, n := range names {
			list := strings.FieldsFunc(string(values[i]), func(r rune) bool { return r == ',' || r == ' ' })
			switch {
			case len(list) == 0:
			case strings.EqualFold(n, "Binlog_Do_DB"):
				only = list
			case strings.EqualFold(n, "Binlog_Ignore_DB"):
				without = list
			}
		}
	}
	return only, without, rows.Err()
}
