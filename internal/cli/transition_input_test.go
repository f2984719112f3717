package cli

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/transition/db/aligntest"
)

// TestTransitionDBBadInput gives each kind of wrong input one error, and changes nothing.
func TestTransitionDBBadInput(t *testing.T) {
	rig := aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)
	before := rig.SQL("SHOW DATABASES; CHECKSUM TABLE old_shop.items, old_shop.tags, shop.items, shop.tags")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, "few/owner.csv", "ann,a-1\n")
	write(t, "twice/owner.csv", "ann,a-1\nann,a-2\n")
	write(t, "lost.yaml", strings.Replace(shopMapping, "  drop: [note]\n", "", 1))
	write(t, "gone.yaml", strings.Replace(shopMapping, "value: name}", "value: nome}", 1))
	with := func(flag, value string) []string {
		out := append([]string{}, flags...)
		for i := range out {
			if out[i] == flag {
				out[i+1] = value
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		flags []string
		code  int
		want  []string
	}{
		"an unknown database": {with("--source-db", "shop=nowhere"), 2,
			[]string{"source: there is no database nowhere (shop in the mapping)", "--source-db shop=NAME"}},
		"a wrong password": {with("--source", strings.Replace(rig.DSN(), aligntest.Password, "wr0ng-one", 1)),
			2, []string{"source at 127.0.0.1", "Access denied", "option-file=PATH"}},
		"an unreachable source":  {with("--source", "u:hidden@tcp("+addr+")/"), 4, []string{"source at " + addr, "connection refused"}},
		"an unreachable target":  {with("--target", "u:hidden@tcp("+addr+")/"), 4, []string{"target at " + addr, "connection refused"}},
		"a value without an ID":  {with("--ids", "few"), 2, []string{"shop.items owner: 1 values have no line among the IDs of owner", "bob"}},
		"IDs that must be given": {with("--ids", ""), 2, []string{"there are no IDs of owner: want a file owner.csv or owner.yaml"}},
		"IDs given twice":        {with("--ids", "twice"), 2, []string{"owner.csv", "ann"}},
		"a directory of no IDs": {with("--ids", "none"), 2,
			[]string{"read the IDs: want a directory with files of IDs: open none: no such file"}},
		"a column that is lost": {with("--mapping", "lost.yaml"), 2, []string{"column note of table shop.items of the source goes nowhere"}},
		"a column that is not":  {with("--mapping", "gone.yaml"), 2, []string{"shop.items title: nome: there is no such column"}},
		"a DSN that is none":    {with("--source", "tcp(secret-word"), 2, []string{"source"}},
		"a DSN with a database": {with("--source", rig.DSN()+"old_shop"), 2, []string{"--source-db"}},
		"a name that is not there": {append(with("", ""), "--target-db", "bazaar=x"), 2,
			[]string{`--target-db "bazaar=x": the mapping has no database "bazaar" there; want shop`}},
	} {
		for _, command := range []string{"plan", "run"} {
			s := commandLine(t, "", db(command, c.flags)...)
			all := strings.Join(strings.Fields(s.out+s.err), " ") // wrapped lines
			if s.code != c.code {
				t.Errorf("%s: %s ended with %d, want %d: %s%s", name, command, s.code, c.code, s.out, s.err)
			}
			for _, w := range c.want {
				if !strings.Contains(all, w) {
					t.Errorf("%s: %s said\n%s\nwant %s", name, command, all, w)
				}
			}
			for _, secret := range []string{aligntest.Password, "wr0ng-one", "hidden", "secret-word"} {
				if strings.Contains(all, secret) {
					t.Errorf("%s: %s shows %s: %s", name, command, secret, all)
				}
			}
		}
	}
	if s := commandLine(t, "", db("run", flags, "--follow")...); s.code != 2 || !strings.Contains(s.err, "log_bin") {
		t.Errorf("follow without a binary log ended with %d: %s%s", s.code, s.out, s.err)
	}
	if after := rig.SQL("SHOW DATABASES; CHECKSUM TABLE old_shop.items, old_shop.tags, shop.items, shop.tags"); after != before {
		t.Errorf("there was\n%s\nand is\n%s", before, after)
	}
	if _, err := os.Stat("ids/owner.csv"); err != nil {
		t.Error(err)
	}
}

// TestTransitionDBAsksForPassword gives the passwords on a terminal, and in a file.
func TestTransitionDBAsksForPassword(t *testing.T) {
	rig := aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)
	bare := strings.Replace(rig.DSN(), ":"+aligntest.Password, "", 1)
	for i, f := range flags {
		if f == "--source" || f == "--target" {
			flags[i+1] = bare
		}
	}
	master, slave := clitest.OpenPTY(t)
	go func() { _, _ = io.Copy(io.Discard, master) }() // ends when the terminal is closed
	var errs clitest.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- Main(db("plan", flags), command.Env{Stdout: io.Discard, Stderr: &errs, Stdin: slave})
	}()
	for _, prompt := range []string{"(source): ", "(target): "} {
		if err := clitest.Until(func() bool { return strings.HasSuffix(errs.String(), prompt) }); err != nil {
			t.Fatalf("no prompt %s: %v: %s", prompt, err, errs.String())
		}
		if _, err := master.WriteString(aligntest.Password + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	if code := <-ended; code != 0 || strings.Contains(errs.String(), aligntest.Password) {
		t.Errorf("with typed passwords it ended with %d: %s", code, errs.String())
	}

	// Without a terminal: in the environment, or none, which the server has to accept.
	if s := commandLine(t, "", db("plan", flags)...); s.code != 2 || !strings.Contains(s.err, "Access denied") ||
		!strings.Contains(s.err, "in the environment (HOLDFAST_SOURCE_PASSWORD)") {
		t.Errorf("without a password it ended with %d: %s", s.code, s.err)
	}
	rig.SQL("CREATE USER bare@'%'; GRANT ALL ON *.* TO bare@'%'")
	if s := commandLine(t, "", db("plan", flags, "--source", fmt.Sprintf("bare@tcp(127.0.0.1:%d)/", rig.Port()),
		"--target", rig.DSN())...); s.code != 0 {
		t.Errorf("an account that wants none ended with %d: %s%s", s.code, s.out, s.err)
	}
	t.Setenv("MYSQL_PWD", "of another")
	t.Setenv("HOLDFAST_SOURCE_PASSWORD", aligntest.Password)
	t.Setenv("HOLDFAST_TARGET_PASSWORD", aligntest.Password)
	if s := commandLine(t, "", db("plan", flags)...); s.code != 0 {
		t.Errorf("with the environment's it ended with %d: %s%s", s.code, s.out, s.err)
	}

	write(t, "old.cnf", fmt.Sprintf("[client]\nuser = %s\npassword = \"%s\"\nhost = 127.0.0.1\nport = %d\n",
		aligntest.User, aligntest.Password, rig.Port()))
	for i, f := range flags {
		if f == "--source" || f == "--target" {
			flags[i+1] = "/?option-file=old.cnf"
		}
	}
	if s := commandLine(t, "", db("plan", flags)...); s.code != 2 ||
		!strings.Contains(s.err, "old.cnf: holds a password, and everybody may read") {
		t.Errorf("with a file that everybody may read it ended with %d: %s", s.code, s.err)
	}
	if err := os.Chmod("old.cnf", 0o600); err != nil {
		t.Fatal(err)
	}
	if s := commandLine(t, "", db("plan", flags)...); s.code != 0 {
		t.Errorf("with an option file it ended with %d: %s%s", s.code, s.out, s.err)
	}
}
