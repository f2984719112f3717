package lab

import (
	"strings"
	"testing"
)

// TestAPairNamesWhatIsMissing: the programs of its database are looked for before anything is made, and only for a pair.
func TestAPairNamesWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := ready(WorkPair)
	if err == nil {
		t.Fatal("nothing is missing without a path")
	}
	for _, want := range []string{"mariadb-install-db (apt-get install mariadb-server-core)",
		"mariadb-backup (apt-get install mariadb-backup)", "mbstream (apt-get install mariadb-backup)",
		"mariadb-binlog (apt-get install mariadb-client)", "; --install installs them"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	for _, n := range needs(WorkGuest) {
		if strings.HasPrefix(n[1], "mariadb") {
			t.Errorf("a laboratory with a guest needs %q", n)
		}
	}
}
