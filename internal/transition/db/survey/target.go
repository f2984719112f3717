package survey

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file looks whether what a run writes can be written, and writes nothing for it.

// servers tells what of the servers, and of this account's rights, stands in the way of a run.
func (s *surveyor) servers(ctx context.Context, r *Result) error {
	refuse := func(format string, args ...any) *Finding {
		r.Errors = append(r.Errors, warning(fmt.Sprintf(format, args...))...)
		return &r.Errors[len(r.Errors)-1]
	}
	if both := s.plan.Both(); s.same && len(both) > 0 {
		refuse("source and target are one server, and rows of %s would be read and written: want another name of the "+
			"database by --source-db or --target-db", strings.Join(both, ", "))
	}
	settings, err := ask(ctx, s.target.DB, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'innodb_read_only')", 2)
	if err != nil {
		return fmt.Errorf("target: ask for its settings: %w", err)
	}
	for _, why := range unfit(settings) {
		refuse("%s", why)
	}
	for _, x := range []struct {
		server   *server.Server
		database string
	}{{s.target, copier.Database}, {s.source, ids.Database}} {
		why, err := writes(ctx, x.server)
		if err != nil {
			return err
		}
		right := why == ""
		if right {
			why, err = denied(ctx, x.server, "CREATE TABLE "+sqlexpr.Quote(x.database)+".`try` (`a` INT)")
		}
		if err != nil {
			return err
		}
		if why != "" {
			refuse("the %s does not let %s make the database %s, which a run needs: %s", x.server.Role,
				x.server.Config.User, x.database, why).Right = right
		}
	}
	return nil
}

// grants puts one finding, with all GRANTs that are missing, in the place of those that tell
// of single rights.
func (s *surveyor) grants(ctx context.Context, errs []Finding) ([]Finding, error) {
	right := func(f Finding) bool { return f.Right }
	if !slices.ContainsFunc(errs, right) {
		return errs, nil
	}
	lacks, err := Rights(ctx, s.mapping, s.source, s.target, s.from.Databases, s.to.Databases)
	if err != nil || len(lacks) == 0 {
		return errs, err
	}
	f := warning("the accounts lack rights, which these statements give:")
	f[0].Values, f[0].Right = lacks, true
	return append(f, slices.DeleteFunc(errs, right)...), nil
}

// unfit tells which settings of the target, names and values, let no rows come.
func unfit(settings [][]string) (out []string) {
	has := map[string]string{}
	for _, v := range settings {
		has[strings.ToLower(v[0])] = v[1]
	}
	if has["log_bin"] == "ON" && has["binlog_format"] == "STATEMENT" {
		out = append(out, "the target writes a binary log with binlog_format STATEMENT, which takes no rows that are "+
			"read without locks: want ROW or MIXED")
	}
	if has["innodb_read_only"] == "ON" {
		out = append(out, "the target's InnoDB is read only (innodb_read_only): want a server that can be written to")
	}
	return out
}

// writes tells why a server lets this account write nothing, such as a replica that is
// read only; "" if it does. The transaction that it begins is empty.
func writes(ctx context.Context, s *server.Server) (why string, err error) {
	conn, err := s.DB.Conn(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.Role, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	_, err = conn.ExecContext(ctx, "START TRANSACTION READ WRITE")
	var told *mysql.MySQLError
	if errors.As(err, &told) && !server.Passing(err) {
		return message(told), nil
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, "ROLLBACK")
	}
	if err != nil {
		return "", fmt.Errorf("%s: begin a transaction: %w", s.Role, err)
	}
	return "", nil
}

// denied tells which right this account lacks for a statement, "" for none. The server
// looks at rights when it is prepared; it is not run. What else is wrong with it does not count.
func denied(ctx context.Context, s *server.Server, query string) (why string, err error) {
	statement, err := s.DB.PrepareContext(ctx, query)
	var told *mysql.MySQLError
	switch {
	case err == nil:
		return "", statement.Close()
	case server.Denied(err) && errors.As(err, &told):
		return message(told), nil
	case errors.As(err, &told) && !server.Passing(err):
		return "", nil
	}
	return "", fmt.Errorf("%s: prepare a statement: %w", s.Role, err)
}

func message(e *mysql.MySQLError) string { return fmt.Sprintf("%s (error %d)", e.Message, e.Number) }

// place looks at the target's table: whether rows can go there, and what it does with
// them by itself.
func (s *surveyor) place(ctx context.Context, l *look) error {
	if !l.again {
		byItself(l, s.to.Tables[l.t.Table])
	}
	if why, err := denied(ctx, s.target, into(l.t)); err != nil {
		return err
	} else if why != "" {
		l.error("", "the target does not let %s write the table: %s", s.target.Config.User, why).Right = true
	}
	return s.empty(ctx, l)
}

// into is a statement that writes a row of a table.
func into(t *mapping.Planned) string {
	db, table := t.OnTarget()
	names := make([]string, 0, len(t.Columns))
	for _, c := range t.Columns {
		names = append(names, sqlexpr.Quote(c))
	}
	values := strings.Join(slices.Repeat([]string{"NULL"}, len(names)), ", ")
	return "INSERT INTO " + sqlexpr.Quote(db) + "." + sqlexpr.Quote(table) + " (" + strings.Join(names, ", ") + ") VALUES (" + values + ")"
}

// byItself warns of what a table does with rows, or wants of them, and the plan does not
// look at.
func byItself(l *look, t *mapping.Schema) {
	var triggers, rules []string
	for _, x := range t.Triggers {
		if !strings.HasSuffix(x.When, " UPDATE") { // no row is updated
			triggers = append(triggers, x.Name+" ("+x.When+")")
		}
	}
	if len(triggers) > 0 {
		l.warn("", "the target's table has triggers, which run for the rows that are written; what they change is in "+
			"no mapping, and verify tells of it: %s", some(triggers, shown)).Values = triggers
	}
	for _, x := range t.Rules {
		rules = append(rules, x.Name+": "+x.Clause)
	}
	if len(rules) > 0 {
		l.warn("", "the target's table has CHECK constraints, which are not looked at: the run ends at the first row "+
			"that breaks one: %s", some(rules, shown)).Values = rules
	}
	if len(t.Expressions) > 0 {
		l.warn("", "unique keys of the target on expressions are not looked at: %s", some(t.Expressions, shown)).Values = t.Expressions
	}
}

func (s *surveyor) empty(ctx context.Context, l *look) error {
	tx, err := s.target.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	var n int64
	err = errors.Join(tx.QueryRowContext(ctx, l.t.TargetCount()).Scan(&n), tx.Rollback())
	var told *mysql.MySQLError
	switch {
	case errors.As(err, &told) && !server.Passing(err):
		l.error("", "the target does not let %s read the table: %s", s.target.Config.User, message(told)).Right = true
	case err != nil:
		return fmt.Errorf("target: rows of %s: %w", l.t.Target, err)
	case n > 0:
		l.error("", "the target's table has %d rows already: want it empty", n).NotEmpty = true
	}
	return nil
}
