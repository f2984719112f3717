package copier

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestTextsAreNotCut: characters that the target's column does not have, and bytes that are
// no text, stop a copy, whether LOAD DATA takes a table's lines as bytes, as all of its
// texts are UTF-8, or not. What a column has comes whole.
func TestTextsAreNotCut(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	one.SQL("CREATE DATABASE old; CREATE DATABASE migrate_ids")
	two.SQL("CREATE DATABASE new")
	source, target := one.Server("source"), two.Server("target")
	for charset, latin := range map[string]string{"binary": "", "utf8mb4": ", l VARCHAR(20) CHARACTER SET latin1 DEFAULT 'é'"} {
		one.SQL("DROP TABLE IF EXISTS old.texts; CREATE TABLE old.texts (id INT PRIMARY KEY, t TEXT CHARACTER SET utf8mb4" + latin + ")")
		copied := "id"
		if latin != "" {
			copied = "id, l"
		}
		for _, c := range []struct{ of, value, text, wants string }{
			{"VARCHAR(20)", "t", "a😀b", "1366"},
			{"TEXT", "t", "a😀", "1366"},
			{"ENUM('x','中')", "t", "😀", "1265"},
			{"VARCHAR(3)", "CONCAT(t, '')", "äöüß", "1265"},
			{"VARCHAR(20)", "CONCAT(unhex('61ff62'), t)", "", "1366"},
			{"TEXT", "CONCAT(unhex('61ff'), t)", "", "1366"},
			{"VARCHAR(4)", "CONCAT(t, '')", "äö中ß", ""},
			{"ENUM('x','中')", "t", "中", ""},
			{"TEXT", "t", `\t\\N\n\0中`, ""},
		} {
			one.SQL("TRUNCATE TABLE old.texts; INSERT INTO old.texts (id, t) VALUES (1, '" + c.text + "')")
			two.SQL("DROP DATABASE IF EXISTS " + Database + "; DROP TABLE IF EXISTS new.texts; CREATE TABLE " +
				"new.texts (id INT PRIMARY KEY, t " + c.of + " CHARACTER SET utf8mb3" + latin + ")")
			plan, err := makePlan(source, target,
				`{format: 1, name: texts, ids: [{kind: project}], tables: [{target: new.texts, from: old.texts, columns: [{copy: [`+
					copied+`]}, {to: t, value: "if(1, `+c.value+`, t)"}]}]}`)
			if err != nil {
				t.Fatal(err)
			}
			if got := plan.Tables[0].Export("").Charset; got != charset {
				t.Errorf("lines are read as %s: want %s", got, charset)
			}
			_, err = Run(try.Context(t), plan, "hash", source, target, Options{})
			if c.wants == "" {
				ask := "SELECT HEX(CONVERT(t USING utf8mb4)), HEX(CONVERT(" + strings.TrimPrefix(copied, "id, ") + " USING utf8mb4))"
				if a, b := one.SQL(ask+" FROM old.texts"), two.SQL(ask+" FROM new.texts"); err != nil || a != b {
					t.Errorf("%s, %s: %v; %s of the source, %s of the target", charset, c.of, err, a, b)
				}
				continue
			}
			if err == nil || server.Passing(err) || !strings.Contains(err.Error(), "Error "+c.wants) {
				t.Errorf("%s, %s: %v: want error %s", charset, c.of, err, c.wants)
			}
			if n := two.SQL("SELECT COUNT(*) FROM new.texts"); n != "0" {
				t.Errorf("%s, %s: %s rows are there", charset, c.of, n)
			}
		}
	}
}
