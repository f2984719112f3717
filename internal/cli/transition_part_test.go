package cli

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

const partsMapping = `format: 1
name: parts
tables:
- target: new.meta
  from: old.meta
  columns:
  - copy: [id, item, word]
- target: new.meta
  part: windows
  shift: 1000000000
  from: old.items
  where: os = 'windows' and not found('has')
  find: [{as: has, table: old.meta, match: has.item = s.id and has.word like 'model=%'}]
  columns:
  - {to: item, value: id}
  - {to: word, value: "'model=virtio'"}
`

// TestTablesOfSeveralParts: rows of two tables come into one, are compared, and follow
// what changes in either; a row in the way of a part is told before.
func TestTablesOfSeveralParts(t *testing.T) {
	need.Drill(t, "P5: tables that are made of several parts are copied, followed and verified", need.Programs("mariadb-server", "mariadbd"))
	for name, two := range map[string]bool{"one server": false, "two servers": true} {
		t.Run(name, func(t *testing.T) {
			source := aligntest.MariaDB(t, logged...)
			target := source
			if two {
				target = aligntest.MariaDB(t)
			}
			source.SQL(`CREATE DATABASE old CHARACTER SET utf8mb4; USE old;
				CREATE TABLE items (id INT AUTO_INCREMENT PRIMARY KEY, os VARCHAR(20)) ENGINE=InnoDB;
				CREATE TABLE meta (id INT AUTO_INCREMENT PRIMARY KEY, item INT NOT NULL, word VARCHAR(40), KEY (item)) ENGINE=InnoDB;
				INSERT INTO items VALUES (1, 'windows'), (2, 'linux'), (3, 'windows'), (4, 'windows');
				INSERT INTO meta (item, word) VALUES (1, 'x'), (3, 'model=e1000'), (2, 'y')`)
			target.SQL("CREATE DATABASE new CHARACTER SET utf8mb4; CREATE TABLE new.meta (id INT AUTO_INCREMENT " +
				"PRIMARY KEY, item INT NOT NULL, word VARCHAR(40)) ENGINE=InnoDB")
			t.Chdir(t.TempDir())
			write(t, "m.yaml", partsMapping)
			flags := []string{"--mapping", "m.yaml", "--source", source.DSN(), "--target", target.DSN()}
			rows := func() string {
				return strings.ReplaceAll(target.SQL("SELECT GROUP_CONCAT(CONCAT_WS(' ', id, item, word) ORDER BY id "+
					"SEPARATOR ', ') FROM new.meta"), "\n", "; ")
			}
			verify := func(code int) verifyDoc {
				return decode[verifyDoc](t, commandLine(t, "", db("verify", flags, "-o", "json")...), code)
			}

			source.SQL("INSERT INTO old.meta VALUES (1000000001, 2, 'z')")
			if s := commandLine(t, "", db("plan", flags)...); s.code != 2 ||
				!strings.Contains(s.out+s.err, "a number above 1000000000, from which on the") {
				t.Errorf("a key in the way ended with %d: %s%s", s.code, s.out, s.err)
			}
			source.SQL("DELETE FROM old.meta WHERE id > 1000; ALTER TABLE old.meta AUTO_INCREMENT = 4")

			r := decode[runDoc](t, commandLine(t, "", db("run", flags, "--follow", "--quiet", "1s", "-o", "json")...), 0)
			const want = "1 1 x, 2 3 model=e1000, 3 2 y, 1000000001 1 model=virtio, 1000000004 4 model=virtio"
			if got := rows(); got != want || len(r.Tables) != 2 || r.Tables[1].Target != "new.meta#windows" || r.Tables[1].Rows != 2 {
				t.Errorf("%s\nwant %s\n%+v", got, want, r)
			}
			if v := verify(0); len(v.Tables) != 2 || v.Tables[0].TargetRows != 3 || v.Tables[1].TargetRows != 2 {
				t.Errorf("%+v", v)
			}
			target.SQL("UPDATE new.meta SET word = 'model=e1000' WHERE id = 1000000004")
			v := verify(1)
			if !*v.Tables[0].Equal || *v.Tables[1].Equal || len(v.Tables[1].Differences) != 1 || v.Tables[1].Differences[0].Key[0] != "4" {
				t.Errorf("a spoilt row of a part: %+v", v)
			}

			// Anew, and followed.
			if s := commandLine(t, "", db("clean", flags[2:], "--yes")...); s.code != 0 {
				t.Fatal(s.err)
			}
			target.SQL("TRUNCATE new.meta")
			cmd, out := child(t, db("run", flags, "--follow", "--quiet", "3s")...)
			try.Until(t, "it to follow", func() bool { return strings.Contains(out.String(), "is carried over") })
			source.SQL("UPDATE old.items SET os = 'windows' WHERE id = 2; DELETE FROM old.meta WHERE id = 2; INSERT " +
				"INTO old.meta (item, word) VALUES (4, 'model=rtl'); INSERT INTO old.items VALUES (9, 'windows')")
			if code := ended(t, cmd); code != 0 {
				t.Fatalf("ended with %d: %s", code, out)
			}
			const after = "1 1 x, 3 2 y, 4 4 model=rtl, 1000000001 1 model=virtio, 1000000002 2 model=virtio, " +
				"1000000003 3 model=virtio, 1000000009 9 model=virtio"
			if got := rows(); got != after {
				t.Errorf("%s\nwant %s", got, after)
			}
			verify(0)
		})
	}
}
