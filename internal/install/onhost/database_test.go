package onhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/install"
)

// TestPairFacts looks at a node whose parts are files of the test.
func TestPairFacts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	d := config.PairDatabase{
		Program: write("mariadbd", "#!/bin/sh\necho 'mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu "+
			"on x86_64'; echo 'mariadbd would have been started with the following arguments:'; echo "+
			"'--init_connect=SET sql_log_bin=0; SET NAMES x --port=1 --binlog-do-db=app '\n", 0o755),
		OptionFile: write("my.cnf", "", 0o644), Datadir: filepath.Join(dir, "data"),
		Admin:       config.PairAccount{User: "a", Credential: "file:" + write("admin", "an admin's & # @ $ \"word\"\n", 0o600)},
		Replication: config.PairAccount{User: "r", Credential: "file:" + write("replication", "word\n", 0o600)},
	}
	write("data/big", strings.Repeat("x", 3<<20), 0o600)
	// 203.0.113.0/24 is nobody's (RFC 5737).
	for i := range mostWeak + 2 {
		write(fmt.Sprintf("data/app/log%02d.frm", i), "\xfe\x01\x0a\x09"+strings.Repeat("\x00", 60), 0o600) // of MyISAM
	}
	write("data/app/rows.frm", "\xfe\x01\x0a\x0c"+strings.Repeat("\x00", 60), 0o600) // of InnoDB
	q := install.PairQuery{Database: d, VIPs: []string{"203.0.113.7/24"}, Units: []string{"holdfast-no-such-unit.service"}}
	f, err := pairFacts(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if f.Version != "10.11.6" || f.Program != "" || f.OptionFile != "" || f.Datadir != "" || len(f.Credentials) > 0 {
		t.Errorf("all well: %+v", f)
	}
	if len(f.Lossy) != 2 || !strings.Contains(f.Lossy[0], "init_connect") || !strings.Contains(f.Lossy[1], `binlog_do_db is "app"`) {
		t.Errorf("of the option file: %q", f.Lossy)
	}
	if len(f.Weak) != mostWeak || f.WeakMore != 2 || !strings.HasPrefix(f.Weak[0], "app.log00 (MyISAM): ") {
		t.Errorf("tables without transactions: %q and %d more", f.Weak, f.WeakMore)
	}
	if state, asked := f.Units["holdfast-no-such-unit.service"]; !asked || state != "" {
		t.Errorf("a unit that is not there: %q, %v", state, asked)
	}
	if f.Used < 3 || f.Used > 8 || f.Free == 0 {
		t.Errorf("%d MiB used and %d free, want 3 and some", f.Used, f.Free)
	}
	if why := f.VIPs["203.0.113.7/24"]; why == "" {
		t.Error("an address outside every subnet was taken")
	}

	d.Program = write("other", "#!/bin/sh\necho 'mysqld  Ver 8.0.36 for Linux'\n", 0o755)
	d.OptionFile = filepath.Join(dir, "none")
	if err := os.Symlink("data", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	d.Datadir = filepath.Join(dir, "link")
	d.Admin.Credential = "file:" + write("open", "word\n", 0o644)
	d.Replication.Credential = "file:" + filepath.Join(dir, "gone")
	if f, err = pairFacts(t.Context(), install.PairQuery{Database: d}); err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]string{
		"no MariaDB": f.Program, "no such file": f.OptionFile, "is no directory": f.Datadir,
		"others may read": f.Credentials[d.Admin.File()], "gone": f.Credentials[d.Replication.File()],
	} {
		if !strings.Contains(got, what) {
			t.Errorf("%q, want it to say %q", got, what)
		}
	}
	if f, err = pairFacts(t.Context(), install.PairQuery{Database: d, Planned: true}); err != nil ||
		len(f.Credentials) != 1 || f.Credentials[d.Admin.File()] == "" {
		t.Errorf("before secrets are made: %q, %v", f.Credentials, err)
	}
	if err := replaceable("/proc"); err == nil || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("a mount point: %v", err)
	}
}
