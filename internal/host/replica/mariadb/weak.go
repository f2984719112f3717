package mariadb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Weak is a table of an engine without transactions: what was acknowledged can be lost or doubled by a crash, or is gone after
// each start; or its rows are not in the database at all.
type Weak struct {
	Table  string // DATABASE.TABLE
	Engine string // of the partitions, where it has some
}

// String says what it can lose.
func (w Weak) String() string {
	switch {
	case w.Engine == memory:
		return fmt.Sprintf("%s (%s): it is empty after each start of a database, on one node alone as well", w.Table, w.Engine)
	case slices.Contains(outside, w.Engine):
		return fmt.Sprintf("%s (%s): its rows are outside the database: a copy has none of them, and both nodes "+
			"may write them", w.Table, w.Engine)
	}
	return fmt.Sprintf("%s (%s): a crash can lose, double or damage rows of it", w.Table, w.Engine)
}

const memory = "MEMORY"

// engines are those that a server can have been built with, by the number that is the fourth byte of a table's .frm file
// (legacy_db_type of MariaDB's sql/handler.h; TestWeakTables asks a server for all that it has). Others have their name in the file.
var engines = map[byte]string{
	6: memory, 9: "MyISAM", 10: "MRG_MyISAM", 12: "InnoDB", 16: "ARCHIVE", 17: "CSV", 18: "FEDERATED", 19: "BLACKHOLE",
	28: "PERFORMANCE_SCHEMA", 41: "S3", 42: "Aria", 44: "SEQUENCE",
}

// partitioned is the number of a table in partitions, whose engine is noted elsewhere in the file.
const partitioned = 20

// strong are the engines with transactions, and those that keep no rows. A table of any other one is weak.
var strong = []string{"InnoDB", "ROCKSDB", "TokuDB", "BLACKHOLE", "PERFORMANCE_SCHEMA", "SEQUENCE"}

// outside are the engines whose rows are not in the database.
var outside = []string{"FEDERATED", "CONNECT", "SPIDER", "S3", "SPHINX"}

// systemSchemas are the databases of the server itself.
var systemSchemas = []string{"mysql", "performance_schema", "sys", "information_schema"}

// WeakTables are the tables below a data directory that are of an engine without transactions, sorted. No server is asked.
func WeakTables(datadir string) ([]Weak, error) {
	var f WeakFinder
	return f.Find(datadir)
}

// WeakFinder finds them again and again, and reads only what has changed since: the kernel notes when a file of a directory is made,
// renamed or removed, as each statement does that makes or alters a table.
type WeakFinder struct {
	known map[string]schema // by the path of a database's directory
}

// schema is what was found of a database.
type schema struct {
	at   time.Time // of the last change of its directory; 0: it may change within the clock's grain, and is read again
	weak []Weak
}

// grain is more than that of the times of files.
const grain = time.Second

// Find is WeakTables.
func (f *WeakFinder) Find(datadir string) (out []Weak, err error) {
	dirs, err := os.ReadDir(datadir)
	if err != nil {
		return nil, err
	}
	now := map[string]schema{}
	for _, s := range dirs {
		if !s.IsDir() || slices.Contains(systemSchemas, s.Name()) || strings.HasPrefix(s.Name(), "#") {
			continue
		}
		path := filepath.Join(datadir, s.Name())
		fi, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was dropped
		}
		if err != nil {
			return nil, err
		}
		of, known := f.known[path]
		if !known || !of.at.Equal(fi.ModTime()) {
			begun := time.Now()
			if of.weak, err = weakIn(path); err != nil {
				return nil, err
			}
			if of.at = fi.ModTime(); begun.Sub(of.at) < grain {
				of.at = time.Time{}
			}
		}
		now[path] = of
		out = append(out, of.weak...)
	}
	f.known = now
	slices.SortFunc(out, func(a, b Weak) int { return strings.Compare(a.Table, b.Table) })
	return out, nil
}

// weakIn are those of the database whose directory it is.
func weakIn(dir string) (out []Weak, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it was dropped
	}
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		table, is := strings.CutSuffix(f.Name(), ".frm")
		if !is || strings.HasPrefix(table, "#") {
			continue
		}
		engine, err := engineOf(filepath.Join(dir, f.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if engine != "" {
			out = append(out, Weak{plain(filepath.Base(dir)) + "." + plain(table), engine})
		}
	}
	return out, nil
}

// Bypass are the accounts, beside this package's own and those of the server, with a privilege by which a session can keep what it
// writes from the other node: it may switch its binary log off (SUPER, BINLOG ADMIN), or write to a standby (READ ONLY ADMIN). Each
// is USER@HOST.
func (d *Driver) Bypass(ctx context.Context) (out []string, err error) {
	rows, err := d.rows(ctx, d.db, "SELECT DISTINCT grantee FROM information_schema.user_privileges "+
		"WHERE privilege_type IN ('SUPER', 'BINLOG ADMIN', 'READ ONLY ADMIN', 'READ_ONLY ADMIN') ORDER BY grantee")
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		who := strings.ReplaceAll(r["grantee"], "'", "")
		user, host, _ := strings.Cut(who, "@")
		local := !strings.Contains(host, "%") // the server's own are of its host
		if !local || !slices.Contains([]string{"root", "mysql", "mariadb.sys", "", d.cfg.Admin.User}, user) {
			out = append(out, who)
		}
	}
	return out, nil
}

// engineOf is the engine of a table by its .frm file, if that is one without transactions; "" of any other, and of a view.
func engineOf(path string) (engine string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, frmHead)
	if n, err := io.ReadFull(f, head); n < len(head) || head[0] != 0xfe || head[1] != 1 {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return "", err
		}
		return "", nil
	}
	of := head[3]
	if of == partitioned {
		of = head[frmParts]
	}
	engine, known := engines[of]
	if !known {
		rest, err := io.ReadAll(io.LimitReader(f, frmMost))
		if err != nil {
			return "", err
		}
		if engine = named(append(head, rest...)); engine == "" {
			engine = fmt.Sprintf("unknown engine %d", of)
		}
	}
	if slices.ContainsFunc(strong, func(s string) bool { return strings.EqualFold(s, engine) }) {
		return "", nil
	}
	return engine, nil
}

// A .frm file, as MariaDB's sql/table.cc (TABLE_SHARE::init_from_binary_frm_image) reads it.
const (
	frmHead  = 64
	frmParts = 61      // place of the number of the partitions' engine
	frmMost  = 1 << 20 // bytes that are read of one
)

// named is the engine whose name a .frm file has, that of the partitions first; "" when it has none.
func named(b []byte) string {
	u16 := func(at int) int {
		if at < 0 || at+2 > len(b) {
			return 0
		}
		return int(binary.LittleEndian.Uint16(b[at:]))
	}
	u32 := func(at int) int { return u16(at) | u16(at+2)<<16 }
	text := func(at, n int) string {
		if n <= 0 || at+n > len(b) {
			return ""
		}
		return string(b[at : at+n])
	}
	if b[3] == partitioned {
		// The second header: kind, length, value; a longer length is a 0 and two bytes.
		for at, end := frmHead, frmHead+u16(4); at+2 < end && at+2 < len(b); {
			kind, n := b[at], int(b[at+1])
			if at += 2; n == 0 {
				n = u16(at)
				at += 2
			}
			if kind == 1 {
				return text(at, n)
			}
			at += n
		}
		return ""
	}
	keys := u16(14)
	if keys == 0xffff {
		keys = u32(47)
	}
	// Behind the row of defaults: the connection, then the engine, each after its length.
	at, most := u16(6)+keys+u16(16), u32(55)
	if most == 0 {
		return ""
	}
	at += 2 + u16(at)
	return text(at+2, u16(at))
}

// encoded is a character of a name as it stands in the name of a file: @ and four hexadecimal digits.
var encoded = regexp.MustCompile(`@[0-9a-f]{4}`)

// plain is a name of a database or a table by that of its file.
func plain(name string) string {
	return encoded.ReplaceAllStringFunc(name, func(c string) string {
		n, err := strconv.ParseUint(c[1:], 16, 32)
		if err != nil {
			return c
		}
		return string(rune(n))
	})
}
