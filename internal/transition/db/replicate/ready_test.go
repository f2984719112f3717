package replicate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

func TestRules(t *testing.T) {
	const definition = "CREATE TABLE `c` (\n" +
		"  `p` int(11) DEFAULT NULL COMMENT 'CONSTRAINT FOREIGN KEY ON DELETE CASCADE',\n" +
		"  KEY `ON DELETE CASCADE` (`p`),\n" +
		"  CONSTRAINT `a` FOREIGN KEY (`p`) REFERENCES `p` (`id`),\n" +
		"  CONSTRAINT `b` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE CASCADE ON UPDATE NO ACTION,\n" +
		"  CONSTRAINT `c``d` FOREIGN KEY (`p`) REFERENCES `x`.`ON DELETE` (`ON`) ON DELETE SET NULL ON UPDATE CASCADE,\n" +
		"  CONSTRAINT `e` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE RESTRICT ON UPDATE SET DEFAULT,\n" +
		"  CONSTRAINT `f` CHECK (`p` <> 'ON DELETE CASCADE')\n" +
		") ENGINE=InnoDB COMMENT='ON DELETE CASCADE'"
	want := []string{"b with ON DELETE CASCADE", "c`d with ON DELETE SET NULL", "c`d with ON UPDATE CASCADE", "e with ON UPDATE SET DEFAULT"}
	if got := rules(definition); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestSettings: each vendor's own, where it knows them.
func TestSettings(t *testing.T) {
	for _, c := range []struct{ vendor, name, value, want string }{
		{server.MariaDB, "binlog_storage_engine", "innodb", `source: binlog_storage_engine is "innodb": want none to follow`},
		{server.MariaDB, "binlog_storage_engine", "", ""},
		{server.MySQL, "binlog_order_commits", "OFF", `source: binlog_order_commits is "OFF": want ON to follow`},
		{server.MySQL, "binlog_order_commits", "1", ""},
		{server.MariaDB, "binlog_order_commits", "OFF", ""},
		{server.MySQL, "binlog_format", "row", ""},
	} {
		got := errors.Join(set(c.vendor, map[string]string{c.name: c.value})...)
		if (got != nil) != (c.want != "") || got != nil && !strings.Contains(got.Error(), c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestKeysThatChangeRows: the log has the row of the parent only. An account that may do
// nothing but read must be told of them too.
func TestKeysThatChangeRows(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL("CREATE USER reader@'%' IDENTIFIED BY 'x'; GRANT SELECT ON old_nova.* TO reader@'%'; GRANT REPLICATION " +
		"SLAVE, REPLICATION CLIENT ON *.* TO reader@'%'")
	s, err := server.Open(t.Context(), "source", strings.Replace(w.src.DSN(), aligntest.User+":"+aligntest.Password,
		"reader:x", 1), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	// Those that only forbid, those of tables that are not read, and being the parent do no harm.
	w.src.SQL(`USE old_nova; ALTER TABLE extra ADD CONSTRAINT forbids FOREIGN KEY (instance) REFERENCES instances (uuid) ON DELETE RESTRICT;
CREATE TABLE others (id INT PRIMARY KEY, of INT, CONSTRAINT elsewhere FOREIGN KEY (of) REFERENCES instances (id) ON DELETE CASCADE)`)
	if err := Ready(t.Context(), s, w.plan); err != nil {
		t.Error(err)
	}
	w.src.SQL(`USE old_nova; ALTER TABLE extra ADD CONSTRAINT gone FOREIGN KEY (instance) REFERENCES instances (uuid) ON DELETE CASCADE;
ALTER TABLE bdm ADD CONSTRAINT renamed FOREIGN KEY (instance) REFERENCES instances (uuid) ON UPDATE CASCADE`)
	err = Ready(t.Context(), s, w.plan)
	for _, want := range []string{"table nova.extra can not be followed: foreign key gone with ON DELETE CASCADE",
		"table nova.bdm can not be followed: foreign key renamed with ON UPDATE CASCADE"} {
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("error %v\nhas not once %q", err, want)
		}
	}
	if err != nil && (strings.Contains(err.Error(), "forbids") || strings.Contains(err.Error(), "elsewhere")) {
		t.Error(err)
	}
}
