package mariadb_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/mariadb"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// rig is a MariaDB server of its own.
type rig struct {
	t      *testing.T
	dir    string
	data   string
	socket string
	port   int // 0: no network
	log    string
	pid    int
	ended  chan struct{}
}

// newRig makes a data directory and starts a server on it.
func newRig(t *testing.T, network bool) *rig {
	t.Helper()
	need.Real(t, need.Programs("mariadb-server", "mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump"),
		need.Programs("mariadb-backup", "mariadb-backup"))
	dir := try.ShortDir(t)
	// A home of its own, so that nothing of this machine's user is read.
	t.Setenv("HOME", dir)
	r := &rig{t: t, dir: dir, data: filepath.Join(dir, "data"), socket: filepath.Join(dir, "mariadb.sock"), log: filepath.Join(dir, "log")}
	aligntest.Install(t, r.data)
	if network {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.port = l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) user() []string {
	if os.Getuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// start starts the server and waits until it answers.
func (r *rig) start() {
	r.t.Helper()
	args := []string{
		"--no-defaults", "--datadir=" + r.data, "--socket=" + r.socket, "--log-error=" + r.log, "--pid-file=" + r.data + ".pid",
		"--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=2",
		"--performance-schema=OFF", "--skip-name-resolve",
	}
	if r.port == 0 {
		args = append(args, "--skip-networking")
	} else {
		args = append(args, "--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", r.port))
	}
	cmd := exec.Command("mariadbd", append(args, r.user()...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it ends with the tests
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the signal comes when this thread ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is told to end
		}
	}()
	if err := <-started; err != nil {
		r.t.Fatal(err)
	}
	r.pid, r.ended = cmd.Process.Pid, ended
	try.Until(r.t, "an answer of the server", func() bool {
		_, err := r.try("SELECT 1")
		select {
		case <-ended:
			log, _ := os.ReadFile(r.log) // may be missing
			r.t.Fatalf("the server has ended:\n%s", log)
		default:
		}
		return err == nil
	})
}

// stop ends the server, if it runs.
func (r *rig) stop() {
	if r.pid == 0 {
		return
	}
	if err := syscall.Kill(r.pid, syscall.SIGTERM); err != nil {
		r.t.Errorf("end the server: %v", err)
	}
	<-r.ended
	r.pid = 0
}

func (r *rig) try(sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mariadb", "--no-defaults", "--socket="+r.socket, "--user=root", "--batch",
		"--skip-column-names", "--default-character-set=utf8mb4")
	cmd.Stdin = strings.NewReader(sql)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (r *rig) sql(sql string) string {
	r.t.Helper()
	out, err := r.try(sql)
	if err != nil {
		r.t.Fatalf("%s: %v: %s", sql, err, out)
	}
	return out
}

// fill makes databases with everything that a backup has to keep.
func (r *rig) fill() {
	r.sql(`
CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE DATABASE ` + "`odd name`" + `; USE shop;
CREATE TABLE goods (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100), raw VARBINARY(64), price DECIMAL(10,2)) ENGINE=InnoDB;
CREATE TABLE notes (id INT PRIMARY KEY, txt TEXT) ENGINE=Aria TRANSACTIONAL=0;
INSERT INTO goods (name, raw, price) SELECT CONCAT('thing ', seq), UNHEX(SHA2(seq, 256)), seq / 7 FROM seq_1_to_5000;
INSERT INTO goods (name, raw, price) VALUES ('鸡蛋\t\n\\ ''"', x'00ff0a0d5c27', NULL);
INSERT INTO notes SELECT seq, REPEAT('n', seq) FROM seq_1_to_50;
CREATE VIEW dear AS SELECT * FROM goods WHERE price > 100;
DELIMITER //
CREATE PROCEDURE twice(x INT) BEGIN SELECT x * 2; END//
CREATE FUNCTION plus(x INT) RETURNS INT DETERMINISTIC BEGIN RETURN x + 1; END//
CREATE TRIGGER named BEFORE INSERT ON goods FOR EACH ROW BEGIN SET NEW.name = IFNULL(NEW.name, 'none'); END//
DELIMITER ;
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM notes WHERE id < 0;
CREATE TABLE ` + "`odd name`.`odd``table`" + ` (k INT PRIMARY KEY);
CREATE USER reader@localhost IDENTIFIED BY 'r'; GRANT SELECT ON shop.* TO reader@localhost;`)
}

// state is what must be the same after a restore.
func (r *rig) state() string {
	return r.sql("CHECKSUM TABLE shop.goods, shop.notes, `odd name`.`odd``table`;" +
		"SELECT COUNT(*), SUM(price), MAX(id), GROUP_CONCAT(HEX(name) ORDER BY id DESC LIMIT 3) FROM shop.goods; " +
		"SELECT COUNT(*) FROM shop.dear; CALL shop.twice(4); SELECT shop.plus(1);" +
		"SELECT trigger_name, action_statement FROM information_schema.triggers; SELECT event_name, event_definition " +
		"FROM information_schema.events;" +
		"SELECT table_schema, table_name, engine FROM information_schema.tables WHERE table_schema IN ('shop', 'odd name') ORDER BY 1, 2;" +
		"SHOW GRANTS FOR reader@localhost; SELECT COUNT(*) FROM mysql.global_priv;")
}

// spoil is what an upgrade that went wrong has done.
func (r *rig) spoil() {
	r.sql("USE shop; DELETE FROM goods WHERE id % 2 = 0; UPDATE goods SET name = 'x' LIMIT 10; ALTER TABLE notes ADD " +
		"COLUMN added INT; DROP PROCEDURE twice; DROP EVENT nightly;" +
		"CREATE TABLE fresh (k INT); DROP DATABASE `odd name`; REVOKE ALL ON shop.* FROM reader@localhost; CREATE " +
		"USER more@localhost; CREATE DATABASE later; CREATE TABLE later.kept (k INT);")
}

// request asks for a backup into the rig's directory.
func (r *rig) request(id string, o mariadb.Options) backup.Request {
	r.t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return backup.Request{ID: id, Host: "h1", Dir: filepath.Join(r.dir, "backups"), Options: b}
}

// secret writes a file of mode 0600.
func (r *rig) secret(content string) backup.SecretRef {
	r.t.Helper()
	path := filepath.Join(r.dir, fmt.Sprintf("secret-%d", time.Now().UnixNano()))
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return backup.SecretRef(path)
}
