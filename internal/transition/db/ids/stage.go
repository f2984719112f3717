package ids

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/commitwait"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// Database is the one of the source's server in which values are staged: tables ids_KIND
// (old, new) and ids_default (kind, new).
const Database = "migrate_ids"

// Names of tables: ids_KIND, and with an ending what is not looked into.
const (
	prefix   = "ids_"
	defaults = "ids_default"
	inMaking = "$new"
	replaced = "$was"
)

// batch is how many pairs one statement has: 1 MiB at most, of the 4 MiB and more that
// servers take unless they are told otherwise.
const batch = 500

// Stage writes the tables of the IDs on the source anew. They come into being under
// other names and get theirs all at once: a partial one is never looked into.
func Stage(ctx context.Context, source *server.Server, m *mapping.Mapping, sets map[string]Set) error {
	if err := stage(ctx, source.DB, m, sets); err != nil {
		return fmt.Errorf("%s: stage the IDs in database %s: %w", source.Role, Database, err)
	}
	return nil
}

func stage(ctx context.Context, db *sql.DB, m *mapping.Mapping, sets map[string]Set) error {
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+Database+" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		return err
	}
	before, err := staged(ctx, db)
	if err != nil {
		return err
	}
	if before, err = restore(ctx, db, before); err != nil {
		return err
	}
	// What a run that died has left under the other names.
	if err := drop(ctx, db, before, func(t string) bool { return ending(t) != "" }); err != nil {
		return err
	}
	tables := []string{defaults}
	if err := fresh(ctx, db, defaults, "kind"); err != nil {
		return err
	}
	var fallbacks [][2]string
	for _, k := range m.IDs {
		set, given := sets[k.Kind]
		if !given {
			continue
		}
		table := prefix + k.Kind
		if table == defaults {
			return fmt.Errorf("kind %q: want another word, %s is the table of the values for all others", k.Kind, defaults)
		}
		tables = append(tables, table)
		if err := fresh(ctx, db, table, "old"); err != nil {
			return err
		}
		if err := fill(ctx, db, table, slices.Sorted(maps.Keys(set.Pairs)), set.Pairs); err != nil {
			return err
		}
		if set.Default != nil {
			fallbacks = append(fallbacks, [2]string{k.Kind, *set.Default})
		}
	}
	for _, f := range fallbacks {
		if err := fill(ctx, db, defaults, f[:1], map[string]string{f[0]: f[1]}); err != nil {
			return err
		}
	}
	return swap(ctx, db, tables, before)
}

// columns of a staged table. 255 characters take 1020 bytes in a key: rows must be
// DYNAMIC for it, which 5.6 does not have by itself.
const columns = " VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, `new` VARCHAR(255) CHARACTER SET " +
	"utf8mb4 COLLATE utf8mb4_bin NOT NULL, "

// Numbers of errors that say that a key is too long for the server's settings.
const (
	errKeyTooLong    = 1071 // ER_TOO_LONG_KEY
	errColumnTooLong = 1709 // ER_INDEX_COLUMN_TOO_LONG
)

// fresh makes an empty table under another name.
func fresh(ctx context.Context, db *sql.DB, table, key string) error {
	create := "CREATE TABLE " + named(table+inMaking) + " (`" + key + "`" + columns
	_, err := db.ExecContext(ctx, create+"PRIMARY KEY (`"+key+"`)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC")
	var told *mysql.MySQLError
	if errors.As(err, &told) && (told.Number == errKeyTooLong || told.Number == errColumnTooLong) {
		// 190 characters are few enough everywhere, and find a row as fast.
		_, err = db.ExecContext(ctx, create+"KEY (`"+key+"`(190))) ENGINE=InnoDB")
	}
	return err
}

// fill writes the keys and their values, as parameters.
func fill(ctx context.Context, db *sql.DB, table string, keys []string, values map[string]string) (err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		if e := tx.Rollback(); !errors.Is(e, sql.ErrTxDone) {
			err = errors.Join(err, e)
		}
	}()
	var insert *sql.Stmt
	size := 0 // rows that insert has
	for part := range slices.Chunk(keys, batch) {
		if len(part) != size {
			size = len(part)
			rows := strings.Repeat(", (?, ?)", size)[2:]
			// closed with the transaction
			if insert, err = tx.PrepareContext(ctx, "INSERT INTO "+named(table+inMaking)+" VALUES "+rows); err != nil {
				return err
			}
		}
		args := make([]any, 0, 2*size)
		for _, k := range part {
			args = append(args, k, values[k])
		}
		if _, err := insert.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// swap gives the new tables their names in one statement, and takes away those that were
// there before.
func swap(ctx context.Context, db *sql.DB, tables, before []string) error {
	var renames []string
	for _, t := range before {
		if ending(t) == "" {
			renames = append(renames, named(t)+" TO "+named(t+replaced))
		}
	}
	for _, t := range tables {
		renames = append(renames, named(t+inMaking)+" TO "+named(t))
	}
	if _, err := db.ExecContext(ctx, "RENAME TABLE "+strings.Join(renames, ", ")); err != nil {
		return err
	}
	after, err := staged(ctx, db)
	if err != nil {
		return err
	}
	return drop(ctx, db, after, func(t string) bool { return ending(t) == replaced })
}

// torn are the tables that have only the names that they get when they are replaced. MySQL
// before 8.0 and MariaDB before 10.6 do not rename all at once when they die meanwhile.
func torn(tables []string) (out []string) {
	for _, t := range tables {
		if plain, was := strings.CutSuffix(t, replaced); was && !slices.Contains(tables, plain) {
			out = append(out, plain)
		}
	}
	return out
}

// restore gives torn tables their names back, before what has the other names goes: what
// a copy was begun with is not lost, wherever the next run ends.
func restore(ctx context.Context, db *sql.DB, tables []string) ([]string, error) {
	for _, t := range torn(tables) {
		if _, err := db.ExecContext(ctx, "RENAME TABLE "+named(t+replaced)+" TO "+named(t)); err != nil {
			return nil, err
		}
	}
	return staged(ctx, db)
}

// ending is that of a table that is not the one to be looked into, "" for one that is.
// Kinds are words of small letters, digits and _: they have no $.
func ending(table string) string {
	for _, e := range []string{inMaking, replaced} {
		if strings.HasSuffix(table, e) {
			return e
		}
	}
	return ""
}

// staged are the tables of the database of IDs. One that is not ours is an error: the
// database is somebody else's.
func staged(ctx context.Context, db *sql.DB) (out []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME", Database)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		switch {
		case name == ownerTable || name == commitwait.Table:
			continue // ours, and not staged
		case !strings.HasPrefix(name, prefix):
			return nil, fmt.Errorf("it has table %s, which is not ours: want a database of that name that holds "+
				"tables %sKIND only, or none", name, prefix)
		}
		out = append(out, name)
	}
	return out, rows.Err()
}

func drop(ctx context.Context, db *sql.DB, tables []string, which func(string) bool) error {
	var names []string
	for _, t := range tables {
		if which(t) {
			names = append(names, named(t))
		}
	}
	if len(names) == 0 {
		return nil
	}
	_, err := db.ExecContext(ctx, "DROP TABLE "+strings.Join(names, ", "))
	return err
}

func named(table string) string { return Database + "." + sqlexpr.Quote(table) }

// Drop takes the staged IDs away, with their database. Without one it does nothing.
func Drop(ctx context.Context, source *server.Server) error {
	_, err := staged(ctx, source.DB)
	if err == nil {
		_, err = source.DB.ExecContext(ctx, "DROP DATABASE IF EXISTS "+Database)
	}
	if err != nil {
		return fmt.Errorf("%s: drop database %s: %w", source.Role, Database, err)
	}
	return nil
}
